//! The state of the content of an image, and its documents, for the admin page.

use super::Store;
use super::blob;
use super::error::StoreError;
use super::work::Kind;
use crate::oci::{Digest, MAX_MANIFEST, Reference, RepositoryName};

/// The maximum length of a document that is read for a page, in bytes.
pub const MAX_DOCUMENT: u64 = MAX_MANIFEST as u64;

/// The state of content that a manifest references.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ContentState {
    /// The repository has it.
    Here,
    /// The repository does not have it.
    Missing,
    /// The repository has it, but its file is missing, short or corrupt.
    Damaged,
}

impl Store {
    /// Returns the state of each of some manifests and blobs of a repository.
    ///
    /// # Errors
    /// [`StoreError::Index`] or [`StoreError::Io`].
    pub async fn content_states(
        &self,
        repository: &RepositoryName,
        digests: Vec<Digest>,
    ) -> Result<Vec<ContentState>, StoreError> {
        let repository = repository.clone();
        self.list(Kind::Page, move |inner, cancel| {
            let mut states = Vec::with_capacity(digests.len());
            for digest in &digests {
                cancel.check()?;
                let size = if let Some(row) = inner.index.blob(&repository, digest)? {
                    Some(row.size)
                } else {
                    let reference = Reference::Digest(digest.clone());
                    inner.index.manifest(&repository, &reference)?.map(|entry| entry.size)
                };
                let is_there = size.map(|size| inner.disk.has_blob(digest, size)).transpose()?;
                if is_there == Some(false) {
                    // The lists mark the image from now on.
                    inner.disk.report_damaged(digest);
                }
                states.push(match is_there {
                    Some(true) if !inner.disk.is_reported(digest) => ContentState::Here,
                    Some(_) => ContentState::Damaged,
                    None if inner.is_set_aside(&repository, digest)? => ContentState::Damaged,
                    None => ContentState::Missing,
                });
            }
            Ok(states)
        })
        .await
    }

    /// Reads a document of a repository and returns the result of `read`; `None` if it is longer than
    /// [`MAX_DOCUMENT`].
    ///
    /// # Errors
    /// [`StoreError::BlobUnknown`], or [`StoreError::Damaged`] if its file is missing or short.
    pub async fn read_document<T: Send + 'static>(
        &self,
        repository: &RepositoryName,
        digest: &Digest,
        read: impl FnOnce(&[u8]) -> T + Send + 'static,
    ) -> Result<Option<T>, StoreError> {
        // Bounds the memory of documents that are read at once.
        let permit = self.acquire_read_permit().await?;
        let (repository, digest) = (repository.clone(), digest.clone());
        self.list(Kind::Page, move |inner, _| {
            let _permit = permit;
            let row = inner.index.blob(&repository, &digest)?;
            let size = row.ok_or_else(|| StoreError::BlobUnknown(digest.clone()))?.size;
            if size > MAX_DOCUMENT {
                return Ok(None);
            }
            let bytes = blob::read_whole(&*inner.disk, &digest, size)?;
            Ok(Some(read(&bytes)))
        })
        .await
    }
}
