//! The retries of changes that find no free page in the index.
//!
//! The pages that a commit frees can be reused after the next commit, and only when no older reader is left.

use std::time::{Duration, Instant};

use super::metadata_store::MetadataStore;
use crate::store::blob_store::BlobStore;
use crate::store::error::StoreError;

/// The extra commits that make recently freed pages usable for a change.
const MAX_COMMITS: u32 = 2;
/// The time that changes wait for readers that hold freed pages of a full index.
const READER_TIMEOUT: Duration = Duration::from_secs(3);
/// The time after such a timeout during which changes do not wait again, so that they do not queue up.
const RETRY_PAUSE: Duration = Duration::from_secs(10);
/// The interval between two attempts.
const RETRY_INTERVAL: Duration = Duration::from_millis(20);

/// The retries of changes that find no free page.
#[derive(Default)]
pub(in crate::store) struct PageRetry {
    /// The time at which the first change of the batch began to wait for readers.
    since: Option<Instant>,
    /// The end of the pause in which changes do not wait for readers, after a timeout.
    no_wait_until: Option<Instant>,
}

impl PageRetry {
    /// Starts with the changes of another batch.
    pub(in crate::store) fn begin(&mut self) {
        self.since = None;
    }

    /// Returns true if a retry may find recently freed pages after this error. On a full disk that holds for changes
    /// that do not grow the index: a page behind the end of the file has no block there.
    pub(in crate::store) fn applies_to(error: &StoreError, grows: bool) -> bool {
        matches!(error, StoreError::PagesHeld) || (matches!(error, StoreError::Full) && !grows)
    }

    /// Makes recently freed pages usable after this error, and returns true if the change should be retried.
    pub(in crate::store) fn try_again(
        &mut self,
        metadata: &impl MetadataStore,
        blobs: &impl BlobStore,
        (error, grows): (&StoreError, bool),
        attempts: u32,
    ) -> bool {
        if !Self::applies_to(error, grows) {
            return false;
        }
        if attempts < MAX_COMMITS && release_freed_space(metadata, blobs).is_ok() {
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
        metadata.release_dead_readers();
        std::thread::sleep(RETRY_INTERVAL);
        true
    }
}

fn release_freed_space(metadata: &impl MetadataStore, blobs: &impl BlobStore) -> Result<(), StoreError> {
    let _changing = blobs.begin_changes()?;
    metadata.release_freed_space().map_err(|error| blobs.latch_on(error))
}
