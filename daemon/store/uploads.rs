//! The unfinished uploads of the store as a whole: listed, expired and counted, and what all of them share.
//!
//! Each upload is used through its one session (`sessions.rs`); `upload.rs` has the states of an upload and the verbs of
//! a request.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::buffers::Buffers;
use super::capacity::Capacity;
use super::disk::Disk;
use super::error::StoreError;
use super::sessions::Sessions;
use super::upload_id::UploadId;
use crate::base::Lock;
use crate::oci::RepositoryName;

/// The unfinished uploads.
pub(super) struct Uploads {
    pub(super) sessions: Arc<Sessions>,
    pub(super) disk: Arc<Disk>,
    pub(super) buffers: Arc<Buffers>,
    pub(super) capacity: Arc<Capacity>,
    /// Held while the limit of unfinished uploads is enforced.
    pub(super) eviction: Lock<()>,
}

/// An unfinished upload, as the admin page lists it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnfinishedUpload {
    /// Its repository; unknown after a restart until the client resumes it.
    pub repository: Option<RepositoryName>,
    /// Its length in bytes.
    pub length: u64,
    /// Its length after the request that runs now, if the client announced it.
    pub expected: Option<u64>,
}

impl Uploads {
    /// Returns an empty table that keeps at most `limit` idle sessions in memory. Other uploads are hashed again when
    /// they are resumed.
    pub(super) fn new(limit: usize, disk: Arc<Disk>, buffers: Arc<Buffers>, capacity: Arc<Capacity>) -> Self {
        let sessions = Arc::new(Sessions::new(limit, Arc::clone(&disk), Arc::clone(&capacity)));
        Uploads { sessions, disk, buffers, capacity, eviction: Lock::default() }
    }

    /// Returns the length of an upload of this repository in bytes; blocking.
    pub(super) fn length(&self, repository: &RepositoryName, id: UploadId) -> Result<u64, StoreError> {
        if !id.belongs_to(repository) {
            return Err(StoreError::UploadUnknown);
        }
        // While a request writes, the file is longer than the bytes that count.
        if let Some((length, true)) =
            self.sessions.with_session(id, |session, in_use| (session.length(), in_use))
        {
            return Ok(length);
        }
        self.disk.upload_length(&id.to_string())?.ok_or(StoreError::UploadUnknown)
    }

    /// Removes an upload of this length that no request uses; returns false if it is in use or has grown. Blocking.
    pub(super) fn expire(&self, name: &str, length: u64) -> Result<bool, StoreError> {
        let Ok(id) = name.parse() else {
            // Not an upload of this store: no request can use it.
            self.disk.remove_upload(name)?;
            return Ok(true);
        };
        let Some(claim) = self.sessions.claim_idle(id) else { return Ok(false) };
        let mut state = match claim.open() {
            Ok(state) => state,
            Err(StoreError::UploadUnknown | StoreError::UploadTakenOver) => return Ok(false),
            Err(error) => return Err(error),
        };
        if state.length != length {
            return Ok(false);
        }
        claim.remove(&mut state)?;
        Ok(true)
    }

    /// Counts the bytes of all uploads anew from a listing of `uploads/`: file name and length.
    pub(super) fn recount(&self, files: &[(String, u64)]) {
        self.sessions.recount(files);
    }

    /// Lists the unfinished uploads; blocking.
    pub(super) fn unfinished(&self) -> Result<Vec<UnfinishedUpload>, StoreError> {
        let running = self.disk.uploads()?.into_iter().map(|(name, length)| {
            let known = name.parse().ok().and_then(|id| {
                self.sessions.with_session(id, |session, _| {
                    (session.repository.get().cloned(), session.expected.load(Ordering::Relaxed))
                })
            });
            let (repository, expected) = known.unwrap_or_default();
            UnfinishedUpload {
                repository,
                length,
                expected: Some(expected).filter(|expected| *expected > length),
            }
        });
        Ok(running.collect())
    }
}
