//! The formats of texts: paths, durations, sizes, addresses.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use ipnet::IpNet;
use log::LevelFilter;

use super::format::Parsed;
use super::values::{parse_duration, parse_size, show_duration, show_size};
use crate::oci::Pattern;

pub(super) const TEXT: Parsed<String> =
    Parsed { allowed: "a text", parse: |text| Some(text.to_owned()), show: String::clone };

/// A user in a list, where an empty item would allow no user at all.
pub(super) const USER: Parsed<String> = Parsed {
    allowed: "the name of a user",
    parse: |text| (!text.trim().is_empty()).then(|| text.to_owned()),
    ..TEXT
};

/// The title of the admin page, which stands in one line with the navigation.
pub(super) const TITLE: Parsed<String> = Parsed {
    allowed: "1 to 64 characters in one line",
    parse: |text| {
        let title = text.trim();
        let fits = (1..=64).contains(&title.chars().count()) && !title.contains(char::is_control);
        fits.then(|| title.to_owned())
    },
    show: String::clone,
};

pub(super) const URL: Parsed<String> = Parsed {
    allowed: "a URL like https://registry.lan",
    parse: |text| {
        let has_scheme = text.starts_with("http://") || text.starts_with("https://");
        (has_scheme && text.parse::<http::Uri>().is_ok()).then(|| text.to_owned())
    },
    show: String::clone,
};

pub(super) const PATH: Parsed<PathBuf> =
    Parsed { allowed: "a path", parse: |text| Some(text.into()), show: |path| path.display().to_string() };

/// The path of a file in a list, where an empty item would be a mistake.
pub(super) const FILE: Parsed<PathBuf> =
    Parsed { allowed: "the path of a file", parse: |text| (!text.is_empty()).then(|| text.into()), ..PATH };

pub(super) const DIRECTORY: Parsed<PathBuf> = Parsed {
    allowed: "the path of a directory",
    parse: |text| (!text.is_empty()).then(|| text.into()),
    ..PATH
};

pub(super) const ABSOLUTE_FILE: Parsed<PathBuf> = Parsed {
    allowed: "the absolute path of a file",
    parse: |text| {
        let path = Path::new(text);
        (path.is_absolute() && path.file_name().is_some()).then(|| path.to_owned())
    },
    ..PATH
};

pub(super) const ABSOLUTE_DIRECTORY: Parsed<PathBuf> = Parsed {
    allowed: "the absolute path of a directory",
    parse: |text| Path::new(text).is_absolute().then(|| text.into()),
    ..PATH
};

pub(super) const DURATION: Parsed<Duration> = Parsed {
    allowed: "a duration like 30s, 5m or 1h",
    parse: parse_duration,
    show: |time| show_duration(*time),
};

pub(super) const DURATION_ABOVE_ZERO: Parsed<Duration> = Parsed {
    allowed: "a duration like 30s, 5m or 1h, greater than zero",
    parse: |text| parse_duration(text).filter(|time| !time.is_zero()),
    ..DURATION
};

pub(super) const TOKEN_LIFETIME: Parsed<Duration> = Parsed {
    allowed: "a duration from 1m to 1d",
    parse: |text| {
        let allowed = Duration::from_mins(1)..=Duration::from_hours(24);
        parse_duration(text).filter(|time| allowed.contains(time))
    },
    ..DURATION
};

pub(super) const SIZE: Parsed<u64> =
    Parsed { allowed: "a size like 64KiB, 256MiB or 4GiB", parse: parse_size, show: |size| show_size(*size) };

pub(super) const HEADER_SIZE: Parsed<usize> = Parsed {
    allowed: "a size from 8KiB to 1MiB",
    parse: |text| memory_size(text).filter(|size| (8 << 10..=1 << 20).contains(size)),
    show: |size| show_size(*size as u64),
};

pub(super) const BUFFER_SIZE: Parsed<usize> = Parsed {
    allowed: "a size from 4KiB to 64MiB",
    parse: |text| memory_size(text).filter(|size| (4 << 10..=64 << 20).contains(size)),
    ..HEADER_SIZE
};

/// The size of a memory map: a multiple of the largest page of any machine.
pub(super) const MAP_SIZE: Parsed<usize> = Parsed {
    allowed: "a size of at least 1MiB that is a multiple of 64KiB and that this machine can address",
    parse: |text| memory_size(text).filter(|size| *size >= 1 << 20 && size.is_multiple_of(64 << 10)),
    ..HEADER_SIZE
};

fn memory_size(text: &str) -> Option<usize> {
    parse_size(text).and_then(|size| size.try_into().ok())
}

pub(super) const ADDRESS: Parsed<SocketAddr> = Parsed {
    allowed: "ADDRESS:PORT like 127.0.0.1:5000, or :5000 for all addresses, IPv4 and IPv6",
    parse: |text| {
        let text = text.trim();
        let (host, port) = text.rsplit_once(':')?;
        let host: IpAddr = match host {
            // Its socket accepts IPv4 as well.
            "" => Ipv6Addr::UNSPECIFIED.into(),
            "localhost" => Ipv4Addr::LOCALHOST.into(),
            _ => return text.parse().ok(),
        };
        Some((host, port.parse::<u16>().ok()?).into())
    },
    show: |address| match address {
        SocketAddr::V6(all) if all.ip().is_unspecified() => format!(":{}", all.port()),
        _ => address.to_string(),
    },
};

pub(super) const NETWORK: Parsed<IpNet> = Parsed {
    allowed: "an address or a network like 10.0.0.0/8",
    parse: |text| text.parse().or_else(|_| text.parse().map(|address: IpAddr| address.into())).ok(),
    show: ToString::to_string,
};

pub(super) const PATTERN: Parsed<Pattern> = Parsed {
    allowed: "a pattern like team/*, where * matches any text",
    parse: |text| (!text.is_empty()).then(|| Pattern::from(text.to_owned())),
    show: ToString::to_string,
};

pub(super) const LOG_LEVEL: Parsed<LevelFilter> = Parsed {
    allowed: "off, error, warn, info, debug or trace",
    parse: |text| {
        let lower = text.to_ascii_lowercase();
        // registry:2 has other names for some levels.
        match lower.as_str() {
            "warning" => Some(LevelFilter::Warn),
            "fatal" | "panic" => Some(LevelFilter::Error),
            other => other.parse().ok(),
        }
    },
    show: |level| level.as_str().to_ascii_lowercase(),
};
