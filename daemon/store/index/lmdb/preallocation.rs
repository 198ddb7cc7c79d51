//! Disk blocks that are allocated for the index file before LMDB needs them.
//!
//! LMDB writes every changed page to a new place, so that a delete needs blocks before it frees any. So the file has
//! a margin of allocated blocks behind its last page, from its creation on and refilled while the disk has room. The
//! length of the file stays (`FALLOC_FL_KEEP_SIZE`): LMDB extends it over the allocated blocks. While the margin
//! cannot be refilled, pushes are refused and its rest is left to deletes.
//!
//! On a file system without `fallocate` (ext2, FUSE, old NFS) zeros are written into the holes of the file and behind
//! its end, which makes the file longer than its pages. This happens inside a write transaction of LMDB: no other
//! process extends the file at the same time, and behind the last page there is nothing but the margin.

use std::fs::File;
use std::io;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::fcntl::{FallocateFlags, fallocate};
use nix::sys::statvfs::fstatvfs;
use rustix::fs::SeekFrom;

use super::mapping::Env;
use crate::base::Lock;
use crate::store::error_kinds::is_lack_of_resources;
use crate::store::index_error::IndexError;

/// The size of the margin: at least so many bytes and pages, at most so many bytes. In between it is as long as the
/// index, since no transaction changes more pages than there are.
const MIN_MARGIN: (u64, u64) = (1 << 20, 256);
const MAX_MARGIN: u64 = 64 << 20;
/// The pause after a failed attempt.
const PAUSE: Duration = Duration::from_secs(1);
/// The bytes that are allocated to find out whether the disk is full.
const PROBE: u64 = 256 << 10;
/// The zeros of one write.
static ZEROS: [u8; 64 << 10] = [0; 64 << 10];

/// The margin of an index file.
pub(super) struct Preallocation {
    file: File,
    page_size: u64,
    state: Lock<State>,
}

#[derive(Default)]
struct State {
    /// The allocated bytes of the file, as far as known.
    allocated: u64,
    /// The time at which the disk had no blocks for the margin last; `None` while the margin is complete.
    short_since: Option<Instant>,
    method: Method,
}

/// The method by which blocks are allocated.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Method {
    #[default]
    Fallocate,
    /// By writing zeros: the file system has no `fallocate`.
    Zeros,
    /// Not at all: writing zeros failed, too. LMDB allocates blocks as it writes.
    None,
}

impl Preallocation {
    /// Manages the margin of an open index; allocates nothing yet.
    pub(super) fn new(env: &Env) -> heed::Result<Self> {
        let page_size = u64::from(env.stat().page_size);
        Ok(Preallocation { file: env.try_clone_inner_file()?, page_size, state: Lock::default() })
    }

    /// Refills the margin when less than three quarters of it are left. If the disk has no room, the margin stays
    /// short, and the next attempt is made after [`PAUSE`]. The caller must not have a transaction open.
    pub(super) fn refill(&self, env: &Env) {
        self.refill_after(PAUSE, env);
        if self.state.lock().method == Method::Zeros {
            self.refill_with_zeros(env);
        }
    }

    /// Refills the margin by writing zeros.
    fn refill_with_zeros(&self, env: &Env) {
        let enough = |(used, margin, limit): (u64, u64, u64)| (used + margin / 4 * 3).min(limit);
        if self.state.lock().allocated >= enough(self.extent(env)) {
            return;
        }
        let short = || self.state.lock().short_since = Some(Instant::now());
        if self.free() == Some(0) {
            return short();
        }
        // If no transaction can be opened, the change that follows reports why.
        let Ok(_locked) = env.write_txn() else { return };
        let (used, margin, limit) = self.extent(env);
        let wanted = (used + margin).min(limit);
        match self.write_zeros(wanted) {
            Ok(()) => {
                *self.state.lock() = State { allocated: wanted, short_since: None, method: Method::Zeros };
            }
            Err(error) if is_full_disk(&error) => short(),
            // Retried before the next change.
            Err(error) if is_lack_of_resources(&error) => {}
            Err(_) => *self.state.lock() = State { method: Method::None, ..State::default() },
        }
    }

    /// Writes zeros into all holes before `end` and behind the end of the file; the caller holds a write transaction.
    fn write_zeros(&self, end: u64) -> io::Result<()> {
        let mut at = 0;
        loop {
            let length = self.file.metadata()?.len();
            // A file system without holes reports one at the end of the file.
            let hole = match rustix::fs::seek(&self.file, SeekFrom::Hole(at)) {
                Ok(hole) => hole,
                Err(rustix::io::Errno::NXIO | rustix::io::Errno::INVAL) => length.max(at),
                Err(error) => return Err(error.into()),
            };
            if hole >= end {
                return Ok(());
            }
            let data = match rustix::fs::seek(&self.file, SeekFrom::Data(hole)) {
                Ok(data) => data.min(end),
                Err(rustix::io::Errno::NXIO | rustix::io::Errno::INVAL) => end,
                Err(error) => return Err(error.into()),
            };
            at = hole;
            while at < data {
                let count = usize::try_from(data - at).map_or(ZEROS.len(), |left| left.min(ZEROS.len()));
                self.file.write_all_at(&ZEROS[..count], at)?;
                at += count as u64;
            }
        }
    }

    /// Returns the bytes that this process may allocate on the file system, if that is known.
    fn free(&self) -> Option<u64> {
        let statistics = fstatvfs(&self.file).ok()?;
        #[expect(clippy::useless_conversion, reason = "these are 32 bits wide on 32-bit ARM")]
        let (blocks, unit) =
            (u64::from(statistics.blocks_available()), u64::from(statistics.fragment_size()));
        Some(blocks.saturating_mul(unit))
    }

    fn refill_after(&self, pause: Duration, env: &Env) {
        let (used, margin, limit) = self.extent(env);
        let (enough, wanted) = ((used + margin / 4 * 3).min(limit), (used + margin).min(limit));
        let mut state = self.state.lock();
        let waits = state.short_since.is_some_and(|since| since.elapsed() < pause);
        if state.method != Method::Fallocate || state.allocated >= enough || waits {
            return;
        }
        state.allocated = self.allocated().unwrap_or_default();
        if state.allocated >= enough {
            state.short_since = None;
            return;
        }
        // The whole range, so that holes are filled, too. XFS demands as many free blocks as the range is long, so
        // that on a full disk only the part behind the last page is tried next.
        let range = |start: u64| self.allocate(start, wanted.saturating_sub(start));
        match range(0).or_else(|error| if is_full(error) { range(used) } else { Err(error) }) {
            Ok(()) => *state = State { allocated: wanted, ..State::default() },
            Err(error) if is_full(error) => state.short_since = Some(Instant::now()),
            // Retried before the next change.
            Err(Errno::ENOMEM | Errno::EAGAIN) => {}
            Err(_) => *state = State { method: Method::Zeros, ..State::default() },
        }
    }

    /// Refuses a change that makes the index larger while the margin cannot be refilled.
    pub(super) fn check(&self, env: &Env) -> Result<(), IndexError> {
        if self.is_short_of_blocks() {
            self.refill_after(Duration::ZERO, env);
        }
        if self.is_short_of_blocks() {
            return Err(io::Error::from(io::ErrorKind::StorageFull).into());
        }
        Ok(())
    }

    fn is_short_of_blocks(&self) -> bool {
        self.state.lock().short_since.is_some()
    }

    /// Maps the error of a commit. LMDB reports a short write as `EIO`, like a failing disk: it means a full disk
    /// only if the margin was short before the commit, or if the disk has no blocks for the next bytes of the file.
    pub(super) fn commit_error(&self, env: &Env, error: heed::Error) -> heed::Error {
        match &error {
            heed::Error::Io(source)
                if source.raw_os_error() == Some(libc::EIO)
                    && (self.is_short_of_blocks() || self.has_no_blocks(env)) =>
            {
                heed::Error::Io(io::ErrorKind::StorageFull.into())
            }
            _ => error,
        }
    }

    fn has_no_blocks(&self, env: &Env) -> bool {
        let (used, margin, _) = self.extent(env);
        let behind = self.allocated().unwrap_or_default().max(used + margin);
        if self.state.lock().method == Method::Fallocate {
            return self.allocate(behind, PROBE).is_err_and(is_full);
        }
        if self.free().is_some_and(|free| free < PROBE) {
            return true;
        }
        // Under a disk quota the file system has free blocks that this process may not use.
        let Ok(_locked) = env.write_txn() else { return false };
        let length = self.file.metadata().map_or(0, |metadata| metadata.len());
        self.write_zeros(behind.max(length) + PROBE).is_err_and(|error| is_full_disk(&error))
    }

    /// Returns the bytes up to the last page of the index, the size of its margin, and the largest length of the
    /// file.
    fn extent(&self, env: &Env) -> (u64, u64, u64) {
        let info = env.info();
        let used = (info.last_page_number as u64 + 1) * self.page_size;
        let least = MIN_MARGIN.0.max(MIN_MARGIN.1 * self.page_size);
        (used, used.clamp(least, MAX_MARGIN.max(least)), (info.map_size as u64).max(used))
    }

    fn allocated(&self) -> io::Result<u64> {
        Ok(self.file.metadata()?.blocks() * 512)
    }

    fn allocate(&self, start: u64, length: u64) -> Result<(), Errno> {
        let (Ok(start), Ok(length)) = (start.try_into(), length.try_into()) else {
            return Err(Errno::EFBIG);
        };
        loop {
            match fallocate(&self.file, FallocateFlags::FALLOC_FL_KEEP_SIZE, start, length) {
                Err(Errno::EINTR) => {}
                done => return done,
            }
        }
    }
}

/// Returns true if a write failed because the disk is full.
fn is_full_disk(error: &io::Error) -> bool {
    use io::ErrorKind::{QuotaExceeded, StorageFull, WriteZero};
    matches!(error.kind(), QuotaExceeded | StorageFull | WriteZero)
}

fn is_full(error: Errno) -> bool {
    matches!(error, Errno::ENOSPC | Errno::EDQUOT)
}

#[cfg(test)]
mod tests {
    use super::super::mapping;
    use super::super::table::Databases;
    use super::*;
    use crate::store::error::StoreError;
    use crate::store::index::tables::Table;

    #[test]
    fn margin_is_allocated_without_extending_the_file() {
        let directory = tempfile::tempdir().unwrap();
        let env = mapping::open_environment(directory.path(), 4 << 20, false).unwrap();
        let length = || std::fs::metadata(directory.path().join("data.mdb")).unwrap().len();
        let before = length();
        let preallocation = Preallocation::new(&env).unwrap();
        preallocation.refill(&env);
        assert!(preallocation.allocated().unwrap() >= before + (1 << 20));
        assert_eq!(length(), before);
        preallocation.check(&env).unwrap();
    }

    #[test]
    fn zeros_fill_holes_and_overwrite_no_data() {
        let directory = tempfile::tempdir().unwrap();
        let env = mapping::open_environment(directory.path(), 4 << 20, false).unwrap();
        let preallocation = Preallocation::new(&env).unwrap();
        preallocation.state.lock().method = Method::Zeros;
        let path = directory.path().join("data.mdb");
        let before = std::fs::read(&path).unwrap();
        let length = before.len() as u64;
        preallocation.file.write_all_at(b"data", 200_000).unwrap();
        preallocation.refill(&env);
        let after = std::fs::read(&path).unwrap();
        assert!(after.len() as u64 >= length + (1 << 20));
        assert!(preallocation.allocated().unwrap() >= after.len() as u64);
        assert_eq!(&after[..before.len()], before);
        assert_eq!(&after[200_000..200_004], b"data");
        assert!(after[before.len()..200_000].iter().chain(&after[200_004..]).all(|byte| *byte == 0));
        preallocation.check(&env).unwrap();
        // LMDB overwrites the margin.
        let mut txn = env.write_txn().unwrap();
        let databases = Databases::create(&env, &mut txn).unwrap();
        databases.put(&mut txn, Table::Tags, b"a", &vec![7; 100_000]).unwrap();
        txn.commit().unwrap();
        preallocation.refill(&env);
        let txn = env.read_txn().unwrap();
        assert_eq!(databases.get(&txn, Table::Tags, b"a").unwrap().unwrap(), vec![7; 100_000]);
    }

    #[test]
    fn disk_error_is_not_reported_as_full_disk() {
        let directory = tempfile::tempdir().unwrap();
        let env = mapping::open_environment(directory.path(), 4 << 20, false).unwrap();
        let preallocation = Preallocation::new(&env).unwrap();
        preallocation.refill(&env);
        let classified = |code| {
            let error = heed::Error::Io(io::Error::from_raw_os_error(code));
            StoreError::from(IndexError::from(preallocation.commit_error(&env, error)))
        };
        assert!(matches!(classified(libc::EIO), StoreError::Index(_)));
        assert!(matches!(classified(libc::ENOSPC), StoreError::Full));
        preallocation.state.lock().short_since = Some(Instant::now());
        assert!(matches!(classified(libc::EIO), StoreError::Full));
    }
}
