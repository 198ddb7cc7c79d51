//! The limit of unfinished uploads on the disk, so that a client that opens uploads and never ends them does not use up
//! the inodes.
//!
//! At the limit a new upload is not refused, or one client could lock out all others. Instead the uploads with the
//! oldest last write are evicted, empty ones first; the client of an evicted upload starts it again. Uploads in use
//! stay.

use super::error::StoreError;
use super::uploads::Uploads;

/// The divisor of the part of the limit that one eviction frees, so that not every new upload lists the directory.
const FREED: u64 = 10;

impl Uploads {
    /// Evicts uploads until another one may be created; blocking.
    ///
    /// # Errors
    /// [`StoreError::TooManyUploads`] if requests use all of them.
    pub(super) fn evict_over_limit(&self) -> Result<(), StoreError> {
        let limit = self.capacity.unfinished_uploads();
        if self.disk.upload_count() < limit {
            return Ok(());
        }
        // One request evicts at a time. Those that waited for the lock find the number below the limit.
        let _eviction = self.eviction.lock();
        let mut uploads = self.disk.uploads_by_age()?;
        let count = uploads.len() as u64;
        if count < limit {
            return Ok(());
        }
        uploads.sort_by_key(|upload| (upload.length > 0, upload.modified));
        let (wanted, mut removed) = (count - limit + limit / FREED + 1, 0);
        for upload in uploads {
            if removed < wanted && self.expire(&upload.name, upload.length)? {
                removed += 1;
            }
        }
        log::warn!(
            "evicted {removed} of {count} unfinished uploads; the limit is {limit} (limits.unfinished_uploads)"
        );
        if self.disk.upload_count() < limit { Ok(()) } else { Err(StoreError::TooManyUploads) }
    }
}
