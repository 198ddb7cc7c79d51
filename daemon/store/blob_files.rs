//! The files in `blobs/`: a push renames into it, and the writer thread removes from it after the commit.
//!
//! A file appears in `blobs/` only whole and synced. Its name is durable after the sync of the directory, which the
//! writer thread does once per batch, before the transaction. A rename that fails closes the latch. Earlier releases
//! moved blobs to `trash/` before a commit; what is left there is recovered when the store opens.

use std::fs::{self, File};
use std::io::ErrorKind;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::PathBuf;
use std::sync::atomic::Ordering;

use bytes::Bytes;

use super::blob_store::{BlobFile, BlobStore};
use super::disk::{Directory, Disk};
use super::error::StoreError;
use super::page_cache;
use super::regular_file::{if_exists, is_obstacle_error, open_regular, regular_file};
use super::upload_files::HashedFile;
use crate::oci::{Algorithm, Digest};

impl Disk {
    /// Moves a blob back from the trash, unless it was pushed again. The name is durable only after the sync of
    /// the directory.
    pub(super) fn restore_from_trash(&self, digest: &Digest) -> Result<(), StoreError> {
        self.check_writable()?;
        let failed = |error| self.latch_on(StoreError::io("move a blob back from the trash", error));
        let (blob, trash) = (self.blob_path(digest), self.trash_path(digest));
        if regular_file(&blob).map_err(failed)?.is_none()
            && !self.set_obstacle_aside(&trash).map_err(failed)?
        {
            if_exists(self.rename_over(&trash, &blob)).map_err(failed)?;
        }
        Ok(())
    }

    /// Removes a blob from the trash.
    pub(super) fn remove_trash(&self, digest: &Digest) -> Result<(), StoreError> {
        self.remove(&self.trash_path(digest)).map_err(|error| StoreError::io("empty the trash", error))?;
        Ok(())
    }

    /// Removes the directory of the trash if it is empty.
    pub(super) fn remove_empty_trash(&self) {
        // Files that are no blobs may be left in it.
        let _ = self.files.remove_directory(&self.path("trash"));
    }

    /// Lists the blobs in the trash of an earlier release.
    pub(super) fn trash(&self) -> Result<Vec<Digest>, StoreError> {
        let failed = |error| StoreError::io("list the trash", error);
        let mut trash = Vec::new();
        let entries = match if_exists(fs::read_dir(self.path("trash"))) {
            Ok(Some(entries)) => entries,
            Ok(None) => return Ok(trash),
            // Something else than a directory has the name.
            Err(error) if is_obstacle_error(&error) => return Ok(trash),
            Err(error) => return Err(failed(error)),
        };
        for entry in entries {
            let name = entry.map_err(failed)?.file_name();
            trash.extend(name.to_str().and_then(|name| name.replacen('-', ":", 1).parse().ok()));
        }
        Ok(trash)
    }

    fn trash_path(&self, digest: &Digest) -> PathBuf {
        self.path("trash").join(format!("{}-{}", digest.algorithm(), digest.hex()))
    }

    /// Opens a blob that the index has.
    pub(super) fn open_blob(&self, digest: &Digest) -> Result<File, StoreError> {
        let _read = self.begin_read();
        match if_exists(open_regular(&self.blob_path(digest))) {
            Ok(Some(file)) => Ok(file),
            Ok(None) => Err(StoreError::Damaged(digest.clone())),
            Err(error) => Err(StoreError::io("open a blob", error)),
        }
    }

    fn open_in_memory(&self, digest: &Digest) -> Option<File> {
        self.is_local.then(|| page_cache::open(&self.blob_path(digest))).flatten()
    }

    /// Opens a blob without waiting for the disk, if it has at least `length` bytes; `None` if that is not possible.
    pub(super) fn open_cached_blob(&self, digest: &Digest, length: u64) -> Option<File> {
        let file = self.open_in_memory(digest)?;
        let metadata = file.metadata().ok()?;
        (metadata.is_file() && metadata.len() >= length).then_some(file)
    }

    /// Reads the first `length` bytes of a blob without waiting for the disk; `None` if that is not possible.
    pub(super) fn read_cached_blob(&self, digest: &Digest, length: usize) -> Option<Bytes> {
        let file = self.open_in_memory(digest)?;
        let mut bytes = vec![0; length];
        let count = page_cache::read(&file, 0, &mut bytes)?;
        (count == length).then(|| bytes.into())
    }

    /// Returns the length of a blob in bytes; `None` if its file is missing.
    pub(super) fn blob_length(&self, digest: &Digest) -> Result<Option<u64>, StoreError> {
        Ok(self.file(digest)?.map(|file| file.length))
    }

    /// Returns true if a blob that the index has exists as a file of this length.
    pub(super) fn has_blob(&self, digest: &Digest, length: u64) -> Result<bool, StoreError> {
        let _read = self.begin_read();
        Ok(self.blob_length(digest)? == Some(length))
    }

    /// Returns a manifest that is kept in memory, unless its file was reported as damaged.
    pub(super) fn kept_manifest(&self, digest: &Digest) -> Option<Bytes> {
        self.manifests.find(digest).filter(|_| !self.is_reported(digest))
    }

    /// Warns of a missing or damaged blob, once per blob.
    pub(super) fn report_damaged(&self, digest: &Digest) {
        if self.reported.insert(digest) {
            log::warn!("blob {digest} is missing or damaged on the disk; push it again to replace the file");
        }
    }

    /// Forgets the report of a blob whose content a check has found right, as after a restore of the file by hand.
    pub(super) fn note_sound(&self, digest: &Digest) {
        self.reported.forget(digest);
    }

    /// Remembers a blob whose content was read and is wrong, or that an image lacks.
    pub(super) fn note_damaged(&self, digest: &Digest) {
        self.reported.insert_checked(digest);
    }

    /// Returns the blobs that are known to be missing or damaged.
    pub(super) fn known_damaged(&self) -> Vec<Digest> {
        self.reported.all()
    }

    /// Returns true if the blob was reported as damaged and has not been replaced since.
    pub(super) fn is_reported(&self, digest: &Digest) -> bool {
        self.reported.contains(digest)
    }

    /// Withdraws the report of a blob whose file exists again.
    pub(super) fn forget_report(&self, digest: &Digest) {
        self.reported.forget_present(digest);
    }
}

impl BlobStore for Disk {
    fn begin_changes(&self) -> Result<impl Sized + use<'_>, StoreError> {
        self.check_writable()?;
        Ok(self.begin_write())
    }

    fn latch_on(&self, error: StoreError) -> StoreError {
        Disk::latch_on(self, error)
    }

    fn admit(&self, upload: &HashedFile, digest: &Digest) -> Result<(), StoreError> {
        self.check_writable()?;
        let failed = |error| self.latch_on(StoreError::io("move an upload to the blobs", error));
        let (path, blob) = (self.upload_path(&upload.name), self.blob_path(digest));
        match if_exists(fs::symlink_metadata(&path)).map_err(failed)? {
            Some(file) if (file.ino(), file.len()) == (upload.inode, upload.length) => {
                self.rename_over(&path, &blob).map_err(failed)?;
                self.count_ended_upload();
                self.reported.forget(digest);
                self.manifests.forget(digest);
                Ok(())
            }
            Some(_) => {
                log::error!("refused the upload {}: its file was replaced after it was hashed", upload.name);
                Err(StoreError::UploadUnknown)
            }
            // When the transaction of a batch fails, its changes are applied again one by one, after the rename.
            None => match regular_file(&blob).map_err(failed)? {
                Some((length, _)) if length == upload.length => Ok(()),
                _ => Err(StoreError::UploadUnknown),
            },
        }
    }

    fn give_back(&self, upload: &HashedFile, digest: &Digest) -> Result<(), StoreError> {
        self.check_writable()?;
        let failed = |error| self.latch_on(StoreError::io("make a blob an upload again", error));
        let blob = self.blob_path(digest);
        let file = regular_file(&blob).map_err(failed)?;
        // Another push of the same content may have replaced it.
        if file.is_some_and(|(_, inode)| inode == upload.inode) {
            self.rename_over(&blob, &self.upload_path(&upload.name)).map_err(failed)?;
            self.upload_count.fetch_add(1, Ordering::Relaxed);
        }
        Ok(())
    }

    fn sync(&self, algorithm: Algorithm) -> Result<(), StoreError> {
        self.check_writable()?;
        self.sync_directory(Directory::Blobs(algorithm))
            .map_err(|error| self.latch_on(StoreError::sync("sync the directory of blobs", error)))
    }

    fn remove(&self, digest: &Digest) -> Result<(), StoreError> {
        self.check_writable()?;
        self.manifests.forget(digest);
        let failed = |error| self.latch_on(StoreError::io("remove a blob", error));
        let blob = self.blob_path(digest);
        if !self.set_obstacle_aside(&blob).map_err(failed)? {
            Disk::remove(self, &blob).map_err(failed)?;
        }
        Ok(())
    }

    fn set_aside(&self, digest: &Digest) -> Result<(), StoreError> {
        self.check_writable()?;
        self.manifests.forget(digest);
        let aside = self.path("damaged");
        let name = format!("{}-{}", digest.algorithm(), digest.hex());
        self.make_directory(&aside)
            .and_then(|()| if_exists(self.rename_over(&self.blob_path(digest), &aside.join(name))))
            .map_err(|error| self.latch_on(StoreError::io("move a corrupt blob to damaged/", error)))?;
        Ok(())
    }

    fn file(&self, digest: &Digest) -> Result<Option<BlobFile>, StoreError> {
        let file = regular_file(&self.blob_path(digest))
            .map_err(|error| StoreError::io("read metadata of a blob", error))?;
        Ok(file.map(|(length, inode)| BlobFile { length, inode }))
    }

    fn list(
        &self,
        algorithm: Algorithm,
    ) -> Result<impl Iterator<Item = Result<Digest, StoreError>> + use<>, StoreError> {
        let failed = |error| StoreError::io("list the blobs", error);
        let entries = fs::read_dir(self.blob_directory(algorithm)).map_err(failed)?;
        let digest = move |name: &str| format!("{algorithm}:{name}").parse().ok();
        // An error is an item and not the end of the list: a blob that is not listed counts as missing.
        Ok(entries.filter_map(move |entry| match entry {
            Ok(entry) => digest(entry.file_name().to_str()?).map(Ok),
            Err(error) => Some(Err(failed(error))),
        }))
    }

    fn read(&self, digest: &Digest, start: u64, length: u64) -> Result<Bytes, StoreError> {
        let file = self.open_blob(digest)?;
        let _read = self.begin_read();
        let damaged = || StoreError::Damaged(digest.clone());
        let mut bytes = vec![0; usize::try_from(length).map_err(|_| damaged())?];
        match file.read_exact_at(&mut bytes, start) {
            Ok(()) => Ok(bytes.into()),
            Err(error) if error.kind() == ErrorKind::UnexpectedEof => Err(damaged()),
            Err(error) => Err(StoreError::io("read a blob", error)),
        }
    }
}
