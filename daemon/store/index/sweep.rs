//! Sweep: removes what `mark` has found, in short transactions that check each candidate again.
//!
//! A push of the same digest that commits first wins: the check finds its rows.

use std::collections::BTreeSet;
use std::time::Duration;

use super::batch::Batch;
use super::candidates::{CandidateWithSubject, CollectedManifest, DatedTag, OrphanCandidate, SweepOutcome};
use super::forecast::Forecast;
use super::mark::MAX_REPOSITORIES;
use super::rows::{BlobRow, ManifestRow, OrphanRow, RepositoryBlobRow, UploadRow};
use super::{keys, schema};
use crate::oci::{Digest, RepositoryName};
use crate::store::error::StoreError;

/// The maximum number of rows, roughly, that a sweep transaction changes: other changes wait for it.
const MAX_CHANGES: usize = 1000;
/// An upper bound of the difference between the clocks of two processes. For manifests that became candidates more
/// recently, the transaction itself searches for tags.
const RECENT: Duration = Duration::from_secs(10);

impl Batch<'_> {
    /// Moves orphaned files from `blobs/` to `trash/`, and removes their rows. Returns those that it removed or
    /// postponed.
    pub(in crate::store) fn sweep_blobs(
        &mut self,
        blobs: &[(Digest, u64)],
        grace: Duration,
    ) -> Result<Vec<SweepOutcome<(Digest, u64)>>, StoreError> {
        let (mut handled, mut changes) = (Vec::new(), 0);
        for (digest, size) in blobs {
            if changes >= MAX_CHANGES {
                handled.push(SweepOutcome::Postponed((digest.clone(), *size)));
                continue;
            }
            let (tables, key) = (self.index.tables, keys::digest_key(digest));
            let row: Option<BlobRow> = schema::row(tables.blobs, &self.txn, &key)?;
            let Some(row) = row.filter(|row| row.leased_at.age(self.store_time) >= grace) else { continue };
            if tables.is_widely_linked(&self.txn, &key)?
                || tables.is_referenced(&self.txn, digest, &key, &Forecast::default())?
            {
                continue;
            }
            changes += self.repositories_of(digest)?.len().min(MAX_REPOSITORIES);
            self.remove_blob_rows(digest, row.size)?;
            self.discard(digest)?;
            handled.push(SweepOutcome::Swept((digest.clone(), row.size)));
        }
        Ok(handled)
    }

    /// Removes the rows of a file in `blobs/`, and its links in all repositories.
    pub(super) fn remove_blob_rows(&mut self, digest: &Digest, size: u64) -> Result<(), StoreError> {
        let (tables, key) = (self.index.tables, keys::digest_key(digest));
        for repository in self.repositories_of(digest)? {
            self.unlink_blob(&repository, digest)?;
        }
        self.update_total_bytes(0, size)?;
        tables.blobs.delete(&mut self.txn, &key)?;
        Ok(())
    }

    /// Removes stale links that are still stale.
    pub(in crate::store) fn unlink_stale_links(
        &mut self,
        stale_links: &[(Digest, RepositoryName)],
        grace: Duration,
    ) -> Result<(), StoreError> {
        let tables = self.index.tables;
        for (digest, repository) in stale_links {
            let key = keys::content_key(repository, digest);
            let row: Option<RepositoryBlobRow> = schema::row(tables.repository_blobs, &self.txn, &key)?;
            let old = row.is_none_or(|row| row.leased_at.age(self.store_time) >= grace);
            if old && !tables.is_referenced_in(&self.txn, repository, digest)? {
                self.unlink_blob(repository, digest)?;
            }
        }
        Ok(())
    }

    /// Removes tags that have not been set again since, and returns those that it removed.
    pub(in crate::store) fn retire_tags(
        &mut self,
        repository: &RepositoryName,
        tags: &[DatedTag],
    ) -> Result<Vec<DatedTag>, StoreError> {
        let (tables, mut retired) = (self.index.tables, Vec::new());
        for wanted in tags {
            let key = keys::tag_key(repository, &wanted.tag);
            let row: Option<ManifestRow> = schema::row(tables.tags, &self.txn, &key)?;
            let Some(row) = row else { continue };
            if (row.since, row.order) == (wanted.since, wanted.order)
                && row.digest(tables.tags)? == wanted.digest
            {
                self.delete_tag(repository, &wanted.tag)?;
                retired.push(wanted.clone());
            }
        }
        Ok(retired)
    }

    /// Removes candidates that are still orphans, and with `attached` the tags that are attached to them. Returns
    /// those that it removed or postponed.
    ///
    /// The search for tags ran beside the writer, since it reads all tags of the repository. A tag that was set since
    /// then shows in the manifest's row, which the push has written with its own time.
    pub(in crate::store) fn sweep_manifests(
        &mut self,
        repository: &RepositoryName,
        manifests: &[CandidateWithSubject],
        attached: bool,
    ) -> Result<Vec<SweepOutcome<CandidateWithSubject, CollectedManifest>>, StoreError> {
        let tables = self.index.tables;
        let mut recent = BTreeSet::new();
        for (one, _) in manifests.iter().filter(|(one, _)| one.since.age(self.store_time) < RECENT) {
            recent.insert(one.digest.clone());
        }
        let mut untagged = recent.clone();
        tables.remove_tagged(&self.txn, repository, &mut untagged, &Forecast::default())?;
        let (mut handled, mut changes) = (Vec::new(), 0);
        for (one, subject) in manifests {
            if changes >= MAX_CHANGES {
                handled.push(SweepOutcome::Postponed((one.clone(), subject.clone())));
                continue;
            }
            let is_tagged = recent.contains(&one.digest) && !untagged.contains(&one.digest);
            if !is_tagged && self.may_be_collected(repository, one, subject.as_ref())? {
                changes += tables.children_of(&self.txn, &one.digest)?.len();
                let since = if one.by_delete { one.since } else { self.store_time };
                self.delete_manifest_row(repository, &one.digest, subject.as_ref(), since)?;
                let tags = if attached { self.delete_attached(repository, &one.digest)? } else { Vec::new() };
                handled.push(SweepOutcome::Swept(CollectedManifest { digest: one.digest.clone(), tags }));
            }
        }
        Ok(handled)
    }

    /// Returns true if an untagged manifest has not changed since it became a candidate, no manifest of its
    /// repository references it, and the repository does not have its subject.
    fn may_be_collected(
        &self,
        repository: &RepositoryName,
        one: &OrphanCandidate,
        subject: Option<&Digest>,
    ) -> Result<bool, StoreError> {
        let (tables, key) = (self.index.tables, keys::content_key(repository, &one.digest));
        let orphan: Option<OrphanRow> = schema::row(tables.orphans, &self.txn, &key)?;
        let row: Option<ManifestRow> = schema::row(tables.manifests, &self.txn, &key)?;
        let newest = orphan.map(|row| row.since).max(row.map(|row| row.since));
        if newest.is_some_and(|newest| newest > one.since) {
            return Ok(false);
        }
        if let Some(subject) = subject {
            let key = keys::content_key(repository, subject);
            if tables.manifests.get(&self.txn, &key)?.is_some() {
                return Ok(false);
            }
        }
        tables.is_unreferenced(&self.txn, repository, &one.digest, &Forecast::default())
    }

    /// Adds rows for files in `blobs/` that the index does not know; returns how many there were.
    pub(in crate::store) fn adopt_blobs(&mut self, blobs: &[(Digest, u64)]) -> Result<u64, StoreError> {
        let mut adopted = 0;
        for (digest, size) in blobs {
            let known = self.index.tables.blobs.get(&self.txn, &keys::digest_key(digest))?.is_some();
            if !known && self.disk.blob_length(digest)?.is_some() {
                self.record_blob(digest, *size)?;
                adopted += 1;
            }
        }
        Ok(adopted)
    }

    /// Recovers the trash of an interrupted collection: restores files that still have a row, and returns the rest,
    /// which can be removed.
    pub(in crate::store) fn recover_trash(&mut self, trash: &[Digest]) -> Result<Vec<Digest>, StoreError> {
        let mut removable = Vec::new();
        for digest in trash {
            let known = self.index.tables.blobs.get(&self.txn, &keys::digest_key(digest))?.is_some();
            if known && self.disk.blob_length(digest)?.is_none() {
                self.disk.restore_from_trash(digest)?;
                self.renamed(digest.algorithm());
            } else {
                removable.push(digest.clone());
            }
        }
        Ok(removable)
    }

    /// Records the lengths of these uploads, and since when they have them.
    pub(in crate::store) fn record_uploads(&mut self, uploads: &[(String, u64)]) -> Result<(), StoreError> {
        let table = self.index.tables.uploads;
        for (name, length) in uploads {
            let known: Option<UploadRow> = schema::row(table, &self.txn, name.as_bytes())?;
            if known.is_none_or(|row| row.length != *length) {
                let row = UploadRow { length: *length, since: self.store_time };
                schema::put_row(table, &mut self.txn, name.as_bytes(), &row)?;
            }
        }
        Ok(())
    }

    /// Removes the rows of uploads that are gone.
    pub(in crate::store) fn remove_upload_rows(&mut self, names: &[Vec<u8>]) -> Result<(), StoreError> {
        for name in names {
            self.index.tables.uploads.delete(&mut self.txn, name)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
