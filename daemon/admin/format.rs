//! Formats numbers, times and digests for the templates.

use std::fmt;
use std::time::Duration;

use time::OffsetDateTime;
use time::format_description::BorrowedFormatItem;
use time::format_description::well_known::Rfc3339;
use time::macros::format_description;

use crate::base::clock;
use crate::base::human::{self, size};
use crate::oci::Digest;
use crate::store::{CollectionReport, TotalSize};

/// Formats the size of an image with everything it references; a lower bound where the store stopped adding up.
pub(super) fn whole_size(size_of: TotalSize) -> String {
    let text = size(size_of.bytes);
    if size_of.is_more { format!("more than {text}") } else { text }
}

/// A point in time: displayed relative to now (`3 days ago`), with the date available for tooltips.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct When {
    seconds: u64,
    now: u64,
}

impl When {
    /// Takes seconds since 1970.
    pub(super) fn at(seconds: u64) -> Self {
        When { seconds, now: clock::unix_seconds() }
    }

    /// Parses the RFC 3339 timestamp of a builder. Reproducible builds write 1970: that counts as no timestamp.
    pub(super) fn parse(text: &str) -> Option<Self> {
        let time = OffsetDateTime::parse(text, &Rfc3339).ok()?;
        Some(When::at(u64::try_from(time.unix_timestamp()).ok()?)).filter(|when| when.seconds > 0)
    }

    /// Formats the date for people: `2026-11-24 20:07 UTC`.
    pub(super) fn date(&self) -> String {
        self.format(format_description!("[year]-[month]-[day] [hour]:[minute] UTC"))
    }

    /// Formats the date for the `datetime` attribute: `2026-11-24T20:07:00Z`.
    pub(super) fn stamp(&self) -> String {
        self.format(format_description!("[year]-[month]-[day]T[hour]:[minute]:[second]Z"))
    }

    fn format(&self, format: &[BorrowedFormatItem]) -> String {
        let seconds = i64::try_from(self.seconds).unwrap_or_default();
        let time = OffsetDateTime::from_unix_timestamp(seconds).ok();
        time.and_then(|time| time.format(format).ok()).unwrap_or_else(|| "unknown".into())
    }
}

impl fmt::Display for When {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let duration = |seconds| human::duration(Duration::from_secs(seconds));
        match self.now.checked_sub(self.seconds) {
            Some(0..=59) => f.write_str("just now"),
            Some(elapsed) => write!(f, "{} ago", duration(elapsed)),
            None => write!(f, "in {}", duration(self.seconds - self.now)),
        }
    }
}

/// Quotes an argument of a shell command where zsh would expand it: `[` and `]`, as in `[::1]:5000`, are a pattern there.
pub(super) fn shell_argument(word: &str) -> String {
    if word.contains(['[', ']']) { format!("'{word}'") } else { word.to_owned() }
}

/// Abbreviates a digest to its first twelve hexadecimal digits.
pub(super) fn short_digest(digest: &Digest) -> String {
    digest.hex()[..12].to_owned()
}

/// Summarises in one line how much a collection freed, and what waits.
pub fn freed(report: &CollectionReport) -> String {
    report.outcome()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_relative_and_dates_absolute() {
        let when = |seconds| When { seconds, now: 1_000_000_000 }.to_string();
        assert_eq!(when(1_000_000_000), "just now");
        assert_eq!(when(1_000_000_000 - 7200), "2 hours ago");
        assert_eq!(when(1_000_000_000 - 86400), "1 day ago");
        assert_eq!(when(1_000_000_000 - 9 * 86400), "9 days ago");
        assert_eq!(when(1_000_000_000 + 40 * 86400), "in 1 month");
        assert_eq!(When::at(0).date(), "1970-01-01 00:00 UTC");
    }

    #[test]
    fn timestamps_of_builders_are_parsed_except_1970() {
        assert!(When::parse("1970-01-01T00:00:00Z").is_none() && When::parse("<b>").is_none());
        assert_eq!(When::parse("2026-01-02T03:04:05.678Z").unwrap().stamp(), "2026-01-02T03:04:05Z");
    }

    #[test]
    fn brackets_are_quoted_for_shells() {
        assert_eq!(
            (shell_argument("[::1]:5000/a:1"), shell_argument("pi:5000")),
            ("'[::1]:5000/a:1'".into(), "pi:5000".into())
        );
    }
}
