//! Copies of an image within the store: its blobs are mounted and its manifests put under the new name, so that no
//! bytes move but those of the manifests.

use std::collections::BTreeSet;

use tokio::task::JoinSet;

use super::Store;
use super::error::StoreError;
use super::immutable::ImmutableRule;
use super::index::ManifestEntry;
use super::index::changes::Origin;
use super::index::changes::push::missing_content;
use super::push::{ManifestPush, Mount};
use super::work::Kind;
use crate::oci::{Digest, Manifest, Reference, ReferenceKind, RepositoryName, Tag};

/// The maximum number of manifests of an image that is copied.
const MAX_MANIFESTS: usize = 256;
/// The maximum number of references between manifests that wait at once; several may be to the same one.
const MAX_REFERENCES: usize = 4 * MAX_MANIFESTS;
/// The maximum number of blobs of an image that is copied.
const MAX_BLOBS: usize = 4000;
/// The number of changes that are made at once: the index commits them together.
pub(super) const AT_ONCE: usize = 32;

/// An image to copy.
#[derive(Clone, Debug)]
pub struct ImageCopy {
    /// The repository that has it.
    pub from: RepositoryName,
    /// The digest of its manifest.
    pub digest: Digest,
    /// The repository that gets it.
    pub to: RepositoryName,
    /// The tag that names it there.
    pub tag: Tag,
    /// True if content that the source lacks may be missing in the copy as well: `registry.sparse`.
    pub may_be_sparse: bool,
    /// The origin of the copy.
    pub origin: Origin,
}

/// The outcome of a copy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CopyOutcome {
    /// The image is there, under its tag.
    Copied,
    /// The image has more manifests or blobs than a copy takes.
    TooLarge,
    /// A push of the image would be refused, because this content is missing. Nothing is copied.
    Incomplete(Vec<Digest>),
}

/// The content of an image. Manifests come before those that reference them.
struct Plan {
    manifests: Vec<ManifestEntry>,
    blobs: BTreeSet<Digest>,
}

impl Store {
    /// Copies an image to another repository, or gives it another tag in its own. Content that a sparse source lacks stays
    /// missing if the copy may be sparse; otherwise the rule of a push decides.
    ///
    /// # Errors
    /// [`StoreError::TagImmutable`] before anything is copied, or those of [`Store::put_manifest`] and
    /// [`Store::mount_blob`].
    pub async fn copy_image(&self, copy: &ImageCopy) -> Result<CopyOutcome, StoreError> {
        let entry = self.manifest(&copy.from, &Reference::Digest(copy.digest.clone()))?;
        self.check_tag(copy)?;
        let Some(mut plan) = self.plan(copy, entry).await? else { return Ok(CopyOutcome::TooLarge) };
        if copy.from == copy.to {
            plan.manifests.drain(..plan.manifests.len().saturating_sub(1));
        }
        if !copy.may_be_sparse {
            let missing = self.missing(copy, &plan).await?;
            if !missing.is_empty() {
                return Ok(CopyOutcome::Incomplete(missing));
            }
        }
        if copy.from != copy.to {
            self.mount_all(copy, plan.blobs).await?;
        }
        for entry in plan.manifests {
            self.put_copy(copy, &entry).await?;
        }
        Ok(CopyOutcome::Copied)
    }

    /// Refuses early to move an immutable tag; the put of the manifest checks it again.
    fn check_tag(&self, copy: &ImageCopy) -> Result<(), StoreError> {
        let there = self.0.index.manifest(&copy.to, &Reference::Tag(copy.tag.clone()))?;
        if there.is_some_and(|there| there.digest != copy.digest) {
            ImmutableRule::check_move(&self.0.immutable.load_full(), &copy.to, &copy.tag)?;
        }
        Ok(())
    }

    /// Returns the content of an image; `None` if it is more than a copy takes.
    async fn plan(&self, copy: &ImageCopy, entry: ManifestEntry) -> Result<Option<Plan>, StoreError> {
        let mut plan = Plan { manifests: Vec::new(), blobs: BTreeSet::new() };
        // An entry returns to the stack below those that it references, and comes into the plan after them.
        let (mut open, mut seen) = (vec![(entry, false)], BTreeSet::new());
        while let Some((entry, is_expanded)) = open.pop() {
            if is_expanded {
                plan.manifests.push(entry);
                continue;
            }
            if !seen.insert(entry.digest.clone()) {
                continue;
            }
            let manifest = self.parsed(&entry).await?.0;
            open.push((entry, true));
            for reference in manifest.references() {
                match reference.kind {
                    ReferenceKind::Manifest => {
                        let reference = Reference::Digest(reference.digest.clone());
                        open.extend(
                            self.0.index.manifest(&copy.from, &reference)?.map(|entry| (entry, false)),
                        );
                    }
                    ReferenceKind::Blob | ReferenceKind::Foreign => {
                        plan.blobs.insert(reference.digest.clone());
                    }
                }
            }
            if plan.manifests.len() + open.len() > MAX_REFERENCES
                || seen.len() > MAX_MANIFESTS
                || plan.blobs.len() > MAX_BLOBS
            {
                return Ok(None);
            }
        }
        Ok(Some(plan))
    }

    /// Returns the missing content for which a push of the manifests would be refused.
    async fn missing(&self, copy: &ImageCopy, plan: &Plan) -> Result<Vec<Digest>, StoreError> {
        for entry in &plan.manifests {
            let (manifest, repositories) =
                (self.parsed(entry).await?.0, [copy.from.clone(), copy.to.clone()]);
            let missing = self.list(Kind::Page, move |inner, cancel| {
                missing_content(&manifest, |digest| {
                    cancel.check()?;
                    for repository in &repositories {
                        let by_digest = Reference::Digest(digest.clone());
                        if inner.index.blob(repository, digest)?.is_some()
                            || inner.index.manifest(repository, &by_digest)?.is_some()
                        {
                            return Ok(true);
                        }
                    }
                    Ok(false)
                })
            });
            let missing = missing.await?;
            if !missing.is_empty() {
                return Ok(missing);
            }
        }
        Ok(Vec::new())
    }

    async fn parsed(&self, entry: &ManifestEntry) -> Result<(Manifest, bytes::Bytes), StoreError> {
        let bytes = self.read_manifest(entry).await?;
        let manifest = Manifest::parse(&bytes, Some(&entry.media_type));
        // It was valid when it was pushed.
        Ok((manifest.map_err(|_| StoreError::Damaged(entry.digest.clone()))?, bytes))
    }

    /// Mounts the blobs that the source has.
    async fn mount_all(&self, copy: &ImageCopy, blobs: BTreeSet<Digest>) -> Result<(), StoreError> {
        let mut mounts = JoinSet::new();
        for digest in blobs {
            if mounts.len() >= AT_ONCE {
                finished(mounts.join_next().await)?;
            }
            let mount =
                Mount { from: copy.from.clone(), to: copy.to.clone(), digest, origin: copy.origin.clone() };
            let store = self.clone();
            mounts.spawn(async move { store.mount_blob(mount).await });
        }
        while let Some(mounted) = mounts.join_next().await {
            finished(Some(mounted))?;
        }
        Ok(())
    }

    async fn put_copy(&self, copy: &ImageCopy, entry: &ManifestEntry) -> Result<(), StoreError> {
        let (manifest, bytes) = self.parsed(entry).await?;
        let is_root = entry.digest == copy.digest;
        let push = ManifestPush {
            repository: copy.to.clone(),
            manifest,
            bytes,
            claimed: Some(entry.digest.clone()),
            tags: if is_root { vec![copy.tag.clone()] } else { Vec::new() },
            may_be_sparse: copy.may_be_sparse
                && self.presence(&copy.from, &entry.digest, None).await?.is_some(),
            origin: copy.origin.clone(),
        };
        self.put_manifest(push).await.map(drop)
    }
}

/// Returns the error of a change that was made beside others. A mount of a blob that the source lacks is no error: the put of its
/// manifest reports it.
pub(super) fn finished(
    mounted: Option<Result<Result<bool, StoreError>, tokio::task::JoinError>>,
) -> Result<(), StoreError> {
    match mounted {
        None | Some(Ok(Ok(_))) => Ok(()),
        Some(Ok(Err(error))) => Err(error),
        Some(Err(_)) => Err(StoreError::Closing),
    }
}
