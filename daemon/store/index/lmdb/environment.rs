//! Opening LMDB's environment, such that a full disk is an error and does not kill the process.
//!
//! LMDB maps its lock file and leaves holes in it; a process that writes into a hole on a full disk is killed by
//! SIGBUS. So all blocks of the lock file are allocated before the first read.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt};
use std::path::Path;

use nix::errno::Errno;
use nix::fcntl::{FallocateFlags, fallocate};

use super::mapping::{self, Env};

/// The bytes of the lock file that LMDB writes while it opens it.
const HEADER: u64 = 4096;

/// The smallest block size of any file system, in bytes. The slot of the first reader begins within the first block.
const SMALLEST_BLOCK: u64 = 512;

/// The size by which the map is larger than configured, so that deletes find free pages when pushes find none: a
/// quarter, within these limits.
const EXTRA_MAP: (usize, usize) = (4 << 20, 256 << 20);
/// The unit of map sizes in bytes: a multiple of every page size.
const MAP_UNIT: usize = 64 << 10;

/// Opens the environment in `directory`, at its newest snapshot or at the previous one. Its map is larger than
/// `map_size`.
pub(super) fn open(directory: &Path, map_size: usize, previous: bool) -> heed::Result<Env> {
    let size = map_length(directory, map_size);
    let lock = open_lock(directory)?;
    let opened = allocate_blocks(&lock).map_err(heed::Error::from).and_then(|()| {
        let env = mapping::open_environment(directory, size, previous)?;
        // LMDB extends a new lock file while it opens it.
        allocate_blocks(&lock)?;
        Ok(env)
    });
    // fcntl locks are per process: closing any descriptor of lock.mdb would drop LMDB's lock, so this one is leaked
    // on purpose.
    std::mem::forget(lock);
    opened
}

/// Returns the length of the map of an environment in bytes.
pub(super) fn map_length(directory: &Path, map_size: usize) -> usize {
    // A file that was configured larger before needs a map of its length.
    let length = std::fs::metadata(directory.join("data.mdb")).map_or(0, |metadata| metadata.len());
    let size = usize::try_from(length).unwrap_or(map_size).max(map_size);
    size.saturating_add((size / 4).clamp(EXTRA_MAP.0, EXTRA_MAP.1)).div_ceil(MAP_UNIT) * MAP_UNIT
}

#[expect(clippy::disallowed_methods, reason = "the file is LMDB's, and nothing in it has to last")]
fn open_lock(directory: &Path) -> io::Result<File> {
    let mut how = OpenOptions::new();
    how.read(true).write(true).create(true).truncate(false).mode(0o600);
    how.open(directory.join("lock.mdb"))
}

fn allocate_blocks(lock: &File) -> io::Result<()> {
    let metadata = lock.metadata()?;
    // XFS demands free blocks even for a range that is allocated.
    if metadata.len() >= HEADER && metadata.blocks() * 512 >= metadata.len() {
        return Ok(());
    }
    let length = metadata.len().max(HEADER);
    loop {
        match fallocate(lock, FallocateFlags::empty(), 0, i64::try_from(length).unwrap_or(i64::MAX)) {
            Ok(()) => return Ok(()),
            Err(Errno::EINTR) => {}
            Err(full @ (Errno::ENOSPC | Errno::EDQUOT)) => return Err(full.into()),
            // The file system has no `fallocate`.
            Err(_) => return touch_blocks(lock, length),
        }
    }
}

/// Writes a zero byte into each block. Other processes may have the file mapped and write to it: the byte is the last
/// one of a cache line, which LMDB leaves unused (zero) in a reader's slot.
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
    use std::sync::{Arc, Barrier};

    use super::*;

    #[test]
    fn touching_blocks_changes_no_reader_slot() {
        let directory = tempfile::tempdir().unwrap();
        let env = open(directory.path(), 1 << 20, false).unwrap();
        let lock = open_lock(directory.path()).unwrap();
        let content = || {
            let mut bytes = vec![0; usize::try_from(lock.metadata().unwrap().len()).unwrap()];
            lock.read_exact_at(&mut bytes, 0).unwrap();
            bytes
        };
        // Each snapshot has a slot of its own.
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
        // Closing it would drop LMDB's lock.
        std::mem::forget(lock);
    }

    #[test]
    fn threads_may_end_while_the_environment_is_closed() {
        const THREADS: usize = 8;
        let directory = tempfile::tempdir().unwrap();
        for _ in 0..200 {
            let env = open(directory.path(), 1 << 20, false).unwrap();
            let begun = Arc::new(Barrier::new(THREADS + 1));
            let threads: Vec<_> = (0..THREADS)
                .map(|_| {
                    let (env, begun) = (env.clone(), Arc::clone(&begun));
                    std::thread::spawn(move || {
                        drop(env.read_txn().unwrap());
                        drop(env);
                        begun.wait();
                    })
                })
                .collect();
            begun.wait();
            drop(env);
            for thread in threads {
                thread.join().unwrap();
            }
        }
    }

    #[test]
    fn lock_file_has_no_holes() {
        let directory = tempfile::tempdir().unwrap();
        for _ in 0..2 {
            drop(open(directory.path(), 1 << 20, false).unwrap());
            let lock = std::fs::metadata(directory.path().join("lock.mdb")).unwrap();
            assert!(
                lock.len() > HEADER && lock.blocks() * 512 >= lock.len(),
                "{} of {}",
                lock.blocks(),
                lock.len()
            );
        }
    }
}
