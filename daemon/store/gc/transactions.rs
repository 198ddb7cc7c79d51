//! Transactions of a collection on the writer thread.

use std::sync::Arc;

use super::parts::Parts;
use crate::oci::Digest;
use crate::store::error::StoreError;
use crate::store::index::candidates::SweepOutcome;
use crate::store::index::writer::Batch;
use crate::store::{Store, blocking};

impl Store {
    /// Applies a change to items in one transaction, or in several smaller ones where the index or the disk lacks
    /// space. Items for which there is no space at all are dropped if others were changed; the next collection finds
    /// them.
    pub(in crate::store) async fn change<T, R>(
        &self,
        items: Vec<T>,
        change: impl Fn(&mut Batch, &[T]) -> Result<Vec<R>, StoreError> + Clone + Send + 'static,
    ) -> Result<Vec<R>, StoreError>
    where
        T: Clone + Send + 'static,
        R: Send + 'static,
    {
        let mut parts = Parts::new(items);
        while let Some(part) = parts.next() {
            let (change, items) = (change.clone(), part.clone());
            let result = self.writer()?.submit(move |batch| change(batch, &items)).await;
            parts.record(part, result)?;
        }
        parts.finish()
    }

    /// Frees items in as many transactions as are needed; returns those that were freed.
    pub(super) async fn sweep_items<T: Clone + Send + 'static, R: Send + 'static>(
        &self,
        mut items: Vec<T>,
        change: impl Fn(&mut Batch, &[T]) -> Result<Vec<SweepOutcome<T, R>>, StoreError> + Clone + Send + 'static,
    ) -> Result<Vec<R>, StoreError> {
        let mut taken = Vec::new();
        while !items.is_empty() {
            // A transaction never postpones its first item, so that the loop ends.
            for one in self.change(std::mem::take(&mut items), change.clone()).await? {
                match one {
                    SweepOutcome::Swept(one) => taken.push(one),
                    SweepOutcome::Postponed(one) => items.push(one),
                }
            }
        }
        Ok(taken)
    }

    /// Removes files from `trash/`, after the commit of the transaction that moved them there.
    pub(super) async fn remove_trash(&self, digests: Vec<Digest>) -> Result<(), StoreError> {
        let disk = Arc::clone(&self.0.disk);
        blocking(move || digests.iter().try_for_each(|digest| disk.remove_trash(digest))).await
    }
}
