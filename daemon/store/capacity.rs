//! Capacity for pushes: the free space of the file system less the reserve, and the quota less the bytes in use.
//!
//! A push is refused before the disk is full, so that deletes, the index, the log and the rest of the machine keep
//! working. The free space is read each time, since other programs write to the same file system.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use nix::sys::statvfs::statvfs;

use super::capacity_limits::{CapacityLimits, NameLimits};
use super::error::StoreError;
use super::index::Index;
use crate::base::Lock;

/// The default reserve: one twentieth of the file system, at most 256 MiB (a divisor, and a number of bytes).
const RESERVE: (u64, u64) = (20, 256 << 20);

/// The size and the free space of a file system, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Space {
    pub(super) total: u64,
    pub(super) free: u64,
}

/// The room for writes, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Room {
    /// The free space of the disk above the reserve.
    pub(super) disk: u64,
    /// True if less than the reserve is free.
    pub(super) exhausted: bool,
    /// The rest of the quota; `None` without a quota.
    pub(super) quota: Option<u64>,
}

/// The capacity of a store.
pub(super) struct Capacity {
    root: PathBuf,
    limits: Lock<CapacityLimits>,
    index: Arc<Index>,
    /// The bytes of unfinished uploads that have a session in memory.
    uploading: AtomicU64,
    /// The bytes of the other files in `uploads/`, as the last listing of the directory found them.
    idle: AtomicU64,
}

impl Capacity {
    pub(super) fn new(root: PathBuf, limits: CapacityLimits, index: Arc<Index>) -> Self {
        Capacity {
            root,
            limits: Lock::new(limits),
            index,
            uploading: AtomicU64::new(0),
            idle: AtomicU64::new(0),
        }
    }

    /// Replaces the limits.
    pub(super) fn set_limits(&self, limits: CapacityLimits) {
        *self.limits.lock() = limits;
    }

    /// Returns the reserve on a file system of this size, in bytes.
    pub(super) fn reserve(&self, total: u64) -> u64 {
        reserve(self.limits.lock().reserve, total)
    }

    /// Returns the limit of unfinished uploads on the disk.
    pub(super) fn unfinished_uploads(&self) -> u64 {
        self.limits.lock().unfinished_uploads.unwrap_or(u64::MAX)
    }

    /// Returns the limits of names.
    pub(super) fn names(&self) -> NameLimits {
        self.limits.lock().names
    }

    /// Returns the quota in bytes; `None` without one.
    pub(super) fn quota(&self) -> Option<u64> {
        self.limits.lock().quota
    }

    /// Refuses a write of `more` bytes if it would use up the reserve or exceed the quota.
    pub(super) fn check(&self, more: u64) -> Result<(), StoreError> {
        self.check_with(more, None)
    }

    /// As [`Capacity::check`], for a write that may use the reserve down to this number of bytes.
    pub(super) fn check_with(&self, more: u64, least_reserve: Option<u64>) -> Result<(), StoreError> {
        let room = self.room(least_reserve)?;
        if room.disk < more || room.exhausted {
            return Err(StoreError::Full);
        }
        if room.quota.is_some_and(|left| left < more) { Err(StoreError::Quota) } else { Ok(()) }
    }

    /// Returns the room for writes, which may use the reserve down to `least_reserve` bytes if that is given.
    pub(super) fn room(&self, least_reserve: Option<u64>) -> Result<Room, StoreError> {
        let (space, limits) = (Space::of(&self.root)?, *self.limits.lock());
        let reserve = reserve(limits.reserve, space.total).min(least_reserve.unwrap_or(u64::MAX));
        let (disk, exhausted) = (space.free.saturating_sub(reserve), space.free < reserve);
        let Some(quota) = limits.quota else { return Ok(Room { disk, exhausted, quota: None }) };
        let uploads =
            self.uploading.load(Ordering::Relaxed).saturating_add(self.idle.load(Ordering::Relaxed));
        let used = self.index.bytes()?.saturating_add(uploads);
        Ok(Room { disk, exhausted, quota: Some(quota.saturating_sub(used)) })
    }

    /// Counts bytes that were written to an upload with a session.
    pub(super) fn count_written(&self, bytes: u64) {
        self.uploading.fetch_add(bytes, Ordering::Relaxed);
    }

    /// Subtracts bytes of an upload with a session that was removed or became a blob.
    pub(super) fn count_off(&self, bytes: u64) {
        subtract(&self.uploading, bytes);
    }

    /// Counts an upload of this length as one with a session.
    pub(super) fn upload_gets_session(&self, bytes: u64) {
        subtract(&self.idle, bytes);
        self.count_written(bytes);
    }

    /// Counts an upload of this length as one without a session: the session was evicted, the file stays.
    pub(super) fn upload_becomes_idle(&self, bytes: u64) {
        self.idle.fetch_add(bytes, Ordering::Relaxed);
        self.count_off(bytes);
    }

    /// Returns the bytes of uploads with a session, and of those without.
    #[cfg(test)]
    pub(super) fn uploads(&self) -> (u64, u64) {
        (self.uploading.load(Ordering::Relaxed), self.idle.load(Ordering::Relaxed))
    }

    /// Sets the bytes of all uploads without a session.
    pub(super) fn set_idle_uploads(&self, bytes: u64) {
        self.idle.store(bytes, Ordering::Relaxed);
    }
}

impl Space {
    /// Returns the space of the file system that has this directory.
    pub(super) fn of(directory: &std::path::Path) -> Result<Self, StoreError> {
        let statistics = statvfs(directory)
            .map_err(|error| StoreError::io("read the free space of the disk", error.into()))?;
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
    // Cannot fail: the closure always returns a value.
    let _ = from.fetch_update(Ordering::Relaxed, Ordering::Relaxed, less);
}

fn reserve(configured: Option<u64>, total: u64) -> u64 {
    configured.unwrap_or_else(|| (total / RESERVE.0).min(RESERVE.1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_default_reserve_is_a_twentieth_up_to_a_maximum() {
        assert_eq!(reserve(None, 64 << 20), (64 << 20) / 20);
        assert_eq!(reserve(None, 1 << 40), 256 << 20);
        assert_eq!(reserve(Some(7), 1 << 40), 7);
    }
}
