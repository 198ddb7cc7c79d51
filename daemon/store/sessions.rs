//! Upload sessions: exactly one object per upload file, through which all changes to the file go.
//!
//! The table maps an id to its one [`Session`]. Requests, running writes and the expiry hold it as a [`Handle`], and an
//! entry is removed only while no handle exists. So two requests for the same upload always meet at the same lock,
//! however they interleave; `upload_interleavings.rs` tries all interleavings. `upload.rs` has the states of an upload.
//!
//! The file is open, and `flock`ed, only while a handle exists, so that `holdfast gc` beside the daemon skips uploads
//! in use. An idle session holds no descriptor, only its hashes. A file that is opened again has to have the same inode
//! and length; otherwise the session starts again from the file, without hashes.
//!
//! Lock order: the table, then the state of a session. Dropping the last handle takes both.

use std::collections::{HashMap, HashSet};
use std::fs::File;
use std::os::unix::fs::MetadataExt;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};

use super::capacity::Capacity;
use super::disk::Disk;
use super::error::StoreError;
use super::hashes::Hashes;
use super::session_lock::{Guard, Lock};
use super::upload_files::OpenedUpload;
use super::upload_id::UploadId;
use super::upload_phase::{Event, Phase};
use crate::oci::{Algorithm, RepositoryName};

/// The sessions of all uploads that are in use, and of idle ones up to a limit.
pub(super) struct Sessions {
    table: Lock<HashMap<UploadId, Entry>>,
    /// The maximum number of sessions while some are idle.
    limit: usize,
    disk: Arc<Disk>,
    capacity: Arc<Capacity>,
}

struct Entry {
    session: Arc<Session>,
    /// The number of handles. At zero the session is idle: its file is closed, and it may be evicted.
    handles: usize,
}

/// The state of one upload in memory.
pub(super) struct Session {
    id: UploadId,
    /// The repository, once a request has named it.
    pub(super) repository: OnceLock<RepositoryName>,
    /// The length that the client announced; zero if it announced none.
    pub(super) expected: AtomicU64,
    /// The number of the request that owns the upload: the one that came last.
    pub(super) owner: AtomicU64,
    /// A copy of the length in [`State`], readable without its lock.
    length: AtomicU64,
    /// True while [`Capacity`] counts the bytes as those of an upload with a session.
    is_counted: AtomicBool,
    state: Lock<State>,
}

/// The part of a session behind its lock.
#[derive(Default)]
pub(super) struct State {
    phase: Phase,
    /// The open file, while a handle exists.
    file: Option<File>,
    /// The inode of the file; zero before it is opened for the first time.
    pub(super) inode: u64,
    /// The number of bytes of the file that count.
    pub(super) length: u64,
    pub(super) hashes: Hashes,
}

impl State {
    /// Returns the state after an event.
    ///
    /// # Errors
    /// [`StoreError::UploadUnknown`] if the event is not legal now.
    pub(super) fn after(&self, event: Event) -> Result<Phase, StoreError> {
        self.phase.after(event).ok_or(StoreError::UploadUnknown)
    }

    /// Seals the upload.
    pub(super) fn seal(&mut self) -> Result<(), StoreError> {
        self.phase = self.after(Event::Seal)?;
        Ok(())
    }

    /// Returns the open file.
    pub(super) fn file(&self) -> Result<&File, StoreError> {
        self.file.as_ref().ok_or(StoreError::UploadUnknown)
    }
}

/// A counted reference to a session; the last one closes the file on drop.
pub(super) struct Handle {
    sessions: Arc<Sessions>,
    session: Arc<Session>,
}

/// A handle to an upload that no request used when it was claimed.
pub(super) struct IdleClaim {
    handle: Handle,
    last_owner: u64,
}

impl IdleClaim {
    /// Opens the file like [`Handle::open`].
    ///
    /// # Errors
    /// As [`Handle::open`]; [`StoreError::UploadTakenOver`] also if a request has resumed the upload since the claim.
    pub(super) fn open(&self) -> Result<Guard<'_, State>, StoreError> {
        let state = self.handle.open()?;
        let is_idle = self.handle.owner.load(Ordering::Acquire) == self.last_owner;
        if is_idle { Ok(state) } else { Err(StoreError::UploadTakenOver) }
    }

    /// Removes the file and ends the upload; see [`Handle::remove`].
    pub(super) fn remove(&self, state: &mut State) -> Result<(), StoreError> {
        self.handle.remove(state)
    }
}

impl Sessions {
    pub(super) fn new(limit: usize, disk: Arc<Disk>, capacity: Arc<Capacity>) -> Self {
        Sessions { table: Lock::default(), limit, disk, capacity }
    }

    /// Returns a handle to the one session of this id. Opening it tells whether the upload exists.
    pub(super) fn handle(self: &Arc<Self>, id: UploadId, repository: Option<&RepositoryName>) -> Handle {
        let handle = self.take(&mut self.table.lock(), id);
        if let Some(repository) = repository {
            // Fails if it is set; every request names the same repository, since the id has a checksum of it.
            let _ = handle.repository.set(repository.clone());
        }
        handle
    }

    /// Claims an upload that no handle refers to.
    pub(super) fn claim_idle(self: &Arc<Self>, id: UploadId) -> Option<IdleClaim> {
        let mut table = self.table.lock();
        if table.get(&id).is_some_and(|entry| entry.handles > 0) {
            return None;
        }
        let handle = self.take(&mut table, id);
        // Under the lock of the table: no request has a handle, and only requests with one change the number.
        let last_owner = handle.owner.load(Ordering::Acquire);
        Some(IdleClaim { handle, last_owner })
    }

    fn take(self: &Arc<Self>, table: &mut HashMap<UploadId, Entry>, id: UploadId) -> Handle {
        let new = || Entry { session: Arc::new(Session::new(id)), handles: 0 };
        let entry = table.entry(id).or_insert_with(new);
        entry.handles += 1;
        Handle { sessions: Arc::clone(self), session: Arc::clone(&entry.session) }
    }

    /// Reads from a session that has been opened, and whether it is in use; `None` without such a session.
    pub(super) fn with_session<T>(&self, id: UploadId, read: impl FnOnce(&Session, bool) -> T) -> Option<T> {
        let table = self.table.lock();
        let entry = table.get(&id).filter(|entry| entry.session.is_counted.load(Ordering::Acquire));
        entry.map(|entry| read(&entry.session, entry.handles > 0))
    }

    /// Counts the bytes of uploads without a session, and ends the idle sessions whose files another process has
    /// removed. `files` lists `uploads/`: file name and length.
    pub(super) fn recount(self: &Arc<Self>, files: &[(String, u64)]) {
        let mut vanished: HashSet<UploadId> = self.table.lock().keys().copied().collect();
        let mut without_session = 0;
        for (name, length) in files {
            let id = name.parse().ok();
            if let Some(id) = id {
                vanished.remove(&id);
            }
            if id.and_then(|id| self.with_session(id, |_, _| ())).is_none() {
                without_session += length;
            }
        }
        self.capacity.set_idle_uploads(without_session);
        for claim in vanished.into_iter().filter_map(|id| self.claim_idle(id)) {
            // Opening ends a session whose file is gone. Other errors reach the client at its next request.
            drop(claim.open());
        }
    }

    /// Returns the numbers of sessions in the table and of their handles.
    #[cfg(test)]
    pub(super) fn count_for_test(&self) -> (usize, usize) {
        let table = self.table.lock();
        (table.len(), table.values().map(|entry| entry.handles).sum())
    }

    /// Evicts idle sessions above the limit, shortest first: those cost the least to hash again.
    fn evict(&self, table: &mut HashMap<UploadId, Entry>) {
        while table.len() > self.limit {
            let idle = table.iter().filter(|(_, entry)| entry.handles == 0);
            let Some(id) = idle.min_by_key(|(_, entry)| entry.session.length()).map(|(id, _)| *id) else {
                return;
            };
            if let Some(Entry { session, .. }) = table.remove(&id)
                && session.is_counted.load(Ordering::Acquire)
            {
                self.capacity.upload_becomes_idle(session.length());
            }
        }
    }
}

impl Session {
    fn new(id: UploadId) -> Self {
        Session {
            id,
            repository: OnceLock::new(),
            expected: AtomicU64::new(0),
            owner: AtomicU64::new(0),
            length: AtomicU64::new(0),
            is_counted: AtomicBool::new(false),
            state: Lock::default(),
        }
    }

    pub(super) fn id(&self) -> UploadId {
        self.id
    }

    /// Returns the number of bytes that count, as of the last completed write.
    pub(super) fn length(&self) -> u64 {
        self.length.load(Ordering::Acquire)
    }

    /// Locks the session.
    pub(super) fn lock(&self) -> Guard<'_, State> {
        self.state.lock()
    }

    /// Sets the length in the state and its copy.
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

    /// Creates the file of a new upload.
    pub(super) fn create(&self, algorithm: Algorithm) -> Result<(), StoreError> {
        let mut state = self.lock();
        let phase = state.after(Event::Open)?;
        let file = self.sessions.disk.create_upload(&self.name())?;
        let inode = file.metadata().map(|metadata| metadata.ino());
        let inode = match inode {
            Ok(inode) => inode,
            Err(error) => {
                self.sessions.disk.remove_upload(&self.name())?;
                return Err(StoreError::io("read metadata of an upload", error));
            }
        };
        self.is_counted.store(true, Ordering::Release);
        *state = State { phase, file: Some(file), inode, length: 0, hashes: Hashes::of_empty(algorithm) };
        Ok(())
    }

    /// Opens the file unless it is open; returns the locked state. Blocks while another handle writes.
    ///
    /// # Errors
    /// [`StoreError::UploadUnknown`] if the upload does not exist or has ended, [`StoreError::UploadTakenOver`] if
    /// another process has it locked.
    pub(super) fn open(&self) -> Result<Guard<'_, State>, StoreError> {
        let mut state = self.lock();
        state.after(Event::Open)?;
        if state.file.is_some() {
            return Ok(state);
        }
        let file = match self.sessions.disk.open_upload(&self.name())? {
            OpenedUpload::File(file) => file,
            OpenedUpload::InUse => return Err(StoreError::UploadTakenOver),
            OpenedUpload::Missing => {
                self.end(&mut state, Event::Remove)?;
                return Err(StoreError::UploadUnknown);
            }
        };
        let found = file.metadata().map_err(|error| StoreError::io("read metadata of an upload", error))?;
        if (state.inode, state.length) != (found.ino(), found.len()) {
            state.hashes = Hashes::default();
            state.inode = found.ino();
            self.count(found.len());
            self.set_length(&mut state, found.len());
        }
        state.file = Some(file);
        Ok(state)
    }

    /// Counts the bytes of an upload as those of its session, whose length may have been different.
    fn count(&self, length: u64) {
        let capacity = &self.sessions.capacity;
        if self.is_counted.swap(true, Ordering::AcqRel) {
            capacity.count_off(self.length());
            capacity.count_written(length);
        } else {
            capacity.upload_gets_session(length);
        }
    }

    /// Removes the file and ends the upload. If the file cannot be removed, the upload stays as it is.
    ///
    /// # Errors
    /// [`StoreError::UploadUnknown`] if the upload is sealed or has ended, or the error of the disk.
    pub(super) fn remove(&self, state: &mut State) -> Result<(), StoreError> {
        self.remove_by(Event::Remove, state)
    }

    fn remove_by(&self, event: Event, state: &mut State) -> Result<(), StoreError> {
        state.after(event)?;
        self.sessions.disk.remove_upload(&self.name())?;
        self.end(state, event)
    }

    /// Ends an upload whose file has lost its name in `uploads/`; subtracts its bytes from the capacity once.
    fn end(&self, state: &mut State, event: Event) -> Result<(), StoreError> {
        state.phase = state.after(event)?;
        state.file = None;
        if self.is_counted.swap(false, Ordering::AcqRel) {
            self.sessions.capacity.count_off(state.length);
        }
        Ok(())
    }

    /// Ends a sealed upload whose file became a blob.
    pub(super) fn commit(&self) -> Result<(), StoreError> {
        self.end(&mut self.lock(), Event::Commit)
    }

    /// Opens a sealed upload again that could not become a blob; ends it if its file was renamed to the blobs. The file
    /// is closed, and the next request opens it by its name, so that no request ever writes to a blob.
    pub(super) fn reopen(&self) -> Result<(), StoreError> {
        let mut state = self.lock();
        if matches!(self.sessions.disk.upload_length(&self.name()), Ok(None)) {
            return self.end(&mut state, Event::Commit);
        }
        state.phase = state.after(Event::Reopen)?;
        state.file = None;
        Ok(())
    }

    /// Removes the file of a sealed upload that the index refused.
    pub(super) fn discard(&self) -> Result<(), StoreError> {
        self.remove_by(Event::Discard, &mut self.lock())
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        let mut table = self.sessions.table.lock();
        let Some(entry) = table.get_mut(&self.id) else { return };
        entry.handles -= 1;
        if entry.handles > 0 {
            return;
        }
        // Cannot wait: no other handle exists, and the lock of the table keeps new ones away.
        let mut state = self.session.lock();
        // Under the lock of the table: another handle would find the file locked by this descriptor.
        state.file = None;
        let is_worth_keeping = state.phase == Phase::Open && state.inode != 0;
        drop(state);
        if !is_worth_keeping {
            table.remove(&self.id);
        }
        self.sessions.evict(&mut table);
    }
}
