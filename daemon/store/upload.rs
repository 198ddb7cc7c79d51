//! An unfinished upload: content on its way into the store.
//!
//! An upload is a file in `uploads/`, named by its id. The file is authoritative; the running hash is only in memory
//! and is computed again from the file after a restart. Bytes are hashed and written on blocking threads, a buffer at a
//! time, while the next ones arrive. A second request for the same upload takes it over: the first one is most likely a
//! connection that its client has given up.
//!
//! The states of an upload. Each transition happens under the lock of its one session (`sessions.rs`):
//!
//! ```text
//!   POST: create the file
//!    │
//!    ▼
//! ┌──────┐   PUT ends: digest and length match, fdatasync   ┌────────┐
//! │ Open │ ───────────────────────────────────────────────▶ │ Sealed │
//! │      │ ◀─────────────────────────────────────────────── │        │
//! └──────┘   refused: the index did not take the change     └────────┘
//!  │ ▲ │                                                         │
//!  │ └─┘ PATCH, PUT: take over, write                            │ committed: the index writer renamed
//!  │                                                             │ the very file that was hashed
//!  │ DELETE, expiry, digest mismatch: unlink                     ▼
//!  │                                                        ┌────────┐
//!  └──────────────────────────────────────────────────────▶ │ Ended  │
//!                                                           └────────┘
//! ```
//!
//! * `Open`: the request that came last owns the upload and may write. The previous owner fails at its next step. A
//!   write hashes, writes at the length, and then moves the length; a write that fails is cut off again.
//! * `Sealed`: the content is hashed, synced and handed to the index writer. Every request gets 404.
//! * `Ended`: final. The unlink, or the rename to the blobs, comes first and is the moment at which the upload ends; a
//!   request in between waits for the lock and gets 404.
//!
//! Expiry takes only an upload that no request uses and whose length has not changed. A kill leaves a file that can be
//! resumed, a blob, or nothing.
//!
//! A hash that does not cover the whole file (after a restart, an eviction, or for a digest of the other algorithm)
//! catches up in steps of [`CATCH_UP`] bytes. Between two steps the lock is free, and a request whose client has
//! disconnected ends. The progress is kept; once caught up both hashes stay current, so that a file is read again at
//! most once per algorithm.

use std::os::unix::fs::FileExt;
use std::sync::atomic::Ordering;
use std::sync::{Arc, MutexGuard};

use tokio::task::JoinHandle;

use super::buffers::{self, Buffer, Buffers};
use super::capacity::Capacity;
use super::disk::Disk;
use super::error::StoreError;
use super::sessions::{Handle, Phase, State};
use super::upload_files::HashedFile;
use super::upload_id::UploadId;
use super::work::{Cancel, Kind, Work};
use crate::oci::{Algorithm, Digest};

/// The maximum number of bytes that one step of catching up reads.
const CATCH_UP: u64 = 4 << 20;

/// An upload that this request owns.
pub struct Upload {
    step: Step,
    work: Arc<Work>,
    /// Bytes that are not written yet.
    buffered: Option<Buffer>,
    /// The write of the previous buffer.
    running: Option<JoinHandle<Result<(), StoreError>>>,
}

/// The part of an upload that blocking steps share with the request.
#[derive(Clone)]
pub(super) struct Step {
    pub(super) handle: Arc<Handle>,
    /// The number of the request that owns the upload.
    pub(super) owner: u64,
    pub(super) disk: Arc<Disk>,
    pub(super) capacity: Arc<Capacity>,
    pub(super) buffers: Arc<Buffers>,
}

impl Step {
    /// Locks the session, if this request still owns the upload.
    fn state(&self) -> Result<MutexGuard<'_, State>, StoreError> {
        let state = self.handle.lock();
        match state.phase {
            Phase::Open if self.handle.owner.load(Ordering::Acquire) == self.owner => Ok(state),
            Phase::Open => Err(StoreError::UploadTakenOver),
            Phase::Sealed | Phase::Ended => Err(StoreError::UploadUnknown),
        }
    }

    /// Appends bytes; blocking.
    pub(super) fn write(&self, bytes: &[u8]) -> Result<(), StoreError> {
        let mut state = self.state()?;
        self.capacity.check(bytes.len() as u64)?;
        // Hash before the write: the hash brings the bytes into this core's cache, where the write finds them. The new
        // hashes are stored only after the write, so that a failed write leaves them at the length of the file.
        let hashes = state.hashes.extended(state.length, bytes);
        self.disk.write_upload(state.file()?, state.length, bytes)?;
        state.hashes = hashes;
        let length = state.length + bytes.len() as u64;
        self.handle.set_length(&mut state, length);
        self.capacity.count_written(bytes.len() as u64);
        Ok(())
    }

    /// Extends a lagging hash by one step of bytes that are read from the file; returns true once it covers all of
    /// them. Without an algorithm the hash that covers most is extended.
    fn catch_up(&self, algorithm: Option<Algorithm>, cancel: &Cancel) -> Result<bool, StoreError> {
        let mut state = self.state()?;
        let algorithm =
            algorithm.or_else(|| state.hashes.furthest()).unwrap_or_else(|| self.handle.id().algorithm());
        let length = state.length;
        let _read = self.disk.begin_read();
        let mut position = state.hashes.begin(algorithm, length);
        let end = length.min(position + CATCH_UP);
        while position < end {
            cancel.check()?;
            let want = usize::try_from(end - position).unwrap_or(usize::MAX).min(buffers::SIZE);
            let mut buffer = self.buffers.take();
            let count = {
                let file = state.file()?;
                buffer.fill_with(want, |memory| file.read_exact_at(memory, position).map(|()| want))
            };
            position += count.map_err(|error| StoreError::io("read an upload again", error))? as u64;
            state.hashes.catch_up(algorithm, buffer.as_ref());
        }
        Ok(position == length)
    }

    /// Checks the digest and syncs the content to the medium. Returns `None` while the hash does not cover the whole
    /// file.
    pub(super) fn seal(&self, claimed: &Digest) -> Result<Option<HashedFile>, StoreError> {
        let mut state = self.state()?;
        let Some(actual) = state.hashes.digest(claimed.algorithm(), state.length) else { return Ok(None) };
        if actual != *claimed {
            self.handle.remove(&mut state)?;
            return Err(StoreError::DigestMismatch { claimed: claimed.clone(), actual });
        }
        self.disk.check_upload_length(state.file()?, state.length)?;
        if let Err(error) = self.disk.sync_upload(state.file()?) {
            // Pages that were not written may be dropped from the cache, and another sync would succeed without having
            // written them. After a lack of resources the store keeps working, so this file is removed.
            if matches!(error, StoreError::OutOfResources { .. }) {
                self.handle.remove(&mut state)?;
            }
            return Err(error);
        }
        state.phase = Phase::Sealed;
        Ok(Some(HashedFile { name: self.handle.id().to_string(), inode: state.inode, length: state.length }))
    }

    /// Removes the upload, whichever request owns it, unless it is sealed.
    pub(super) fn cancel(&self) -> Result<(), StoreError> {
        let mut state = self.handle.lock();
        match state.phase {
            Phase::Open => self.handle.remove(&mut state),
            Phase::Sealed | Phase::Ended => Err(StoreError::UploadUnknown),
        }
    }
}

/// An upload in the state `Sealed`.
pub(super) struct Sealed {
    pub(super) file: HashedFile,
    pub(super) handle: Arc<Handle>,
}

impl Sealed {
    /// Ends an upload that became a blob.
    pub(super) fn committed(self) {
        self.handle.end(&mut self.handle.lock());
    }

    /// Opens an upload again that could not become a blob; blocking.
    pub(super) fn reopen(self) {
        self.handle.reopen();
    }

    /// Removes the file of refused content; blocking.
    pub(super) fn discard(self) -> Result<(), StoreError> {
        self.handle.remove(&mut self.handle.lock())
    }
}

impl Upload {
    pub(super) fn new(step: Step, work: Arc<Work>) -> Self {
        Upload { step, work, buffered: None, running: None }
    }

    /// Returns the blocking part, for content that is written without buffering.
    pub(super) fn into_step(self) -> Step {
        self.step
    }

    /// Returns the id of the upload.
    pub fn id(&self) -> UploadId {
        self.step.handle.id()
    }

    /// Returns the number of bytes that are written, without those that [`Upload::write`] still buffers.
    pub fn length(&self) -> u64 {
        self.step.handle.length()
    }

    /// Refuses an announced body that exceeds the capacity, before its first byte is written.
    ///
    /// # Errors
    /// [`StoreError::Full`] or [`StoreError::Quota`].
    pub async fn expect(&self, bytes: u64) -> Result<(), StoreError> {
        if bytes > 0 {
            self.step.handle.expected.store(self.length().saturating_add(bytes), Ordering::Relaxed);
        }
        if bytes <= buffers::SIZE as u64 {
            // The first write checks the capacity of a small body.
            return Ok(());
        }
        let capacity = Arc::clone(&self.step.capacity);
        self.work.run(Kind::Write, move || capacity.check(bytes)).await
    }

    /// Appends bytes. They are hashed and written on a blocking thread, a buffer at a time, while the next ones arrive;
    /// a later call returns the error of a buffer.
    ///
    /// # Errors
    /// [`StoreError::UploadTakenOver`] if another request took over the upload, or the error of the disk.
    pub async fn write(&mut self, mut bytes: &[u8]) -> Result<(), StoreError> {
        while !bytes.is_empty() {
            let buffer = self.buffered.get_or_insert_with(|| self.step.buffers.take());
            let taken = buffer.fill(bytes);
            bytes = &bytes[taken..];
            if buffer.is_full() {
                self.finish_write().await?;
                self.start_write();
            }
        }
        Ok(())
    }

    fn start_write(&mut self) {
        if let Some(buffer) = self.buffered.take() {
            let step = self.step.clone();
            self.running = Some(self.work.spawn_write(move || step.write(buffer.as_ref())));
        }
    }

    async fn finish_write(&mut self) -> Result<(), StoreError> {
        match self.running.take() {
            Some(running) => running.await.map_err(|_| StoreError::Closing)?,
            None => Ok(()),
        }
    }

    /// Writes the buffered bytes; the upload stays open.
    ///
    /// # Errors
    /// As [`Upload::write`].
    pub async fn pause(&mut self) -> Result<(), StoreError> {
        self.finish_write().await?;
        self.start_write();
        self.finish_write().await
    }

    /// Catches up the hash of the algorithm that the upload will end with; any hash while the algorithm is unknown.
    /// Stops when the future is dropped or the daemon stops.
    ///
    /// # Errors
    /// [`StoreError::UploadTakenOver`] if another request took over the upload, [`StoreError::Closing`] if the daemon
    /// stops, or the error of the disk.
    pub async fn prepare(&self, algorithm: Option<Algorithm>) -> Result<(), StoreError> {
        loop {
            let step = self.step.clone();
            let catch_up = move |cancel: &Cancel| step.catch_up(algorithm, cancel);
            if self.work.run_cancellable(Kind::Write, catch_up).await? {
                return Ok(());
            }
        }
    }

    /// Writes the buffered bytes, checks the digest and syncs the content. A mismatch removes the upload.
    pub(super) async fn seal(mut self, claimed: Digest) -> Result<Sealed, StoreError> {
        self.pause().await?;
        loop {
            let (step, digest) = (self.step.clone(), claimed.clone());
            if let Some(file) = self.work.run(Kind::Write, move || step.seal(&digest)).await? {
                return Ok(Sealed { file, handle: self.step.handle });
            }
            self.prepare(Some(claimed.algorithm())).await?;
        }
    }

    /// Ends the upload and removes its file.
    ///
    /// # Errors
    /// [`StoreError::UploadUnknown`] if it has ended already, or the error of the disk.
    pub async fn cancel(mut self) -> Result<(), StoreError> {
        // The result of the last write does not matter: its bytes are removed with the file.
        let _ = self.finish_write().await;
        let step = self.step;
        self.work.run(Kind::Write, move || step.cancel()).await
    }
}
