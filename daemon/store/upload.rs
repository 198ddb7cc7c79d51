//! Uploads: content on its way into the store.
//!
//! An upload is a file in `uploads/`, named by its id, and the file is the truth: the hash that goes on beside it
//! is only kept in memory, and made again from the file after a restart. Bytes are hashed and written on blocking
//! threads, in steps, while the next ones arrive. A second request for the same upload takes it over: the first
//! one is most likely a connection that its client has long given up.
//!
//! Everything that happens to an upload goes through its one session and the lock of that; the states, and why there
//! is never a second session for a file, are described in `sessions.rs`. What each event does:
//!
//! | event | in state | what happens under the lock of the session |
//! |---|---|---|
//! | POST | - | the file is made, `Open` |
//! | PATCH, PUT begin | `Open` | the request becomes the owner; the one before fails at its next step |
//! | write | `Open` | hash, write at the length, then the length grows; a write that fails is cut off again |
//! | PUT ends | `Open` | digest and length of the file are compared, `fdatasync`, `Sealed`; a mismatch removes the file |
//! | admitted | `Sealed` | the index writer has renamed the very file that was hashed, `Ended` |
//! | refused | `Sealed` | `Open` again; `Ended` if the file had been renamed already |
//! | DELETE | `Open` | unlink, then `Ended`; 404 while `Sealed` |
//! | expiry | `Open`, without a handle | length compared again, unlink, `Ended`; left alone while a handle is there |
//! | kill | any | the file is there and can be continued, or it has become a blob, or it is gone |
//!
//! The unlink, or the rename to the blobs, is the moment at which an upload ends, and it happens before the session
//! says so. A request that comes in between waits for the lock and hears that there is no such upload.
//!
//! A hash that does not cover the whole file (after a restart, an eviction, or a digest of the other algorithm) is
//! caught up in steps of [`CATCH_UP`] bytes. Between two of them the lock is free, and a request whose client has gone
//! away ends. How far it came is kept; once caught up both hashes go on together, so that each file is read again
//! at most once for each algorithm.

use std::os::unix::fs::FileExt;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, MutexGuard};

use tokio::task::JoinHandle;

use super::buffers::{self, Buffer, Buffers};
use super::disk::{Disk, HashedFile};
use super::error::StoreError;
use super::room::Room;
use super::sessions::{Handle, Phase, Sessions, State};
use super::upload_id::UploadId;
use super::work::{Cancel, Kind, Work};
use crate::oci::{Algorithm, Digest, RepositoryName};

/// How many bytes are read again in one step.
const CATCH_UP: u64 = 4 << 20;

/// All uploads.
pub(super) struct Uploads {
    sessions: Arc<Sessions>,
    pub(super) disk: Arc<Disk>,
    buffers: Arc<Buffers>,
    pub(super) room: Arc<Room>,
    /// Held while old uploads make room for new ones.
    pub(super) making_place: Mutex<()>,
    work: Arc<Work>,
}

/// An upload that goes on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RunningUpload {
    /// Its repository; unknown for one of before a restart, whose client has not gone on with it.
    pub repository: Option<RepositoryName>,
    /// How many bytes it has.
    pub length: u64,
    /// How many it will have after what is being sent now, if its client has said so.
    pub expected: Option<u64>,
}

impl Uploads {
    /// No uploads yet; at most `limit` idle ones are kept in memory, the others are hashed again when they go on.
    pub(super) fn new(
        limit: usize,
        disk: Arc<Disk>,
        buffers: Arc<Buffers>,
        room: Arc<Room>,
        work: Arc<Work>,
    ) -> Self {
        let sessions = Arc::new(Sessions::new(limit, Arc::clone(&disk), Arc::clone(&room)));
        Uploads { sessions, disk, buffers, room, making_place: Mutex::default(), work }
    }

    /// Opens a new upload; blocking.
    pub(super) fn start(
        &self,
        repository: &RepositoryName,
        algorithm: Algorithm,
    ) -> Result<Upload, StoreError> {
        self.room.check(0)?;
        self.make_place()?;
        let handle = self.sessions.handle(UploadId::new(repository, algorithm)?, repository);
        handle.create(algorithm)?;
        Ok(self.upload(handle, 0))
    }

    /// Continues an upload of this repository; blocking. Its hash may have to catch up, see [`Upload::prepare`].
    pub(super) fn resume(&self, repository: &RepositoryName, id: UploadId) -> Result<Upload, StoreError> {
        if !id.belongs_to(repository) {
            return Err(StoreError::UploadUnknown);
        }
        let handle = self.sessions.handle(id, repository);
        // What the owner before is writing now still counts; after that the length is this one's to rely on.
        let state = handle.open().map_err(|error| match error {
            // Another process is about to remove it, or has found that it must not.
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
            room: Arc::clone(&self.room),
            buffers: Arc::clone(&self.buffers),
        };
        Upload { step, work: Arc::clone(&self.work), waiting: None, running: None }
    }

    /// How many bytes an upload of this repository has; blocking.
    pub(super) fn length(&self, repository: &RepositoryName, id: UploadId) -> Result<u64, StoreError> {
        if !id.belongs_to(repository) {
            return Err(StoreError::UploadUnknown);
        }
        // The file of a write that goes on is longer than what counts.
        if let Some((length, true)) = self.sessions.look(id, |session, in_use| (session.length(), in_use)) {
            return Ok(length);
        }
        self.disk.upload_length(&id.to_string())?.ok_or(StoreError::UploadUnknown)
    }

    /// Writes content that is all in memory to a file of its own, synced and ready to be admitted; blocking.
    pub(super) fn write_whole(
        &self,
        repository: &RepositoryName,
        bytes: &[u8],
        digest: &Digest,
    ) -> Result<Sealed, StoreError> {
        let upload = self.start(repository, digest.algorithm())?;
        let step = upload.step;
        let written = step.write(bytes).and_then(|()| step.seal(digest));
        match written {
            Ok(Some(file)) => Ok(Sealed { file, handle: step.handle }),
            Ok(None) => Err(StoreError::UploadUnknown),
            Err(error) => {
                // No client knows its id; a mismatch has removed it.
                match step.cancel() {
                    Ok(()) | Err(StoreError::UploadUnknown) => Err(error),
                    Err(error) => Err(error),
                }
            }
        }
    }

    /// Removes an upload that has this many bytes and that no request uses; false if it is another one by now. Blocking.
    pub(super) fn expire(&self, name: &str, length: u64) -> Result<bool, StoreError> {
        let Ok(id) = name.parse() else {
            // No upload; nothing else has a reason to use the name.
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

    /// Counts the bytes of all uploads anew, given the files in `uploads/` and their lengths.
    pub(super) fn recount(&self, files: &[(String, u64)]) {
        self.sessions.recount(files);
    }

    /// The uploads that are not finished; blocking.
    pub(super) fn running(&self) -> Result<Vec<RunningUpload>, StoreError> {
        let running = self.disk.uploads()?.into_iter().map(|(name, length)| {
            let known = name.parse().ok().and_then(|id| {
                self.sessions.look(id, |session, _| {
                    (session.repository.get().cloned(), session.expected.load(Ordering::Relaxed))
                })
            });
            let (repository, expected) = known.unwrap_or_default();
            RunningUpload {
                repository,
                length,
                expected: Some(expected).filter(|expected| *expected > length),
            }
        });
        Ok(running.collect())
    }
}

/// An upload that this request owns.
pub struct Upload {
    step: Step,
    work: Arc<Work>,
    waiting: Option<Buffer>,
    running: Option<JoinHandle<Result<(), StoreError>>>,
}

#[derive(Clone)]
struct Step {
    handle: Arc<Handle>,
    owner: u64,
    disk: Arc<Disk>,
    room: Arc<Room>,
    buffers: Arc<Buffers>,
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

    fn write(&self, bytes: &[u8]) -> Result<(), StoreError> {
        let mut state = self.state()?;
        self.room.check(bytes.len() as u64)?;
        // Hashed first: that brings the bytes into this core's cache at the pace of the hash, and the write then
        // finds them there. A write that fails leaves the hash where the file is.
        let hashes = state.hashes.extended(state.length, bytes);
        self.disk.write_upload(state.file()?, state.length, bytes)?;
        state.hashes = hashes;
        let length = state.length + bytes.len() as u64;
        self.handle.set_length(&mut state, length);
        self.room.uploaded(bytes.len() as u64);
        Ok(())
    }

    /// Reads the next bytes again that a hash lacks; true once it covers all of them. Without an algorithm any hash will
    /// do.
    fn catch_up(&self, algorithm: Option<Algorithm>, cancel: &Cancel) -> Result<bool, StoreError> {
        let mut state = self.state()?;
        let algorithm =
            algorithm.or_else(|| state.hashes.furthest()).unwrap_or_else(|| self.handle.id().algorithm());
        let length = state.length;
        let _read = self.disk.reads();
        let mut position = state.hashes.begin(algorithm, length);
        let end = length.min(position + CATCH_UP);
        while position < end {
            cancel.check()?;
            let want = usize::try_from(end - position).unwrap_or(usize::MAX).min(buffers::SIZE);
            let mut buffer = self.buffers.take();
            let count = {
                let file = state.file()?;
                buffer.fill_by(want, |room| file.read_exact_at(room, position).map(|()| want))
            };
            position += count.map_err(|error| StoreError::io("read an upload again", error))? as u64;
            state.hashes.catch_up(algorithm, buffer.as_ref());
        }
        Ok(position == length)
    }

    /// Checks the digest and waits until the content is on the medium. Gives nothing while the hash does not cover
    /// the whole file.
    fn seal(&self, claimed: &Digest) -> Result<Option<HashedFile>, StoreError> {
        let mut state = self.state()?;
        let Some(actual) = state.hashes.digest(claimed.algorithm(), state.length) else { return Ok(None) };
        if actual != *claimed {
            self.handle.remove(&mut state)?;
            return Err(StoreError::DigestMismatch { claimed: claimed.clone(), actual });
        }
        self.disk.check_upload_length(state.file()?, state.length)?;
        if let Err(error) = self.disk.sync_upload(state.file()?) {
            // What was not written may be dropped from the cache, and then another sync of this file succeeds without
            // having written it. While the store goes on, the file has to go.
            if matches!(error, StoreError::OutOfResources { .. }) {
                self.handle.remove(&mut state)?;
            }
            return Err(error);
        }
        state.phase = Phase::Sealed;
        Ok(Some(HashedFile { name: self.handle.id().to_string(), inode: state.inode, length: state.length }))
    }

    /// Removes the upload, whichever request owns it, unless it is about to become a blob.
    fn cancel(&self) -> Result<(), StoreError> {
        let mut state = self.handle.lock();
        match state.phase {
            Phase::Open => self.handle.remove(&mut state),
            Phase::Sealed | Phase::Ended => Err(StoreError::UploadUnknown),
        }
    }
}

/// An upload whose content is checked and on the medium. No request can continue it, until it is opened again.
pub(super) struct Sealed {
    pub(super) file: HashedFile,
    handle: Arc<Handle>,
}

impl Sealed {
    /// Ends an upload that has become a blob.
    pub(super) fn admitted(self) {
        self.handle.end(&mut self.handle.lock());
    }

    /// Lets clients continue an upload that could not become a blob; blocking.
    pub(super) fn reopen(self) {
        self.handle.reopen();
    }

    /// Removes the file of content that was refused; blocking.
    pub(super) fn discard(self) -> Result<(), StoreError> {
        self.handle.remove(&mut self.handle.lock())
    }
}

impl Upload {
    /// The id under which the upload goes on.
    pub fn id(&self) -> UploadId {
        self.step.handle.id()
    }

    /// How many bytes have been written; those that [`Upload::write`] still holds are counted once they are.
    pub fn length(&self) -> u64 {
        self.step.handle.length()
    }

    /// Refuses an upload that announces more bytes than there is room for, before the first of them is written.
    ///
    /// # Errors
    /// [`StoreError::Full`] or [`StoreError::Quota`].
    pub async fn expect(&self, bytes: u64) -> Result<(), StoreError> {
        if bytes > 0 {
            self.step.handle.expected.store(self.length().saturating_add(bytes), Ordering::Relaxed);
        }
        if bytes <= buffers::SIZE as u64 {
            // The first write looks, too.
            return Ok(());
        }
        let room = Arc::clone(&self.step.room);
        self.work.run(Kind::Write, move || room.check(bytes)).await
    }

    /// Takes the next bytes. They are hashed and written on another thread, a buffer at a time, while the next
    /// ones arrive; an error of one buffer comes out of a later call.
    ///
    /// # Errors
    /// [`StoreError::UploadTakenOver`] when another request went on with the upload, or what the disk says.
    pub async fn write(&mut self, mut bytes: &[u8]) -> Result<(), StoreError> {
        while !bytes.is_empty() {
            let buffer = self.waiting.get_or_insert_with(|| self.step.buffers.take());
            let taken = buffer.fill(bytes);
            bytes = &bytes[taken..];
            if buffer.is_full() {
                self.join().await?;
                self.begin_step();
            }
        }
        Ok(())
    }

    fn begin_step(&mut self) {
        if let Some(buffer) = self.waiting.take() {
            let step = self.step.clone();
            self.running = Some(self.work.spawn_write(move || step.write(buffer.as_ref())));
        }
    }

    async fn join(&mut self) -> Result<(), StoreError> {
        match self.running.take() {
            Some(running) => running.await.map_err(|_| StoreError::Closing)?,
            None => Ok(()),
        }
    }

    /// Writes what is held, and leaves the upload to be gone on with.
    ///
    /// # Errors
    /// As [`Upload::write`].
    pub async fn pause(&mut self) -> Result<(), StoreError> {
        self.join().await?;
        self.begin_step();
        self.join().await
    }

    /// Lets the hash that the upload will be ended with cover all of it; any hash while that is not known. What it lacks
    /// is read again in steps, until the future is dropped or the daemon stops.
    ///
    /// # Errors
    /// [`StoreError::UploadTakenOver`] when another request continued the upload, [`StoreError::Closing`] when the daemon
    /// stops, or what the disk says.
    pub async fn prepare(&self, algorithm: Option<Algorithm>) -> Result<(), StoreError> {
        loop {
            let step = self.step.clone();
            let catch_up = move |cancel: &Cancel| step.catch_up(algorithm, cancel);
            if self.work.run_cancellable(Kind::Write, catch_up).await? {
                return Ok(());
            }
        }
    }

    /// Ends the upload: everything written, its digest right, its content on the medium. When the digest is not
    /// what was said the upload is removed.
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
    /// [`StoreError::UploadUnknown`] when it has ended already, or what the disk says.
    pub async fn cancel(mut self) -> Result<(), StoreError> {
        // What the last step met no longer matters: its bytes go away with the file.
        let _ = self.join().await;
        let step = self.step;
        self.work.run(Kind::Write, move || step.cancel()).await
    }
}
