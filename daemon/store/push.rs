//! Pushes: uploads, mounts and manifests.
//!
//! A push writes and syncs its content first, in parallel with others, and hands the change to the index writer, which
//! renames the file and commits. Once that has begun a client that disconnects does not stop it. A refused manifest
//! leaves no file; a blob that could not be committed stays an open upload.

use std::collections::BTreeSet;
use std::sync::Arc;

use bytes::Bytes;

use super::error::StoreError;
use super::index::push::{NewBlob, NewManifest};
use super::index::writer::Batch;
use super::inner::{Inner, Store};
use super::spool::{Content, Spool};
use super::upload::Upload;
use super::upload_id::UploadId;
use super::work::{Kind, detached};
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

    /// Resumes an upload; takes it over from a request that still uses it.
    ///
    /// # Errors
    /// [`StoreError::UploadUnknown`] if the repository has no upload of this id.
    pub async fn resume_upload(
        &self,
        repository: &RepositoryName,
        id: UploadId,
    ) -> Result<Upload, StoreError> {
        let (inner, repository) = (Arc::clone(&self.0), repository.clone());
        self.0.work.run(Kind::Write, move || inner.uploads.resume(&repository, id)).await
    }

    /// Returns the length of an upload in bytes, without taking it over.
    ///
    /// # Errors
    /// [`StoreError::UploadUnknown`] if the repository has no upload of this id.
    pub async fn upload_length(&self, repository: &RepositoryName, id: UploadId) -> Result<u64, StoreError> {
        let (inner, repository) = (Arc::clone(&self.0), repository.clone());
        self.0.work.run(Kind::Read, move || inner.uploads.length(&repository, id)).await
    }

    /// Makes an upload a blob of the repository; durable on return.
    ///
    /// # Errors
    /// [`StoreError::DigestMismatch`] if the content has another digest; the upload is removed then.
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
            let committed = writer.submit(move |batch| batch.admit_blob(&repository, &blob)).await;
            match committed {
                // The file is a blob now, or another process removed or replaced it.
                Ok(()) | Err(StoreError::UploadUnknown) => sealed.committed(),
                Err(_) => {
                    let reopen = move || {
                        sealed.reopen();
                        Ok(())
                    };
                    inner.work.run(Kind::Write, reopen).await?;
                }
            }
            committed
        })
        .await
    }

    /// Opens a spool for the body of a large manifest.
    ///
    /// # Errors
    /// [`StoreError::TooManyWaiting`] if none becomes free soon, [`StoreError::ReadOnly`], or the error of the disk.
    pub async fn spool(&self) -> Result<Spool, StoreError> {
        let inner = &self.0;
        let place = inner.spools.place().await?;
        let (disk, capacity) = (Arc::clone(&inner.disk), Arc::clone(&inner.capacity));
        let content = inner.work.run(Kind::Write, move || Content::create(disk, capacity)).await?;
        Ok(Spool::new(content, place, &inner.spools, Arc::clone(&inner.buffers), Arc::clone(&inner.work)))
    }

    /// Returns the repositories that have a blob, at most `limit`.
    ///
    /// # Errors
    /// [`StoreError::Index`].
    pub async fn blob_repositories(
        &self,
        digest: &Digest,
        limit: usize,
    ) -> Result<Vec<RepositoryName>, StoreError> {
        let (index, digest) = (Arc::clone(&self.0.index), digest.clone());
        self.0.work.run(Kind::Read, move || index.blob_repositories(&digest, limit)).await
    }

    /// Mounts a blob of one repository in another; returns false if the first does not have it.
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

    /// Stores a manifest and sets its tags, in one transaction; durable on return. Returns its digest, which is
    /// `claimed` if that is set.
    ///
    /// # Errors
    /// [`StoreError::DigestMismatch`] if the manifest does not have the claimed digest,
    /// [`StoreError::ManifestBlobUnknown`] if it references content that the repository does not have,
    /// [`StoreError::TagImmutable`] if it would move an immutable tag,
    /// [`StoreError::TooManyTags`] or [`StoreError::TooManyNames`] if it would exceed a limit.
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
            let (limits, immutable) = (inner.capacity.names(), inner.immutable.load_full());
            let written = {
                let inner = Arc::clone(&inner);
                let links: Vec<Digest> =
                    manifest.references().iter().map(|link| link.digest.clone()).collect();
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
                    sealed.committed();
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

/// Returns the content among `links` that the repository has in the index but whose file is missing or has another
/// length. A manifest that references it is refused, so that the client pushes that content again.
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
        if !inner.disk.has_blob(&digest, size)? && inner.index.contains_blob(&digest)? {
            inner.disk.report_damaged(&digest);
            damaged.insert(digest);
        }
    }
    Ok(damaged)
}

/// Returns the digest of a manifest; refuses it if another one was claimed.
fn digest_of(bytes: &[u8], claimed: Option<Digest>) -> Result<Digest, StoreError> {
    let algorithm = claimed.as_ref().map_or(Algorithm::Sha256, Digest::algorithm);
    let actual = Hasher::digest(algorithm, bytes);
    match claimed.filter(|claimed| *claimed != actual) {
        Some(claimed) => Err(StoreError::DigestMismatch { claimed, actual }),
        None => Ok(actual),
    }
}
