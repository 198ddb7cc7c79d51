//! Garbage collection: mark and sweep beside pushes and pulls.
//!
//! A run marks candidates in short reads of the index, a page at a time, and sweeps them in short transactions of the
//! writer thread, which check each one again: a concurrent push of the same digest wins. The file of a blob is removed
//! after the commit that forgets it; one that a power cut leaves in between is found as a file that the index does not
//! know. Content whose last use ended stays for the grace period. After an error, swept items stay swept, and the next
//! run continues.
//!
//! A run takes as long as there is to collect: it looks at the manifests with orphan rows, and at the blobs that changes have
//! noted as candidates (`blob_candidates`). Once a week, and in a new index, it looks at all blobs and all files.
//!
//! The decisions are pure functions in `decide.rs`, `retention.rs` and `tag_retention.rs`.

mod blobs;
mod collection;
mod decide;
mod manifests;
mod parts;
mod report;
mod sparse;
mod stop;
#[cfg(test)]
mod tests;
mod transactions;
mod trash;
mod uploads;
mod waiting;

use std::sync::Arc;
use std::time::Instant;

use tokio::sync::OwnedSemaphorePermit;

pub(super) use self::collection::{Collection, ITEMS_PER_TRANSACTION, ROWS_PER_READ};
pub use self::report::{CollectedItem, CollectionReport, LastCollection};
pub use self::stop::StopRequest;
pub use self::waiting::WaitingContent;

use self::report::ContentState;
use super::error::StoreError;
use super::index::changes::marks::HoldCollection;
use super::index::{Counts, EventKind};
use super::retention::CollectionPolicy;
use super::{Store, blocking};
use crate::base::clock::unix_seconds;

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
        self.collect_until(policy, dry_run, observe, StopRequest::never()).await
    }

    /// As [`Store::collect`], until `stop` is made: then it ends at its next safe point, and its report tells what it freed
    /// before. A step to the next safe point is one read of the index or one transaction.
    ///
    /// # Errors
    /// As those of [`Store::collect`].
    pub async fn collect_until(
        &self,
        policy: &CollectionPolicy,
        dry_run: bool,
        observe: &mut (dyn FnMut(CollectedItem) + Send),
        mut stop: StopRequest<'_>,
    ) -> Result<CollectionReport, StoreError> {
        let nothing = CollectionReport { dry_run, ..CollectionReport::default() };
        let stopped = CollectionReport { cancelled: true, ..nothing };
        let lock = if dry_run {
            None
        } else {
            match stop.unless_made(self.lock_collection(policy.by_operator)).await {
                Some(lock) => lock?,
                None => return Ok(stopped),
            }
        };
        let began = Instant::now();
        if !dry_run {
            if lock.is_none() {
                return Ok(nothing);
            }
            self.keep_layout_healthy().await?;
            self.record_pulls().await;
        }
        let held = self.0.index.collection_is_held()?;
        if !decide::may_collect(held, policy.by_operator) {
            return Ok(nothing);
        }
        if stop.is_made().await {
            return Ok(stopped);
        }
        let mut collection = Collection::new(self, policy, (dry_run, stop), observe)?;
        if !dry_run {
            self.prepare_collection(held).await?;
        }
        let cancelled = match collection.run().await {
            Ok(()) => false,
            Err(_) if collection.stop.is_obeyed() => true,
            Err(error) => return Err(error),
        };
        let Collection { report, waiting, .. } = collection;
        let milliseconds = u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX);
        let report = CollectionReport { cancelled, milliseconds, ..report };
        if !dry_run {
            self.note_collection(report, waiting);
        }
        Ok(report)
    }

    /// Returns the content that waits for the end of its grace period.
    ///
    /// # Errors
    /// Those of the index.
    pub async fn waiting_content(&self, policy: &CollectionPolicy) -> Result<WaitingContent, StoreError> {
        let mut ignore = |_| ();
        let dry_run = (true, StopRequest::never());
        let mut collection = Collection::new(self, policy, dry_run, &mut ignore)?;
        // It is only a look: the index is not verified for it.
        collection.is_preview = true;
        collection.is_full = self.0.index.last_full_collection()?.is_none();
        collection.run_on_index().await?;
        collection.note_waiting().await;
        Ok(collection.report.waiting)
    }

    /// Returns true if a later collection by these rules may find content to free, even if nothing changes any more: something
    /// waits for its grace period, a retention rule may remove tags by their age, or the last collection of this process was
    /// before the last change.
    pub fn may_have_to_collect(&self, policy: &CollectionPolicy) -> bool {
        let settled = self.0.last_collection.lock().and_then(|last| last.settled);
        !policy.retention.is_empty() || settled.is_none() || settled != self.content_state()
    }

    /// Returns the state of the content; `None` if the index cannot be read.
    fn content_state(&self) -> Option<ContentState> {
        let of_names = |kind: &EventKind| match kind {
            EventKind::Push
            | EventKind::Tag
            | EventKind::Untag
            | EventKind::Delete
            | EventKind::Evict
            | EventKind::Expire
            | EventKind::Repair => true,
            EventKind::User | EventKind::Login | EventKind::Job | EventKind::State | EventKind::Pull => false,
        };
        let counts = self.0.feed.counts().into_iter().filter(|(kind, _)| of_names(kind));
        let changes = counts.map(|(_, count)| count).sum();
        let Counts { repositories, tags, manifests, blobs, bytes } = self.0.index.counts().ok()?;
        Some(ContentState([repositories, tags, manifests, blobs, bytes, changes]))
    }

    /// Prepares the index for a collection that changes it.
    async fn prepare_collection(&self, held: bool) -> Result<(), StoreError> {
        // The reader slot of a process that was killed keeps LMDB from reusing freed pages.
        self.0.index.clear_stale_readers()?;
        // A registry that is only pulled from has no other writes: without this one, ages would not advance across
        // restarts.
        self.0.feed.flush_logins();
        self.writer()?.save_clock().await?;
        if held {
            self.writer()?.submit(HoldCollection(false)).await?;
        }
        // Where the disk was too full to recover it when the store was opened.
        self.recover_trash().await
    }

    /// Notes the end of a collection. `waiting` is true if it has seen manifests that expire later.
    fn note_collection(&self, report: CollectionReport, waiting: bool) {
        let is_whole = !report.cancelled && report.found == 0;
        let is_settled = is_whole && !waiting && report.kept_young.count + report.kept_uploads.count == 0;
        let settled = if is_settled { self.content_state() } else { None };
        let at = unix_seconds();
        *self.0.last_collection.lock() = Some(LastCollection { at, report, settled });
        let freed = report.freed_blobs.bytes + report.freed_uploads.bytes;
        self.0.measurements.totals.lock().freed_bytes += freed;
    }

    /// Recovers the trash of an earlier release, which moved blobs there before it committed: restores the files that
    /// the index has and removes the others. A lack of space leaves the rest to the next collection.
    pub(super) async fn recover_trash(&self) -> Result<(), StoreError> {
        let inner = Arc::clone(&self.0);
        match blocking(move || trash::recover(&inner.disk, &inner.index)).await {
            Err(error) if error.is_lack_of_space() => {
                log::warn!("cannot recover the trash; the next collection will retry: {error}");
                Ok(())
            }
            recovered => recovered,
        }
    }

    /// Takes the lock that admits one collection at a time. With `wait`, waits for another collection; otherwise
    /// returns `None` while there is one.
    async fn lock_collection(&self, wait: bool) -> Result<Option<OwnedSemaphorePermit>, StoreError> {
        let disk = &self.0.disk;
        if wait { disk.lock_collection().await.map(Some) } else { Ok(disk.try_lock_collection()) }
    }
}
