//! The files in `blobs/` and `trash/`: a push renames into `blobs/`, a collection renames from there into `trash/`.
//!
//! A file appears in `blobs/` only whole and synced. Its name is durable after the sync of the directory, which the
//! index writer does once per batch, before the commit. A rename that fails closes the latch.

use std::fs::{self, File};
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;

use super::disk::{Directory, Disk};
use super::error::StoreError;
use super::regular_file::{if_exists, open_regular, regular_file};
use super::upload_files::HashedFile;
use crate::oci::{Algorithm, Digest};

impl Disk {
    /// Renames a synced upload to its blob, over an older copy if there is one. The name is durable only after
    /// [`Disk::sync_blobs`]. Refuses any other file than the one that was hashed.
    pub(super) fn rename_to_blob(&self, upload: &HashedFile, digest: &Digest) -> Result<(), StoreError> {
        self.check_writable()?;
        let failed = |error| self.latch_on(StoreError::io("move an upload to the blobs", error));
        let (path, blob) = (self.upload_path(&upload.name), self.blob_path(digest));
        match if_exists(fs::symlink_metadata(&path)).map_err(failed)? {
            Some(file) if (file.ino(), file.len()) == (upload.inode, upload.length) => {
                self.rename_over(&path, &blob).map_err(failed)?;
                self.count_ended_upload();
                self.reported.forget(digest);
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

    /// Syncs the names of the blobs with this algorithm to the medium.
    pub(super) fn sync_blobs(&self, algorithm: Algorithm) -> Result<(), StoreError> {
        self.check_writable()?;
        self.sync_directory(Directory::Blobs(algorithm))
            .map_err(|error| self.latch_on(StoreError::sync("sync the directory of blobs", error)))
    }

    /// Moves an orphaned blob to the trash. A missing file is not an error: an earlier attempt moved it, or it is lost.
    pub(super) fn move_to_trash(&self, digest: &Digest) -> Result<(), StoreError> {
        self.check_writable()?;
        let failed = |error| self.latch_on(StoreError::io("move a blob to the trash", error));
        let blob = self.blob_path(digest);
        if !self.set_obstacle_aside(&blob).map_err(failed)? {
            if_exists(self.rename_over(&blob, &self.trash_path(digest))).map_err(failed)?;
        }
        Ok(())
    }

    /// Moves a blob back from the trash, unless it was pushed again. The name is durable only after
    /// [`Disk::sync_blobs`].
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

    /// Removes a blob without a detour through the trash, when the disk has no block for a new entry of `trash/`.
    pub(super) fn remove_blob(&self, digest: &Digest) -> Result<(), StoreError> {
        self.check_writable()?;
        self.remove(&self.blob_path(digest))
            .map_err(|error| self.latch_on(StoreError::io("remove a blob", error)))?;
        Ok(())
    }

    /// Removes a blob from the trash.
    pub(super) fn remove_trash(&self, digest: &Digest) -> Result<(), StoreError> {
        self.remove(&self.trash_path(digest)).map_err(|error| StoreError::io("empty the trash", error))?;
        Ok(())
    }

    /// Lists the blobs in the trash.
    pub(super) fn trash(&self) -> Result<Vec<Digest>, StoreError> {
        let failed = |error| StoreError::io("list the trash", error);
        let mut trash = Vec::new();
        for entry in fs::read_dir(self.path("trash")).map_err(failed)? {
            let name = entry.map_err(failed)?.file_name();
            trash.extend(name.to_str().and_then(|name| name.replacen('-', ":", 1).parse().ok()));
        }
        Ok(trash)
    }

    fn trash_path(&self, digest: &Digest) -> PathBuf {
        self.path("trash").join(format!("{}-{}", digest.algorithm(), digest.hex()))
    }

    /// Opens a blob that the index has. Until a collection has committed, and after one that was killed before, the
    /// file is in the trash. It may move back at any moment, so that `blobs/` is tried again at the end.
    pub(super) fn open_blob(&self, digest: &Digest) -> Result<File, StoreError> {
        let _read = self.begin_read();
        for path in [self.blob_path(digest), self.trash_path(digest), self.blob_path(digest)] {
            match if_exists(open_regular(&path)) {
                Ok(Some(file)) => return Ok(file),
                Ok(None) => {}
                Err(error) => return Err(StoreError::io("open a blob", error)),
            }
        }
        Err(StoreError::Damaged(digest.clone()))
    }

    /// Lists the digests of the files in `blobs/` with this algorithm; skips files with other names.
    pub(super) fn blobs(
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

    /// Returns the inode of a blob; `None` if its file is missing.
    pub(super) fn blob_inode(&self, digest: &Digest) -> Result<Option<u64>, StoreError> {
        Ok(self.blob_metadata(digest)?.map(|(_, inode)| inode))
    }

    /// Moves a corrupt blob to `damaged/`.
    pub(super) fn move_to_damaged(&self, digest: &Digest) -> Result<(), StoreError> {
        self.check_writable()?;
        let aside = self.path("damaged");
        let name = format!("{}-{}", digest.algorithm(), digest.hex());
        self.make_directory(&aside)
            .and_then(|()| if_exists(self.rename_over(&self.blob_path(digest), &aside.join(name))))
            .map_err(|error| self.latch_on(StoreError::io("move a corrupt blob to damaged/", error)))?;
        Ok(())
    }

    /// Returns the length of a blob in bytes; `None` if its file is missing.
    pub(super) fn blob_length(&self, digest: &Digest) -> Result<Option<u64>, StoreError> {
        Ok(self.blob_metadata(digest)?.map(|(length, _)| length))
    }

    fn blob_metadata(&self, digest: &Digest) -> Result<Option<(u64, u64)>, StoreError> {
        regular_file(&self.blob_path(digest))
            .map_err(|error| StoreError::io("read metadata of a blob", error))
    }

    /// Returns true if a blob that the index has exists as a file of this length, in `blobs/` or on its way to the
    /// trash or back.
    pub(super) fn has_blob(&self, digest: &Digest, length: u64) -> Result<bool, StoreError> {
        let _read = self.begin_read();
        for path in [self.blob_path(digest), self.trash_path(digest), self.blob_path(digest)] {
            let file =
                regular_file(&path).map_err(|error| StoreError::io("read metadata of a blob", error))?;
            if file.is_some_and(|(found, _)| found == length) {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Warns of a missing or damaged blob, once per blob.
    pub(super) fn report_damaged(&self, digest: &Digest) {
        if self.reported.insert(digest) {
            log::warn!("blob {digest} is missing or damaged on the disk; push it again to replace the file");
        }
    }

    /// Returns true if the blob was reported as damaged and has not been replaced since.
    pub(super) fn is_reported(&self, digest: &Digest) -> bool {
        self.reported.contains(digest)
    }

    /// Withdraws the report of a blob whose file exists again.
    pub(super) fn forget_report(&self, digest: &Digest) {
        self.reported.forget(digest);
    }
}
