//! Numbers, sizes and durations as people read them.

use std::time::Duration;

use bytesize::ByteSize;
use time::OffsetDateTime;
use time::macros::format_description;

/// Formats a size: `11 B`, `1.5 GiB`.
pub fn size(bytes: u64) -> String {
    ByteSize(bytes).display().iec().to_string()
}

/// Formats a count with its noun: `1 tag`, `2 tags`, `2 repositories`, `2 days`.
pub fn count(number: impl TryInto<u64>, noun: &str) -> String {
    let number: u64 = number.try_into().unwrap_or(u64::MAX);
    // "repository" becomes "repositories", but "day" becomes "days".
    match (number, noun.strip_suffix('y').filter(|stem| !stem.ends_with('a'))) {
        (1, _) => format!("1 {noun}"),
        (_, Some(stem)) => format!("{number} {stem}ies"),
        (_, None) => format!("{number} {noun}s"),
    }
}

/// Replaces the characters of [`is_deceptive`] by U+FFFD: clients and archives decide a part of the text.
pub fn printable(text: &str) -> String {
    text.chars().map(printable_char).collect()
}

/// As [`printable`], for a text of several lines: line breaks and tabs stay.
pub fn printable_lines(text: &str) -> String {
    text.chars().map(|c| if matches!(c, '\n' | '\t') { c } else { printable_char(c) }).collect()
}

/// Returns the character, or U+FFFD in place of one of [`is_deceptive`].
pub fn printable_char(c: char) -> char {
    if is_deceptive(c) { char::REPLACEMENT_CHARACTER } else { c }
}

/// Returns true for control characters, which could control a terminal or break a line, and for characters without a shape, among
/// them those that reorder the text around them.
pub fn is_deceptive(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{ad}' | '\u{61c}' | '\u{180e}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}')
        || matches!(c, '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e007f}')
}

/// Formats a time, in seconds since 1970, to the minute: `2026-11-25 20:31 UTC`.
pub fn date(seconds: u64) -> String {
    let format = format_description!("[year]-[month]-[day] [hour]:[minute] UTC");
    let time = i64::try_from(seconds).ok().and_then(|time| OffsetDateTime::from_unix_timestamp(time).ok());
    time.and_then(|time| time.format(format).ok()).unwrap_or_else(|| "unknown".into())
}

/// Formats the day of a time, in seconds since 1970: `2026-11-25`.
pub fn day(seconds: u64) -> String {
    let text = date(seconds);
    text.split_once(' ').map_or(text.clone(), |(day, _)| day.to_owned())
}

/// Formats a duration in its largest unit, rounded down: `3 days`, `1 minute`, `0 seconds`.
pub fn duration(duration: Duration) -> String {
    const UNITS: [(u64, &str); 5] =
        [(365 * 86400, "year"), (30 * 86400, "month"), (86400, "day"), (3600, "hour"), (60, "minute")];
    let seconds = duration.as_secs();
    let unit = UNITS.into_iter().find(|(length, _)| seconds >= *length);
    unit.map_or_else(|| count(seconds, "second"), |(length, unit)| count(seconds / length, unit))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_have_the_plural_of_their_noun() {
        assert_eq!((count(1_u64, "tag"), count(0_u64, "tag")), ("1 tag".into(), "0 tags".into()));
        assert_eq!(count(1_u64, "repository"), "1 repository");
        assert_eq!(
            (count(2_u64, "repository"), count(2_u64, "day")),
            ("2 repositories".into(), "2 days".into())
        );
        assert_eq!(count(-1, "tag"), "18446744073709551615 tags");
    }

    #[test]
    fn control_characters_are_replaced() {
        assert_eq!(printable("a\n\u{1b}[0mä"), "a\u{fffd}\u{fffd}[0mä");
        for hidden in ['\u{202e}', '\u{2066}', '\u{2069}', '\u{200b}', '\u{200f}', '\u{feff}', '\0', '\u{9b}']
        {
            assert_eq!(printable(&format!("a{hidden}b")), "a\u{fffd}b", "{hidden:?}");
        }
        assert_eq!(printable_lines("a\tb\n\u{1b}\r"), "a\tb\n\u{fffd}\u{fffd}");
        assert_eq!(printable("日本 ä🙂"), "日本 ä🙂");
    }

    #[test]
    fn sizes_have_binary_units() {
        assert_eq!((size(11), size(3 << 29)), ("11 B".into(), "1.5 GiB".into()));
    }

    #[test]
    fn dates_are_in_utc() {
        assert_eq!(
            (date(1_764_102_667), day(1_764_102_667)),
            ("2025-11-25 20:31 UTC".into(), "2025-11-25".into())
        );
        assert_eq!(day(u64::MAX), "unknown");
    }

    #[test]
    fn durations_have_one_unit() {
        let of = |seconds| duration(Duration::from_secs(seconds));
        assert_eq!((of(0), of(59), of(60)), ("0 seconds".into(), "59 seconds".into(), "1 minute".into()));
        assert_eq!((of(7200), of(9 * 86400)), ("2 hours".into(), "9 days".into()));
        assert_eq!((of(40 * 86400), of(800 * 86400)), ("1 month".into(), "2 years".into()));
    }
}
