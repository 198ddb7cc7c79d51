//! The unsafe code of the back end: LMDB maps its file into memory.
#![expect(unsafe_code, reason = "a mapped file must not be changed by others, which no type can express")]

use std::path::Path;

use heed::{EnvFlags, EnvOpenOptions, WithoutTls};

/// An environment whose snapshots belong to no thread. Otherwise a thread that ends while the environment is closed may
/// write to the unmapped lock file (SIGSEGV).
pub(super) type Env = heed::Env<WithoutTls>;

/// Opens the LMDB environment in `directory`, at its newest snapshot or at the previous one.
pub(in crate::store) fn open_environment(
    directory: &Path,
    map_size: usize,
    previous: bool,
) -> heed::Result<Env> {
    let mut options = EnvOpenOptions::new().read_txn_without_tls();
    options.map_size(map_size).max_dbs(32).max_readers(1024);
    let snapshot = if previous { EnvFlags::PREV_SNAPSHOT } else { EnvFlags::empty() };
    // SAFETY: NO_META_SYNC leaves the sync of the meta page to `commit`, which does it before a change counts as
    // committed; without that sync the file is consistent, only older. PREV_SNAPSHOT only selects the meta page to
    // read. NO_READ_AHEAD is advice for the kernel: pages that it read ahead are large folios, and a change of one page
    // may be written as the whole folio.
    unsafe { options.flags(EnvFlags::NO_META_SYNC | EnvFlags::NO_READ_AHEAD | snapshot) };
    // SAFETY: no writer may bypass LMDB's lock. Only this binary opens the directory; it takes LMDB's lock for every
    // write and never truncates the file.
    unsafe { options.open(directory) }
}

/// Creates an LMDB environment in a single file, for a copy of the index.
pub(super) fn open_environment_file(file: &Path, map_size: usize) -> heed::Result<Env> {
    let mut options = EnvOpenOptions::new().read_txn_without_tls();
    options.map_size(map_size).max_dbs(32);
    // SAFETY: NO_SUB_DIR only means that the path is a file. NO_LOCK is sound because the file is created here and no
    // other process knows it. A lock file would be sparse, and writing to its mapping on a full disk kills the process
    // (SIGBUS).
    unsafe { options.flags(EnvFlags::NO_SUB_DIR | EnvFlags::NO_LOCK).open(file) }
}
