//! Values as people write them: durations, sizes, addresses.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use super::ConfigError;

/// An error about the value of a key.
pub(super) fn wrong(key: &str, value: &str, allowed: &str) -> ConfigError {
    ConfigError::Value { key: key.into(), value: value.into(), allowed: allowed.into() }
}

/// Reads "500ms", "30s", "5m", "2h" or "1d", the value of `key`.
///
/// # Errors
/// [`ConfigError::Value`].
pub fn duration(key: &str, text: &str) -> Result<Duration, ConfigError> {
    let error = || wrong(key, text, "a duration like 30s, 5m or 1h");
    let (number, unit) = split(text);
    let number: u64 = number.parse().map_err(|_| error())?;
    let seconds = match unit {
        "ms" => return Ok(Duration::from_millis(number)),
        "s" => 1,
        "m" => 60,
        "h" => 3600,
        "d" => 86400,
        _ => return Err(error()),
    };
    number.checked_mul(seconds).map(Duration::from_secs).ok_or_else(error)
}

/// Writes a duration in the largest unit that it is a multiple of.
pub(super) fn show_duration(duration: Duration) -> String {
    let (milliseconds, seconds) = (duration.as_millis(), duration.as_secs());
    match seconds {
        _ if milliseconds % 1000 != 0 => format!("{milliseconds}ms"),
        0 => "0s".into(),
        seconds if seconds % 3600 == 0 => format!("{}h", seconds / 3600),
        seconds if seconds % 60 == 0 => format!("{}m", seconds / 60),
        seconds => format!("{seconds}s"),
    }
}

/// Reads "64KiB", "256MiB", "4GiB", "2TiB" or a number of bytes, the value of `key`.
///
/// # Errors
/// [`ConfigError::Value`].
pub fn bytes(key: &str, text: &str) -> Result<u64, ConfigError> {
    let error = || wrong(key, text, "a size like 64KiB, 256MiB or 4GiB");
    let (number, unit) = split(text);
    let number: u64 = number.parse().map_err(|_| error())?;
    let shift = match unit {
        "" | "B" => 0,
        "KiB" => 10,
        "MiB" => 20,
        "GiB" => 30,
        "TiB" => 40,
        _ => return Err(error()),
    };
    number.checked_mul(1 << shift).ok_or_else(error)
}

/// Reads a size of something in memory.
pub(super) fn size(key: &str, text: &str) -> Result<usize, ConfigError> {
    let error = |_| wrong(key, text, "a size that this machine can address");
    usize::try_from(bytes(key, text)?).map_err(error)
}

/// Writes a size in the largest unit that it is a multiple of.
pub(super) fn show_size(size: u64) -> String {
    let units = [(40, "TiB"), (30, "GiB"), (20, "MiB"), (10, "KiB")];
    let unit = units.into_iter().find(|(shift, _)| size > 0 && size.is_multiple_of(1 << shift));
    unit.map_or_else(|| size.to_string(), |(shift, unit)| format!("{}{unit}", size >> shift))
}

fn split(text: &str) -> (&str, &str) {
    let text = text.trim();
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at(digits);
    (number, unit.trim())
}

/// Reads "ADDRESS:PORT", "localhost:PORT", or ":PORT" for all addresses.
pub(super) fn address(text: &str) -> Result<SocketAddr, ConfigError> {
    let error = || wrong("listen", text, "ADDRESS:PORT like 127.0.0.1:5000, or :5000 for all addresses");
    let text = text.trim();
    let Some((host, port)) = text.rsplit_once(':') else { return Err(error()) };
    let host = match host {
        "" => Ipv4Addr::UNSPECIFIED,
        "localhost" => Ipv4Addr::LOCALHOST,
        _ => return text.parse().map_err(|_| error()),
    };
    Ok((host, port.parse::<u16>().map_err(|_| error())?).into())
}
