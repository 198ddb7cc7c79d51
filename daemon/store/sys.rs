//! The unsafe code of the store: a few calls that have no safe form.
#![expect(unsafe_code, reason = "LMDB is a memory map, and sync_file_range has no safe wrapper")]

use std::fs::File;
use std::os::fd::AsRawFd;
use std::path::Path;

use heed::{Env, EnvFlags, EnvOpenOptions};

/// Opens the LMDB environment in `directory`, at its newest snapshot or at the one before.
pub(super) fn open_environment(directory: &Path, map_size: usize, previous: bool) -> heed::Result<Env> {
    let mut options = EnvOpenOptions::new();
    options.map_size(map_size).max_dbs(16).max_readers(1024);
    let snapshot = if previous { EnvFlags::PREV_SNAPSHOT } else { EnvFlags::empty() };
    // SAFETY: NO_META_SYNC leaves the sync of the meta page to `index::commit`, which does it before a change counts as
    // committed; the file is consistent without. PREV_SNAPSHOT only chooses which meta page is read.
    unsafe { options.flags(EnvFlags::NO_META_SYNC | snapshot) };
    // SAFETY: the map must not be changed by anyone who ignores LMDB's lock. Only this binary opens the
    // directory, it holds LMDB's lock for every write, and it never truncates the file.
    unsafe { options.open(directory) }
}

/// Makes an LMDB environment that is a single file, for a copy.
pub(super) fn open_environment_file(file: &Path, map_size: usize) -> heed::Result<Env> {
    let mut options = EnvOpenOptions::new();
    options.map_size(map_size).max_dbs(16);
    // SAFETY: NO_SUB_DIR only says what the path names. The file is made here and nobody else knows it, so that it needs
    // no lock, whose file would have holes that end the process on a full disk.
    unsafe { options.flags(EnvFlags::NO_SUB_DIR | EnvFlags::NO_LOCK).open(file) }
}

/// Asks the kernel to begin writing a range of a file to the disk and does not wait for it, so that the sync
/// at the end of a push has little left to do. A refusal is no error: that sync does the work then.
pub(super) fn begin_writeback(file: &File, offset: u64, length: u64) {
    let (Ok(offset), Ok(length)) = (offset.try_into(), length.try_into()) else { return };
    // SAFETY: the descriptor is open for as long as `file` is borrowed, and no memory is passed.
    unsafe { libc::sync_file_range(file.as_raw_fd(), offset, length, libc::SYNC_FILE_RANGE_WRITE) };
}
