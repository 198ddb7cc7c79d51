//! Disk blocks that are allocated for the index file before LMDB needs them.
//!
//! LMDB writes every changed page to another place, so that a delete needs blocks before it frees any. The file
//! therefore has a margin of allocated blocks behind its last page, from the beginning and kept up while the disk has
//! room. The length of the file is left alone (`FALLOC_FL_KEEP_SIZE`): LMDB extends it over blocks that are there
//! already. While the margin cannot be kept up, pushes are refused and the rest of it is left to deletes.

use std::fs::File;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use heed::Env;
use nix::errno::Errno;
use nix::fcntl::{FallocateFlags, fallocate};

use crate::store::error::StoreError;

/// The margin at least, in bytes and in pages, and at most, in bytes. In between it is as long as the index: no
/// transaction changes more pages than there are.
const LEAST: (u64, u64) = (1 << 20, 256);
const MOST: u64 = 64 << 20;
/// How long a failed attempt is not repeated.
const PAUSE: Duration = Duration::from_secs(1);
/// How many bytes are asked for to find out whether the disk is full.
const PROBE: u64 = 256 << 10;

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
    /// The file system does not preallocate.
    unsupported: bool,
}

impl Preallocation {
    /// Looks after the margin of an open index; nothing is allocated yet.
    pub(super) fn new(env: &Env) -> heed::Result<Self> {
        let page_size = u64::from(env.stat().page_size);
        Ok(Preallocation { file: env.try_clone_inner_file()?, page_size, state: Mutex::default() })
    }

    /// Allocates the margin where less than three quarters of it are left; a disk without room leaves it short, and is not asked
    /// again at once.
    pub(super) fn keep_up(&self, env: &Env) {
        self.try_again_after(PAUSE, env);
    }

    fn try_again_after(&self, pause: Duration, env: &Env) {
        let (used, margin, limit) = self.extent(env);
        let (enough, wanted) = ((used + margin / 4 * 3).min(limit), (used + margin).min(limit));
        let mut state = crate::store::lock(&self.state);
        let waits = state.short_since.is_some_and(|since| since.elapsed() < pause);
        if state.unsupported || state.allocated >= enough || waits {
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
            // Without preallocation LMDB takes its blocks as it goes.
            Err(_) => *state = State { unsupported: true, ..State::default() },
        }
    }

    /// Refuses a change that makes the index larger while the margin cannot be kept up.
    pub(super) fn check(&self, env: &Env) -> Result<(), StoreError> {
        if self.is_short() {
            self.try_again_after(Duration::ZERO, env);
        }
        if self.is_short() { Err(StoreError::Full) } else { Ok(()) }
    }

    fn is_short(&self) -> bool {
        crate::store::lock(&self.state).short_since.is_some()
    }

    /// Maps the error of a commit. LMDB reports a short write as `EIO`, as it reports a failing disk: it means a full
    /// disk only if the disk had no blocks before the commit or has none for the next bytes of the file.
    pub(super) fn commit_error(&self, env: &Env, error: heed::Error) -> StoreError {
        let heed::Error::Io(source) = &error else { return error.into() };
        if source.raw_os_error() != Some(libc::EIO) {
            return error.into();
        }
        if self.is_short() || self.has_no_blocks(env) { StoreError::Full } else { error.into() }
    }

    fn has_no_blocks(&self, env: &Env) -> bool {
        let (used, margin, _) = self.extent(env);
        let behind = self.allocated().unwrap_or_default().max(used + margin);
        self.allocate(behind, PROBE).is_err_and(is_full)
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
