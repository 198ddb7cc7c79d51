//! Sparse manifests: manifests some of whose content is missing in their repository, and was allowed to be when they
//! were stored.
//!
//! The table `sparse` marks them. A hole is content that such a manifest references and its repository does not have:
//! a config or layer with a link exception of the kind `Missing`, or a manifest of an index. The exceptions keep a
//! rebuild from giving the repository a blob that it never had, only because another repository has it. Foreign layers
//! are not holes, and neither is content that a client deleted.

use std::ops::Bound;

use super::keys;
use super::port::{ReadTables, Table};
use super::rows::{LinkExceptionRow, ManifestRow};
use crate::oci::{Digest, MediaType, RepositoryName};
use crate::store::error::StoreError;

/// A sparse manifest and its repository.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::store) struct SparseManifest {
    /// The repository.
    pub(in crate::store) repository: RepositoryName,
    /// The manifest.
    pub(in crate::store) digest: Digest,
}

/// The content of a sparse manifest that its repository has.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Presence {
    /// The number of layers, or of manifests of an index, that are present.
    pub present: usize,
    /// The number of all of them.
    pub all: usize,
}

/// Lookups of sparse manifests and their holes.
pub(in crate::store) trait SparseManifests: ReadTables {
    /// Returns true if the manifest is marked as sparse.
    fn is_sparse(&self, repository: &RepositoryName, digest: &Digest) -> Result<bool, StoreError> {
        Ok(self.get(Table::Sparse, &keys::content_key(repository, digest))?.is_some())
    }

    /// Returns true if the repository has the content, as a blob or as a manifest.
    fn has_content(&self, repository: &RepositoryName, digest: &Digest) -> Result<bool, StoreError> {
        let key = keys::content_key(repository, digest);
        Ok(self.get(Table::RepositoryBlobs, &key)?.is_some() || self.get(Table::Manifests, &key)?.is_some())
    }

    /// Returns true if a manifest of the repository has a hole, or if that is unknown because the `budget` of lookups
    /// is used up. False is certain.
    fn may_have_holes(
        &self,
        repository: &RepositoryName,
        digest: &Digest,
        budget: &mut u32,
    ) -> Result<bool, StoreError> {
        let key = keys::content_key(repository, digest);
        let Some(row) = self.row::<ManifestRow>(Table::Manifests, &key)? else { return Ok(false) };
        let is_index = row.media_type.parse().is_ok_and(|media_type: MediaType| media_type.is_index());
        let children = self.get(Table::Children, &keys::digest_key(digest))?.unwrap_or_default();
        for child in keys::digests(children) {
            if *budget == 0 {
                return Ok(true);
            }
            *budget -= 1;
            if !self.has_content(repository, &child)? && (is_index || self.is_missing(repository, &child)?) {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Returns the holes of a sparse manifest.
    fn holes(&self, repository: &RepositoryName, digest: &Digest) -> Result<Vec<Digest>, StoreError> {
        let key = keys::content_key(repository, digest);
        let Some(row) = self.row::<ManifestRow>(Table::Manifests, &key)? else { return Ok(Vec::new()) };
        let is_index = row.media_type.parse().is_ok_and(|media_type: MediaType| media_type.is_index());
        let children = self.get(Table::Children, &keys::digest_key(digest))?.unwrap_or_default();
        let mut holes = Vec::new();
        for child in keys::digests(children) {
            if !self.has_content(repository, &child)? && (is_index || self.is_missing(repository, &child)?) {
                holes.push(child);
            }
        }
        Ok(holes)
    }

    /// Returns true if a link exception records that the repository never had the blob.
    fn is_missing(&self, repository: &RepositoryName, digest: &Digest) -> Result<bool, StoreError> {
        let exception = self.row(Table::LinkExceptions, &keys::content_key(repository, digest))?;
        Ok(exception == Some(LinkExceptionRow::Missing))
    }

    /// Returns a page of sparse manifests after `after`, in key order.
    fn sparse_after(
        &self,
        after: Option<&SparseManifest>,
        limit: usize,
    ) -> Result<Vec<SparseManifest>, StoreError> {
        let after = after.map(|after| keys::content_key(&after.repository, &after.digest));
        let start = after.as_deref().map_or(Bound::Unbounded, Bound::Excluded);
        let mut page = Vec::new();
        for row in self.range(Table::Sparse, &(start, Bound::Unbounded))?.take(limit) {
            let (key, _) = row?;
            page.extend(
                keys::split_content(key).map(|(repository, digest)| SparseManifest { repository, digest }),
            );
        }
        Ok(page)
    }

    /// Returns the presence of the content of a sparse manifest, without `config`; `None` for any other manifest.
    fn presence(
        &self,
        repository: &RepositoryName,
        digest: &Digest,
        config: Option<&Digest>,
    ) -> Result<Option<Presence>, StoreError> {
        if !self.is_sparse(repository, digest)? {
            return Ok(None);
        }
        let mut presence = Presence::default();
        let children = self.get(Table::Children, &keys::digest_key(digest))?.unwrap_or_default();
        for child in keys::digests(children) {
            if Some(&child) != config {
                presence.all += 1;
                presence.present += usize::from(self.has_content(repository, &child)?);
            }
        }
        Ok(Some(presence))
    }
}

impl<T: ReadTables> SparseManifests for T {}
