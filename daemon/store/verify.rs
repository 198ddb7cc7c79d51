//! Verification of the index while the store is open, by an inspection in a child process.
//!
//! Each row has a checksum, but a missing row has none: a page that is lost on the medium makes content look
//! unreferenced. So a collection verifies the index before it removes anything (`gc`), and a check begins with it.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::disk::Disk;
use super::error::StoreError;
use super::index::inspect::Inspection;
use super::index_error::IndexError;
use super::settings::IndexHealth;
use super::{Role, Store, blocking, layout};

/// The divisor of a large share: a collection that would remove more than a fifth of all content verifies the index
/// itself, even if the process has verified it before.
const LARGE_SHARE_DIVISOR: u64 = 5;

/// The share of all content that a collection has removed.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Share {
    /// The manifests and blobs at the start of the collection.
    all: u64,
    taken: u64,
}

impl Share {
    /// Starts at a collection that has removed nothing yet.
    pub(super) fn of(all: u64) -> Self {
        Share { all, taken: 0 }
    }

    /// Counts content that is about to be removed; returns true once all of it together is a large part of the
    /// content.
    pub(super) fn take(&mut self, count: u64) -> bool {
        self.taken = self.taken.saturating_add(count);
        self.taken.saturating_mul(LARGE_SHARE_DIVISOR) > self.all
    }
}

impl Store {
    /// Inspects the index beside the writer, in a child process. If it is corrupt, the daemon becomes read-only, and
    /// its next start repairs the index.
    ///
    /// # Errors
    /// [`StoreError::NeedsRecovery`] when the index is corrupt, [`StoreError::Io`] when it could not be inspected.
    pub(super) async fn verify_index(&self) -> Result<(), StoreError> {
        let inner = Arc::clone(&self.0);
        blocking(move || match inspect(&inner.disk, inner.inspect, inner.index.map_size()) {
            IndexHealth::Healthy => {
                inner.index_verified.store(true, Ordering::Relaxed);
                Ok(())
            }
            IndexHealth::Corrupt => {
                log::error!("the index is corrupt: rows are missing or do not agree; nothing is collected");
                let missing = IndexError::Row("rows of the index are missing".into());
                inner.index.note(&missing);
                if inner.role == Role::Daemon {
                    // The names of the last seconds may be in the index only; the rebuild reads them from index.json.
                    let _ = layout::write_readable(&inner.disk, &inner.index);
                    inner.disk.latch_on(missing.into());
                }
                Err(StoreError::NeedsRecovery)
            }
            IndexHealth::Unknown(why) => Err(StoreError::io("inspect the index", std::io::Error::other(why))),
        })
        .await
    }

    /// Returns true if this process has verified the index since it opened it.
    pub(super) fn index_is_verified(&self) -> bool {
        self.0.index_verified.load(Ordering::Relaxed)
    }
}

fn inspect(disk: &Disk, inspect: fn(&Inspection) -> IndexHealth, map_size: usize) -> IndexHealth {
    let directory = disk.index_directory();
    inspect(&Inspection { directory: &directory, map_size, previous: false, least_change: 0, copy: None })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn more_than_a_fifth_is_a_large_part() {
        let mut share = Share::of(100);
        assert!(!share.take(19));
        assert!(!share.take(1));
        assert!(share.take(1));
        assert!(Share::of(0).take(1));
    }
}
