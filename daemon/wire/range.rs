//! `Range` of pulls (RFC 9110 section 14.2) and `Content-Range` of chunks (distribution specification, "Pushing a blob
//! in chunks", which has a form of its own).
//!
//! A malformed `Range` is ignored, as RFC 9110 wants; a malformed `Content-Range` is an error.

use std::str::FromStr;

/// Byte range of a `Range` header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ByteRange {
    /// The first and the last byte, both included; up to the end if there is no last byte. The last may be before the
    /// first.
    From(u64, Option<u64>),
    /// This number of bytes at the end.
    Last(u64),
}

/// Byte range of a chunk of an upload, both ends included.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ContentRange {
    /// The offset of its first byte.
    pub start: u64,
    /// The offset of its last byte.
    pub end: u64,
}

/// A text is not a range.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a range has the form START-END, with START at most END")]
pub struct ParseRangeError;

/// Part of the content that a response to a `Range` header has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RangeOutcome {
    /// The whole content: there is no `Range`, or one that is malformed or has several ranges.
    Whole,
    /// A part of the content.
    Part {
        /// The offset of the first byte.
        start: u64,
        /// The number of bytes, at least one.
        length: u64,
    },
    /// The range contains no byte of the content: it begins after the end, or ends before its start.
    Unsatisfiable,
}

/// Resolves a `Range` header for content of this size. Several ranges yield the whole content.
pub fn resolve_range(header: Option<&str>, size: u64) -> RangeOutcome {
    let Some(range) = header.and_then(|text| text.parse().ok()) else { return RangeOutcome::Whole };
    match range {
        ByteRange::From(start, _) if start >= size => RangeOutcome::Unsatisfiable,
        ByteRange::From(start, Some(end)) if end < start => RangeOutcome::Unsatisfiable,
        ByteRange::From(start, end) => {
            // The size is not zero, since it is greater than the start.
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

    /// Parses `START-END` of the distribution specification, and `bytes START-END/SIZE` of RFC 9110, which some clients
    /// send.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let range = text.trim();
        let range = range.strip_prefix("bytes").map_or(range, |rest| rest.trim_start_matches([' ', '=']));
        let range = range.split_once('/').map_or(range, |(range, _)| range);
        let (start, end) = range.split_once('-').ok_or(ParseRangeError)?;
        let (start, end) = (number(start)?, number(end)?);
        // With an end of `u64::MAX` the length of the chunk could overflow.
        if start <= end && end < u64::MAX { Ok(ContentRange { start, end }) } else { Err(ParseRangeError) }
    }
}

fn number(text: &str) -> Result<u64, ParseRangeError> {
    if is_number(text) { text.parse().map_err(|_| ParseRangeError) } else { Err(ParseRangeError) }
}

/// Parses a number of any length; one that does not fit into a `u64` is after the end of any content.
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
    fn ranges_are_resolved_against_the_size() {
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
    fn both_forms_of_content_range_are_parsed() {
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
        fn a_part_lies_inside_of_the_content(text in "(bytes=)?[0-9]{0,21}-?[0-9,-]{0,21}", size in any::<u64>()) {
            let _ = text.parse::<ContentRange>();
            if let RangeOutcome::Part { start, length } = resolve_range(Some(&text), size) {
                prop_assert!(length > 0 && start.checked_add(length).is_some_and(|end| end <= size));
            }
        }
    }
}
