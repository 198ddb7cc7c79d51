//! Uploads: content on its way into the store.
//!
//! An upload is a file in `uploads/`, named by its id, and the file is the truth: the hash that goes on beside it
//! is only kept in memory, and made again from the file after a restart. Bytes are hashed and written on blocking
//! threads, in steps, while the next ones arrive. A second request for the same upload takes it over: the first
//! one is most likely a connection that its client has long given up.

use std::collections::HashMap;
use std::fmt;
use std::fs::File;
use std::io::Read;
use std::str::FromStr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};

use ring::rand::{SecureRandom, SystemRandom};
use tokio::task::JoinHandle;
use uuid::Uuid;

use super::buffers::{self, Buffer, Buffers};
use super::disk::Disk;
use super::error::StoreError;
use super::lock;
use super::room::Room;
use super::work::{Kind, Work};
use crate::oci::{Algorithm, Digest, Hasher, RepositoryName};

/// The id of an upload, a UUID of version 8. It carries the algorithm that the content is hashed with, and a
/// checksum of the repository it was opened in, so that nothing but the file has to survive a restart.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct UploadId(Uuid);

/// A text is not the id of an upload.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("an upload's id is a UUID that this registry gave out")]
pub struct ParseUploadIdError;

impl UploadId {
    /// A new id for an upload to this repository.
    pub(super) fn new(repository: &RepositoryName, algorithm: Algorithm) -> Result<Self, StoreError> {
        let mut bytes = [0; 16];
        SystemRandom::new()
            .fill(&mut bytes)
            .map_err(|_| StoreError::io("get random bytes", std::io::Error::other("the system has none")))?;
        bytes[9] = match algorithm {
            Algorithm::Sha256 => 0,
            Algorithm::Sha512 => 1,
        };
        let mut id = UploadId(Uuid::new_v8(bytes));
        let checksum = id.checksum(repository);
        let mut bytes = id.0.into_bytes();
        bytes[10..].copy_from_slice(&checksum);
        id.0 = Uuid::new_v8(bytes);
        Ok(id)
    }

    fn checksum(self, repository: &RepositoryName) -> [u8; 6] {
        let mut hasher = Hasher::new(Algorithm::Sha256);
        hasher.update(&self.0.as_bytes()[..10]);
        hasher.update(repository.as_str().as_bytes());
        let mut checksum = [0; 6];
        checksum.copy_from_slice(&hasher.finish().bytes()[..6]);
        checksum
    }

    /// Whether the upload was opened in this repository.
    fn belongs_to(self, repository: &RepositoryName) -> bool {
        self.0.as_bytes()[10..] == self.checksum(repository)
    }

    fn algorithm(self) -> Algorithm {
        if self.0.as_bytes()[9] == 1 { Algorithm::Sha512 } else { Algorithm::Sha256 }
    }
}

impl fmt::Display for UploadId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.hyphenated().fmt(f)
    }
}

impl FromStr for UploadId {
    type Err = ParseUploadIdError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let uuid = Uuid::try_parse(text).map_err(|_| ParseUploadIdError)?;
        let canonical = uuid.hyphenated().to_string() == text;
        if canonical { Ok(UploadId(uuid)) } else { Err(ParseUploadIdError) }
    }
}

/// What is kept in memory of uploads: the hashes that go on, so many at most.
pub(super) struct Uploads {
    sessions: Mutex<HashMap<UploadId, Arc<Session>>>,
    limit: usize,
    buffers: Arc<Buffers>,
    room: Arc<Room>,
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

struct Session {
    repository: RepositoryName,
    /// How many bytes it will have, as its client has said; zero where it has not.
    expected: AtomicU64,
    /// Which request owns the upload: the one that came last.
    owner: AtomicU64,
    length: AtomicU64,
    content: Mutex<Content>,
}

struct Content {
    file: File,
    hasher: Hasher,
    length: u64,
    /// The content is checked and is about to become a blob: nothing is written to its file any more.
    sealed: bool,
}

impl Uploads {
    /// No uploads yet; at most `limit` are kept in memory, the others are hashed again when they go on.
    pub(super) fn new(limit: usize, buffers: Arc<Buffers>, room: Arc<Room>, work: Arc<Work>) -> Self {
        Uploads { sessions: Mutex::default(), limit, buffers, room, work }
    }

    /// Opens a new upload.
    pub(super) fn start(
        self: &Arc<Self>,
        disk: &Arc<Disk>,
        repository: &RepositoryName,
        algorithm: Algorithm,
    ) -> Result<Upload, StoreError> {
        self.room.check(0)?;
        let id = UploadId::new(repository, algorithm)?;
        let file = disk.create_upload(&id.to_string())?;
        let content = Content { file, hasher: Hasher::new(algorithm), length: 0, sealed: false };
        self.keep(disk, repository, id, content)
    }

    /// Goes on with an upload of this repository. An upload that is not in memory is read and hashed again.
    pub(super) fn resume(
        self: &Arc<Self>,
        disk: &Arc<Disk>,
        repository: &RepositoryName,
        id: UploadId,
    ) -> Result<Upload, StoreError> {
        if !id.belongs_to(repository) {
            return Err(StoreError::UploadUnknown);
        }
        let known = lock(&self.sessions).get(&id).cloned();
        if let Some(session) = known {
            return self.own(disk, id, session);
        }
        let file = disk.open_upload(&id.to_string())?.ok_or(StoreError::UploadUnknown)?;
        let content = Content::read_again(file, id.algorithm())?;
        self.keep(disk, repository, id, content)
    }

    /// How many bytes an upload of this repository has.
    pub(super) fn length(
        &self,
        disk: &Disk,
        repository: &RepositoryName,
        id: UploadId,
    ) -> Result<u64, StoreError> {
        if !id.belongs_to(repository) {
            return Err(StoreError::UploadUnknown);
        }
        if let Some(session) = lock(&self.sessions).get(&id) {
            return Ok(session.length.load(Ordering::Acquire));
        }
        disk.upload_length(&id.to_string())?.ok_or(StoreError::UploadUnknown)
    }

    fn keep(
        self: &Arc<Self>,
        disk: &Arc<Disk>,
        repository: &RepositoryName,
        id: UploadId,
        content: Content,
    ) -> Result<Upload, StoreError> {
        let session = Arc::new(Session {
            repository: repository.clone(),
            expected: AtomicU64::new(0),
            owner: AtomicU64::new(0),
            length: AtomicU64::new(content.length),
            content: Mutex::new(content),
        });
        let mut sessions = lock(&self.sessions);
        // Another request may have made a blob of the file while this one read it again.
        if !sessions.contains_key(&id) && disk.upload_length(&id.to_string())?.is_none() {
            return Err(StoreError::UploadUnknown);
        }
        if sessions.len() >= self.limit {
            let idle =
                sessions.iter().find(|(_, session)| Arc::strong_count(session) == 1).map(|(id, _)| *id);
            idle.map(|idle| sessions.remove(&idle));
        }
        // Two requests may have read the same file again at once: the first to be kept is the one for both.
        let session = Arc::clone(sessions.entry(id).or_insert(session));
        drop(sessions);
        self.own(disk, id, session)
    }

    fn own(
        self: &Arc<Self>,
        disk: &Arc<Disk>,
        id: UploadId,
        session: Arc<Session>,
    ) -> Result<Upload, StoreError> {
        // What the owner before is writing now still counts; after that the length is this one's to rely on.
        let content = lock(&session.content);
        if content.sealed {
            return Err(StoreError::UploadUnknown);
        }
        let owner = session.owner.fetch_add(1, Ordering::AcqRel) + 1;
        drop(content);
        let step = Step { session, owner, disk: Arc::clone(disk), room: Arc::clone(&self.room) };
        Ok(Upload { id, uploads: Arc::clone(self), step, waiting: None, running: None })
    }

    /// The uploads that are not finished; blocking.
    pub(super) fn running(&self, disk: &Disk) -> Result<Vec<RunningUpload>, StoreError> {
        let files = disk.uploads()?;
        let sessions = lock(&self.sessions);
        let running = files.into_iter().map(|(name, length)| {
            let session = name.parse().ok().and_then(|id| sessions.get(&id));
            let expected = session.map_or(0, |session| session.expected.load(Ordering::Relaxed));
            RunningUpload {
                repository: session.map(|session| session.repository.clone()),
                length,
                expected: Some(expected).filter(|expected| *expected > length),
            }
        });
        Ok(running.collect())
    }

    /// Forgets an upload whose file is gone or has become a blob.
    pub(super) fn forget(&self, id: UploadId) {
        lock(&self.sessions).remove(&id);
    }
}

impl Content {
    fn read_again(mut file: File, algorithm: Algorithm) -> Result<Self, StoreError> {
        let failed = |error| StoreError::io("read an upload again", error);
        std::io::Seek::rewind(&mut file).map_err(failed)?;
        let mut hasher = Hasher::new(algorithm);
        let mut buffer = vec![0; buffers::SIZE];
        let mut length = 0;
        loop {
            let count = file.read(&mut buffer).map_err(failed)?;
            if count == 0 {
                return Ok(Content { file, hasher, length, sealed: false });
            }
            hasher.update(&buffer[..count]);
            length += count as u64;
        }
    }
}

/// An upload that this request owns.
pub struct Upload {
    id: UploadId,
    uploads: Arc<Uploads>,
    step: Step,
    waiting: Option<Buffer>,
    running: Option<JoinHandle<Result<(), StoreError>>>,
}

#[derive(Clone)]
struct Step {
    session: Arc<Session>,
    owner: u64,
    disk: Arc<Disk>,
    room: Arc<Room>,
}

impl Step {
    /// The content, if this request still owns the upload.
    fn content(&self) -> Result<MutexGuard<'_, Content>, StoreError> {
        let content = lock(&self.session.content);
        if self.session.owner.load(Ordering::Acquire) == self.owner {
            Ok(content)
        } else {
            Err(StoreError::UploadTakenOver)
        }
    }

    fn write(&self, bytes: &[u8]) -> Result<(), StoreError> {
        let mut content = self.content()?;
        self.room.check(bytes.len() as u64)?;
        // Hashed first: that brings the bytes into this core's cache at the pace of the hash, and the write then
        // finds them there. A write that fails leaves the hash where the file is.
        let mut hasher = content.hasher.clone();
        hasher.update(bytes);
        self.disk.write_upload(&content.file, content.length, bytes)?;
        content.hasher = hasher;
        content.length += bytes.len() as u64;
        self.session.length.store(content.length, Ordering::Release);
        self.room.uploaded(bytes.len() as u64);
        Ok(())
    }

    fn use_algorithm(&self, algorithm: Algorithm) -> Result<(), StoreError> {
        let mut content = self.content()?;
        if content.hasher.algorithm() != algorithm {
            let file =
                content.file.try_clone().map_err(|error| StoreError::io("read an upload again", error))?;
            *content = Content::read_again(file, algorithm)?;
        }
        Ok(())
    }

    /// Checks the digest and waits until the content is on the medium.
    fn seal(&self, claimed: &Digest) -> Result<u64, StoreError> {
        self.use_algorithm(claimed.algorithm())?;
        let mut content = self.content()?;
        let actual = content.hasher.clone().finish();
        if actual != *claimed {
            return Err(StoreError::DigestMismatch { claimed: claimed.clone(), actual });
        }
        self.disk.sync_upload(&content.file)?;
        content.sealed = true;
        Ok(content.length)
    }
}

/// An upload whose content is checked and on the medium. Nobody can go on with it, until it is opened again.
pub(super) struct Sealed {
    pub(super) id: UploadId,
    pub(super) length: u64,
    session: Arc<Session>,
}

impl Sealed {
    /// Lets clients go on with an upload that could not become a blob.
    pub(super) fn reopen(self) {
        lock(&self.session.content).sealed = false;
    }
}

impl Upload {
    /// The id under which the upload goes on.
    pub fn id(&self) -> UploadId {
        self.id
    }

    /// How many bytes have been written; those that [`Upload::write`] still holds are counted once they are.
    pub fn length(&self) -> u64 {
        self.step.session.length.load(Ordering::Acquire)
    }

    /// Refuses an upload that announces more bytes than there is room for, before the first of them is written.
    ///
    /// # Errors
    /// [`StoreError::Full`] or [`StoreError::Quota`].
    pub async fn expect(&self, bytes: u64) -> Result<(), StoreError> {
        if bytes > 0 {
            self.step.session.expected.store(self.length().saturating_add(bytes), Ordering::Relaxed);
        }
        if bytes <= buffers::SIZE as u64 {
            // The first write looks, too.
            return Ok(());
        }
        let room = Arc::clone(&self.uploads.room);
        self.uploads.work.run(Kind::Write, move || room.check(bytes)).await
    }

    /// Takes the next bytes. They are hashed and written on another thread, a buffer at a time, while the next
    /// ones arrive; an error of one buffer comes out of a later call.
    ///
    /// # Errors
    /// [`StoreError::UploadTakenOver`] when another request went on with the upload, or what the disk says.
    pub async fn write(&mut self, mut bytes: &[u8]) -> Result<(), StoreError> {
        while !bytes.is_empty() {
            let buffer = self.waiting.get_or_insert_with(|| self.uploads.buffers.take());
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
            self.running = Some(self.uploads.work.spawn_write(move || step.write(buffer.as_ref())));
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

    /// Chooses the algorithm; free while the upload is empty, else what is there is read again.
    pub(super) async fn use_algorithm(&self, algorithm: Algorithm) -> Result<(), StoreError> {
        let step = self.step.clone();
        self.uploads.work.run(Kind::Write, move || step.use_algorithm(algorithm)).await
    }

    /// Ends the upload: everything written, its digest right, its content on the medium. When the digest is not
    /// what was said the upload is removed.
    pub(super) async fn seal(mut self, claimed: Digest) -> Result<Sealed, StoreError> {
        self.pause().await?;
        let step = self.step.clone();
        match self.uploads.work.run(Kind::Write, move || step.seal(&claimed)).await {
            Err(error @ StoreError::DigestMismatch { .. }) => {
                self.cancel().await?;
                Err(error)
            }
            sealed => Ok(Sealed { id: self.id, length: sealed?, session: self.step.session }),
        }
    }

    /// Ends the upload and removes its file.
    ///
    /// # Errors
    /// What the disk says.
    pub async fn cancel(mut self) -> Result<(), StoreError> {
        // What the last step met no longer matters: its bytes go away with the file.
        let _ = self.join().await;
        self.uploads.forget(self.id);
        self.uploads.room.ended(self.length());
        let (disk, name) = (Arc::clone(&self.step.disk), self.id.to_string());
        self.uploads.work.run(Kind::Write, move || disk.remove_upload(&name)).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_knows_its_repository_and_its_algorithm() {
        let (mine, other): (RepositoryName, RepositoryName) =
            ("a/b".parse().unwrap(), "a/c".parse().unwrap());
        for algorithm in Algorithm::ALL {
            let id = UploadId::new(&mine, algorithm).unwrap();
            let read: UploadId = id.to_string().parse().unwrap();
            assert_eq!(read, id);
            assert!(read.belongs_to(&mine) && !read.belongs_to(&other));
            assert_eq!(read.algorithm(), algorithm);
        }
    }

    #[test]
    fn only_the_canonical_form_is_an_id() {
        for text in ["", "x", "../../etc/passwd", "00000000000080008000000000000000", "{0}"] {
            assert!(text.parse::<UploadId>().is_err(), "{text}");
        }
    }
}
