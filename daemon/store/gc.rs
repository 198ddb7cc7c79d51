//! Garbage collection: mark and sweep beside pushes and pulls.
//!
//! A run marks candidates in short reads of the index, a page at a time, and sweeps them in short transactions of the
//! writer thread, which check each one again: a concurrent push of the same digest wins. A file moves from `blobs/` to
//! `trash/` inside the transaction that forgets it and is removed after the commit; [`Store::recover_trash`] recovers
//! from a power cut in between. Content whose last use ended stays for the grace period. After an error, swept items
//! stay swept, and the next run continues.
//!
//! The decisions are pure functions in `decide.rs`, `retention.rs` and `tag_retention.rs`.

mod blobs;
mod collection;
mod decide;
mod manifests;
mod parts;
mod report;
#[cfg(test)]
mod tests;
mod transactions;
mod uploads;

use std::sync::Arc;
use std::time::Instant;

pub(super) use self::collection::{Collection, ITEMS_PER_TRANSACTION, ROWS_PER_READ};
pub use self::report::{CollectedItem, CollectionReport, LastCollection};

use super::error::StoreError;
use super::locks::FileLock;
use super::retention::CollectionPolicy;
use super::{Store, blocking};

impl Store {
    /// Runs a collection, or a dry run, which changes nothing. Calls `observe` with each item that is freed.
    ///
    /// # Errors
    /// Those of the disk and of the index; items that were freed before the error stay freed.
    pub async fn collect(
        &self,
        policy: &CollectionPolicy,
        dry_run: bool,
        observe: &mut (dyn FnMut(CollectedItem) + Send),
    ) -> Result<CollectionReport, StoreError> {
        if dry_run {
            return self.collect_now(policy, true, observe).await;
        }
        let _running = self.0.measurements.start_collection();
        let collected = self.collect_now(policy, false, observe).await;
        if let Err(error) = &collected {
            self.0.measurements.note(|jobs| jobs.collection.end(Some(error)));
        }
        collected
    }

    async fn collect_now(
        &self,
        policy: &CollectionPolicy,
        dry_run: bool,
        observe: &mut (dyn FnMut(CollectedItem) + Send),
    ) -> Result<CollectionReport, StoreError> {
        let lock = if dry_run { None } else { self.lock_collection(policy.by_operator).await? };
        let began = Instant::now();
        let nothing = CollectionReport { dry_run, ..CollectionReport::default() };
        if !dry_run {
            if lock.is_none() {
                return Ok(nothing);
            }
            self.keep_layout_healthy().await?;
        }
        let held = self.0.index.collection_is_held()?;
        if !decide::may_collect(held, policy.by_operator) {
            return Ok(nothing);
        }
        let mut collection = Collection::new(self, policy, dry_run, observe)?;
        if !dry_run {
            self.prepare_collection(held).await?;
        }
        collection.repositories().await?;
        collection.blobs().await?;
        collection.link_exceptions().await?;
        collection.unknown_files().await?;
        collection.uploads().await?;
        let milliseconds = u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX);
        let report = CollectionReport { milliseconds, ..collection.report };
        if !dry_run {
            self.note_collection(report);
        }
        Ok(report)
    }

    /// Prepares the index and the trash for a collection that changes them.
    async fn prepare_collection(&self, held: bool) -> Result<(), StoreError> {
        // The reader slot of a process that was killed keeps LMDB from reusing freed pages.
        self.0.index.clear_stale_readers()?;
        // A registry that is only pulled from has no other writes: without this one, ages would not advance across
        // restarts.
        self.writer()?.save_clock().await?;
        if held {
            self.writer()?.submit(|batch| batch.hold_collection(false)).await?;
        }
        match self.recover_locked_trash().await {
            // This collection may free the space that is needed to restore a blob.
            Err(error) if error.is_lack_of_space() => {
                log::warn!(
                    "cannot recover the trash of an interrupted collection; the next one will retry: {error}"
                );
                Ok(())
            }
            recovered => recovered,
        }
    }

    fn note_collection(&self, report: CollectionReport) {
        *self.0.last_collection.lock() =
            Some(LastCollection { at: crate::base::clock::unix_seconds(), report });
        let freed = report.freed_blobs.bytes + report.freed_uploads.bytes;
        self.0.measurements.note(|jobs| {
            jobs.collection.end(None);
            jobs.freed_bytes += freed;
        });
    }

    /// Recovers `trash/` after an interrupted collection; a collection that is running has done so already.
    pub(super) async fn recover_trash(&self) -> Result<(), StoreError> {
        match self.0.disk.try_lock_collection()? {
            Some(_lock) => self.recover_locked_trash().await,
            None => Ok(()),
        }
    }

    /// Takes the lock that admits one collection at a time. With `wait`, waits for another collection; otherwise
    /// returns `None` while there is one.
    async fn lock_collection(&self, wait: bool) -> Result<Option<FileLock>, StoreError> {
        let disk = Arc::clone(&self.0.disk);
        blocking(move || if wait { disk.lock_collection().map(Some) } else { disk.try_lock_collection() })
            .await
    }

    /// Restores the files in `trash/` that the index has and removes the others.
    async fn recover_locked_trash(&self) -> Result<(), StoreError> {
        let disk = Arc::clone(&self.0.disk);
        let trash = blocking(move || disk.trash()).await?;
        for part in trash.chunks(ITEMS_PER_TRANSACTION) {
            #[expect(
                clippy::redundant_closure_for_method_calls,
                reason = "the method alone is not general enough"
            )]
            let removable = self.change(part.to_vec(), |batch, part| batch.recover_trash(part)).await?;
            self.remove_trash(removable).await?;
        }
        Ok(())
    }
}
