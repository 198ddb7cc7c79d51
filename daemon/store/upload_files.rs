//! The files in `uploads/`: creation, lock, write, sync and listing.
//!
//! A file is `flock`ed for as long as it is open, so that `holdfast gc` beside the daemon skips uploads in use. A write
//! that fails closes the latch; after one that met a full disk or a lack of resources the file is cut back to the bytes
//! that count, so that it never holds bytes that no hash covers.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::Path;
use std::sync::atomic::Ordering;
use std::time::{Duration, SystemTime};

use rustix::fs::FlockOperation;

use super::disk::Disk;
use super::error::StoreError;
use super::regular_file::{if_exists, is_obstacle_error, open_regular_with, regular_file};
use super::sys;

/// Write-back starts in steps of this many bytes.
const WRITEBACK_STEP: u64 = 8 << 20;

/// Attempts of a request to lock an upload that another process has locked, and the pause between two of them.
const LOCK_TRIES: u32 = 10;
const LOCK_PAUSE: Duration = Duration::from_millis(20);

/// A hashed and synced file in `uploads/`; only this very file becomes the blob.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct HashedFile {
    /// Its name in `uploads/`.
    pub(super) name: String,
    /// Its inode.
    pub(super) inode: u64,
    /// The number of bytes that were hashed.
    pub(super) length: u64,
}

/// A file in `uploads/`.
pub(super) struct UploadFile {
    pub(super) name: String,
    /// In bytes.
    pub(super) length: u64,
    /// The time of the last write, by the wall clock.
    pub(super) modified: SystemTime,
}

/// Result of [`Disk::open_upload`].
pub(super) enum OpenedUpload {
    /// The file, locked for as long as it is open.
    File(File),
    /// Another process has it locked.
    InUse,
    /// The file does not exist.
    Missing,
}

impl Disk {
    /// Creates and locks the empty file of a new upload.
    pub(super) fn create_upload(&self, name: &str) -> Result<File, StoreError> {
        self.check_writable()?;
        let options = OpenOptions::new().read(true).write(true).create_new(true).mode(0o640).to_owned();
        let failed = |error| StoreError::io("create an upload", error);
        let file = self.files.create(&self.upload_path(name), &options).map_err(failed)?;
        self.upload_count.fetch_add(1, Ordering::Relaxed);
        match lock_upload(&file) {
            Ok(true) => Ok(file),
            locked => {
                self.remove_upload(name)?;
                Err(failed(locked.err().unwrap_or_else(|| rustix::io::Errno::AGAIN.into())))
            }
        }
    }

    /// Opens and locks the file of an upload.
    pub(super) fn open_upload(&self, name: &str) -> Result<OpenedUpload, StoreError> {
        let failed = |error| StoreError::io("open an upload", error);
        let path = self.upload_path(name);
        let open = |path: &Path| open_regular_with(OpenOptions::new().read(true).write(true), path);
        let file = match if_exists(self.files.open(&path, open)) {
            Ok(Some(file)) => file,
            Ok(None) => return Ok(OpenedUpload::Missing),
            // The next collection sets the obstacle aside.
            Err(error) if is_obstacle_error(&error) => return Ok(OpenedUpload::Missing),
            Err(error) => return Err(failed(error)),
        };
        if !lock_upload(&file).map_err(failed)? {
            return Ok(OpenedUpload::InUse);
        }
        // The process that held the lock may have removed the file before it let go.
        let inode = file.metadata().map_err(failed)?.ino();
        let named = if_exists(fs::metadata(&path)).map_err(failed)?;
        match named.filter(|named| named.ino() == inode) {
            Some(_) => Ok(OpenedUpload::File(file)),
            None => Ok(OpenedUpload::Missing),
        }
    }

    /// Refuses an upload whose file does not have the length that was hashed. Bytes that a failed write left behind
    /// that length are cut off.
    pub(super) fn check_upload_length(&self, file: &File, hashed: u64) -> Result<(), StoreError> {
        self.check_writable()?;
        let failed = |error| StoreError::io("read the length of an upload", error);
        let mut length = file.metadata().map_err(failed)?.len();
        if length > hashed {
            self.files
                .set_length(file, hashed)
                .map_err(|error| self.latch_on(StoreError::io("shorten an upload", error)))?;
            length = file.metadata().map_err(failed)?.len();
        }
        if length == hashed {
            return Ok(());
        }
        let why = format!("the file has {length} bytes after {hashed} were written");
        Err(failed(io::Error::new(io::ErrorKind::InvalidData, why)))
    }

    /// Returns the length of an upload in bytes; `None` if it does not exist.
    pub(super) fn upload_length(&self, name: &str) -> Result<Option<u64>, StoreError> {
        let file = regular_file(&self.upload_path(name));
        let file = file.map_err(|error| StoreError::io("read the length of an upload", error))?;
        Ok(file.map(|(length, _)| length))
    }

    /// Removes the file of an upload, if it exists.
    pub(super) fn remove_upload(&self, name: &str) -> Result<(), StoreError> {
        let removed = self
            .remove(&self.upload_path(name))
            .map_err(|error| StoreError::io("remove an upload", error))?;
        if removed.is_some() {
            self.count_ended_upload();
        }
        Ok(())
    }

    pub(super) fn count_ended_upload(&self) {
        let less = |count: u64| Some(count.saturating_sub(1));
        // Cannot fail: the closure always returns a value.
        let _ = self.upload_count.fetch_update(Ordering::Relaxed, Ordering::Relaxed, less);
    }

    /// Returns the number of files in `uploads/`, as far as this process knows.
    pub(super) fn upload_count(&self) -> u64 {
        self.upload_count.load(Ordering::Relaxed)
    }

    /// Writes bytes at an offset of an upload and starts their write-back early.
    pub(super) fn write_upload(&self, file: &File, offset: u64, bytes: &[u8]) -> Result<(), StoreError> {
        self.check_writable()?;
        let _write = self.begin_write();
        if let Err(error) = self.files.write_at(file, bytes, offset) {
            let error = self.latch_on(StoreError::io("write an upload", error));
            if matches!(error, StoreError::Full | StoreError::OutOfResources { .. }) {
                // A short write leaves bytes that no hash covers: they must not become part of a blob.
                let shortened = self.files.set_length(file, offset);
                let shortened = shortened.map_err(|error| StoreError::io("shorten an upload", error));
                match shortened.map_err(|error| self.latch_on(error)) {
                    // `check_upload_length` shortens it again before the upload is sealed.
                    Ok(()) | Err(StoreError::OutOfResources { .. }) => {}
                    Err(error) => return Err(error),
                }
            }
            return Err(error);
        }
        let end = offset + bytes.len() as u64;
        let step = end / WRITEBACK_STEP * WRITEBACK_STEP;
        if step > offset {
            sys::begin_writeback(file, step - WRITEBACK_STEP, WRITEBACK_STEP);
        }
        Ok(())
    }

    /// Syncs the content of an upload to the medium. A failure closes the latch. After a lack of resources the caller
    /// removes the file, so that the same content is never synced again.
    pub(super) fn sync_upload(&self, file: &File) -> Result<(), StoreError> {
        self.check_writable()?;
        let _write = self.begin_write();
        self.files.sync_data(file).map_err(|error| self.latch_on(StoreError::sync("sync an upload", error)))
    }

    /// Lists the unfinished uploads: file name and length in bytes.
    pub(super) fn uploads(&self) -> Result<Vec<(String, u64)>, StoreError> {
        Ok(self.uploads_by_age()?.into_iter().map(|upload| (upload.name, upload.length)).collect())
    }

    /// Lists the unfinished uploads with the time of their last write.
    pub(super) fn uploads_by_age(&self) -> Result<Vec<UploadFile>, StoreError> {
        let failed = |error| StoreError::io("list the uploads", error);
        let mut uploads = Vec::new();
        for entry in fs::read_dir(self.path("uploads")).map_err(failed)? {
            // An error must not end the list: uploads that are missing from it count as gone.
            let entry = entry.map_err(failed)?;
            let metadata = if_exists(entry.metadata()).map_err(failed)?;
            let Some(metadata) = metadata.filter(fs::Metadata::is_file) else { continue };
            let modified = metadata.modified().unwrap_or(SystemTime::UNIX_EPOCH);
            let Ok(name) = entry.file_name().into_string() else { continue };
            uploads.push(UploadFile { name, length: metadata.len(), modified });
        }
        self.upload_count.store(uploads.len() as u64, Ordering::Relaxed);
        Ok(uploads)
    }
}

/// Locks the file of an upload for as long as it is open; returns false if another process keeps the lock. That process
/// is `holdfast gc`, which removes the file or lets go soon.
fn lock_upload(file: &File) -> io::Result<bool> {
    for tried in 1.. {
        match rustix::fs::flock(file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => return Ok(true),
            Err(rustix::io::Errno::WOULDBLOCK) if tried < LOCK_TRIES => std::thread::sleep(LOCK_PAUSE),
            Err(rustix::io::Errno::WOULDBLOCK) => break,
            Err(error) => return Err(error.into()),
        }
    }
    Ok(false)
}
