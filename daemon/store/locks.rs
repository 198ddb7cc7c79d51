//! The owner of a data directory: the one process that may open its store, a daemon or a command without one. And the
//! locks of its threads.
//!
//! The owner holds a `flock` on `index/daemon.lock`, a file that is never removed; the kernel releases the lock when the
//! process ends, also after a kill. The file has the kind and the id of the process, for the messages of others.

use std::fs::File;
use std::io::{self, Read, Write};
use std::path::Path;
use std::sync::{Arc, MutexGuard};
use std::time::Duration;

use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};
use tokio::sync::OwnedSemaphorePermit;

use super::disk::Disk;
use super::error::StoreError;
use super::index::feed::Feed;
use super::regular_file::open_regular;
use super::settings::OwnerKind;

const DAEMON: &str = "index/daemon.lock";

/// Attempts to get the daemon's lock, and the pause between two of them. `holdfast status` holds the lock for an
/// instant to see whether a daemon runs, which must not keep a daemon from starting.
const TRIES: u32 = 10;
const PAUSE: Duration = Duration::from_millis(20);

/// The maximum length of the note in the owner's lock that is read, in bytes.
const MAX_NOTE: u64 = 64;

/// A lock between processes, released on drop.
pub(super) struct FileLock {
    file: Flock<File>,
}

/// The exclusive right to open the store of a data directory, until it is dropped or the store is closed.
pub struct Ownership {
    pub(super) disk: Disk,
    pub(super) lock: FileLock,
    /// The event feed, which learns when the disk latches.
    pub(super) feed: Arc<Feed>,
}

/// The process that has opened a data directory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Occupancy {
    /// No process.
    Free,
    /// A daemon.
    Daemon,
    /// A command, with its process id.
    Command(u32),
    /// This user may not read the lock.
    Hidden,
}

impl Ownership {
    /// Takes the data directory of these settings; creates it if it is missing. Blocking.
    ///
    /// # Errors
    /// [`StoreError::InUse`] if another process has it; [`StoreError::Io`].
    pub fn take(settings: &super::Settings, kind: OwnerKind) -> Result<Self, StoreError> {
        let feed = Arc::new(Feed::new(settings.events));
        let (noted, on_read_only) = (Arc::clone(&feed), settings.on_read_only);
        let disk = Disk::open(&settings.path, move |why| {
            // The store cannot write this event any more.
            noted.remember_note("read-only", why);
            on_read_only(why);
        })?;
        let lock = disk.lock_for_owner()?;
        lock.note(kind);
        Ok(Ownership { disk, lock, feed })
    }
}

impl FileLock {
    /// Notes the kind of the process in the file of the lock, for the messages of other processes. Best effort: a full disk
    /// takes no note.
    fn note(&self, kind: OwnerKind) {
        let name = match kind {
            OwnerKind::Daemon => "daemon",
            OwnerKind::Command => "command",
        };
        let mut file: &File = &self.file;
        let _ = file
            .set_len(0)
            .and_then(|()| file.write_all(format!("{name} {}\n", std::process::id()).as_bytes()));
    }
}

/// Returns the process that has opened a data directory; changes nothing.
pub fn occupancy(root: &Path) -> Occupancy {
    let mut file = match open_regular(&root.join(DAEMON)) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => return Occupancy::Hidden,
        Err(_) => return Occupancy::Free,
    };
    let mut note = String::new();
    // The note of a process that was killed stays, and does not matter while the lock is free.
    let _ = Read::by_ref(&mut file).take(MAX_NOTE).read_to_string(&mut note);
    if Flock::lock(file, FlockArg::LockSharedNonblock).is_ok() {
        return Occupancy::Free;
    }
    let command = note.trim().strip_prefix("command ").and_then(|process| process.parse().ok());
    command.map_or(Occupancy::Daemon, Occupancy::Command)
}

impl Disk {
    /// Takes the lock of the one owner of the data directory.
    pub(super) fn lock_for_owner(&self) -> Result<FileLock, StoreError> {
        for _ in 0..TRIES {
            if let Some(lock) = self.try_lock(DAEMON)? {
                return Ok(lock);
            }
            std::thread::sleep(PAUSE);
        }
        Err(StoreError::InUse(self.path("").display().to_string()))
    }

    /// Waits until no other thread writes `index.json`. The index as read under this lock is not older than the
    /// `index.json` of the last writer.
    pub(super) fn lock_layout(&self) -> MutexGuard<'_, ()> {
        self.locks.layout.lock()
    }

    /// Waits until no other collection runs.
    pub(super) async fn lock_collection(&self) -> Result<OwnedSemaphorePermit, StoreError> {
        // The semaphore is never closed.
        Arc::clone(&self.locks.collection).acquire_owned().await.map_err(|_| StoreError::Closing)
    }

    /// Takes the permit of [`Disk::lock_collection`]; returns `None` while another collection runs.
    pub(super) fn try_lock_collection(&self) -> Option<OwnedSemaphorePermit> {
        Arc::clone(&self.locks.collection).try_acquire_owned().ok()
    }

    /// Returns true if a process has opened the store of the data directory.
    pub(super) fn daemon_runs(root: &Path) -> bool {
        match occupancy(root) {
            Occupancy::Daemon | Occupancy::Command(_) => true,
            Occupancy::Free | Occupancy::Hidden => false,
        }
    }

    fn try_lock(&self, name: &str) -> Result<Option<FileLock>, StoreError> {
        match Flock::lock(self.open_lock(name)?, FlockArg::LockExclusiveNonblock) {
            Ok(file) => Ok(Some(FileLock { file })),
            Err((_, Errno::EWOULDBLOCK)) => Ok(None),
            Err((_, error)) => Err(StoreError::io(format!("lock {name}"), error.into())),
        }
    }

    fn open_lock(&self, name: &str) -> Result<File, StoreError> {
        let path = self.path(name);
        self.open_or_create(&path).map_err(|error| StoreError::io(format!("open {}", path.display()), error))
    }
}
