//! Sparse manifests: the mark is set when a manifest with holes is stored, and removed with its last hole.

use super::applier::Applier;
use super::apply::Apply;
use crate::oci::{Digest, Manifest, ReferenceKind, RepositoryName};
use crate::store::error::StoreError;
use crate::store::index::tables::parents::References;
use crate::store::index::tables::rows::LinkExceptionRow;
use crate::store::index::tables::sparse::{SparseManifest, SparseManifests};
use crate::store::index::tables::{Table, WriteTables, keys};

/// Removes the marks of manifests that have no holes any more. These were found beside the writer, and few changes come
/// in between, so that all their references are looked at again.
#[derive(Debug)]
pub(in crate::store) struct RemoveSparseMarks(pub(in crate::store) Vec<SparseManifest>);

impl Apply for RemoveSparseMarks {
    type Reply = ();

    fn apply<T: WriteTables>(&self, to: &mut Applier<'_, T>) -> Result<(), StoreError> {
        for SparseManifest { repository, digest } in &self.0 {
            if to.tables.is_sparse(repository, digest)? {
                to.update_sparse_mark(repository, digest, &mut u32::MAX.clone())?;
            }
        }
        Ok(())
    }
}

impl<T: WriteTables> Applier<'_, T> {
    /// Records the config and the layers that a pushed manifest references and its repository does not have.
    pub(super) fn record_missing_blobs(
        &mut self,
        repository: &RepositoryName,
        manifest: &Manifest,
    ) -> Result<(), StoreError> {
        for link in manifest.references().iter().filter(|link| link.kind == ReferenceKind::Blob) {
            if !self.tables.has_content(repository, &link.digest)? {
                let key = keys::content_key(repository, &link.digest);
                self.tables.put_row(Table::LinkExceptions, &key, &LinkExceptionRow::Missing)?;
                self.names_changed();
            }
        }
        Ok(())
    }

    /// Marks a stored manifest as sparse if it has holes, and removes the mark otherwise. If it has too many references
    /// to find that out here, it is marked; a collection looks at all of them.
    pub(super) fn update_sparse_mark(
        &mut self,
        repository: &RepositoryName,
        digest: &Digest,
        budget: &mut u32,
    ) -> Result<(), StoreError> {
        let key = keys::content_key(repository, digest);
        let is_marked = self.tables.get(Table::Sparse, &key)?.is_some();
        let has_holes = self.tables.may_have_holes(repository, digest, budget)?;
        if has_holes == is_marked {
            return Ok(());
        }
        if has_holes {
            self.tables.put(Table::Sparse, &key, &[])?;
        } else {
            self.tables.delete(Table::Sparse, &key)?;
        }
        self.names_changed();
        Ok(())
    }

    /// Removes the marks of the sparse manifests for which content that a repository has is the last hole. Beyond the budget
    /// of lookups the marks stay until the next collection.
    pub(super) fn fill_holes(
        &mut self,
        repository: &RepositoryName,
        digest: &Digest,
        budget: &mut u32,
    ) -> Result<(), StoreError> {
        let mut from = Vec::new();
        while let Some(parent) = self.tables.parent_among(Table::Sparse, repository, digest, &from, budget)? {
            self.update_sparse_mark(repository, &parent, budget)?;
            // The next key: no digest is a prefix of another.
            from = keys::digest_key(&parent);
            from.push(0);
        }
        if *budget == 0 {
            self.note_candidate(Some(repository), digest)?;
        }
        Ok(())
    }
}
