//! Free pages of the index's map that are kept for deletes.
//!
//! LMDB writes every changed page to another place, so that a delete takes free pages before it frees any, and what a
//! commit frees can be used after the next commit and when no reader is older. Pushes are therefore refused while fewer
//! pages are free than deletes need, and each change leaves enough for one more commit: an index without any free page
//! could not be written again.

use std::time::{Duration, Instant};

use super::batch::Batch;
use super::database::Index;
use super::schema;
use crate::store::disk::Disk;
use crate::store::error::StoreError;

/// How many bytes of the map are kept back for deletes, at least and at most.
const RESERVE: (u64, u64) = (256 << 10, 16 << 20);
/// How much a push leaves free, in bytes and in pages, and how many pages every other change. The map is larger than the
/// index may get by more than that; see [`super::environment`].
const FREE_AFTER_PUSH: (u64, u64) = (1 << 20, 64);
const FREE_AFTER_OTHER: u64 = 16;

/// How many commits are made to get at the pages that the last ones freed.
const MAX_COMMITS: u32 = 2;
/// How long changes wait for readers that hold pages of a full index, and how long there is no waiting after it was
/// in vain.
const READER_TIMEOUT: Duration = Duration::from_secs(3);
const RETRY_PAUSE: Duration = Duration::from_secs(10);
/// How long between two attempts.
const RETRY_INTERVAL: Duration = Duration::from_millis(20);

impl Index {
    /// How many bytes of the index pushes may use.
    pub(super) fn push_limit(&self) -> u64 {
        let size = self.map_size as u64;
        size.saturating_sub(reserve(size))
    }

    /// Writes a little, so that the pages that the last commit freed can be used by the next.
    fn release_freed_pages(&self, disk: &Disk) -> Result<(), StoreError> {
        disk.check_writable()?;
        // A command line holds the index against being replaced by the daemon.
        let _held = disk.hold_index_file()?;
        let mut txn = self.env.write_txn().map_err(|error| disk.failed(error.into()))?;
        schema::put_row(self.tables.meta, &mut txn, schema::CLOCK, &self.clock.row())?;
        self.commit(txn).map_err(|error| disk.failed(error))
    }
}

fn reserve(map_size: u64) -> u64 {
    (map_size / 16).clamp(RESERVE.0, RESERVE.1)
}

impl Batch<'_> {
    /// Refuses a change that makes the index larger when there is no more room than deletes may need.
    pub(super) fn check_capacity(&mut self) -> Result<(), StoreError> {
        self.attempt.grows = true;
        self.index.preallocation.check(&self.index.env)?;
        self.check_usage()
    }

    fn check_usage(&self) -> Result<(), StoreError> {
        let used = self.index.tables.used(&self.txn)?;
        if used > self.index.push_limit() { Err(StoreError::IndexFull) } else { Ok(()) }
    }

    /// Makes sure, before the commit, that enough pages are free afterwards. LMDB does not tell how many are, so that
    /// they are taken and given back, but only once the file is longer than configured: until then no page of what the
    /// map is larger is in use.
    pub(super) fn reserve_free_pages(&mut self) -> Result<(), StoreError> {
        if self.attempt.grows {
            // One push may be large.
            self.check_usage()?;
        }
        let page_size = u64::from(self.index.env.stat().page_size);
        if (self.index.env.info().last_page_number as u64 + 1) * page_size <= self.index.map_size as u64 {
            return Ok(());
        }
        let by_pushes = (FREE_AFTER_PUSH.0 / page_size).max(FREE_AFTER_PUSH.1);
        let pages = if self.attempt.grows { by_pushes } else { FREE_AFTER_OTHER };
        // With the header of a page, the checksum and no more than one page.
        let row = vec![0; usize::try_from(page_size).unwrap_or(4096) - 64];
        let meta = self.index.tables.meta;
        let key = |number: u64| format!("page-{number}").into_bytes();
        (0..pages).try_for_each(|number| meta.put(&mut self.txn, &key(number), &row))?;
        (0..pages).try_for_each(|number| meta.delete(&mut self.txn, &key(number)).map(drop))?;
        Ok(())
    }
}

/// What is done about an index without free pages: how often, and for how long.
#[derive(Default)]
pub(super) struct PageRetry {
    /// Since when changes of this batch wait.
    since: Option<Instant>,
    /// Until when there is no more waiting.
    rests_until: Option<Instant>,
}

impl PageRetry {
    /// Begins with the changes of another batch.
    pub(super) fn begin(&mut self) {
        self.since = None;
    }

    /// Returns true if a change that met this error may succeed with pages that were freed lately: also on a full disk,
    /// where a page behind the last one has no block.
    pub(super) fn applies_to(error: &StoreError, grows: bool) -> bool {
        matches!(error, StoreError::PagesHeld) || (matches!(error, StoreError::Full) && !grows)
    }

    /// Gets at pages that are free but cannot be used yet, for a change that met this error; whether it is to be tried
    /// again.
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
        // A push does not wait: it would keep deletes waiting behind it.
        if grows || matches!(error, StoreError::Full) || self.rests_until.is_some_and(|until| now < until) {
            return false;
        }
        if now.duration_since(*self.since.get_or_insert(now)) >= READER_TIMEOUT {
            self.rests_until = Some(now + RETRY_PAUSE);
            return false;
        }
        // Some may have been killed while they read.
        let _ = index.env.clear_stale_readers();
        std::thread::sleep(RETRY_INTERVAL);
        true
    }
}
