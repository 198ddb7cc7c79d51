//! Keeps the candidates among the blobs current; see `tables/blob_candidates.rs`.

use super::applier::Applier;
use super::apply::Apply;
use crate::oci::{Digest, RepositoryName};
use crate::store::error::StoreError;
use crate::store::index::tables::blob_candidates::{BlobCandidates, row_key};
use crate::store::index::tables::candidates::BlobCandidate;
use crate::store::index::tables::parents::References;
use crate::store::index::tables::{Table, WriteTables, keys, meta};

/// The number of lookups for holes in one transaction, some milliseconds: clients decide how many manifests share a blob.
const MAX_LOOKUPS: u32 = 10_000;

/// Removes rows of candidates that are none, and with them what a collection has to settle for their blobs: a link exception
/// that no manifest needs, and marks of sparse manifests whose last hole the blob has filled.
#[derive(Debug)]
pub(in crate::store) struct SettleCandidates(pub(in crate::store) Vec<BlobCandidate>);

impl Apply for SettleCandidates {
    type Reply = ();

    fn apply<T: WriteTables>(&self, to: &mut Applier<'_, T>) -> Result<(), StoreError> {
        let mut budget = MAX_LOOKUPS;
        self.0.iter().try_for_each(|one| to.settle_candidate(one, &mut budget))
    }
}

/// Adds rows for blobs that a full collection has found to be candidates.
#[derive(Debug)]
pub(in crate::store) struct NoteCandidates(pub(in crate::store) Vec<BlobCandidate>);

impl Apply for NoteCandidates {
    type Reply = ();

    fn apply<T: WriteTables>(&self, to: &mut Applier<'_, T>) -> Result<(), StoreError> {
        for one in &self.0 {
            if to.tables.is_candidate(one)? {
                to.note_candidate(one.repository.as_ref(), &one.digest)?;
            }
        }
        Ok(())
    }
}

/// Notes that a full collection has looked at all content: the rows of candidates are complete from now on.
#[derive(Debug)]
pub(in crate::store) struct NoteFullCollection;

impl Apply for NoteFullCollection {
    type Reply = ();

    fn apply<T: WriteTables>(&self, to: &mut Applier<'_, T>) -> Result<(), StoreError> {
        if to.tables.has_table(Table::BlobCandidates) {
            to.tables.put_row(Table::Meta, meta::FULL_COLLECTION, &to.now.store_time)?;
        }
        Ok(())
    }
}

impl<T: WriteTables> Applier<'_, T> {
    /// Has collections look at a blob: in a repository, or as a file that no repository may have.
    pub(super) fn note_candidate(
        &mut self,
        repository: Option<&RepositoryName>,
        digest: &Digest,
    ) -> Result<(), StoreError> {
        // Without the table, which an index lacks that was opened without room for it, no full collection is noted.
        if !self.tables.has_table(Table::BlobCandidates) {
            return Ok(());
        }
        let one = BlobCandidate { digest: digest.clone(), repository: repository.cloned() };
        Ok(self.tables.put(Table::BlobCandidates, &row_key(&one), &[])?)
    }

    /// Has collections look at a file if no repository has it any more.
    pub(super) fn note_if_in_no_repository(&mut self, digest: &Digest) -> Result<(), StoreError> {
        if self.tables.is_in_no_repository(&keys::digest_key(digest))? {
            self.note_candidate(None, digest)?;
        }
        Ok(())
    }

    /// Has collections look at a reference of a manifest that is removed from a repository.
    pub(super) fn note_child(
        &mut self,
        repository: &RepositoryName,
        child: &Digest,
    ) -> Result<(), StoreError> {
        let key = keys::content_key(repository, child);
        if self.tables.get(Table::RepositoryBlobs, &key)?.is_some()
            || self.tables.get(Table::LinkExceptions, &key)?.is_some()
        {
            self.note_candidate(Some(repository), child)?;
        }
        Ok(())
    }

    /// Removes the row of a blob that is no candidate any more.
    pub(super) fn forget_candidate(
        &mut self,
        repository: Option<&RepositoryName>,
        digest: &Digest,
    ) -> Result<(), StoreError> {
        if self.tables.has_table(Table::BlobCandidates) {
            let one = BlobCandidate { digest: digest.clone(), repository: repository.cloned() };
            self.tables.delete(Table::BlobCandidates, &row_key(&one))?;
        }
        Ok(())
    }

    /// Removes the row of a blob that a collection does not have to look at, and settles what it stands for. Beyond the budget of
    /// lookups the row stays for the next collection.
    fn settle_candidate(&mut self, one: &BlobCandidate, budget: &mut u32) -> Result<(), StoreError> {
        if self.tables.is_candidate(one)? {
            return Ok(());
        }
        let BlobCandidate { digest, repository } = one;
        if let Some(repository) = repository {
            if !self.tables.is_referenced_in(repository, digest)? {
                self.drop_exception(repository, digest)?;
            }
            self.fill_holes(repository, digest, budget)?;
            if *budget == 0 {
                return Ok(());
            }
        }
        self.forget_candidate(repository.as_ref(), digest)
    }
}
