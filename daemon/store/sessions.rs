//! The table of upload sessions: for each upload file at most one object through which it is changed.
//!
//! An entry of the table holds the one [`Session`] of an id. Requests, writes that still run, and the expiry get it
//! as a [`Handle`], and an entry is only removed while no handle is left. So two requests that name the same upload
//! always meet at the same session and its lock, however they interleave. The state of a session:
//!
//! ```text
//! Open ──seal──▶ Sealed ──admitted──▶ Ended
//!  │ ▲              │                   ▲
//!  │ └───refused────┘                   │
//!  └───── cancelled, expired, file gone ┘
//! ```
//!
//! * `Open`: the request that came last owns the upload and may write.
//! * `Sealed`: the content is hashed, synced and handed to the index writer. No request gets the upload.
//! * `Ended`: the file has become a blob or is unlinked. This is set under the lock of the session after the file has
//!   lost its name in `uploads/`, and is final. Ids are random and never used again, so that the name never comes back.
//!
//! The file is open only while there is a handle, and `flock`ed as long, so that `holdfast gc` beside the daemon passes
//! over an upload that is in use. An idle session holds no descriptor, only its hashes. When the file is opened
//! again it has to be the same one with the same length; else the file is the truth and is hashed again.
//!
//! Lock order: the table, then the state of a session. The last handle takes both.

use std::collections::{HashMap, HashSet};
use std::fs::File;
use std::os::unix::fs::MetadataExt;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock};

use super::disk::{Disk, OpenedUpload};
use super::error::StoreError;
use super::hashes::Hashes;
use super::lock;
use super::room::Room;
use super::upload_id::UploadId;
use crate::oci::{Algorithm, RepositoryName};

/// The sessions of all uploads that are in use, and of idle ones up to a limit.
pub(super) struct Sessions {
    table: Mutex<HashMap<UploadId, Entry>>,
    limit: usize,
    disk: Arc<Disk>,
    room: Arc<Room>,
}

struct Entry {
    session: Arc<Session>,
    /// How many handles there are. At zero the session is idle: its file is closed, and it may be evicted.
    handles: usize,
}

/// An upload in memory.
pub(super) struct Session {
    id: UploadId,
    /// Its repository, once a request has named it.
    pub(super) repository: OnceLock<RepositoryName>,
    /// How many bytes it will have, as its client has said; zero where it has not.
    pub(super) expected: AtomicU64,
    /// The number of the request that owns it: the one that came last.
    pub(super) owner: AtomicU64,
    /// The length of [`State`], to be read without its lock.
    length: AtomicU64,
    /// Whether its bytes are counted as those of this session; see [`Room`].
    is_counted: AtomicBool,
    state: Mutex<State>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    Open,
    Sealed,
    Ended,
}

/// The part of a session that its lock guards.
pub(super) struct State {
    pub(super) phase: Phase,
    /// The file, while a handle needs it.
    file: Option<File>,
    /// The inode of the file; zero, which no file has, before it is opened for the first time.
    pub(super) inode: u64,
    /// How many bytes of the file count.
    pub(super) length: u64,
    pub(super) hashes: Hashes,
}

impl State {
    /// Returns the open file.
    pub(super) fn file(&self) -> Result<&File, StoreError> {
        self.file.as_ref().ok_or(StoreError::UploadUnknown)
    }
}

/// The right to use a session; the file is closed with the last one.
pub(super) struct Handle {
    sessions: Arc<Sessions>,
    session: Arc<Session>,
}

impl Sessions {
    pub(super) fn new(limit: usize, disk: Arc<Disk>, room: Arc<Room>) -> Self {
        Sessions { table: Mutex::default(), limit, disk, room }
    }

    /// Returns a handle to the one session of this id. Whether there is such an upload shows when it is opened.
    pub(super) fn handle(self: &Arc<Self>, id: UploadId, repository: &RepositoryName) -> Handle {
        let handle = self.take(&mut lock(&self.table), id);
        // Every request of this id has named the same repository: the id has a checksum of it.
        let _ = handle.repository.set(repository.clone());
        handle
    }

    /// Returns a handle if no one else has one.
    pub(super) fn claim_idle(self: &Arc<Self>, id: UploadId) -> Option<Handle> {
        let mut table = lock(&self.table);
        let is_idle = table.get(&id).is_none_or(|entry| entry.handles == 0);
        is_idle.then(|| self.take(&mut table, id))
    }

    fn take(self: &Arc<Self>, table: &mut HashMap<UploadId, Entry>, id: UploadId) -> Handle {
        let new = || Entry { session: Arc::new(Session::new(id)), handles: 0 };
        let entry = table.entry(id).or_insert_with(new);
        entry.handles += 1;
        Handle { sessions: Arc::clone(self), session: Arc::clone(&entry.session) }
    }

    /// Looks at a session, if the upload has one that has been opened, and whether it is in use.
    pub(super) fn look<T>(&self, id: UploadId, look: impl FnOnce(&Session, bool) -> T) -> Option<T> {
        let table = lock(&self.table);
        let entry = table.get(&id).filter(|entry| entry.session.is_counted.load(Ordering::Acquire));
        entry.map(|entry| look(&entry.session, entry.handles > 0))
    }

    /// Counts the bytes of the uploads that have no session, and ends the idle sessions whose files another process
    /// has removed. `files` has the names of all files and their lengths.
    pub(super) fn recount(self: &Arc<Self>, files: &[(String, u64)]) {
        let mut vanished: HashSet<UploadId> = lock(&self.table).keys().copied().collect();
        let mut without_session = 0;
        for (name, length) in files {
            let id = name.parse().ok();
            if let Some(id) = id {
                vanished.remove(&id);
            }
            if id.and_then(|id| self.look(id, |_, _| ())).is_none() {
                without_session += length;
            }
        }
        self.room.set_idle_uploads(without_session);
        for handle in vanished.into_iter().filter_map(|id| self.claim_idle(id)) {
            // One whose file is gone ends here; what else goes wrong its client will hear of.
            drop(handle.open());
        }
    }

    /// Evicts idle sessions while there are too many: those first that cost the least to read again.
    fn evict(&self, table: &mut HashMap<UploadId, Entry>) {
        while table.len() > self.limit {
            let idle = table.iter().filter(|(_, entry)| entry.handles == 0);
            let Some(id) = idle.min_by_key(|(_, entry)| entry.session.length()).map(|(id, _)| *id) else {
                return;
            };
            if let Some(Entry { session, .. }) = table.remove(&id)
                && session.is_counted.load(Ordering::Acquire)
            {
                self.room.upload_becomes_idle(session.length());
            }
        }
    }
}

impl Session {
    fn new(id: UploadId) -> Self {
        let state = State { phase: Phase::Open, file: None, inode: 0, length: 0, hashes: Hashes::default() };
        Session {
            id,
            repository: OnceLock::new(),
            expected: AtomicU64::new(0),
            owner: AtomicU64::new(0),
            length: AtomicU64::new(0),
            is_counted: AtomicBool::new(false),
            state: Mutex::new(state),
        }
    }

    pub(super) fn id(&self) -> UploadId {
        self.id
    }

    /// Returns how many bytes of the file count, as of the last write that ended.
    pub(super) fn length(&self) -> u64 {
        self.length.load(Ordering::Acquire)
    }

    /// Locks the session.
    pub(super) fn lock(&self) -> MutexGuard<'_, State> {
        lock(&self.state)
    }

    /// Sets the length in the state and beside it.
    pub(super) fn set_length(&self, state: &mut State, length: u64) {
        state.length = length;
        self.length.store(length, Ordering::Release);
    }
}

impl std::ops::Deref for Handle {
    type Target = Session;

    fn deref(&self) -> &Session {
        &self.session
    }
}

impl Handle {
    fn name(&self) -> String {
        self.id.to_string()
    }

    /// Makes the file of a new upload.
    pub(super) fn create(&self, algorithm: Algorithm) -> Result<(), StoreError> {
        let mut state = self.lock();
        let file = self.sessions.disk.create_upload(&self.name())?;
        let inode = file.metadata().map(|metadata| metadata.ino());
        let inode = match inode {
            Ok(inode) => inode,
            Err(error) => {
                self.sessions.disk.remove_upload(&self.name())?;
                return Err(StoreError::io("look at an upload", error));
            }
        };
        self.is_counted.store(true, Ordering::Release);
        *state = State {
            phase: Phase::Open,
            file: Some(file),
            inode,
            length: 0,
            hashes: Hashes::of_nothing(algorithm),
        };
        Ok(())
    }

    /// Opens the file unless it is open, and returns the locked state. Blocks while another handle writes.
    ///
    /// Fails with [`StoreError::UploadUnknown`] when there is no such upload (any more), or with
    /// [`StoreError::UploadTakenOver`] when another process has it.
    pub(super) fn open(&self) -> Result<MutexGuard<'_, State>, StoreError> {
        let mut state = self.lock();
        match state.phase {
            Phase::Open if state.file.is_some() => return Ok(state),
            Phase::Open => {}
            Phase::Sealed | Phase::Ended => return Err(StoreError::UploadUnknown),
        }
        let file = match self.sessions.disk.open_upload(&self.name())? {
            OpenedUpload::File(file) => file,
            OpenedUpload::InUse => return Err(StoreError::UploadTakenOver),
            OpenedUpload::Missing => {
                self.end(&mut state);
                return Err(StoreError::UploadUnknown);
            }
        };
        let found = file.metadata().map_err(|error| StoreError::io("look at an upload", error))?;
        if (state.inode, state.length) != (found.ino(), found.len()) {
            state.hashes = Hashes::default();
            state.inode = found.ino();
            self.count(found.len());
            self.set_length(&mut state, found.len());
        }
        state.file = Some(file);
        Ok(state)
    }

    /// Counts the bytes of an upload as those of its session, which may have had another length.
    fn count(&self, length: u64) {
        let room = &self.sessions.room;
        if self.is_counted.swap(true, Ordering::AcqRel) {
            room.ended(self.length());
            room.uploaded(length);
        } else {
            room.upload_gets_session(length);
        }
    }

    /// Removes the file and ends the upload. If the file cannot be removed the upload goes on.
    pub(super) fn remove(&self, state: &mut State) -> Result<(), StoreError> {
        self.sessions.disk.remove_upload(&self.name())?;
        self.end(state);
        Ok(())
    }

    /// Ends an upload whose file has lost its name in `uploads/`; its bytes are counted off once.
    pub(super) fn end(&self, state: &mut State) {
        state.phase = Phase::Ended;
        state.file = None;
        if self.is_counted.swap(false, Ordering::AcqRel) {
            self.sessions.room.ended(state.length);
        }
    }

    /// Lets requests continue an upload that could not become a blob, unless its file has been moved to the blobs. The
    /// next request opens it by its name, so that nothing is ever written to a blob.
    pub(super) fn reopen(&self) {
        let mut state = self.lock();
        if matches!(self.sessions.disk.upload_length(&self.name()), Ok(None)) {
            self.end(&mut state);
        } else {
            state.phase = Phase::Open;
            state.file = None;
        }
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        let mut table = lock(&self.sessions.table);
        let Some(entry) = table.get_mut(&self.id) else { return };
        entry.handles -= 1;
        if entry.handles > 0 {
            return;
        }
        // Without a handle the lock is free.
        let mut state = self.session.lock();
        // Closed before another handle can open it, which would find it locked.
        state.file = None;
        let is_worth_keeping = state.phase == Phase::Open && state.inode != 0;
        drop(state);
        if !is_worth_keeping {
            table.remove(&self.id);
        }
        self.sessions.evict(&mut table);
    }
}
