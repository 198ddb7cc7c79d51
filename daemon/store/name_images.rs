//! Names the images of a transfer: their manifests become files first, then one transaction names them.

use std::collections::BTreeSet;
use std::sync::Arc;

use bytes::Bytes;

use super::error::StoreError;
use super::index::changes::Origin;
use super::index::changes::name_image::{NameImage, Named, OtherNames, TagPolicy, WantedTag};
use super::index::changes::push::NewManifest;
use super::inner::Inner;
use super::transfer_leases::TransferError;
use super::transfers::Transfer;
use super::work::detached;
use crate::oci::{Digest, Manifest, ReferenceKind, RepositoryName};

/// A manifest of an import.
#[derive(Clone, Debug)]
pub struct ImportedManifest {
    /// Its digest, which its bytes have.
    pub digest: Digest,
    /// Its bytes.
    pub bytes: Bytes,
    /// The parsed manifest.
    pub manifest: Manifest,
}

/// Images of one repository to name.
#[derive(Clone, Debug)]
pub struct ImageImport {
    /// The repository.
    pub repository: RepositoryName,
    /// The manifests, children before parents.
    pub manifests: Vec<ImportedManifest>,
    /// The tags, each once.
    pub tags: Vec<WantedTag>,
    /// The rule for existing tags.
    pub policy: TagPolicy,
    /// True if manifests of an index may be missing.
    pub sparse: bool,
    /// Names nothing, and returns the outcome that the import has once all blobs are here.
    pub dry_run: Option<OtherNames>,
    /// The origin of the import.
    pub origin: Origin,
}

impl Transfer {
    /// Names images in one transaction; durable on return. An image that is not complete gets no name.
    ///
    /// # Errors
    /// [`StoreError::TooManyTags`] or [`StoreError::TooManyNames`] if it would exceed a limit, or the error of the disk or
    /// the index; nothing is named then.
    pub async fn name_images(self: Arc<Self>, import: ImageImport) -> Result<Named, TransferError> {
        let writer = self.store.writer()?;
        let ImageImport { repository, manifests, tags, policy, sparse, dry_run, origin } = import;
        let (mut links, mut unlinked) = (BTreeSet::new(), BTreeSet::new());
        for one in &manifests {
            links.insert(one.digest.clone());
            for link in one.manifest.references() {
                // A foreign descriptor alone gives no access to content that another repository may have.
                if link.kind == ReferenceKind::Foreign && !self.leases(&link.digest)? {
                    unlinked.insert(link.digest.clone());
                } else {
                    links.insert(link.digest.clone());
                }
            }
        }
        links.extend(tags.iter().map(|wanted| wanted.digest.clone()));
        self.lease(links.iter()).await?;
        let mut new = Vec::new();
        for ImportedManifest { digest, bytes, manifest } in manifests {
            let size = bytes.len() as u64;
            if dry_run.is_none() {
                self.store_content(&digest, bytes).await?;
            }
            let (repository, tags, timestamps) = (repository.clone(), Vec::new(), None);
            new.push(NewManifest {
                repository,
                manifest,
                digest,
                size,
                tags,
                timestamps,
                may_be_sparse: sparse,
            });
        }
        let damaged = self.read(move |inner| damaged_among(inner, links)).await?;
        let inner = &self.store.0;
        let (limits, immutable) = (inner.capacity.names(), inner.immutable.load_full());
        let manifests = new;
        let change = NameImage {
            repository,
            manifests,
            tags,
            policy,
            sparse,
            limits,
            immutable,
            damaged,
            unlinked,
            dry_run,
        };
        self.store.record_pulls_soon(&writer);
        Ok(detached(async move { writer.submit_by(origin, change).await }).await?)
    }

    /// Makes the bytes of a manifest a loose blob, unless the store has them.
    async fn store_content(&self, digest: &Digest, bytes: Bytes) -> Result<(), TransferError> {
        if self.present(digest).await?.is_some() {
            return Ok(());
        }
        let mut upload = self.upload(digest.algorithm()).await?;
        if let Err(error) = upload.write(&bytes).await {
            upload.cancel().await?;
            return Err(error.into());
        }
        self.admit(upload, Some(digest.clone())).await?;
        Ok(())
    }
}

/// Returns the content that the index has but whose file is missing or has another length.
fn damaged_among(inner: &Inner, links: BTreeSet<Digest>) -> Result<BTreeSet<Digest>, StoreError> {
    let mut damaged = BTreeSet::new();
    for digest in links {
        let Some(size) = inner.index.blob_size(&digest)? else { continue };
        if !inner.disk.has_blob(&digest, size)? && inner.index.contains_blob(&digest)? {
            inner.disk.report_damaged(&digest);
            damaged.insert(digest);
        }
    }
    Ok(damaged)
}
