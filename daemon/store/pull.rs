//! Pulling: manifests and blobs, looked up and read.

use std::sync::Arc;

use bytes::Bytes;

use super::error::StoreError;
use super::index::ManifestEntry;
use super::index::garbage::Reliance;
use super::index::writer::Batch;
use super::{BlobReader, Store, blob, blocking};
use crate::oci::{Digest, Reference, RepositoryName};

impl Store {
    /// The manifest under a tag or a digest; one lookup in mapped memory.
    ///
    /// # Errors
    /// [`StoreError::ManifestUnknown`], or [`StoreError::NameUnknown`] when the repository has no manifest at all.
    pub fn manifest(
        &self,
        repository: &RepositoryName,
        reference: &Reference,
    ) -> Result<ManifestEntry, StoreError> {
        if let Some(entry) = self.0.index.manifest(repository, reference)? {
            return Ok(entry);
        }
        self.check_exists(repository)?;
        Err(StoreError::ManifestUnknown(reference.clone()))
    }

    pub(super) fn check_exists(&self, repository: &RepositoryName) -> Result<(), StoreError> {
        if self.0.index.repository_exists(repository)? {
            return Ok(());
        }
        Err(StoreError::NameUnknown(repository.clone()))
    }

    /// The bytes of a manifest that [`Store::manifest`] found.
    ///
    /// # Errors
    /// [`StoreError::Damaged`] when its file is not as the index says.
    pub async fn read_manifest(&self, entry: &ManifestEntry) -> Result<Bytes, StoreError> {
        let (disk, digest, size) = (Arc::clone(&self.0.disk), entry.digest.clone(), entry.size);
        blocking(move || blob::read_whole(&disk, &digest, size)).await
    }

    /// The length of a blob in bytes; one lookup in mapped memory, as a rule. A client that hears that it is there may leave
    /// out its upload, so that a blob which only waits for its collection is kept for another grace time.
    ///
    /// # Errors
    /// [`StoreError::BlobUnknown`] when the repository does not have it.
    pub async fn blob(&self, repository: &RepositoryName, digest: &Digest) -> Result<u64, StoreError> {
        let unknown = || StoreError::BlobUnknown(digest.clone());
        let link = self.0.index.blob(repository, digest)?.ok_or_else(unknown)?;
        let grace = *super::lock(&self.0.grace);
        let reliance = self.0.index.reliance(repository, digest, &link, grace)?;
        // A store that takes no writes collects nothing either.
        let Some(writer) = (reliance != Reliance::Kept).then(|| self.writer().ok()).flatten() else {
            return Ok(link.size);
        };
        let renew = {
            let (repository, digest) = (repository.clone(), digest.clone());
            move |batch: &mut Batch| batch.count_on(Some(&repository), &digest, batch.moment)
        };
        if reliance == Reliance::Renewable {
            writer.suggest(renew);
            return Ok(link.size);
        }
        writer.submit(renew).await?;
        // A collection may have been quicker.
        let link = self.0.index.blob(repository, digest)?.ok_or_else(unknown)?;
        Ok(link.size)
    }

    /// Opens `length` bytes of a blob that [`Store::blob`] found, from `start` on.
    ///
    /// # Errors
    /// [`StoreError::Damaged`] when its file is not as the index says.
    pub async fn read_blob(
        &self,
        digest: &Digest,
        start: u64,
        length: u64,
    ) -> Result<BlobReader, StoreError> {
        let (inner, digest) = (Arc::clone(&self.0), digest.clone());
        let buffers = Arc::clone(&inner.buffers);
        blocking(move || match BlobReader::open(&inner.disk, buffers, &digest, start, length) {
            // Collected since it was found.
            Err(StoreError::Damaged(_)) if !inner.index.knows_blob(&digest)? => {
                Err(StoreError::BlobUnknown(digest))
            }
            opened => opened,
        })
        .await
    }
}
