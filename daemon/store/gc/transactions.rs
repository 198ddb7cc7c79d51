//! Transactions of a collection on the writer thread.

use super::parts::Parts;
use crate::store::Store;
use crate::store::error::StoreError;
use crate::store::index::changes::TypedChange;
use crate::store::index::tables::candidates::SweepOutcome;

impl Store {
    /// Applies the change that `change` makes of items in one transaction, or in several smaller ones where the index or the disk lacks
    /// space. Items for which there is no space at all are dropped if others were changed; the next collection finds
    /// them. Returns the replies.
    pub(in crate::store) async fn change<T, C: TypedChange>(
        &self,
        items: Vec<T>,
        change: impl Fn(&[T]) -> C,
    ) -> Result<Vec<C::Reply>, StoreError> {
        let mut parts = Parts::new(items);
        while let Some(part) = parts.next() {
            let result = self.writer()?.submit(change(&part)).await;
            parts.record(part, result.map(|reply| vec![reply]))?;
        }
        parts.finish()
    }

    /// Frees items in as many transactions as are needed; returns those that were freed.
    pub(super) async fn sweep_items<T, R, C>(
        &self,
        mut items: Vec<T>,
        change: impl Fn(&[T]) -> C,
    ) -> Result<Vec<R>, StoreError>
    where
        C: TypedChange<Reply = Vec<SweepOutcome<T, R>>>,
    {
        let mut taken = Vec::new();
        while !items.is_empty() {
            // A transaction never postpones its first item, so that the loop ends.
            for one in self.change(std::mem::take(&mut items), &change).await?.into_iter().flatten() {
                match one {
                    SweepOutcome::Swept(one) => taken.push(one),
                    SweepOutcome::Postponed(one) => items.push(one),
                }
            }
        }
        Ok(taken)
    }
}
