//! The data directory: its paths, its open directories, and the state that all file operations share.
//!
//! The operations themselves are in the file of their subject: `upload_files.rs`, `blob_files.rs`, `index_files.rs`,
//! `top_files.rs`, `obstacles.rs` (directories, FIFOs and the like in the place of a file) and `locks.rs` (locks
//! between processes).
//!
//! Guarantees: a file appears in `blobs/` only whole and synced. Directories that are synced stay open, so that a sync
//! needs no new descriptor.

use std::fs::{self, File};
use std::io::{self, Write};
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::sync::atomic::AtomicU64;

use super::delay::{DiskDelay, Operation, Operations};
use super::error::StoreError;
use super::files::Files;
use super::latch::Latch;
use super::manifest_cache::ManifestCache;
use super::page_cache;
use super::regular_file::open_regular;
use super::reported::Reported;
use super::thread_locks::ThreadLocks;
use crate::base::Lock;
use crate::oci::{Algorithm, Digest};

/// The file with the reason why the daemon is read-only, for `holdfast status`.
const READ_ONLY: &str = "index/read-only";

/// A directory whose entries are synced.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Directory {
    /// The data directory itself.
    Root,
    /// `index/`.
    Index,
    /// `blobs/ALGORITHM/`.
    Blobs(Algorithm),
}

/// The open directories.
struct Directories {
    root: File,
    index: File,
    sha256: File,
    sha512: File,
}

/// The end of `names.journal`, and the `index.json` that it belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct JournalEnd {
    pub(super) base: u64,
    pub(super) inode: u64,
    pub(super) length: u64,
}

/// The data directory.
pub(super) struct Disk {
    root: PathBuf,
    pub(super) files: Files,
    /// Refuses writes after one failed.
    latch: Latch,
    /// Set in the process that serves the directory: only the daemon writes `index/read-only`.
    is_daemon: OnceLock<()>,
    pub(super) locks: ThreadLocks,
    reads: Operations,
    writes: Operations,
    /// The number of files in `uploads/`; each listing of the directory sets it anew.
    pub(super) upload_count: AtomicU64,
    /// The damaged blobs that the log has named.
    pub(super) reported: Reported,
    pub(super) manifests: ManifestCache,
    /// True if files that the kernel has in memory can be opened without waiting.
    pub(super) is_local: bool,
    /// The end of the journal after the last append, which nothing has to read again.
    pub(super) journal_end: Lock<Option<JournalEnd>>,
    /// Open unless the data directory is only read.
    directories: Option<Directories>,
}

impl Disk {
    /// Returns a data directory for reading only; creates nothing. `on_latch` is called with the reason when the
    /// store becomes read-only.
    pub(super) fn at(root: &Path, on_latch: impl Fn(&str) + Send + Sync + 'static) -> Self {
        Disk {
            root: root.to_owned(),
            files: Files::of(root),
            latch: Latch::new(on_latch),
            is_daemon: OnceLock::new(),
            locks: ThreadLocks::default(),
            reads: Operations::default(),
            writes: Operations::default(),
            upload_count: AtomicU64::new(0),
            reported: Reported::default(),
            manifests: ManifestCache::default(),
            is_local: page_cache::is_local(root),
            journal_end: Lock::default(),
            directories: None,
        }
    }

    /// Opens the data directory; creates the directories that are missing.
    pub(super) fn open(
        root: &Path,
        on_latch: impl Fn(&str) + Send + Sync + 'static,
    ) -> Result<Self, StoreError> {
        let mut disk = Self::at(root, on_latch);
        for directory in ["uploads", "index", "blobs", "blobs/sha256", "blobs/sha512"] {
            let path = root.join(directory);
            disk.make_directory(&path)
                .map_err(|error| StoreError::io(format!("create {}", path.display()), error))?;
        }
        for directory in [root.to_owned(), root.join("blobs")] {
            File::open(&directory)
                .and_then(|open| disk.files.sync_directory(&directory, &open))
                .map_err(|error| StoreError::io(format!("sync {}", directory.display()), error))?;
        }
        let open = |directory| {
            let path = disk.path_of(directory);
            File::open(&path).map_err(|error| StoreError::io(format!("open {}", path.display()), error))
        };
        let directories = Directories {
            root: open(Directory::Root)?,
            index: open(Directory::Index)?,
            sha256: open(Directory::Blobs(Algorithm::Sha256))?,
            sha512: open(Directory::Blobs(Algorithm::Sha512))?,
        };
        disk.directories = Some(directories);
        Ok(disk)
    }

    fn path_of(&self, directory: Directory) -> PathBuf {
        match directory {
            Directory::Root => self.root.clone(),
            Directory::Index => self.index_directory(),
            Directory::Blobs(algorithm) => self.blob_directory(algorithm),
        }
    }

    /// Syncs the entries of a directory to the medium.
    pub(super) fn sync_directory(&self, directory: Directory) -> io::Result<()> {
        let path = self.path_of(directory);
        let Some(directories) = &self.directories else {
            return self.files.sync_directory(&path, &File::open(&path)?);
        };
        let open = match directory {
            Directory::Root => &directories.root,
            Directory::Index => &directories.index,
            Directory::Blobs(Algorithm::Sha256) => &directories.sha256,
            Directory::Blobs(Algorithm::Sha512) => &directories.sha512,
        };
        // Renames go by path. A file system that was mounted over the path since then would get the renames, but this
        // sync would go to the directory below it.
        let (known, now) = (open.metadata()?, fs::metadata(&path)?);
        if (known.dev(), known.ino()) != (now.dev(), now.ino()) {
            return Err(io::Error::other(format!(
                "{} was replaced or mounted over while the registry ran",
                path.display()
            )));
        }
        self.files.sync_directory(&path, open)
    }

    /// Returns how long the oldest running read and write have been waiting for the disk.
    pub(super) fn delay(&self) -> DiskDelay {
        DiskDelay { read: self.reads.oldest(), write: self.writes.oldest() }
    }

    /// Counts a read as running until the result is dropped.
    pub(super) fn begin_read(&self) -> Operation<'_> {
        self.reads.begin()
    }

    /// Counts a write or a sync as running until the result is dropped.
    pub(super) fn begin_write(&self) -> Operation<'_> {
        self.writes.begin()
    }

    /// Reads a few bytes from the medium, bypassing the page cache.
    pub(super) fn probe(&self) -> Result<(), StoreError> {
        let _read = self.begin_read();
        let failed = |error| StoreError::io("read oci-layout", error);
        let file = open_regular(&self.root.join("oci-layout")).map_err(failed)?;
        // Best effort: a file system that ignores the advice answers from the cache.
        let _ = rustix::fs::fadvise(&file, 0, None, rustix::fs::Advice::DontNeed);
        file.read_at(&mut [0; 16], 0).map_err(failed)?;
        Ok(())
    }

    /// Returns the path of `index/`.
    pub(super) fn index_directory(&self) -> PathBuf {
        self.root.join("index")
    }

    /// Returns the path of a file by its path in the data directory.
    pub(super) fn path(&self, name: &str) -> PathBuf {
        self.root.join(name)
    }

    /// Returns the path of an unfinished upload.
    pub(super) fn upload_path(&self, name: &str) -> PathBuf {
        self.root.join("uploads").join(name)
    }

    /// Returns the path of a blob.
    pub(super) fn blob_path(&self, digest: &Digest) -> PathBuf {
        self.blob_directory(digest.algorithm()).join(digest.hex())
    }

    /// Returns the path of the directory of the blobs with this algorithm.
    pub(super) fn blob_directory(&self, algorithm: Algorithm) -> PathBuf {
        self.root.join("blobs").join(algorithm.as_str())
    }

    /// Refuses a write after an earlier one failed.
    pub(super) fn check_writable(&self) -> Result<(), StoreError> {
        if self.latch.is_closed() { Err(StoreError::ReadOnly) } else { Ok(()) }
    }

    /// Makes the store read-only if the error is a failure of the disk or the index; returns the error.
    pub(super) fn latch_on(&self, error: StoreError) -> StoreError {
        if let Some(reason) = self.latch.close_on(&error)
            && self.is_daemon.get().is_some()
        {
            // Best effort: a disk that refuses even this file leaves the reason in the log only.
            let note = || self.create_anew(&self.path(READ_ONLY))?.write_all(reason.as_bytes());
            let _ = note();
        }
        error
    }

    /// Returns true if a write met an error of the index, whichever error made the store read-only.
    pub(super) fn index_failed(&self) -> bool {
        self.latch.index_failed()
    }

    /// Marks this process as the daemon; removes the reason that an earlier daemon left.
    pub(super) fn mark_as_daemon(&self) {
        let _ = self.is_daemon.set(());
        // The file is usually missing.
        let _ = self.remove(&self.path(READ_ONLY));
    }

    /// Returns why this process is read-only; `None` while it writes.
    pub(super) fn read_only_reason(&self) -> Option<String> {
        self.latch.reason()
    }

    /// Returns why the daemon that serves the directory is read-only; `None` while it writes.
    pub(super) fn read_only_reason_of_daemon(&self) -> Option<String> {
        io::read_to_string(open_regular(&self.path(READ_ONLY)).ok()?).ok()
    }
}
