//! Links that a push restores: a repair that sets a blob aside removes it from all repositories, and the next push of the content to
//! one of them brings it back for the others as well.
//!
//! A repository gets a blob back only if one of its manifests requires it and no link exception says that the repository never had it,
//! or that a client deleted it there. What a crash leaves, `holdfast check --repair` restores by the same rule.

use std::collections::BTreeSet;

use tokio::task::JoinSet;

use super::copy::{AT_ONCE, finished};
use super::error::StoreError;
use super::index::changes::FileFact;
use super::index::changes::repair::RestoreLink;
use super::index::tables::rows::LinkExceptionRow;
use super::{Store, blob, blocking};
use crate::oci::{Digest, Manifest, Reference, ReferenceKind, RepositoryName};

/// The maximum number of manifests whose repositories one push restores.
const MANIFESTS: usize = 1000;
/// The maximum length of the manifests that one push reads for it, in bytes. Clients decide how large they are.
const MANIFEST_BYTES: u64 = 8 << 20;

impl Store {
    /// Returns true if manifests reference a blob that no repository has.
    pub(super) fn is_missed(&self, digest: &Digest) -> Result<bool, StoreError> {
        let index = &self.0.index;
        Ok(!index.contains_blob(digest)? && !index.referencing_manifests(digest, 1)?.is_empty())
    }

    /// Adds a blob that was missed to the repositories that had it.
    pub(super) async fn restore_links(&self, digest: &Digest) {
        let (store, wanted) = (self.clone(), digest.clone());
        let restored = async {
            let mut links = JoinSet::new();
            for repository in blocking(move || store.repositories_that_miss(&wanted)).await? {
                if links.len() >= AT_ONCE {
                    finished(links.join_next().await)?;
                }
                let (writer, file) = (self.writer()?, FileFact::about(digest.clone()));
                links.spawn(async move { writer.submit(RestoreLink { repository, file }).await });
            }
            while let Some(linked) = links.join_next().await {
                finished(Some(linked))?;
            }
            Ok::<(), StoreError>(())
        };
        if let Err(error) = restored.await {
            log::warn!(
                "cannot restore {digest} in all repositories: {error}; `holdfast check --repair` does"
            );
        }
    }

    fn repositories_that_miss(&self, digest: &Digest) -> Result<BTreeSet<RepositoryName>, StoreError> {
        let index = &self.0.index;
        let mut found = BTreeSet::new();
        // The repositories of one manifest come one after the other.
        let mut last: Option<(Digest, bool)> = None;
        let mut read = 0;
        for (repository, parent) in index.referencing_manifests(digest, MANIFESTS)? {
            if found.contains(&repository)
                || index.blob(&repository, digest)?.is_some()
                || index.link_exception(&repository, digest)?.is_some_and(LinkExceptionRow::is_absence)
            {
                continue;
            }
            let known = last.as_ref().filter(|(known, _)| *known == parent).map(|(_, requires)| *requires);
            let requires = if let Some(requires) = known {
                requires
            } else {
                let by_digest = Reference::Digest(parent.clone());
                read += index.manifest(&repository, &by_digest)?.map_or(0, |entry| entry.size);
                if read > MANIFEST_BYTES {
                    log::warn!(
                        "not all repositories get {digest} back; `holdfast check --repair` does the rest"
                    );
                    break;
                }
                self.requires(&repository, &parent, digest)?
            };
            last = Some((parent, requires));
            if requires {
                found.insert(repository);
            }
        }
        Ok(found)
    }

    /// Returns true if a manifest references a blob as its config or layer, and not only as a foreign layer.
    pub(super) fn requires(
        &self,
        repository: &RepositoryName,
        manifest: &Digest,
        blob: &Digest,
    ) -> Result<bool, StoreError> {
        let by_digest = Reference::Digest(manifest.clone());
        let Some(entry) = self.0.index.manifest(repository, &by_digest)? else { return Ok(false) };
        let Ok(bytes) = blob::read_whole(&*self.0.disk, manifest, entry.size) else { return Ok(false) };
        let Ok(manifest) = Manifest::parse(&bytes, Some(&entry.media_type)) else { return Ok(false) };
        let mut links = manifest.references().iter();
        Ok(links.any(|link| link.kind == ReferenceKind::Blob && link.digest == *blob))
    }
}
