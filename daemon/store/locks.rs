//! Locks between the processes that work on one data directory: the daemon and commands beside it.
//!
//! Each lock is a `flock` on a file in `index/` that is never removed; the kernel releases it when the process ends,
//! also after a kill.
//!
//! | file | held by |
//! |---|---|
//! | `daemon.lock` | the daemon, as long as it runs |
//! | `layout.lock` | a process that writes `index.json` |
//! | `index.lock` | exclusive: a daemon that replaces the index file; shared: a command that opens it or writes to it |
//! | `collection.lock` | a process that collects |

use std::fs::File;
use std::path::Path;
use std::time::Duration;

use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};

use super::disk::Disk;
use super::error::StoreError;
use super::regular_file::{is_obstacle_error, open_regular};

const DAEMON: &str = "index/daemon.lock";
const LAYOUT: &str = "index/layout.lock";
const INDEX: &str = "index/index.lock";
const COLLECTION: &str = "index/collection.lock";

/// Attempts to get the daemon's lock, and the pause between two of them. `holdfast status` holds the lock for an
/// instant to see whether a daemon runs, which must not keep a daemon from starting.
const TRIES: u32 = 10;
const PAUSE: Duration = Duration::from_millis(20);

/// A lock, released on drop.
pub(super) struct FileLock {
    _file: Flock<File>,
}

impl Disk {
    /// Takes the lock of the one daemon of the data directory.
    pub(super) fn lock_for_daemon(&self) -> Result<FileLock, StoreError> {
        for _ in 0..TRIES {
            if let Some(lock) = self.try_lock(DAEMON)? {
                return Ok(lock);
            }
            std::thread::sleep(PAUSE);
        }
        Err(StoreError::InUse(self.path("").display().to_string()))
    }

    /// Waits until no other process writes `index.json`. The index as read under this lock is not older than the
    /// `index.json` of the last writer.
    pub(super) fn lock_layout(&self) -> Result<FileLock, StoreError> {
        self.lock(LAYOUT)
    }

    /// Waits until no other process collects: a collection must not empty the trash of another.
    pub(super) fn lock_collection(&self) -> Result<FileLock, StoreError> {
        self.lock(COLLECTION)
    }

    /// Takes the lock of [`Disk::lock_collection`]; returns `None` if another process collects.
    pub(super) fn try_lock_collection(&self) -> Result<Option<FileLock>, StoreError> {
        self.try_lock(COLLECTION)
    }

    /// Waits until no command beside the daemon uses the index file, so that it can be replaced.
    pub(super) fn lock_index_file(&self) -> Result<FileLock, StoreError> {
        self.lock(INDEX)
    }

    /// Waits until no daemon replaces the index file, so that it can be opened or written to.
    pub(super) fn share_index_file(&self) -> Result<FileLock, StoreError> {
        share(self.open_lock(INDEX)?)
    }

    /// Takes the lock of [`Disk::share_index_file`] without creating its file: a missing file means that no process
    /// holds the lock.
    pub(super) fn share_index_file_read_only(&self) -> Result<Option<FileLock>, StoreError> {
        match open_regular(&self.path(INDEX)) {
            Ok(file) => share(file).map(Some),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound || is_obstacle_error(&error) => {
                Ok(None)
            }
            Err(error) => Err(StoreError::io(format!("open {INDEX}"), error)),
        }
    }

    /// Returns true if a daemon serves the data directory.
    pub(super) fn daemon_runs(root: &Path) -> bool {
        let Ok(file) = open_regular(&root.join(DAEMON)) else { return false };
        Flock::lock(file, FlockArg::LockSharedNonblock).is_err()
    }

    fn lock(&self, name: &str) -> Result<FileLock, StoreError> {
        match Flock::lock(self.open_lock(name)?, FlockArg::LockExclusive) {
            Ok(file) => Ok(FileLock { _file: file }),
            Err((_, error)) => Err(StoreError::io(format!("lock {name}"), error.into())),
        }
    }

    fn try_lock(&self, name: &str) -> Result<Option<FileLock>, StoreError> {
        match Flock::lock(self.open_lock(name)?, FlockArg::LockExclusiveNonblock) {
            Ok(file) => Ok(Some(FileLock { _file: file })),
            Err((_, Errno::EWOULDBLOCK)) => Ok(None),
            Err((_, error)) => Err(StoreError::io(format!("lock {name}"), error.into())),
        }
    }

    fn open_lock(&self, name: &str) -> Result<File, StoreError> {
        let path = self.path(name);
        self.open_or_create(&path).map_err(|error| StoreError::io(format!("open {}", path.display()), error))
    }
}

fn share(file: File) -> Result<FileLock, StoreError> {
    match Flock::lock(file, FlockArg::LockShared) {
        Ok(file) => Ok(FileLock { _file: file }),
        Err((_, error)) => Err(StoreError::io(format!("lock {INDEX}"), error.into())),
    }
}
