//! Counts and sizes in the output of commands.

pub(super) use crate::base::human::{count, size};
use crate::store::Amount;

/// Formats a number of files with their total size: `2 blobs (1.5 GiB)`.
pub(super) fn amount(amount: Amount, noun: &str) -> String {
    format!("{} ({})", count(amount.count, noun), size(amount.bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn amount_has_count_and_size() {
        assert_eq!(amount(Amount { count: 2, bytes: 3 << 29 }, "blob"), "2 blobs (1.5 GiB)");
    }
}
