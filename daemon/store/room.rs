//! Room for pushes: what the reserve and the quota leave.
//!
//! A push is refused before the disk is full, so that deletes, the index, the log and the rest of the machine go
//! on. What others write to the same file system counts, since its free space is looked at each time.

use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use nix::sys::statvfs::statvfs;

use super::error::StoreError;
use super::index::Index;

/// The reserve, where none is set: so much of the file system, but no more bytes than this.
const RESERVE: (u64, u64) = (20, 256 << 20);

/// How much pushes may take.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RoomLimits {
    /// How many bytes of the file system stay free; a twentieth of it, 256 MiB at most, where none is said.
    pub reserve: Option<u64>,
    /// How many bytes blobs and uploads may have together.
    pub quota: Option<u64>,
    /// How many names there may be.
    pub names: NameLimits,
    /// How many unfinished uploads there may be on the disk; none for no limit.
    pub unfinished_uploads: Option<u64>,
}

/// How many names pushes may make.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NameLimits {
    /// Tags of one repository.
    pub tags_per_repository: u64,
    /// Tags and manifests of all repositories together.
    pub names: u64,
}

impl Default for NameLimits {
    /// No limits.
    fn default() -> Self {
        NameLimits { tags_per_repository: u64::MAX, names: u64::MAX }
    }
}

/// How large the file system is, and how much of it is free, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Space {
    pub(super) total: u64,
    pub(super) free: u64,
}

/// Looks after the room that is left.
pub(super) struct Room {
    root: PathBuf,
    limits: Mutex<RoomLimits>,
    index: Arc<Index>,
    /// The bytes of unfinished uploads that have a session in memory.
    uploading: AtomicU64,
    /// The bytes of the other files in `uploads/`, as the last look at the directory found them.
    idle: AtomicU64,
}

impl Room {
    pub(super) fn new(root: PathBuf, limits: RoomLimits, index: Arc<Index>) -> Self {
        Room {
            root,
            limits: Mutex::new(limits),
            index,
            uploading: AtomicU64::new(0),
            idle: AtomicU64::new(0),
        }
    }

    /// From now on pushes may take so much.
    pub(super) fn limit(&self, limits: RoomLimits) {
        *super::lock(&self.limits) = limits;
    }

    /// How many bytes of a file system of this size stay free.
    pub(super) fn reserve(&self, total: u64) -> u64 {
        reserve(super::lock(&self.limits).reserve, total)
    }

    /// How many unfinished uploads there may be on the disk.
    pub(super) fn unfinished_uploads(&self) -> u64 {
        super::lock(&self.limits).unfinished_uploads.unwrap_or(u64::MAX)
    }

    /// How many names pushes may make.
    pub(super) fn names(&self) -> NameLimits {
        super::lock(&self.limits).names
    }

    /// How many bytes blobs and uploads may have together, if that is said.
    pub(super) fn quota(&self) -> Option<u64> {
        super::lock(&self.limits).quota
    }

    /// Refuses so many more bytes if there is no room for them.
    pub(super) fn check(&self, more: u64) -> Result<(), StoreError> {
        let (space, limits) = (Space::of(&self.root)?, *super::lock(&self.limits));
        if space.free < more.saturating_add(reserve(limits.reserve, space.total)) {
            return Err(StoreError::Full);
        }
        let Some(quota) = limits.quota else { return Ok(()) };
        let uploads =
            self.uploading.load(Ordering::Relaxed).saturating_add(self.idle.load(Ordering::Relaxed));
        let used = self.index.bytes()?.saturating_add(uploads);
        if used.saturating_add(more) > quota { Err(StoreError::Quota) } else { Ok(()) }
    }

    /// An upload with a session has so many bytes more.
    pub(super) fn uploaded(&self, bytes: u64) {
        self.uploading.fetch_add(bytes, Ordering::Relaxed);
    }

    /// So many bytes of an upload with a session are gone, or have become a blob.
    pub(super) fn ended(&self, bytes: u64) {
        subtract(&self.uploading, bytes);
    }

    /// An upload of this length gets a session.
    pub(super) fn upload_gets_session(&self, bytes: u64) {
        subtract(&self.idle, bytes);
        self.uploaded(bytes);
    }

    /// The session of an upload of this length is evicted; the file stays.
    pub(super) fn upload_becomes_idle(&self, bytes: u64) {
        self.idle.fetch_add(bytes, Ordering::Relaxed);
        self.ended(bytes);
    }

    /// The bytes of uploads with a session, and of those without.
    #[cfg(test)]
    pub(super) fn uploads(&self) -> (u64, u64) {
        (self.uploading.load(Ordering::Relaxed), self.idle.load(Ordering::Relaxed))
    }

    /// Sets how many bytes the uploads without a session have together.
    pub(super) fn set_idle_uploads(&self, bytes: u64) {
        self.idle.store(bytes, Ordering::Relaxed);
    }
}

impl Space {
    /// The space of the file system that a directory is on.
    pub(super) fn of(directory: &std::path::Path) -> Result<Self, StoreError> {
        let statistics =
            statvfs(directory).map_err(|error| StoreError::io("look at the disk", error.into()))?;
        #[expect(clippy::useless_conversion, reason = "these are 32 bits wide on 32-bit ARM")]
        let (total, free, unit) = (
            u64::from(statistics.blocks()),
            u64::from(statistics.blocks_available()),
            u64::from(statistics.fragment_size()),
        );
        Ok(Space { total: total.saturating_mul(unit), free: free.saturating_mul(unit) })
    }
}

fn subtract(from: &AtomicU64, bytes: u64) {
    let less = |count: u64| Some(count.saturating_sub(bytes));
    // The closure always gives a value.
    let _ = from.fetch_update(Ordering::Relaxed, Ordering::Relaxed, less);
}

fn reserve(said: Option<u64>, total: u64) -> u64 {
    said.unwrap_or_else(|| (total / RESERVE.0).min(RESERVE.1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_reserve_is_a_twentieth_and_never_large() {
        assert_eq!(reserve(None, 64 << 20), (64 << 20) / 20);
        assert_eq!(reserve(None, 1 << 40), 256 << 20);
        assert_eq!(reserve(Some(7), 1 << 40), 7);
    }
}
