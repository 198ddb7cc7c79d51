//! Durations and sizes as operators write them.

use std::time::Duration;

use super::problem::{ConfigError, Problem};

/// Reads a duration such as `500ms`, `30s`, `5m`, `2h` or `1d`, the value of the option `name`.
///
/// # Errors
/// Returns [`ConfigError`] that names the option.
pub fn duration(name: &str, text: &str) -> Result<Duration, ConfigError> {
    let error = || Problem::option(name, text, "a duration like 30s, 5m or 1h").into();
    parse_duration(text).ok_or_else(error)
}

/// Reads a size such as `64KiB`, `256MiB`, `4GiB`, `2TiB` or a number of bytes, the value of the option `name`.
///
/// # Errors
/// Returns [`ConfigError`] that names the option.
pub fn bytes(name: &str, text: &str) -> Result<u64, ConfigError> {
    let error = || Problem::option(name, text, "a size like 64KiB, 256MiB or 4GiB").into();
    parse_size(text).ok_or_else(error)
}

pub(super) fn parse_duration(text: &str) -> Option<Duration> {
    // humantime knows more units: in `30M`, one shift key away from `30m`, it reads months.
    const UNITS: [&str; 5] = ["ms", "s", "m", "h", "d"];
    let words = text.split(|letter: char| letter.is_ascii_digit() || letter.is_whitespace());
    let mut units = words.filter(|word| !word.is_empty()).peekable();
    // A number without a unit is ambiguous, and refused even if it is zero.
    units.peek()?;
    units.all(|unit| UNITS.contains(&unit)).then(|| humantime::parse_duration(text).ok())?
}

/// Writes a duration in the largest unit, up to hours, that it is a multiple of. [`parse_duration`] yields none with a
/// fraction of a millisecond.
pub(super) fn show_duration(duration: Duration) -> String {
    let (milliseconds, seconds) = (duration.subsec_millis(), duration.as_secs());
    match seconds {
        0 if milliseconds > 0 => format!("{milliseconds}ms"),
        // humantime reads no larger number of milliseconds than fits as nanoseconds, but any sum.
        seconds if milliseconds > 0 => format!("{seconds}s {milliseconds}ms"),
        0 => "0s".into(),
        seconds if seconds % 3600 == 0 => format!("{}h", seconds / 3600),
        seconds if seconds % 60 == 0 => format!("{}m", seconds / 60),
        seconds => format!("{seconds}s"),
    }
}

pub(super) fn parse_size(text: &str) -> Option<u64> {
    let text = text.trim();
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at(digits);
    let shift = match unit.trim() {
        "" | "B" => 0,
        "KiB" => 10,
        "MiB" => 20,
        "GiB" => 30,
        "TiB" => 40,
        _ => return None,
    };
    number.parse::<u64>().ok()?.checked_mul(1 << shift)
}

/// Writes a size in the largest unit that it is a multiple of.
pub(super) fn show_size(size: u64) -> String {
    let units = [(40, "TiB"), (30, "GiB"), (20, "MiB"), (10, "KiB")];
    let unit = units.into_iter().find(|(shift, _)| size > 0 && size.is_multiple_of(1 << shift));
    unit.map_or_else(|| size.to_string(), |(shift, unit)| format!("{}{unit}", size >> shift))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn durations_need_a_unit_up_to_days() {
        for (text, milliseconds) in [
            ("500ms", 500),
            ("30s", 30_000),
            (" 5 m ", 300_000),
            ("2h", 7_200_000),
            ("1d", 86_400_000),
            ("1h 30m", 5_400_000),
            ("1h30m", 5_400_000),
        ] {
            assert_eq!(parse_duration(text), Some(Duration::from_millis(milliseconds)), "{text}");
        }
        for text in
            ["", "0", "30", "soon", "-1s", "1x", "99999999999999999999s", "9999999999999999d", "1h 30"]
        {
            assert_eq!(parse_duration(text), None, "{text}");
        }
        for text in ["1M", "5M", "1y", "1w", "1us", "1ns", "1d 1M", "1min", "2hours", "1H", "1.5h"] {
            assert_eq!(parse_duration(text), None, "{text}");
        }
        assert_eq!(show_duration(Duration::from_hours(24)), "24h");
        assert_eq!(show_duration(Duration::from_millis(1500)), "1s 500ms");
        assert!(duration("--wait", "soon").unwrap_err().to_string().starts_with("--wait is \"soon\", but"));
    }

    proptest! {
        #[test]
        fn durations_read_back(milliseconds in any::<u64>(), unit in prop::sample::select(&[1_u64, 1000, 60_000, 3_600_000][..])) {
            let duration = Duration::from_millis(milliseconds / unit * unit);
            prop_assert_eq!(parse_duration(&show_duration(duration)), Some(duration));
        }

        #[test]
        fn sizes_read_back(size in any::<u64>(), shift in 0_u32..50) {
            let size = size >> shift << shift;
            prop_assert_eq!(parse_size(&show_size(size)), Some(size));
        }
    }
}
