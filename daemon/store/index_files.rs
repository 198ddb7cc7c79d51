//! The files of the index as files: replaced by the copy of an inspection, and kept beside when corrupt.
//!
//! On disk: `index/data.mdb` and `index/lock.mdb` are LMDB's; `index/inspected.mdb` is the copy that an inspection
//! writes; `index.broken-SECONDS/` keeps a corrupt index, which is never deleted.
#![expect(clippy::disallowed_methods, reason = "renames the files of the index, which LMDB syncs")]

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use super::disk::{Directory, Disk};
use super::error::StoreError;
use super::regular_file::{if_exists, open_regular};

/// The segments of the write-ahead log in `index/`.
pub(super) const SEGMENTS: [&str; 2] = ["wal.0", "wal.1"];

impl Disk {
    /// Returns true if a system of the other word size wrote the index. LMDB's magic number follows a page header that
    /// begins with a machine word, so that its offset differs.
    pub(super) fn index_is_of_another_word_size(&self) -> Result<bool, StoreError> {
        const MAGIC: [u8; 4] = 0xBEEF_C0DE_u32.to_ne_bytes();
        let failed = |error| StoreError::io("read the header of the index", error);
        let data = self.index_directory().join("data.mdb");
        let Some(file) = if_exists(File::open(data)).map_err(failed)? else { return Ok(false) };
        let mut start = [0; 20];
        match file.read_exact_at(&mut start, 0) {
            Ok(()) if size_of::<usize>() == 8 => Ok(start[12..16] == MAGIC),
            Ok(()) => Ok(start[16..20] == MAGIC),
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(false),
            Err(error) => Err(failed(error)),
        }
    }

    /// Links the corrupt index into a directory beside `index/`, where it survives its replacement; returns that
    /// directory. Needs no space where the file system has hard links.
    pub(super) fn keep_index_beside(&self, suffix: &str) -> Result<PathBuf, StoreError> {
        let failed = |error| StoreError::io("keep the corrupt index", error);
        let aside = self.directory_aside(suffix);
        self.files.create_directories(&aside).map_err(failed)?;
        let (data, kept) = (self.index_directory().join("data.mdb"), aside.join("data.mdb"));
        // Some file systems have no hard links: copy there.
        let kept = self.files.link(&data, &kept).or_else(|_| fs::copy(&data, &kept).map(drop));
        if let Err(error) = kept {
            let _ = fs::remove_dir_all(&aside);
            return Err(failed(error));
        }
        Ok(aside)
    }

    /// Returns the path of the copy that an inspection writes.
    pub(super) fn inspected_index(&self) -> PathBuf {
        self.path("index/inspected.mdb")
    }

    /// Replaces the index with the copy of the inspection, if there is one; the content is the same.
    pub(super) fn install_inspected_index(&self) -> Result<(), StoreError> {
        let failed = |error| StoreError::io("replace the index", error);
        let Some(copy) = if_exists(open_regular(&self.inspected_index())).map_err(failed)? else {
            return Ok(());
        };
        self.files.sync_all(&copy).map_err(failed)?;
        let directory = self.index_directory();
        // First the lock file: its readers and transactions belong to the old index.
        self.remove(&directory.join("lock.mdb")).map_err(failed)?;
        self.rename_over(&self.inspected_index(), &directory.join("data.mdb")).map_err(failed)?;
        self.sync_directory(Directory::Index).map_err(failed)?;
        self.remove_inspected_index()
    }

    /// Removes the copy of an inspection and LMDB's lock file beside it.
    pub(super) fn remove_inspected_index(&self) -> Result<(), StoreError> {
        for name in ["index/inspected.mdb", "index/inspected.mdb-lock"] {
            self.remove(&self.path(name))
                .map_err(|error| StoreError::io("remove the copy of the index", error))?;
        }
        Ok(())
    }

    /// Moves a corrupt index to a directory beside `index/`, unless its file is empty; returns that directory.
    pub(super) fn set_index_aside(&self, suffix: &str) -> Result<Option<PathBuf>, StoreError> {
        let failed = |error| StoreError::io("set the corrupt index aside", error);
        let (data, lock) = ("index/data.mdb", "index/lock.mdb");
        let length = if_exists(fs::metadata(self.path(data))).map_err(failed)?.map_or(0, |file| file.len());
        self.remove(&self.path(lock)).map_err(failed)?;
        if length == 0 {
            // A full disk left an empty file: removed, so that repeated starts do not pile up such files.
            self.remove(&self.path(data)).map_err(failed)?;
            self.set_log_aside(suffix)?;
            return Ok(None);
        }
        let aside = self.directory_aside(suffix);
        self.files.create_directories(&aside).map_err(failed)?;
        self.sync_directory(Directory::Root).map_err(failed)?;
        self.files.rename(&self.path(data), &aside.join("data.mdb")).map_err(failed)?;
        self.move_log(&aside)?;
        Ok(Some(aside))
    }

    /// Moves the log of an index that is gone to a directory beside `index/`: a new index has a log of its own.
    pub(super) fn set_log_aside(&self, suffix: &str) -> Result<(), StoreError> {
        if SEGMENTS.iter().all(|segment| !self.index_directory().join(segment).exists()) {
            return Ok(());
        }
        let aside = self.directory_aside(suffix);
        let failed = |error| StoreError::io("set the log of the index aside", error);
        self.files.create_directories(&aside).map_err(failed)?;
        self.sync_directory(Directory::Root).map_err(failed)?;
        self.move_log(&aside)
    }

    fn move_log(&self, aside: &Path) -> Result<(), StoreError> {
        let failed = |error| StoreError::io("set the log of the index aside", error);
        for segment in SEGMENTS {
            let log = self.index_directory().join(segment);
            if_exists(self.files.rename(&log, &aside.join(segment))).map_err(failed)?;
        }
        self.sync_directory(Directory::Index).map_err(failed)
    }

    fn directory_aside(&self, suffix: &str) -> PathBuf {
        self.free_name(&format!("index.broken-{suffix}"))
    }
}
