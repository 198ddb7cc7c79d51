//! The limit of unfinished uploads on the disk: a client that opens them and never ends them uses up no inodes.
//!
//! At the limit a new upload is not refused, or one client could keep all others from pushing. The uploads that were
//! written to least recently give way instead, those without a byte first: an upload that a request uses at that moment
//! stays, and the client of another one starts it again.

use super::error::StoreError;
use super::upload::Uploads;

/// The part of the limit that is freed at once, so that not every new upload lists the directory.
const FREED: u64 = 10;

impl Uploads {
    /// Makes a place for another upload; blocking.
    ///
    /// # Errors
    /// [`StoreError::TooManyUploads`] when requests use all of them.
    pub(super) fn make_place(&self) -> Result<(), StoreError> {
        let limit = self.room.unfinished_uploads();
        if self.disk.upload_count() < limit {
            return Ok(());
        }
        // One request makes room; the others that wait for it find it made.
        let _one = super::lock(&self.making_place);
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
        log::warn!("there were {count} unfinished uploads; removed {removed}, the limit is {limit}");
        if self.disk.upload_count() < limit { Ok(()) } else { Err(StoreError::TooManyUploads) }
    }
}
