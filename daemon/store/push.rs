//! Pushing: uploads, mounts and manifests.

use std::collections::BTreeSet;
use std::sync::Arc;

use bytes::Bytes;

use super::error::StoreError;
use super::index::push::{NewBlob, NewManifest};
use super::index::writer::Batch;
use super::upload::Upload;
use super::upload_id::UploadId;
use super::work::Kind;
use super::{Inner, Store, detached};
use crate::oci::{Algorithm, Digest, Hasher, Manifest, Reference, RepositoryName, Tag};

impl Store {
    /// Opens a new upload.
    ///
    /// # Errors
    /// [`StoreError::Full`], [`StoreError::ReadOnly`] or [`StoreError::Io`].
    pub async fn start_upload(
        &self,
        repository: &RepositoryName,
        algorithm: Algorithm,
    ) -> Result<Upload, StoreError> {
        let (inner, repository) = (Arc::clone(&self.0), repository.clone());
        self.0.work.run(Kind::Write, move || inner.uploads.start(&repository, algorithm)).await
    }

    /// Goes on with an upload; a request that still has it loses it.
    ///
    /// # Errors
    /// [`StoreError::UploadUnknown`] when there is none of this id in this repository.
    pub async fn resume_upload(
        &self,
        repository: &RepositoryName,
        id: UploadId,
    ) -> Result<Upload, StoreError> {
        let (inner, repository) = (Arc::clone(&self.0), repository.clone());
        self.0.work.run(Kind::Write, move || inner.uploads.resume(&repository, id)).await
    }

    /// How many bytes an upload has, without touching it.
    ///
    /// # Errors
    /// [`StoreError::UploadUnknown`] when there is none of this id in this repository.
    pub async fn upload_length(&self, repository: &RepositoryName, id: UploadId) -> Result<u64, StoreError> {
        let (inner, repository) = (Arc::clone(&self.0), repository.clone());
        self.0.work.run(Kind::Read, move || inner.uploads.length(&repository, id)).await
    }

    /// Ends an upload: once this says so its content is a blob of the repository, and stays one after a power cut.
    ///
    /// # Errors
    /// [`StoreError::DigestMismatch`] when the content is something else, and the upload is gone then.
    pub async fn commit_upload(
        &self,
        repository: &RepositoryName,
        upload: Upload,
        digest: &Digest,
    ) -> Result<(), StoreError> {
        let (inner, writer) = (Arc::clone(&self.0), self.writer()?);
        let (repository, digest) = (repository.clone(), digest.clone());
        detached(async move {
            let sealed = upload.seal(digest.clone()).await?;
            let blob = NewBlob { file: sealed.file.clone(), digest };
            let admitted = writer.submit(move |batch| batch.admit_blob(&repository, &blob)).await;
            match admitted {
                // It is a blob now, or its file has been removed since.
                Ok(()) | Err(StoreError::UploadUnknown) => sealed.admitted(),
                Err(_) => {
                    let reopen = move || {
                        sealed.reopen();
                        Ok(())
                    };
                    inner.work.run(Kind::Write, reopen).await?;
                }
            }
            admitted
        })
        .await
    }

    /// The repositories that have a blob, at most `limit` of them.
    ///
    /// # Errors
    /// [`StoreError::Index`].
    pub async fn blob_homes(&self, digest: &Digest, limit: usize) -> Result<Vec<RepositoryName>, StoreError> {
        let (index, digest) = (Arc::clone(&self.0.index), digest.clone());
        self.0.work.run(Kind::Read, move || index.blob_homes(&digest, limit)).await
    }

    /// Makes a blob of one repository known in another; false when the first does not have it.
    ///
    /// # Errors
    /// [`StoreError::Full`], [`StoreError::ReadOnly`] or [`StoreError::Index`].
    pub async fn mount_blob(
        &self,
        from: &RepositoryName,
        to: &RepositoryName,
        digest: &Digest,
    ) -> Result<bool, StoreError> {
        let (from, to, digest) = (from.clone(), to.clone(), digest.clone());
        let writer = self.writer()?;
        detached(async move { writer.submit(move |batch| batch.mount_blob(&from, &to, &digest)).await }).await
    }

    /// Takes a manifest, with the tags it is to have; gives its digest, which is the claimed one if there is one.
    ///
    /// # Errors
    /// [`StoreError::DigestMismatch`] when it has another digest than was claimed,
    /// [`StoreError::ManifestBlobUnknown`] when it points at something that the repository does not have,
    /// [`StoreError::TagImmutable`] when it would move a tag that can be set once,
    /// [`StoreError::TooManyTags`] or [`StoreError::TooManyNames`] when there would be more names than may be.
    pub async fn put_manifest(
        &self,
        repository: &RepositoryName,
        manifest: Manifest,
        bytes: Bytes,
        claimed: Option<Digest>,
        tags: Vec<Tag>,
    ) -> Result<Digest, StoreError> {
        let (writer, inner, repository) = (self.writer()?, Arc::clone(&self.0), repository.clone());
        detached(async move {
            let (name, size) = (repository.clone(), bytes.len() as u64);
            let (limits, immutable) = (inner.room.names(), inner.immutable.load_full());
            let written = {
                let inner = Arc::clone(&inner);
                let links: Vec<Digest> = manifest.links().iter().map(|link| link.digest.clone()).collect();
                move || {
                    let digest = digest_of(&bytes, claimed)?;
                    let damaged = damaged_among(&inner, &name, links)?;
                    Ok((inner.uploads.write_whole(&name, &bytes, &digest)?, digest, damaged))
                }
            };
            let (sealed, digest, damaged) = inner.work.run(Kind::Write, written).await?;
            let new =
                NewManifest { repository, manifest, digest: digest.clone(), size, tags, timestamps: None };
            let file = sealed.file.clone();
            let put =
                move |batch: &mut Batch| batch.put_manifest(&new, &file, (limits, &immutable), &damaged);
            match writer.submit(put).await {
                Ok(()) => {
                    sealed.admitted();
                    Ok(digest)
                }
                Err(error) => {
                    inner.work.run(Kind::Write, move || sealed.discard()).await?;
                    Err(error)
                }
            }
        })
        .await
    }
}

/// Returns the content of a repository among `links` whose file is missing or is not as the index says. A manifest that
/// names it is refused, so that its client pushes that content again.
fn damaged_among(
    inner: &Inner,
    repository: &RepositoryName,
    links: Vec<Digest>,
) -> Result<BTreeSet<Digest>, StoreError> {
    let mut damaged = BTreeSet::new();
    for digest in links {
        let size = if let Some(row) = inner.index.blob(repository, &digest)? {
            Some(row.size)
        } else {
            let by_digest = Reference::Digest(digest.clone());
            inner.index.manifest(repository, &by_digest)?.map(|entry| entry.size)
        };
        let Some(size) = size else { continue };
        if !inner.disk.has_blob(&digest, size)? && inner.index.knows_blob(&digest)? {
            inner.disk.report_damaged(&digest);
            damaged.insert(digest);
        }
    }
    Ok(damaged)
}

/// Returns the digest of a manifest, which has to be the claimed one if there is one.
fn digest_of(bytes: &[u8], claimed: Option<Digest>) -> Result<Digest, StoreError> {
    let algorithm = claimed.as_ref().map_or(Algorithm::Sha256, Digest::algorithm);
    let actual = Hasher::digest(algorithm, bytes);
    match claimed.filter(|claimed| *claimed != actual) {
        Some(claimed) => Err(StoreError::DigestMismatch { claimed, actual }),
        None => Ok(actual),
    }
}
