//! Numbers, times and texts as people read them.

use std::fmt;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytesize::ByteSize;
use time::OffsetDateTime;
use time::macros::format_description;

use crate::store::WholeSize;

/// A length: `11 B`, `1.5 GiB`.
pub(super) fn size(bytes: u64) -> String {
    ByteSize(bytes).display().iec().to_string()
}

/// The length of an image; of one that points at very much only the least that it has.
pub(super) fn whole_size(size_of: WholeSize) -> String {
    let text = size(size_of.bytes);
    if size_of.is_more { format!("more than {text}") } else { text }
}

/// A count with its noun: `1 tag`, `2 repositories`.
pub(super) fn count(number: impl TryInto<u64>, noun: &str) -> String {
    let number: u64 = number.try_into().unwrap_or(u64::MAX);
    // A day is none of these.
    match (number, noun.strip_suffix('y').filter(|stem| !stem.ends_with('a'))) {
        (1, _) => format!("1 {noun}"),
        (_, Some(stem)) => format!("{number} {stem}ies"),
        (_, None) => format!("{number} {noun}s"),
    }
}

/// The wall clock, in seconds since 1970.
pub(super) fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |elapsed| elapsed.as_secs())
}

/// A moment: how long ago it was, and its date for those who want to know.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct When {
    seconds: u64,
    now: u64,
}

impl When {
    pub(super) fn at(seconds: u64) -> Self {
        When { seconds, now: now() }
    }

    /// The moment that a builder has written, if it is one.
    pub(super) fn parse(text: &str) -> Option<Self> {
        let moment = OffsetDateTime::parse(text, &time::format_description::well_known::Rfc3339).ok()?;
        // Builders that want the same digest each time write 1970.
        Some(When::at(u64::try_from(moment.unix_timestamp()).ok()?)).filter(|when| when.seconds > 0)
    }

    /// `2026-11-24 20:07 UTC`
    pub(super) fn date(&self) -> String {
        self.format(format_description!("[year]-[month]-[day] [hour]:[minute] UTC"))
    }

    /// The same for machines.
    pub(super) fn stamp(&self) -> String {
        self.format(format_description!("[year]-[month]-[day]T[hour]:[minute]:[second]Z"))
    }

    fn format(&self, format: &[time::format_description::BorrowedFormatItem]) -> String {
        let seconds = i64::try_from(self.seconds).unwrap_or_default();
        let moment = OffsetDateTime::from_unix_timestamp(seconds).ok();
        moment.and_then(|moment| moment.format(format).ok()).unwrap_or_else(|| "unknown".into())
    }
}

impl fmt::Display for When {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.now.checked_sub(self.seconds) {
            Some(0..=59) => f.write_str("just now"),
            Some(elapsed) => write!(f, "{} ago", span(elapsed)),
            None => write!(f, "in {}", span(self.seconds - self.now)),
        }
    }
}

/// A duration in its largest unit: `3 days`.
pub(super) fn duration(duration: Duration) -> String {
    span(duration.as_secs())
}

fn span(seconds: u64) -> String {
    let units =
        [(365 * 86400, "year"), (30 * 86400, "month"), (86400, "day"), (3600, "hour"), (60, "minute")];
    let unit = units.into_iter().find(|(length, _)| seconds >= *length);
    unit.map_or_else(|| count(seconds, "second"), |(length, unit)| count(seconds / length, unit))
}

/// A word of a command as every shell takes it: zsh looks for files where there are brackets, as in `[::1]:5000`.
pub(super) fn shell(word: &str) -> String {
    if word.contains(['[', ']']) { format!("'{word}'") } else { word.to_owned() }
}

/// A digest for the eye: its first twelve digits.
pub(super) fn short(digest: &crate::oci::Digest) -> String {
    digest.hex()[..12].to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_for_people() {
        let when = |seconds| When { seconds, now: 1_000_000_000 }.to_string();
        assert_eq!(when(1_000_000_000), "just now");
        assert_eq!(when(1_000_000_000 - 7200), "2 hours ago");
        assert_eq!(when(1_000_000_000 - 86400), "1 day ago");
        assert_eq!(when(1_000_000_000 - 9 * 86400), "9 days ago");
        assert_eq!(
            (count(0_u64, "repository"), count(1_u64, "tag")),
            ("0 repositories".into(), "1 tag".into())
        );
        assert_eq!(when(1_000_000_000 + 40 * 86400), "in 1 month");
        assert_eq!(When::at(0).date(), "1970-01-01 00:00 UTC");
        assert!(When::parse("1970-01-01T00:00:00Z").is_none() && When::parse("<b>").is_none());
        assert_eq!(When::parse("2026-01-02T03:04:05.678Z").unwrap().stamp(), "2026-01-02T03:04:05Z");
    }

    #[test]
    fn brackets_are_quoted() {
        assert_eq!(
            (shell("[::1]:5000/a:1"), shell("pi:5000")),
            ("'[::1]:5000/a:1'".into(), "pi:5000".into())
        );
    }
}
