//! Opening LMDB's environment so that a full disk is an error and no end of the process.
//!
//! LMDB maps its lock file and leaves holes in it: who writes into one when the disk is full is killed by the system. So
//! the file has all its blocks before anybody reads.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt};
use std::path::Path;

use heed::Env;
use nix::errno::Errno;
use nix::fcntl::{FallocateFlags, fallocate};

use crate::store::sys;

/// So much of the lock file LMDB writes while it opens it, in bytes.
const HEAD: u64 = 4096;

/// No block of a file system is smaller, in bytes. The first reader's entry begins before the end of one.
const SMALLEST_BLOCK: u64 = 512;

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
    let length = metadata.len().max(HEAD);
    loop {
        match fallocate(lock, FallocateFlags::empty(), 0, i64::try_from(length).unwrap_or(i64::MAX)) {
            Ok(()) => return Ok(()),
            Err(Errno::EINTR) => {}
            Err(full @ (Errno::ENOSPC | Errno::EDQUOT)) => return Err(full.into()),
            // Not every file system can.
            Err(_) => return touch_blocks(lock, length),
        }
    }
}

/// Writes a byte into each block. Other processes may have the file mapped and write into it: the byte is the last one of
/// a cache line, which LMDB leaves unused in the entry of a reader, and zero as it was.
fn touch_blocks(lock: &File, length: u64) -> io::Result<()> {
    let mut end = SMALLEST_BLOCK;
    while end <= length {
        match lock.write_all_at(&[0], end - 1) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            written => {
                written?;
                end += SMALLEST_BLOCK;
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::sync::Barrier;

    use super::*;

    #[test]
    fn blocks_are_touched_without_a_change_to_what_is_in_use() {
        let directory = tempfile::tempdir().unwrap();
        let env = open(directory.path(), 1 << 20, false).unwrap();
        let lock = open_lock(directory.path()).unwrap();
        let content = || {
            let mut bytes = vec![0; usize::try_from(lock.metadata().unwrap().len()).unwrap()];
            lock.read_exact_at(&mut bytes, 0).unwrap();
            bytes
        };
        // LMDB has one place for each thread that reads.
        let (begun, ended) = (Barrier::new(21), Barrier::new(21));
        let (before, after) = std::thread::scope(|scope| {
            for _ in 0..20 {
                scope.spawn(|| {
                    let reads = env.read_txn();
                    begun.wait();
                    ended.wait();
                    drop(reads);
                });
            }
            begun.wait();
            let before = content();
            let touched = touch_blocks(&lock, before.len() as u64);
            let after = touched.map(|()| content());
            ended.wait();
            (before, after.unwrap())
        });
        assert!(before[512..].iter().any(|byte| *byte != 0), "no reader is beyond the first block");
        assert!(after == before);
        // It would take away the locks of LMDB.
        std::mem::forget(lock);
    }

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
