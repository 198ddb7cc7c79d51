//! Pushing: uploads, mounts and manifests.

use std::sync::Arc;

use bytes::Bytes;

use super::disk::Disk;
use super::error::StoreError;
use super::index::changes::{NewBlob, NewManifest};
use super::upload::{Sealed, Upload, UploadId};
use super::work::Kind;
use super::{Store, detached};
use crate::oci::{Algorithm, Digest, Hasher, Manifest, RepositoryName, Tag};

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
        let start = move || inner.uploads.start(&inner.disk, &repository, algorithm);
        self.0.work.run(Kind::Write, start).await
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
        self.0.work.run(Kind::Write, move || inner.uploads.resume(&inner.disk, &repository, id)).await
    }

    /// How many bytes an upload has, without touching it.
    ///
    /// # Errors
    /// [`StoreError::UploadUnknown`] when there is none of this id in this repository.
    pub async fn upload_length(&self, repository: &RepositoryName, id: UploadId) -> Result<u64, StoreError> {
        let (inner, repository) = (Arc::clone(&self.0), repository.clone());
        self.0.work.run(Kind::Read, move || inner.uploads.length(&inner.disk, &repository, id)).await
    }

    /// Lets the rest of an upload be hashed with the algorithm of the digest that it will be ended with.
    ///
    /// # Errors
    /// [`StoreError::UploadTakenOver`] or [`StoreError::Io`].
    pub async fn expect_algorithm(&self, upload: &Upload, algorithm: Algorithm) -> Result<(), StoreError> {
        upload.use_algorithm(algorithm).await
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
        let (store, writer) = (self.clone(), self.writer()?);
        let (repository, digest) = (repository.clone(), digest.clone());
        detached(async move {
            let sealed = upload.seal(digest.clone()).await?;
            let size = sealed.length;
            let blob = NewBlob { upload: sealed.id.to_string(), digest, size };
            let admitted = writer.submit(move |batch| batch.admit_blob(&repository, &blob)).await;
            match admitted {
                // It is a blob now, or its file has been removed since.
                Ok(()) | Err(StoreError::UploadUnknown) => {
                    store.0.uploads.forget(sealed.id);
                    store.0.room.ended(size);
                }
                Err(_) => {
                    let work = Arc::clone(&store.0.work);
                    work.run(Kind::Write, move || store.reopen(sealed)).await?;
                }
            }
            admitted
        })
        .await
    }

    /// Lets clients go on with an upload that could not become a blob, unless its file is in its new place already: what
    /// is written to it then would be written to a blob.
    fn reopen(&self, sealed: Sealed) -> Result<(), StoreError> {
        if self.0.disk.upload_length(&sealed.id.to_string())?.is_some() {
            sealed.reopen();
        } else {
            self.0.uploads.forget(sealed.id);
            self.0.room.ended(sealed.length);
        }
        Ok(())
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
            let (disk, name, content) = (Arc::clone(&inner.disk), repository.clone(), bytes.clone());
            let (room, size) = (Arc::clone(&inner.room), bytes.len() as u64);
            let written = inner.work.run(Kind::Write, move || {
                room.check(size)?;
                write_whole(&disk, &name, claimed, &content)
            });
            let (id, digest) = written.await?;
            let new = NewManifest { repository, manifest, digest: digest.clone(), size, tags, given: None };
            let upload = id.to_string();
            let limits = inner.room.names();
            let put = writer.submit(move |batch| batch.put_manifest(&new, &upload, limits)).await;
            if put.is_err() {
                let disk = Arc::clone(&inner.disk);
                inner.work.run(Kind::Write, move || disk.remove_upload(&id.to_string())).await?;
            }
            put.map(|()| digest)
        })
        .await
    }
}

/// Writes the bytes of a manifest to a file of their own, synced and ready to be admitted.
fn write_whole(
    disk: &Disk,
    repository: &RepositoryName,
    claimed: Option<Digest>,
    bytes: &[u8],
) -> Result<(UploadId, Digest), StoreError> {
    let algorithm = claimed.as_ref().map_or(Algorithm::Sha256, Digest::algorithm);
    let actual = Hasher::digest(algorithm, bytes);
    if let Some(claimed) = claimed.filter(|claimed| *claimed != actual) {
        return Err(StoreError::DigestMismatch { claimed, actual });
    }
    let id = UploadId::new(repository, algorithm)?;
    let file = disk.create_upload(&id.to_string())?;
    let written = disk.write_upload(&file, 0, bytes).and_then(|()| disk.sync_upload(&file));
    if let Err(error) = written {
        disk.remove_upload(&id.to_string())?;
        return Err(error);
    }
    Ok((id, actual))
}
