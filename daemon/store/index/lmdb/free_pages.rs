//! Free pages of the index's map that are reserved for deletes.
//!
//! LMDB writes every changed page to a new place (copy-on-write), so that a delete takes free pages before it frees
//! any, and the pages that a commit frees can be reused after the next commit and only when no older reader is left.
//! So pushes are refused while fewer pages are free than deletes may need, and each change leaves enough for one more
//! commit: an index without a free page could never be written again.

use super::transaction::Transaction;
use crate::store::error::StoreError;
use crate::store::index::tables::{Table, WriteTables};
use crate::store::index_error::IndexError;

/// The bytes of the map that are reserved for deletes, at least and at most.
const RESERVE: (u64, u64) = (256 << 10, 16 << 20);
/// The free space that a push leaves, in bytes and in pages, and the pages that any other change leaves. The map is
/// larger than the configured size by more than that; see [`super::environment`].
const FREE_AFTER_PUSH: (u64, u64) = (1 << 20, 64);
const FREE_AFTER_OTHER: u64 = 16;

/// Returns how many bytes of an index of this size pushes may use.
pub(super) fn push_limit(map_size: u64) -> u64 {
    map_size.saturating_sub(reserve(map_size))
}

fn reserve(map_size: u64) -> u64 {
    (map_size / 16).clamp(RESERVE.0, RESERVE.1)
}

impl Transaction<'_> {
    pub(super) fn check_usage(&self) -> Result<(), IndexError> {
        let used = self.databases.used(&self.txn)?;
        if used > self.limits.1 { Err(IndexError::Full) } else { Ok(()) }
    }

    /// Ensures before the commit that enough pages stay free. LMDB does not report how many are, so rows that fill them
    /// are written and deleted again. This happens only once the file is longer than configured: until then the extra
    /// pages of the map are unused.
    pub(super) fn reserve_free_pages(&mut self) -> Result<(), StoreError> {
        if self.grows {
            // A single push may be large.
            self.check_usage()?;
        }
        let page_size = u64::from(self.env.stat().page_size);
        if (self.env.info().last_page_number as u64 + 1) * page_size <= self.limits.0 {
            return Ok(());
        }
        let by_pushes = (FREE_AFTER_PUSH.0 / page_size).max(FREE_AFTER_PUSH.1);
        let pages = if self.grows { by_pushes } else { FREE_AFTER_OTHER };
        // A row that fills one page: the page size less the page header, the node header and the checksum.
        let row = vec![0; usize::try_from(page_size).unwrap_or(4096) - 64];
        let key = |number: u64| format!("page-{number}").into_bytes();
        (0..pages).try_for_each(|number| self.put(Table::Meta, &key(number), &row))?;
        (0..pages).try_for_each(|number| self.delete(Table::Meta, &key(number)).map(drop))?;
        Ok(())
    }
}
