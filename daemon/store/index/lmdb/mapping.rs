//! The unsafe code of the back end: LMDB maps its file into memory.
#![expect(unsafe_code, reason = "a mapped file must not be changed by others, which no type can express")]

use std::path::Path;

use heed::{Env, EnvFlags, EnvOpenOptions};

/// The purpose for which an environment is opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::store) enum Purpose {
    /// Lookups and changes. Pages are read one by one: where the kernel reads ahead, it keeps many pages as one folio,
    /// and a change of one page may be written as the whole folio.
    Use,
    /// An inspection, which reads all pages.
    Inspection {
        /// Opens the previous snapshot instead of the newest.
        previous: bool,
    },
}

impl Purpose {
    fn flags(self) -> EnvFlags {
        match self {
            Purpose::Use => EnvFlags::NO_READ_AHEAD,
            Purpose::Inspection { previous: false } => EnvFlags::empty(),
            Purpose::Inspection { previous: true } => EnvFlags::PREV_SNAPSHOT,
        }
    }
}

/// Opens the LMDB environment in `directory`.
pub(in crate::store) fn open_environment(
    directory: &Path,
    map_size: usize,
    purpose: Purpose,
) -> heed::Result<Env> {
    let mut options = EnvOpenOptions::new();
    options.map_size(map_size).max_dbs(32).max_readers(1024);
    // SAFETY: NO_META_SYNC leaves the sync of the meta page to `commit`, which does it before a change counts as
    // committed; without that sync the file is consistent, only older. PREV_SNAPSHOT only selects the meta page to
    // read, and NO_READ_AHEAD is advice for the kernel.
    unsafe { options.flags(EnvFlags::NO_META_SYNC | purpose.flags()) };
    // SAFETY: no writer may bypass LMDB's lock. Only this binary opens the directory; it takes LMDB's lock for every
    // write and never truncates the file.
    unsafe { options.open(directory) }
}

/// Creates an LMDB environment in a single file, for a copy of the index.
pub(super) fn open_environment_file(file: &Path, map_size: usize) -> heed::Result<Env> {
    let mut options = EnvOpenOptions::new();
    options.map_size(map_size).max_dbs(32);
    // SAFETY: NO_SUB_DIR only means that the path is a file. NO_LOCK is sound because the file is created here and no
    // other process knows it. A lock file would be sparse, and writing to its mapping on a full disk kills the process
    // (SIGBUS).
    unsafe { options.flags(EnvFlags::NO_SUB_DIR | EnvFlags::NO_LOCK).open(file) }
}
