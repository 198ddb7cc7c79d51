//! Disk blocks that are allocated for the index file before LMDB needs them.
//!
//! LMDB writes every changed page to another place, so that a delete needs blocks before it frees any. The file
//! therefore has a margin of allocated blocks behind its last page, from the beginning and kept up while the disk has
//! room. The length of the file is left alone (`FALLOC_FL_KEEP_SIZE`): LMDB extends it over blocks that are there
//! already. While the margin cannot be kept up, pushes are refused and the rest of it is left to deletes.
//!
//! A file system without `fallocate` (ext2, FUSE, old NFS) gets its blocks by zeros that are written into the holes of
//! the file and behind its end, so that the file is longer there than its pages. This happens inside a write transaction
//! of LMDB: no other process extends the file meanwhile, and behind the last page there is nothing but the margin.

use std::fs::File;
use std::io;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::sync::Mutex;
use std::time::{Duration, Instant};

use heed::Env;
use nix::errno::Errno;
use nix::fcntl::{FallocateFlags, fallocate};
use nix::sys::statvfs::fstatvfs;
use rustix::fs::SeekFrom;

use crate::store::error::{StoreError, is_lack_of_resources};

/// The margin at least, in bytes and in pages, and at most, in bytes. In between it is as long as the index: no
/// transaction changes more pages than there are.
const LEAST: (u64, u64) = (1 << 20, 256);
const MOST: u64 = 64 << 20;
/// How long a failed attempt is not repeated.
const PAUSE: Duration = Duration::from_secs(1);
/// How many bytes are asked for to find out whether the disk is full.
const PROBE: u64 = 256 << 10;
/// How many zeros are written at once.
static ZEROS: [u8; 64 << 10] = [0; 64 << 10];

/// The margin of one index file.
pub(super) struct Preallocation {
    file: File,
    page_size: u64,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// The allocated bytes of the file, as far as known.
    allocated: u64,
    /// When the disk was last found to have no blocks for the margin; none while the margin is there.
    short_since: Option<Instant>,
    way: Way,
}

/// How the file gets its blocks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Way {
    #[default]
    Fallocate,
    /// The file system has no `fallocate`.
    Zeros,
    /// Not even zeros can be written. LMDB takes its blocks as it goes.
    None,
}

impl Preallocation {
    /// Looks after the margin of an open index; nothing is allocated yet.
    pub(super) fn new(env: &Env) -> heed::Result<Self> {
        let page_size = u64::from(env.stat().page_size);
        Ok(Preallocation { file: env.try_clone_inner_file()?, page_size, state: Mutex::default() })
    }

    /// Allocates the margin where less than three quarters of it are left; a disk without room leaves it short, and is not asked
    /// again at once.
    /// The caller has no transaction open.
    pub(super) fn keep_up(&self, env: &Env) {
        self.try_again_after(PAUSE, env);
        if crate::store::lock(&self.state).way == Way::Zeros {
            self.write_margin(env);
        }
    }

    /// Writes zeros where the file has no blocks, up to the end of the margin.
    fn write_margin(&self, env: &Env) {
        let enough = |(used, margin, limit): (u64, u64, u64)| (used + margin / 4 * 3).min(limit);
        if crate::store::lock(&self.state).allocated >= enough(self.extent(env)) {
            return;
        }
        let short = || crate::store::lock(&self.state).short_since = Some(Instant::now());
        if self.free() == Some(0) {
            return short();
        }
        // Where it cannot be begun the change that comes next says why.
        let Ok(_locked) = env.write_txn() else { return };
        let (used, margin, limit) = self.extent(env);
        let wanted = (used + margin).min(limit);
        match self.fill(wanted) {
            Ok(()) => {
                *crate::store::lock(&self.state) =
                    State { allocated: wanted, short_since: None, way: Way::Zeros };
            }
            Err(error) if is_full_disk(&error) => short(),
            // It is tried again before the next change.
            Err(error) if is_lack_of_resources(&error) => {}
            Err(_) => *crate::store::lock(&self.state) = State { way: Way::None, ..State::default() },
        }
    }

    /// Writes zeros into all holes before `end`, and behind the end of the file; the caller has a write transaction open.
    fn fill(&self, end: u64) -> io::Result<()> {
        let mut at = 0;
        loop {
            let length = self.file.metadata()?.len();
            // A file system that knows no holes says that the next one is at the end of the file.
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

    /// Returns how many bytes of the file system are free for this process; none if it does not say.
    fn free(&self) -> Option<u64> {
        let statistics = fstatvfs(&self.file).ok()?;
        #[expect(clippy::useless_conversion, reason = "these are 32 bits wide on 32-bit ARM")]
        let (blocks, unit) =
            (u64::from(statistics.blocks_available()), u64::from(statistics.fragment_size()));
        Some(blocks.saturating_mul(unit))
    }

    fn try_again_after(&self, pause: Duration, env: &Env) {
        let (used, margin, limit) = self.extent(env);
        let (enough, wanted) = ((used + margin / 4 * 3).min(limit), (used + margin).min(limit));
        let mut state = crate::store::lock(&self.state);
        let waits = state.short_since.is_some_and(|since| since.elapsed() < pause);
        if state.way != Way::Fallocate || state.allocated >= enough || waits {
            return;
        }
        state.allocated = self.allocated().unwrap_or_default();
        if state.allocated >= enough {
            state.short_since = None;
            return;
        }
        // The whole range, so that holes are filled too. XFS asks for as many free blocks as the range has, so that
        // only the part behind the last page is tried next.
        let range = |start: u64| self.allocate(start, wanted.saturating_sub(start));
        match range(0).or_else(|error| if is_full(error) { range(used) } else { Err(error) }) {
            Ok(()) => *state = State { allocated: wanted, ..State::default() },
            Err(error) if is_full(error) => state.short_since = Some(Instant::now()),
            // It is tried again before the next change.
            Err(Errno::ENOMEM | Errno::EAGAIN) => {}
            Err(_) => *state = State { way: Way::Zeros, ..State::default() },
        }
    }

    /// Refuses a change that makes the index larger while the margin cannot be kept up.
    pub(super) fn check(&self, env: &Env) -> Result<(), StoreError> {
        if self.rows_missing() {
            self.try_again_after(Duration::ZERO, env);
        }
        if self.rows_missing() { Err(StoreError::Full) } else { Ok(()) }
    }

    fn rows_missing(&self) -> bool {
        crate::store::lock(&self.state).short_since.is_some()
    }

    /// Maps the error of a commit. LMDB reports a short write as `EIO`, as it reports a failing disk: it means a full
    /// disk only if the disk had no blocks before the commit or has none for the next bytes of the file.
    pub(super) fn commit_error(&self, env: &Env, error: heed::Error) -> StoreError {
        let heed::Error::Io(source) = &error else { return error.into() };
        if source.raw_os_error() != Some(libc::EIO) {
            return error.into();
        }
        if self.rows_missing() || self.has_no_blocks(env) { StoreError::Full } else { error.into() }
    }

    fn has_no_blocks(&self, env: &Env) -> bool {
        let (used, margin, _) = self.extent(env);
        let behind = self.allocated().unwrap_or_default().max(used + margin);
        if crate::store::lock(&self.state).way == Way::Fallocate {
            return self.allocate(behind, PROBE).is_err_and(is_full);
        }
        if self.free().is_some_and(|free| free < PROBE) {
            return true;
        }
        // A quota leaves blocks free that this process may not have.
        let Ok(_locked) = env.write_txn() else { return false };
        let length = self.file.metadata().map_or(0, |metadata| metadata.len());
        self.fill(behind.max(length) + PROBE).is_err_and(|error| is_full_disk(&error))
    }

    /// The bytes up to the last page of the index, its margin, and the largest length of the file.
    fn extent(&self, env: &Env) -> (u64, u64, u64) {
        let info = env.info();
        let used = (info.last_page_number as u64 + 1) * self.page_size;
        let least = LEAST.0.max(LEAST.1 * self.page_size);
        (used, used.clamp(least, MOST.max(least)), (info.map_size as u64).max(used))
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

/// Returns true if a write failed since the disk is full, or took nothing.
fn is_full_disk(error: &io::Error) -> bool {
    use io::ErrorKind::{QuotaExceeded, StorageFull, WriteZero};
    matches!(error.kind(), QuotaExceeded | StorageFull | WriteZero)
}

fn is_full(error: Errno) -> bool {
    matches!(error, Errno::ENOSPC | Errno::EDQUOT)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::sys;

    #[test]
    fn the_margin_is_allocated_and_the_file_not_longer() {
        let directory = tempfile::tempdir().unwrap();
        let env = sys::open_environment(directory.path(), 4 << 20, false).unwrap();
        let length = || std::fs::metadata(directory.path().join("data.mdb")).unwrap().len();
        let before = length();
        let preallocation = Preallocation::new(&env).unwrap();
        preallocation.keep_up(&env);
        assert!(preallocation.allocated().unwrap() >= before + (1 << 20));
        assert_eq!(length(), before);
        preallocation.check(&env).unwrap();
    }

    #[test]
    fn zeros_fill_the_holes_and_overwrite_nothing() {
        let directory = tempfile::tempdir().unwrap();
        let env = sys::open_environment(directory.path(), 4 << 20, false).unwrap();
        let preallocation = Preallocation::new(&env).unwrap();
        crate::store::lock(&preallocation.state).way = Way::Zeros;
        let path = directory.path().join("data.mdb");
        let before = std::fs::read(&path).unwrap();
        let length = before.len() as u64;
        preallocation.file.write_all_at(b"data", 200_000).unwrap();
        preallocation.keep_up(&env);
        let after = std::fs::read(&path).unwrap();
        assert!(after.len() as u64 >= length + (1 << 20));
        assert!(preallocation.allocated().unwrap() >= after.len() as u64);
        assert_eq!(&after[..before.len()], before);
        assert_eq!(&after[200_000..200_004], b"data");
        assert!(after[before.len()..200_000].iter().chain(&after[200_004..]).all(|byte| *byte == 0));
        preallocation.check(&env).unwrap();
        // It is a margin that LMDB writes into.
        let mut txn = env.write_txn().unwrap();
        let table = crate::store::index::table::Table::create(&env, &mut txn, "tags").unwrap();
        table.put(&mut txn, b"a", &vec![7; 100_000]).unwrap();
        txn.commit().unwrap();
        preallocation.keep_up(&env);
        let txn = env.read_txn().unwrap();
        assert_eq!(table.get(&txn, b"a").unwrap().unwrap(), vec![7; 100_000]);
    }

    #[test]
    fn an_error_of_the_disk_is_no_full_disk() {
        let directory = tempfile::tempdir().unwrap();
        let env = sys::open_environment(directory.path(), 4 << 20, false).unwrap();
        let preallocation = Preallocation::new(&env).unwrap();
        preallocation.keep_up(&env);
        let error = |code| heed::Error::Io(io::Error::from_raw_os_error(code));
        assert!(matches!(preallocation.commit_error(&env, error(libc::EIO)), StoreError::Index(_)));
        assert!(matches!(preallocation.commit_error(&env, error(libc::ENOSPC)), StoreError::Full));
        crate::store::lock(&preallocation.state).short_since = Some(Instant::now());
        assert!(matches!(preallocation.commit_error(&env, error(libc::EIO)), StoreError::Full));
    }
}
