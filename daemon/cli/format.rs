//! Counts and sizes in the output of commands.

use std::time::Duration;

use time::OffsetDateTime;
use time::macros::format_description;

use crate::base::human::{self, printable};
pub(super) use crate::base::human::{count, size};
use crate::store::Amount;

/// Formats a number of files with their total size: `2 blobs (1.5 GiB)`.
pub(super) fn amount(amount: Amount, noun: &str) -> String {
    format!("{} ({})", count(amount.count, noun), size(amount.bytes))
}

/// Shortens a digest for a table: `sha256:0123456789ab`.
pub(super) fn short_digest(digest: &str) -> String {
    match digest.split_once(':') {
        Some((algorithm, hex)) => format!("{algorithm}:{}", hex.chars().take(12).collect::<String>()),
        None => digest.to_owned(),
    }
}

/// Formats rows as aligned columns; without a heading if `heading` is empty. Clients decide a part of the text, so that
/// characters which could control the terminal are replaced.
pub(super) fn columns(heading: &[&str], rows: impl Iterator<Item = Vec<String>>) -> String {
    let heading = (!heading.is_empty()).then(|| heading.iter().map(ToString::to_string).collect());
    let rows: Vec<Vec<String>> =
        heading.into_iter().chain(rows.map(|row| row.iter().map(|text| printable(text)).collect())).collect();
    let mut widths: Vec<usize> = Vec::new();
    for row in &rows {
        widths.resize(widths.len().max(row.len()), 0);
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.chars().count());
        }
    }
    let line = |row: &Vec<String>| {
        let cells = row.iter().zip(&widths).map(|(cell, width)| format!("{cell:width$}"));
        format!("{}\n", cells.collect::<Vec<_>>().join("  ").trim_end())
    };
    rows.iter().map(line).collect()
}

/// Formats a time in UTC, to the minute: `2026-11-25 20:31`.
pub(super) fn time(seconds: u64) -> String {
    let format = format_description!("[year]-[month]-[day] [hour]:[minute]");
    let time = i64::try_from(seconds).ok().and_then(|time| OffsetDateTime::from_unix_timestamp(time).ok());
    time.and_then(|time| time.format(format).ok()).unwrap_or_else(|| "unknown".into())
}

/// Formats a time in UTC with its age: `2026-11-25 20:31 UTC (3 days ago)`.
pub(super) fn time_with_age(seconds: u64, now: u64) -> String {
    let age = human::duration(Duration::from_secs(now.saturating_sub(seconds)));
    format!("{} UTC ({age} ago)", time(seconds))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_aligned_and_free_of_control_characters() {
        let rows = [vec!["a".into(), "1".into()], vec!["long".into(), "\u{1b}[2J".into()]];
        assert_eq!(
            columns(&["NAME", "X"], rows.clone().into_iter()),
            "NAME  X\na     1\nlong  \u{fffd}[2J\n"
        );
        assert_eq!(columns(&[], rows.into_iter()), "a     1\nlong  \u{fffd}[2J\n");
        assert_eq!(short_digest(&format!("sha256:{}", "0".repeat(64))), "sha256:000000000000");
    }

    #[test]
    fn times_are_in_utc_with_their_age() {
        assert_eq!(time_with_age(1_764_102_667, 1_764_102_667 + 7200), "2025-11-25 20:31 UTC (2 hours ago)");
        assert_eq!(time(u64::MAX), "unknown");
    }

    #[test]
    fn amount_has_count_and_size() {
        assert_eq!(amount(Amount { count: 2, bytes: 3 << 29 }, "blob"), "2 blobs (1.5 GiB)");
    }
}
