//! `Range` and `Content-Range` (RFC 9110 section 14; distribution specification, "Pushing a blob in chunks").

use std::str::FromStr;

/// One range of bytes that a client asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ByteRange {
    /// From the first byte to the last, both included; to the end when there is no last. The last may be before the first.
    From(u64, Option<u64>),
    /// So many bytes at the end.
    Last(u64),
}

/// The range of a chunk of an upload, both ends included.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ContentRange {
    /// The offset of its first byte.
    pub start: u64,
    /// The offset of its last byte.
    pub end: u64,
}

/// A text is no range.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a range is written START-END")]
pub struct ParseRangeError;

/// What to send for a `Range` header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RangeOutcome {
    /// Everything: there is no range, or none that can be served, which a server may ignore.
    Whole,
    /// So many bytes from an offset on.
    Part {
        /// The first byte.
        start: u64,
        /// How many; at least one.
        length: u64,
    },
    /// The range has no byte of the content: it lies behind the end, or ends before its start.
    Unsatisfiable,
}

/// Decides what a `Range` header means for content of this size. Several ranges are answered with everything.
pub fn resolve_range(header: Option<&str>, size: u64) -> RangeOutcome {
    let Some(range) = header.and_then(|text| text.parse().ok()) else { return RangeOutcome::Whole };
    match range {
        ByteRange::From(start, _) if start >= size => RangeOutcome::Unsatisfiable,
        ByteRange::From(start, Some(end)) if end < start => RangeOutcome::Unsatisfiable,
        ByteRange::From(start, end) => {
            let end = end.unwrap_or(u64::MAX).min(size - 1);
            RangeOutcome::Part { start, length: end - start + 1 }
        }
        ByteRange::Last(0) => RangeOutcome::Unsatisfiable,
        ByteRange::Last(_) if size == 0 => RangeOutcome::Unsatisfiable,
        ByteRange::Last(count) => {
            let length = count.min(size);
            RangeOutcome::Part { start: size - length, length }
        }
    }
}

impl FromStr for ByteRange {
    type Err = ParseRangeError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let ranges = text.trim().strip_prefix("bytes=").ok_or(ParseRangeError)?;
        let (start, end) = ranges.split_once('-').ok_or(ParseRangeError)?;
        match (start.trim(), end.trim()) {
            ("", count) => Ok(ByteRange::Last(saturating(count)?)),
            (start, "") => Ok(ByteRange::From(saturating(start)?, None)),
            (start, end) => Ok(ByteRange::From(saturating(start)?, Some(saturating(end)?))),
        }
    }
}

impl FromStr for ContentRange {
    type Err = ParseRangeError;

    /// Reads `START-END` as the standard has it, and RFC 9110's `bytes START-END/SIZE`, which some clients send.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let range = text.trim();
        let range = range.strip_prefix("bytes").map_or(range, |rest| rest.trim_start_matches([' ', '=']));
        let range = range.split_once('/').map_or(range, |(range, _)| range);
        let (start, end) = range.split_once('-').ok_or(ParseRangeError)?;
        let (start, end) = (number(start)?, number(end)?);
        if start <= end && end < u64::MAX { Ok(ContentRange { start, end }) } else { Err(ParseRangeError) }
    }
}

fn number(text: &str) -> Result<u64, ParseRangeError> {
    if is_number(text) { text.parse().map_err(|_| ParseRangeError) } else { Err(ParseRangeError) }
}

/// Reads a number of any length; one that is too large for a `u64` lies behind the end of all content.
fn saturating(text: &str) -> Result<u64, ParseRangeError> {
    if is_number(text) { Ok(text.parse().unwrap_or(u64::MAX)) } else { Err(ParseRangeError) }
}

fn is_number(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn resolves_what_clients_send() {
        let part = |start, length| RangeOutcome::Part { start, length };
        for (header, size, expected) in [
            ("bytes=0-3", 10, part(0, 4)),
            ("bytes=5-", 10, part(5, 5)),
            ("bytes=-3", 10, part(7, 3)),
            ("bytes=-30", 10, part(0, 10)),
            ("bytes=8-100", 10, part(8, 2)),
            ("bytes=10-", 10, RangeOutcome::Unsatisfiable),
            ("bytes=-0", 10, RangeOutcome::Unsatisfiable),
            ("bytes=0-0", 0, RangeOutcome::Unsatisfiable),
            ("bytes=3-1", 10, RangeOutcome::Unsatisfiable),
            ("bytes=5-4", 10, RangeOutcome::Unsatisfiable),
            ("bytes=0-99999999999999999999", 10, part(0, 10)),
            ("bytes=99999999999999999999-", 10, RangeOutcome::Unsatisfiable),
            ("bytes=0-1,4-5", 10, RangeOutcome::Whole),
            ("bytes=4-5,3-1", 10, RangeOutcome::Whole),
            ("lines=1-2", 10, RangeOutcome::Whole),
            ("bytes=-", 10, RangeOutcome::Whole),
            ("bytes=+3-1", 10, RangeOutcome::Whole),
        ] {
            assert_eq!(resolve_range(Some(header), size), expected, "{header}");
        }
        assert_eq!(resolve_range(None, 10), RangeOutcome::Whole);
    }

    #[test]
    fn reads_both_kinds_of_content_range() {
        for text in ["5-9", "bytes 5-9/20", "bytes=5-9", "bytes 5-9/*"] {
            assert_eq!(text.parse(), Ok(ContentRange { start: 5, end: 9 }), "{text}");
        }
        for text in ["", "5", "9-5", "+5-9", "5-x", "0-18446744073709551615", "a-b"] {
            assert!(text.parse::<ContentRange>().is_err(), "{text}");
        }
    }

    proptest! {
        #[test]
        fn a_single_range_is_a_part_or_unsatisfiable(
            start in any::<u64>(), end in any::<u64>(), size in any::<u64>(), space in " ?"
        ) {
            let header = format!("bytes={start}{space}-{space}{end}");
            let outcome = resolve_range(Some(&header), size);
            if end < start || start >= size {
                prop_assert_eq!(outcome, RangeOutcome::Unsatisfiable);
            } else {
                let length = end.min(size - 1) - start + 1;
                prop_assert_eq!(outcome, RangeOutcome::Part { start, length });
            }
        }

        #[test]
        fn a_part_lies_inside(text in "(bytes=)?[0-9]{0,21}-?[0-9,-]{0,21}", size in any::<u64>()) {
            let _ = text.parse::<ContentRange>();
            if let RangeOutcome::Part { start, length } = resolve_range(Some(&text), size) {
                prop_assert!(length > 0 && start.checked_add(length).is_some_and(|end| end <= size));
            }
        }
    }
}
