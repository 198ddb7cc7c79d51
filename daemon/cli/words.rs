//! Numbers as people read them.

use bytesize::ByteSize;

use crate::store::Amount;

/// A count with its noun: `1 tag`, `2 tags`, `2 repositories`.
pub(super) fn count(number: u64, noun: &str) -> String {
    match (number, noun.strip_suffix('y')) {
        (1, _) => format!("1 {noun}"),
        (_, Some(stem)) => format!("{number} {stem}ies"),
        (_, None) => format!("{number} {noun}s"),
    }
}

/// A length: `11 B`, `1.5 GiB`.
pub(super) fn size(bytes: u64) -> String {
    ByteSize(bytes).display().iec().to_string()
}

/// Files with their length together: `2 blobs (1.5 GiB)`.
pub(super) fn amount(amount: Amount, noun: &str) -> String {
    format!("{} ({})", count(amount.count, noun), size(amount.bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_for_people() {
        assert_eq!((count(1, "tag"), count(0, "tag")), ("1 tag".into(), "0 tags".into()));
        assert_eq!(
            (count(1, "repository"), count(2, "repository")),
            ("1 repository".into(), "2 repositories".into())
        );
        let two = Amount { count: 2, bytes: 3 << 29 };
        assert_eq!((size(11), amount(two, "blob")), ("11 B".into(), "2 blobs (1.5 GiB)".into()));
    }
}
