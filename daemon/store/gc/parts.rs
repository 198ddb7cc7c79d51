//! Division of a change into smaller transactions where the index or the disk lacks space for a large one.

use crate::store::error::StoreError;

/// Items to be changed, and the results of the transactions so far.
pub(super) struct Parts<T, R> {
    /// Parts that are not done, the next one last.
    pending: Vec<Vec<T>>,
    results: Vec<R>,
    has_succeeded: bool,
    /// The last lack of space for a single item.
    failure: Option<StoreError>,
}

impl<T, R> Parts<T, R> {
    /// Begins with all items in one transaction.
    pub(super) fn new(items: Vec<T>) -> Self {
        Parts { pending: vec![items], results: Vec::new(), has_succeeded: false, failure: None }
    }

    /// Returns the items of the next transaction.
    pub(super) fn next(&mut self) -> Option<Vec<T>> {
        self.pending.pop()
    }

    /// Records the result of the transaction for `part`. A part for which there was no space is halved; a single item
    /// is dropped.
    ///
    /// # Errors
    /// An error other than a lack of space.
    pub(super) fn record(
        &mut self,
        mut part: Vec<T>,
        result: Result<Vec<R>, StoreError>,
    ) -> Result<(), StoreError> {
        match result {
            Ok(results) => {
                self.results.extend(results);
                self.has_succeeded = true;
            }
            Err(error) if error.is_lack_of_space() && part.len() > 1 => {
                let rest = part.split_off(part.len() / 2);
                self.pending.extend([rest, part]);
            }
            Err(error) if error.is_lack_of_space() => self.failure = Some(error),
            Err(error) => return Err(error),
        }
        Ok(())
    }

    /// Returns the results of all transactions.
    ///
    /// # Errors
    /// The lack of space, if no transaction succeeded. Otherwise those that did may have made space, and the next
    /// collection finds the dropped items.
    pub(super) fn finish(self) -> Result<Vec<R>, StoreError> {
        match self.failure {
            Some(error) if !self.has_succeeded => Err(error),
            _ => Ok(self.results),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Changes items in parts with this outcome for each part; returns the result and the number of transactions.
    fn change(
        items: Vec<u32>,
        outcome: impl Fn(&[u32]) -> Result<(), StoreError>,
    ) -> (Result<Vec<u32>, StoreError>, usize) {
        let (mut parts, mut transactions) = (Parts::new(items), 0);
        while let Some(part) = parts.next() {
            transactions += 1;
            let result = outcome(&part).map(|()| part.clone());
            if let Err(error) = parts.record(part, result) {
                return (Err(error), transactions);
            }
        }
        (parts.finish(), transactions)
    }

    #[test]
    fn one_transaction_is_enough_where_there_is_space() {
        let (changed, transactions) = change((0..32).collect(), |_| Ok(()));
        assert_eq!((changed.unwrap().len(), transactions), (32, 1));
        assert!(change(Vec::new(), |_| Ok(())).0.unwrap().is_empty());
    }

    #[test]
    fn an_item_without_space_is_dropped_and_the_others_are_changed_in_order() {
        let outcome = |part: &[u32]| if part.contains(&5) { Err(StoreError::IndexFull) } else { Ok(()) };
        assert_eq!(change((0..8).collect(), outcome).0.unwrap(), [0, 1, 2, 3, 4, 6, 7]);
    }

    #[test]
    fn a_lack_of_space_for_all_items_is_an_error() {
        let (changed, transactions) = change((0..4).collect(), |_| Err(StoreError::Full));
        assert!(matches!(changed, Err(StoreError::Full)));
        assert_eq!(transactions, 7);
    }

    #[test]
    fn another_error_ends_the_change() {
        let (changed, transactions) = change((0..4).collect(), |_| Err(StoreError::ReadOnly));
        assert!(matches!(changed, Err(StoreError::ReadOnly)));
        assert_eq!(transactions, 1);
    }

    proptest! {
        #[test]
        fn all_items_are_changed_where_each_fits_by_itself(count in 1_u32..100, fits in 1_usize..100) {
            let outcome = |part: &[u32]| if part.len() > fits { Err(StoreError::PagesHeld) } else { Ok(()) };
            let (changed, transactions) = change((0..count).collect(), outcome);
            prop_assert_eq!(changed.unwrap(), (0..count).collect::<Vec<_>>());
            prop_assert!(transactions < 2 * count as usize);
        }
    }
}
