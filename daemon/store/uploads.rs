//! The unfinished uploads of the store: opened, resumed, listed, expired and counted.
//!
//! Each upload is used through its one session (`sessions.rs`); `upload.rs` has the states of an upload and what a
//! request does to it.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::buffers::Buffers;
use super::capacity::Capacity;
use super::disk::Disk;
use super::error::StoreError;
use super::sessions::{Handle, Sessions};
use super::upload::{Sealed, Step, Upload};
use super::upload_id::UploadId;
use super::work::Work;
use crate::base::Lock;
use crate::oci::{Algorithm, Digest, RepositoryName};

/// The unfinished uploads.
pub(super) struct Uploads {
    sessions: Arc<Sessions>,
    pub(super) disk: Arc<Disk>,
    buffers: Arc<Buffers>,
    pub(super) capacity: Arc<Capacity>,
    /// Held while the limit of unfinished uploads is enforced.
    pub(super) eviction: Lock<()>,
    work: Arc<Work>,
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
    pub(super) fn new(
        limit: usize,
        disk: Arc<Disk>,
        buffers: Arc<Buffers>,
        capacity: Arc<Capacity>,
        work: Arc<Work>,
    ) -> Self {
        let sessions = Arc::new(Sessions::new(limit, Arc::clone(&disk), Arc::clone(&capacity)));
        Uploads { sessions, disk, buffers, capacity, eviction: Lock::default(), work }
    }

    /// Opens a new upload; blocking.
    pub(super) fn start(
        &self,
        repository: &RepositoryName,
        algorithm: Algorithm,
    ) -> Result<Upload, StoreError> {
        self.capacity.check(0)?;
        self.evict_over_limit()?;
        let handle = self.sessions.handle(UploadId::new(repository, algorithm)?, repository);
        handle.create(algorithm)?;
        Ok(self.upload(handle, 0))
    }

    /// Resumes an upload of this repository: the calling request becomes its owner. Blocking. The hash may have to
    /// catch up, see [`Upload::prepare`].
    pub(super) fn resume(&self, repository: &RepositoryName, id: UploadId) -> Result<Upload, StoreError> {
        if !id.belongs_to(repository) {
            return Err(StoreError::UploadUnknown);
        }
        let handle = self.sessions.handle(id, repository);
        // Waits for the write of the previous owner, which still counts. From then on only this owner changes the
        // length.
        let state = handle.open().map_err(|error| match error {
            // `holdfast gc` has it locked: it is about to remove the file, or to let go of it.
            StoreError::UploadTakenOver => StoreError::io("lock an upload", rustix::io::Errno::AGAIN.into()),
            error => error,
        })?;
        let owner = handle.owner.fetch_add(1, Ordering::AcqRel) + 1;
        drop(state);
        Ok(self.upload(handle, owner))
    }

    fn upload(&self, handle: Handle, owner: u64) -> Upload {
        let step = Step {
            handle: Arc::new(handle),
            owner,
            disk: Arc::clone(&self.disk),
            capacity: Arc::clone(&self.capacity),
            buffers: Arc::clone(&self.buffers),
        };
        Upload::new(step, Arc::clone(&self.work))
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

    /// Writes content that is in memory to a synced file, ready to become a blob; blocking.
    pub(super) fn write_whole(
        &self,
        repository: &RepositoryName,
        bytes: &[u8],
        digest: &Digest,
    ) -> Result<Sealed, StoreError> {
        let step = self.start(repository, digest.algorithm())?.into_step();
        let written = step.write(bytes).and_then(|()| step.seal(digest));
        match written {
            Ok(Some(file)) => Ok(Sealed { file, handle: step.handle }),
            Ok(None) => Err(StoreError::UploadUnknown),
            Err(error) => {
                // No client knows the id, so that the file would stay. After a mismatch it is removed already.
                match step.cancel() {
                    Ok(()) | Err(StoreError::UploadUnknown) => Err(error),
                    Err(error) => Err(error),
                }
            }
        }
    }

    /// Removes an upload of this length that no request uses; returns false if it is in use or has grown. Blocking.
    pub(super) fn expire(&self, name: &str, length: u64) -> Result<bool, StoreError> {
        let Ok(id) = name.parse() else {
            // Not an upload of this store: no request can use it.
            self.disk.remove_upload(name)?;
            return Ok(true);
        };
        let Some(handle) = self.sessions.claim_idle(id) else { return Ok(false) };
        let mut state = match handle.open() {
            Ok(state) => state,
            Err(StoreError::UploadUnknown | StoreError::UploadTakenOver) => return Ok(false),
            Err(error) => return Err(error),
        };
        if state.length != length {
            return Ok(false);
        }
        handle.remove(&mut state)?;
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
