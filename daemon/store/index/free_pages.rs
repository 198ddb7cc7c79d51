//! Free pages of the index's map that are reserved for deletes.
//!
//! LMDB writes every changed page to a new place (copy-on-write), so that a delete takes free pages before it frees
//! any, and the pages that a commit frees can be reused after the next commit and only when no older reader is left.
//! So pushes are refused while fewer pages are free than deletes may need, and each change leaves enough for one more
//! commit: an index without a free page could never be written again.

use std::time::{Duration, Instant};

use super::batch::Batch;
use super::database::Index;
use super::schema;
use crate::store::disk::Disk;
use crate::store::error::StoreError;

/// The bytes of the map that are reserved for deletes, at least and at most.
const RESERVE: (u64, u64) = (256 << 10, 16 << 20);
/// The free space that a push leaves, in bytes and in pages, and the pages that any other change leaves. The map is
/// larger than the configured size by more than that; see [`super::environment`].
const FREE_AFTER_PUSH: (u64, u64) = (1 << 20, 64);
const FREE_AFTER_OTHER: u64 = 16;

/// The extra commits that make recently freed pages usable for a change.
const MAX_COMMITS: u32 = 2;
/// The time that changes wait for readers that hold freed pages of a full index.
const READER_TIMEOUT: Duration = Duration::from_secs(3);
/// The time after such a timeout during which changes do not wait again, so that they do not queue up.
const RETRY_PAUSE: Duration = Duration::from_secs(10);
/// The interval between two attempts.
const RETRY_INTERVAL: Duration = Duration::from_millis(20);

impl Index {
    /// Returns how many bytes of the index pushes may use.
    pub(super) fn push_limit(&self) -> u64 {
        let size = self.map_size as u64;
        size.saturating_sub(reserve(size))
    }

    /// Commits a small change, so that the pages that the previous commit freed can be reused by the next.
    fn release_freed_pages(&self, disk: &Disk) -> Result<(), StoreError> {
        disk.check_writable()?;
        // Beside a daemon, the shared lock keeps the daemon from replacing the index file.
        let _held = disk.pin_index_file()?;
        let mut txn = self.write_txn().map_err(|error| disk.latch_on(error))?;
        schema::put_row(self.tables.meta, &mut txn, schema::CLOCK, &self.clock.row())?;
        self.commit(txn).map_err(|error| disk.latch_on(error))
    }
}

fn reserve(map_size: u64) -> u64 {
    (map_size / 16).clamp(RESERVE.0, RESERVE.1)
}

impl Batch<'_> {
    /// Refuses a change that makes the index larger if that would use the reserve for deletes.
    pub(super) fn check_capacity(&mut self) -> Result<(), StoreError> {
        self.attempt.grows = true;
        self.index.preallocation.check(&self.index.env)?;
        self.check_usage()
    }

    fn check_usage(&self) -> Result<(), StoreError> {
        let used = self.index.tables.used(&self.txn)?;
        if used > self.index.push_limit() { Err(StoreError::IndexFull) } else { Ok(()) }
    }

    /// Ensures before the commit that enough pages stay free. LMDB does not report how many are, so rows that fill them
    /// are written and deleted again. This happens only once the file is longer than configured: until then the extra
    /// pages of the map are unused.
    pub(super) fn reserve_free_pages(&mut self) -> Result<(), StoreError> {
        if self.attempt.grows {
            // A single push may be large.
            self.check_usage()?;
        }
        let page_size = u64::from(self.index.env.stat().page_size);
        if (self.index.env.info().last_page_number as u64 + 1) * page_size <= self.index.map_size as u64 {
            return Ok(());
        }
        let by_pushes = (FREE_AFTER_PUSH.0 / page_size).max(FREE_AFTER_PUSH.1);
        let pages = if self.attempt.grows { by_pushes } else { FREE_AFTER_OTHER };
        // A row that fills one page: the page size less the page header, the node header and the checksum.
        let row = vec![0; usize::try_from(page_size).unwrap_or(4096) - 64];
        let meta = self.index.tables.meta;
        let key = |number: u64| format!("page-{number}").into_bytes();
        (0..pages).try_for_each(|number| meta.put(&mut self.txn, &key(number), &row))?;
        (0..pages).try_for_each(|number| meta.delete(&mut self.txn, &key(number)).map(drop))?;
        Ok(())
    }
}

/// The retries of changes that find no free page.
#[derive(Default)]
pub(super) struct PageRetry {
    /// The time at which the first change of the batch began to wait for readers.
    since: Option<Instant>,
    /// The end of the pause in which changes do not wait for readers, after a timeout.
    no_wait_until: Option<Instant>,
}

impl PageRetry {
    /// Starts with the changes of another batch.
    pub(super) fn begin(&mut self) {
        self.since = None;
    }

    /// Returns true if a retry may find recently freed pages after this error. On a full disk that holds for changes
    /// that do not grow the index: a page behind the end of the file has no block there.
    pub(super) fn applies_to(error: &StoreError, grows: bool) -> bool {
        matches!(error, StoreError::PagesHeld) || (matches!(error, StoreError::Full) && !grows)
    }

    /// Makes recently freed pages usable after this error, and returns true if the change should be retried.
    pub(super) fn try_again(
        &mut self,
        index: &Index,
        disk: &Disk,
        (error, grows): (&StoreError, bool),
        attempts: u32,
    ) -> bool {
        if !Self::applies_to(error, grows) {
            return false;
        }
        if attempts < MAX_COMMITS && index.release_freed_pages(disk).is_ok() {
            return true;
        }
        let now = Instant::now();
        // A push does not wait: deletes would queue behind it.
        if grows || matches!(error, StoreError::Full) || self.no_wait_until.is_some_and(|until| now < until) {
            return false;
        }
        if now.duration_since(*self.since.get_or_insert(now)) >= READER_TIMEOUT {
            self.no_wait_until = Some(now + RETRY_PAUSE);
            return false;
        }
        // Readers in processes that were killed hold pages, too.
        let _ = index.env.clear_stale_readers();
        std::thread::sleep(RETRY_INTERVAL);
        true
    }
}
