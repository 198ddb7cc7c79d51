//! The port of the blobs: files by digest, whichever back end keeps them.
//!
//! A blob appears only whole and synced. Only the writer thread admits and removes blobs, so that an admission and a
//! removal of one digest never overlap: files are admitted before the rows that name them, and removed after the
//! commit that forgets them. Pulls read files directly.

#[cfg(test)]
pub(super) mod memory;

use bytes::Bytes;

use super::error::StoreError;
use super::upload_files::HashedFile;
use crate::oci::{Algorithm, Digest};

/// A file in `blobs/`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct BlobFile {
    /// Its length in bytes.
    pub(super) length: u64,
    /// Its inode, which another file of the same name does not have.
    pub(super) inode: u64,
}

/// Blobs by digest.
pub(super) trait BlobStore {
    /// Begins a batch of changes, which ends when the result is dropped.
    ///
    /// # Errors
    /// [`StoreError::ReadOnly`] once a write has failed.
    fn begin_changes(&self) -> Result<impl Sized + use<'_, Self>, StoreError>;

    /// Makes the store read-only if the error is a failure of the disk or the index; returns the error.
    fn latch_on(&self, error: StoreError) -> StoreError;

    /// Makes a synced upload a blob, over an older copy if it exists. Durable after [`BlobStore::sync`]. An admission
    /// that is repeated for the same file has no effect.
    ///
    /// # Errors
    /// [`StoreError::UploadUnknown`] if the file is not the one that was hashed.
    fn admit(&self, upload: &HashedFile, digest: &Digest) -> Result<(), StoreError>;

    /// Makes an admitted file an upload again, unless another file has taken its place.
    fn give_back(&self, upload: &HashedFile, digest: &Digest) -> Result<(), StoreError>;

    /// Syncs the names of the blobs with this algorithm to the medium.
    fn sync(&self, algorithm: Algorithm) -> Result<(), StoreError>;

    /// Removes a blob; a missing file is not an error.
    fn remove(&self, digest: &Digest) -> Result<(), StoreError>;

    /// Keeps a corrupt blob aside, where it is no blob any more.
    fn set_aside(&self, digest: &Digest) -> Result<(), StoreError>;

    /// Returns the file of a blob; `None` if it is missing.
    fn file(&self, digest: &Digest) -> Result<Option<BlobFile>, StoreError>;

    /// Lists the blobs with this algorithm. An error is an item and not the end of the list: a blob that is not listed
    /// counts as missing.
    fn list(
        &self,
        algorithm: Algorithm,
    ) -> Result<impl Iterator<Item = Result<Digest, StoreError>> + use<Self>, StoreError>;

    /// Reads `length` bytes of a blob from `start` on, at most those of a manifest.
    ///
    /// # Errors
    /// [`StoreError::Damaged`] if the blob is missing or shorter.
    fn read(&self, digest: &Digest, start: u64, length: u64) -> Result<Bytes, StoreError>;
}
