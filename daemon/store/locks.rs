//! Locks between the processes that work on one data directory. Each is a file that stays; the system unlocks it
//! when its holder ends, however it ends.

use std::fs::File;
use std::path::Path;
use std::time::Duration;

use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};

use super::disk::Disk;
use super::error::StoreError;
use super::obstacles::{is_in_the_way, open_regular};

const DAEMON: &str = "index/daemon.lock";
const LAYOUT: &str = "index/layout.lock";
const INDEX: &str = "index/index.lock";
const COLLECTION: &str = "index/collection.lock";

/// Whoever asks whether a daemon runs has its lock for an instant, which is no reason not to start.
const TRIES: u32 = 10;
const PAUSE: Duration = Duration::from_millis(20);

/// A lock, held for as long as this lives.
pub(super) struct Lock {
    _file: Flock<File>,
}

impl Disk {
    /// Takes the lock that only one daemon can have; the command line works without it.
    pub(super) fn lock_for_daemon(&self) -> Result<Lock, StoreError> {
        for _ in 0..TRIES {
            if let Some(lock) = self.try_lock(DAEMON)? {
                return Ok(lock);
            }
            std::thread::sleep(PAUSE);
        }
        Err(StoreError::InUse(self.top("").display().to_string()))
    }

    /// Waits until nobody else writes `index.json`: the daemon and the command line both do, and what is read of the
    /// index after this is not older than what the last one has written.
    pub(super) fn lock_layout(&self) -> Result<Lock, StoreError> {
        self.lock(LAYOUT)
    }

    /// Waits until nobody else collects: what one has moved to the trash is nobody else's to remove.
    pub(super) fn lock_collection(&self) -> Result<Lock, StoreError> {
        self.lock(COLLECTION)
    }

    /// Takes the lock of [`Disk::lock_collection`], unless somebody collects.
    pub(super) fn try_lock_collection(&self) -> Result<Option<Lock>, StoreError> {
        self.try_lock(COLLECTION)
    }

    /// Waits until nobody beside the daemon writes to the index file, so that it can be replaced.
    pub(super) fn lock_index_file(&self) -> Result<Lock, StoreError> {
        self.lock(INDEX)
    }

    /// Waits until nobody replaces the index file, so that it can be opened, or written to.
    pub(super) fn share_index_file(&self) -> Result<Lock, StoreError> {
        share(self.open_lock(INDEX)?)
    }

    /// As [`Disk::share_index_file`], and writes nothing: where there is no such lock nobody has ever held it.
    pub(super) fn share_index_file_to_look(&self) -> Result<Option<Lock>, StoreError> {
        match open_regular(&self.top(INDEX)) {
            Ok(file) => share(file).map(Some),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound || is_in_the_way(&error) => Ok(None),
            Err(error) => Err(StoreError::io(format!("open {INDEX}"), error)),
        }
    }

    /// Whether a daemon holds the data directory.
    pub(super) fn daemon_runs(root: &Path) -> bool {
        let Ok(file) = open_regular(&root.join(DAEMON)) else { return false };
        Flock::lock(file, FlockArg::LockSharedNonblock).is_err()
    }

    fn lock(&self, name: &str) -> Result<Lock, StoreError> {
        match Flock::lock(self.open_lock(name)?, FlockArg::LockExclusive) {
            Ok(file) => Ok(Lock { _file: file }),
            Err((_, error)) => Err(StoreError::io(format!("lock {name}"), error.into())),
        }
    }

    fn try_lock(&self, name: &str) -> Result<Option<Lock>, StoreError> {
        match Flock::lock(self.open_lock(name)?, FlockArg::LockExclusiveNonblock) {
            Ok(file) => Ok(Some(Lock { _file: file })),
            Err((_, Errno::EWOULDBLOCK)) => Ok(None),
            Err((_, error)) => Err(StoreError::io(format!("lock {name}"), error.into())),
        }
    }

    fn open_lock(&self, name: &str) -> Result<File, StoreError> {
        let path = self.top(name);
        self.open_or_create(&path).map_err(|error| StoreError::io(format!("open {}", path.display()), error))
    }
}

fn share(file: File) -> Result<Lock, StoreError> {
    match Flock::lock(file, FlockArg::LockShared) {
        Ok(file) => Ok(Lock { _file: file }),
        Err((_, error)) => Err(StoreError::io(format!("lock {INDEX}"), error.into())),
    }
}
