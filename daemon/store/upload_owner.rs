//! The blocking half of an upload: one request that owns it, and the steps that it takes on blocking threads.
//!
//! Each step locks the session and first compares the number of the request with that of the owner: a request whose
//! upload was taken over fails here. `upload.rs` has the states.

use std::os::unix::fs::FileExt;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::buffers;
use super::error::StoreError;
use super::session_lock::Guard;
use super::sessions::{Handle, State};
use super::upload_files::HashedFile;
use super::upload_id::UploadId;
use super::upload_phase::Event;
use super::uploads::Uploads;
use super::work::Cancel;
use crate::oci::{Algorithm, Digest, RepositoryName};

/// The maximum number of bytes that one step of catching up reads.
const CATCH_UP: u64 = 4 << 20;

/// A request that owns an upload, until another request takes the upload over.
#[derive(Clone)]
pub(super) struct Owner {
    pub(super) handle: Arc<Handle>,
    pub(super) uploads: Arc<Uploads>,
    /// The number of the request.
    number: u64,
    /// The reserve that the upload leaves free at least, if it may use the rest of the configured one.
    reserve: Option<u64>,
}

impl Owner {
    /// Opens a new upload; blocking.
    pub(super) fn start(
        uploads: &Arc<Uploads>,
        repository: &RepositoryName,
        algorithm: Algorithm,
    ) -> Result<Self, StoreError> {
        Self::start_in(uploads, Some(repository), algorithm, None)
    }

    /// Opens a new upload, which is loose without a repository; blocking. With `reserve`, the upload may use the reserve of
    /// the disk down to this number of bytes.
    pub(super) fn start_in(
        uploads: &Arc<Uploads>,
        repository: Option<&RepositoryName>,
        algorithm: Algorithm,
        reserve: Option<u64>,
    ) -> Result<Self, StoreError> {
        uploads.capacity.check_with(0, reserve)?;
        uploads.evict_over_limit()?;
        let handle = uploads.sessions.handle(UploadId::new(repository, algorithm)?, repository);
        handle.create(algorithm)?;
        Ok(Owner { handle: Arc::new(handle), uploads: Arc::clone(uploads), number: 0, reserve })
    }

    /// Resumes an upload of this repository: the calling request becomes its owner. Blocking. The hash may have to
    /// catch up, see [`Owner::catch_up`].
    pub(super) fn resume(
        uploads: &Arc<Uploads>,
        repository: &RepositoryName,
        id: UploadId,
    ) -> Result<Self, StoreError> {
        if !id.belongs_to(repository) {
            return Err(StoreError::UploadUnknown);
        }
        let handle = uploads.sessions.handle(id, Some(repository));
        // Waits for the write of the previous owner, which still counts. From then on only this owner changes the
        // length.
        let state = handle.open().map_err(|error| match error {
            // `holdfast gc` has it locked: it is about to remove the file, or to let go of it.
            StoreError::UploadTakenOver => StoreError::io("lock an upload", rustix::io::Errno::AGAIN.into()),
            error => error,
        })?;
        let number = handle.owner.fetch_add(1, Ordering::AcqRel) + 1;
        drop(state);
        Ok(Owner { handle: Arc::new(handle), uploads: Arc::clone(uploads), number, reserve: None })
    }

    /// Locks the session for an event, if this request still owns the upload.
    fn state(&self, event: Event) -> Result<Guard<'_, State>, StoreError> {
        let state = self.handle.lock();
        state.after(event)?;
        if self.handle.owner.load(Ordering::Acquire) == self.number {
            Ok(state)
        } else {
            Err(StoreError::UploadTakenOver)
        }
    }

    /// Appends bytes; blocking.
    pub(super) fn write(&self, bytes: &[u8]) -> Result<(), StoreError> {
        let mut state = self.state(Event::Write)?;
        let (disk, capacity) = (&self.uploads.disk, &self.uploads.capacity);
        capacity.check_with(bytes.len() as u64, self.reserve)?;
        // Hash before the write: the hash brings the bytes into this core's cache, where the write finds them. The new
        // hashes are stored only after the write, so that a failed write leaves them at the length of the file.
        let hashes = state.hashes.extended(state.length, bytes);
        disk.write_upload(state.file()?, state.length, bytes)?;
        state.hashes = hashes;
        let length = state.length + bytes.len() as u64;
        self.handle.set_length(&mut state, length);
        capacity.count_written(bytes.len() as u64);
        Ok(())
    }

    /// Extends a lagging hash by one step of bytes that are read from the file; returns true once it covers all of
    /// them. Without an algorithm the hash that covers most is extended.
    pub(super) fn catch_up(&self, algorithm: Option<Algorithm>, cancel: &Cancel) -> Result<bool, StoreError> {
        let mut state = self.state(Event::Write)?;
        let algorithm =
            algorithm.or_else(|| state.hashes.furthest()).unwrap_or_else(|| self.handle.id().algorithm());
        let length = state.length;
        let _read = self.uploads.disk.begin_read();
        let mut position = state.hashes.begin(algorithm, length);
        let end = length.min(position + CATCH_UP);
        while position < end {
            cancel.check()?;
            let want = usize::try_from(end - position).unwrap_or(usize::MAX).min(buffers::SIZE);
            let mut buffer = self.uploads.buffers.take();
            let count = {
                let file = state.file()?;
                buffer.fill_with(want, |memory| file.read_exact_at(memory, position).map(|()| want))
            };
            position += count.map_err(|error| StoreError::io("read an upload again", error))? as u64;
            state.hashes.catch_up(algorithm, buffer.as_ref());
        }
        Ok(position == length)
    }

    /// Returns the digest of the written bytes; `None` if the hash does not cover all of them. Blocking.
    pub(super) fn digest(&self, algorithm: Algorithm) -> Result<Option<Digest>, StoreError> {
        let state = self.state(Event::Write)?;
        Ok(state.hashes.digest(algorithm, state.length))
    }

    /// Returns the reserve that the upload leaves free at least.
    pub(super) fn reserve(&self) -> Option<u64> {
        self.reserve
    }

    /// Checks the digest and syncs the content to the medium; blocking. A mismatch removes the upload. Returns `None`
    /// while the hash does not cover the whole file.
    pub(super) fn seal(&self, claimed: &Digest) -> Result<Option<Sealed>, StoreError> {
        let mut state = self.state(Event::Seal)?;
        let Some(actual) = state.hashes.digest(claimed.algorithm(), state.length) else { return Ok(None) };
        if actual != *claimed {
            self.handle.remove(&mut state)?;
            return Err(StoreError::DigestMismatch { claimed: claimed.clone(), actual });
        }
        let disk = &self.uploads.disk;
        disk.check_upload_length(state.file()?, state.length)?;
        if let Err(error) = disk.sync_upload(state.file()?) {
            // Pages that were not written may be dropped from the cache, and another sync would succeed without having
            // written them. After a lack of resources the store keeps working, so this file is removed.
            if matches!(error, StoreError::OutOfResources { .. }) {
                self.handle.remove(&mut state)?;
            }
            return Err(error);
        }
        state.seal()?;
        let name = self.handle.id().to_string();
        let file = HashedFile { name, inode: state.inode, length: state.length };
        Ok(Some(Sealed { file, handle: Arc::clone(&self.handle) }))
    }

    /// Removes the upload, whichever request owns it, unless it is sealed; blocking.
    pub(super) fn cancel(&self) -> Result<(), StoreError> {
        self.handle.remove(&mut self.handle.lock())
    }
}

/// An upload in the state `Sealed`, which its one holder settles.
#[must_use = "a sealed upload stays unusable until it is settled"]
pub(super) struct Sealed {
    pub(super) file: HashedFile,
    handle: Arc<Handle>,
}

impl Sealed {
    /// Writes content that is in memory to a synced file, ready to become a blob; blocking.
    pub(super) fn of_content(
        uploads: &Arc<Uploads>,
        repository: &RepositoryName,
        content: &[u8],
        digest: &Digest,
    ) -> Result<Self, StoreError> {
        let owner = Owner::start(uploads, repository, digest.algorithm())?;
        match owner.write(content).and_then(|()| owner.seal(digest)) {
            Ok(Some(sealed)) => Ok(sealed),
            Ok(None) => Err(StoreError::UploadUnknown),
            Err(error) => {
                // No client knows the id, so that the file would stay. After a mismatch it is removed already.
                match owner.cancel() {
                    Ok(()) | Err(StoreError::UploadUnknown) => Err(error),
                    Err(error) => Err(error),
                }
            }
        }
    }

    /// Ends an upload that became a blob.
    pub(super) fn committed(self) -> Result<(), StoreError> {
        self.handle.commit()
    }

    /// Opens an upload again that could not become a blob; blocking.
    pub(super) fn reopen(self) -> Result<(), StoreError> {
        self.handle.reopen()
    }

    /// Removes the file of refused content; blocking.
    pub(super) fn discard(self) -> Result<(), StoreError> {
        self.handle.discard()
    }
}
