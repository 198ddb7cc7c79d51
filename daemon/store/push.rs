//! Pushes: mounts and manifests, and the spools of large manifests. `upload.rs` has the uploads of blobs.
//!
//! A push writes and syncs its content first, in parallel with others, and hands the change to the index writer, which
//! renames the file and commits. Once that has begun a client that disconnects does not stop it. A refused manifest
//! leaves no file; a blob that could not be committed stays an open upload.

use std::collections::BTreeSet;
use std::sync::Arc;

use bytes::Bytes;

use super::error::StoreError;
use super::index::changes::blobs::{MountBlob, Mounted};
use super::index::changes::push::{NewManifest, PutManifest};
use super::index::changes::{FileFact, Origin};
use super::inner::{Inner, Store};
use super::spool::{Content, Spool};
use super::upload_owner::Sealed;
use super::work::{Kind, detached};
use crate::oci::{Algorithm, Digest, Hasher, Manifest, Reference, RepositoryName, Tag};

/// A manifest to store, and its tags.
#[derive(Clone, Debug)]
pub struct ManifestPush {
    /// The repository.
    pub repository: RepositoryName,
    /// The parsed manifest.
    pub manifest: Manifest,
    /// Its bytes.
    pub bytes: Bytes,
    /// The digest that the bytes must have, if the client has stated it.
    pub claimed: Option<Digest>,
    /// The tags to set.
    pub tags: Vec<Tag>,
    /// True if content that it references may be missing: config, layers, and the manifests of an index.
    pub may_be_sparse: bool,
    /// The origin of the push.
    pub origin: Origin,
}

/// A blob of one repository to add to another.
#[derive(Clone, Debug)]
pub struct Mount {
    /// The repository that has the blob.
    pub from: RepositoryName,
    /// The repository that gets it.
    pub to: RepositoryName,
    /// The blob.
    pub digest: Digest,
    /// The origin of the mount.
    pub origin: Origin,
}

impl Store {
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
    pub async fn mount_blob(&self, mount: Mount) -> Result<bool, StoreError> {
        let Mount { from, to, digest, origin } = mount;
        let change = MountBlob { from, to, file: FileFact::about(digest.clone()) };
        let writer = self.writer()?;
        let mounted = detached(async move { writer.submit_by(origin, change).await }).await?;
        if mounted == Mounted::Damaged {
            self.0.disk.report_damaged(&digest);
        }
        Ok(mounted == Mounted::Yes)
    }

    /// Stores a manifest and sets its tags, in one transaction; durable on return. Returns its digest.
    ///
    /// # Errors
    /// [`StoreError::DigestMismatch`] if the manifest does not have the claimed digest,
    /// [`StoreError::ManifestBlobUnknown`] if it references content that the repository does not have,
    /// [`StoreError::TagImmutable`] if it would move an immutable tag,
    /// [`StoreError::TooManyTags`] or [`StoreError::TooManyNames`] if it would exceed a limit.
    pub async fn put_manifest(&self, push: ManifestPush) -> Result<Digest, StoreError> {
        let (writer, inner) = (self.writer()?, Arc::clone(&self.0));
        detached(async move {
            let ManifestPush { repository, manifest, bytes, claimed, tags, may_be_sparse, origin } = push;
            let (name, size) = (repository.clone(), bytes.len() as u64);
            let (limits, immutable) = (inner.capacity.names(), inner.immutable.load_full());
            let written = {
                let inner = Arc::clone(&inner);
                let links: Vec<Digest> =
                    manifest.references().iter().map(|link| link.digest.clone()).collect();
                move || {
                    let digest = digest_of(&bytes, claimed)?;
                    let damaged = damaged_among(&inner, &name, links)?;
                    Ok((Sealed::of_content(&inner.uploads, &name, &bytes, &digest)?, digest, damaged))
                }
            };
            let (sealed, digest, damaged) = inner.work.run(Kind::Write, written).await?;
            let new = Box::new(NewManifest {
                repository,
                manifest,
                digest: digest.clone(),
                size,
                tags,
                timestamps: None,
                may_be_sparse,
            });
            let file = sealed.file.clone();
            Store(Arc::clone(&inner)).record_pulls_soon(&writer);
            match writer.submit_by(origin, PutManifest { new, file, limits, immutable, damaged }).await {
                Ok(()) => {
                    sealed.committed()?;
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
