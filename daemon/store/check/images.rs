//! Names of the images that a fault concerns, for the operator who has to push them again.

use std::collections::BTreeSet;

use super::report::Affected;
use crate::oci::{Digest, RepositoryName};
use crate::store::error::StoreError;
use crate::store::index::tables::rows::LinkExceptionRow;
use crate::store::work::Cancel;
use crate::store::{Store, blocking};

/// The maximum number of names of one fault.
const NAMES: usize = 20;
/// The maximum number of manifests that are looked at for the names of one fault.
const MANIFESTS: usize = 50;
/// Indexes of indexes are followed up to this depth.
const DEPTH: usize = 3;

impl Store {
    /// Finds the images that need some content, in all repositories.
    pub(super) async fn affected_by(&self, digest: &Digest) -> Result<Affected, StoreError> {
        let (store, digest) = (self.clone(), digest.clone());
        blocking(move || store.find_affected(&digest)).await
    }

    fn find_affected(&self, digest: &Digest) -> Result<Affected, StoreError> {
        let index = &self.0.index;
        let own = index.manifest_repositories(digest)?;
        let mut affected = Affected { push_each: !own.is_empty(), ..Affected::default() };
        let own = own.into_iter().map(|repository| (repository, digest.clone()));
        let parents = index.referencing_manifests(digest, MANIFESTS)?;
        let mut names = BTreeSet::new();
        for (number, (repository, manifest)) in own.chain(parents).enumerate() {
            if number >= MANIFESTS || names.len() > NAMES {
                affected.has_more = true;
                break;
            }
            if affected.push_each || self.needs_blob(&repository, &manifest, digest)? {
                let mut visited = BTreeSet::new();
                self.name_images(&repository, &manifest, DEPTH, (&mut names, &mut visited))?;
            }
        }
        affected.has_more |= names.len() > NAMES;
        affected.images = names.into_iter().take(NAMES).collect();
        Ok(affected)
    }

    /// Returns true if a push of the manifest to the repository brings the blob: it is a config or layer, which the repository had.
    fn needs_blob(
        &self,
        repository: &RepositoryName,
        manifest: &Digest,
        blob: &Digest,
    ) -> Result<bool, StoreError> {
        let exception = self.0.index.link_exception(repository, blob)?;
        Ok(!exception.is_some_and(LinkExceptionRow::is_absence)
            && self.requires(repository, manifest, blob)?)
    }

    /// Adds the tags of a manifest, else those of the indexes that reference it, else the manifest itself.
    fn name_images(
        &self,
        repository: &RepositoryName,
        manifest: &Digest,
        depth: usize,
        (names, visited): (&mut BTreeSet<String>, &mut BTreeSet<Digest>),
    ) -> Result<(), StoreError> {
        // Each look reads all tags of the repository.
        if visited.len() >= MANIFESTS || !visited.insert(manifest.clone()) {
            return Ok(());
        }
        let index = &self.0.index;
        let (tags, _) = index.tags_of(repository, manifest, NAMES, &Cancel::default())?;
        if !tags.is_empty() {
            names.extend(tags.iter().map(|tag| format!("{repository}:{tag}")));
            return Ok(());
        }
        let above = if depth > 0 { index.referencing_manifests(manifest, MANIFESTS)? } else { Vec::new() };
        let above: Vec<Digest> =
            above.into_iter().filter(|(name, _)| name == repository).map(|(_, digest)| digest).collect();
        if above.is_empty() {
            names.insert(format!("{repository}@{manifest}"));
        }
        for parent in above {
            if names.len() > NAMES {
                break;
            }
            self.name_images(repository, &parent, depth - 1, (names, visited))?;
        }
        Ok(())
    }
}
