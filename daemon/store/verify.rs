//! Verifying the index while the store is open: an inspection in a process of its own.
//!
//! Each row has a checksum, but a row that is missing has none: a page that changed places on the medium makes content
//! look unneeded. So a collection verifies the index before it takes anything (`gc`), and a check begins with it.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::disk::Disk;
use super::error::StoreError;
use super::index::inspect::Inspection;
use super::recover::IndexHealth;
use super::{Role, Store, blocking};

/// A collection that would take more than this part of all content verifies the index for itself, also where it was
/// verified earlier in the life of the process.
const LARGE_SHARE_DIVISOR: u64 = 5;

/// The content that a collection has taken, and the content that there was before.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Share {
    /// Manifests and blobs that were there when the collection began.
    all: u64,
    taken: u64,
}

impl Share {
    /// A collection that has taken nothing yet.
    pub(super) fn of(all: u64) -> Self {
        Share { all, taken: 0 }
    }

    /// Counts content that is about to be taken; returns true once all of it together is a large part of the content.
    pub(super) fn take(&mut self, count: u64) -> bool {
        self.taken = self.taken.saturating_add(count);
        self.taken.saturating_mul(LARGE_SHARE_DIVISOR) > self.all
    }
}

impl Store {
    /// Inspects the index beside the writer, in a process of its own. Where it is damaged, the daemon takes no more
    /// writes and the next start repairs it.
    ///
    /// # Errors
    /// [`StoreError::Unready`] when the index is damaged, [`StoreError::Io`] when it could not be inspected.
    pub(super) async fn verify_index(&self) -> Result<(), StoreError> {
        let inner = Arc::clone(&self.0);
        blocking(move || match inspect(&inner.disk, inner.inspect, inner.index.map_size()) {
            IndexHealth::Healthy => {
                inner.index_verified.store(true, Ordering::Relaxed);
                Ok(())
            }
            IndexHealth::Corrupt => {
                log::error!("the index is damaged: rows are missing or do not agree; nothing is collected");
                inner.disk.note_damage();
                if inner.role == Role::Daemon {
                    inner.disk.failed(heed::Error::Decoding("rows of the index are missing".into()).into());
                }
                Err(StoreError::Unready)
            }
            IndexHealth::Unknown(why) => Err(StoreError::io("inspect the index", std::io::Error::other(why))),
        })
        .await
    }

    /// Returns true if the index was inspected since this process opened it.
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
    fn a_fifth_of_the_content_is_a_large_part() {
        let mut share = Share::of(100);
        assert!(!share.take(19));
        assert!(!share.take(1));
        assert!(share.take(1));
        assert!(Share::of(0).take(1));
    }
}
