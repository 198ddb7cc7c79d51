//! Opening LMDB's environment so that a full disk is an error and no end of the process.
//!
//! LMDB maps its lock file and leaves holes in it: who writes into one when the disk is full is killed by the system. So
//! the file has all its blocks before anybody reads.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::Path;

use heed::Env;
use nix::errno::Errno;
use nix::fcntl::posix_fallocate;

use crate::store::sys;

/// So much of the lock file LMDB writes while it opens it, in bytes.
const HEAD: u64 = 4096;

/// How many bytes the map is larger than configured, so that deletes find free pages where pushes find none: a
/// quarter, at least and at most so many.
const EXTRA: (usize, usize) = (4 << 20, 256 << 20);
/// What the size of a map is a multiple of, whatever the page size.
const UNIT: usize = 64 << 10;

/// Opens the environment in `directory`, at its newest snapshot or at the one before. Its map is larger than `map_size`.
pub(in crate::store) fn open(directory: &Path, map_size: usize, previous: bool) -> heed::Result<Env> {
    // It may have been configured larger before.
    let length = std::fs::metadata(directory.join("data.mdb")).map_or(0, |metadata| metadata.len());
    let size = usize::try_from(length).unwrap_or(map_size).max(map_size);
    let size = size.saturating_add((size / 4).clamp(EXTRA.0, EXTRA.1)).div_ceil(UNIT) * UNIT;
    let lock = open_lock(directory)?;
    let opened = give_blocks(&lock).map_err(heed::Error::from).and_then(|()| {
        let env = sys::open_environment(directory, size, previous)?;
        // It has made the file longer, if it was new.
        give_blocks(&lock)?;
        Ok(env)
    });
    // Closing it would take LMDB's own locks on it away from this process: that is how locks of files work.
    std::mem::forget(lock);
    opened
}

#[expect(clippy::disallowed_methods, reason = "the file is LMDB's, and nothing in it has to last")]
fn open_lock(directory: &Path) -> io::Result<File> {
    let mut how = OpenOptions::new();
    how.read(true).write(true).create(true).truncate(false).mode(0o600);
    how.open(directory.join("lock.mdb"))
}

fn give_blocks(lock: &File) -> io::Result<()> {
    let metadata = lock.metadata()?;
    // XFS asks for free blocks also where none are needed.
    if metadata.len() >= HEAD && metadata.blocks() * 512 >= metadata.len() {
        return Ok(());
    }
    let length = i64::try_from(metadata.len().max(HEAD)).unwrap_or(i64::MAX);
    loop {
        match posix_fallocate(lock, 0, length) {
            Err(Errno::EINTR) => {}
            Err(full @ (Errno::ENOSPC | Errno::EDQUOT)) => return Err(full.into()),
            // Not every file system can.
            _ => return Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_lock_file_has_no_holes() {
        let directory = tempfile::tempdir().unwrap();
        for _ in 0..2 {
            drop(open(directory.path(), 1 << 20, false).unwrap());
            let lock = std::fs::metadata(directory.path().join("lock.mdb")).unwrap();
            assert!(
                lock.len() > HEAD && lock.blocks() * 512 >= lock.len(),
                "{} of {}",
                lock.blocks(),
                lock.len()
            );
        }
    }
}
