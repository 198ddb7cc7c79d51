//! Version order of names: `1.10` sorts after `1.9`.

use std::cmp::Ordering;

/// Compares two strings; consecutive digits compare as a number.
pub(super) fn compare(one: &str, other: &str) -> Ordering {
    let (mut left, mut right) = (one.as_bytes(), other.as_bytes());
    loop {
        let (Some(&a), Some(&b)) = (left.first(), right.first()) else {
            // 1.01 and 1.1 are equal as numbers; the order is total all the same.
            return left.len().cmp(&right.len()).then_with(|| one.cmp(other));
        };
        if a.is_ascii_digit() && b.is_ascii_digit() {
            let (number, after) = split_number(left);
            let (other_number, other_after) = split_number(right);
            // Without leading zeros the longer number is larger, so that no number has to fit an integer type.
            let order = number.len().cmp(&other_number.len()).then_with(|| number.cmp(other_number));
            if order != Ordering::Equal {
                return order;
            }
            (left, right) = (after, other_after);
        } else if a == b {
            (left, right) = (&left[1..], &right[1..]);
        } else {
            return a.cmp(&b);
        }
    }
}

/// Splits a string after its leading digits; returns these without leading zeros, and the rest.
fn split_number(text: &[u8]) -> (&[u8], &[u8]) {
    let end = text.iter().position(|byte| !byte.is_ascii_digit()).unwrap_or(text.len());
    let (number, rest) = text.split_at(end);
    let zeros = number.iter().position(|byte| *byte != b'0').unwrap_or(number.len());
    (&number[zeros..], rest)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn numbers_in_names_compare_by_value() {
        let mut tags = ["v10", "1.10", "latest", "1.9", "1.9-rc2", "1.9-rc10", "v9", "1.09", "2", "1.9.0"];
        tags.sort_by(|one, other| compare(one, other));
        assert_eq!(tags, ["1.09", "1.9", "1.9-rc2", "1.9-rc10", "1.9.0", "1.10", "2", "latest", "v9", "v10"]);
    }

    proptest! {
        #[test]
        fn is_a_total_order(one in "[0-9a-b.]{0,6}", two in "[0-9a-b.]{0,6}", three in "[0-9a-b.]{0,6}") {
            prop_assert_eq!(compare(&one, &two), compare(&two, &one).reverse());
            prop_assert_eq!(compare(&one, &two) == Ordering::Equal, one == two);
            if compare(&one, &two).is_le() && compare(&two, &three).is_le() {
                prop_assert!(compare(&one, &three).is_le());
            }
        }
    }
}
