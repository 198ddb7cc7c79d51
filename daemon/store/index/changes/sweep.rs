//! Sweep: removes what `mark` has found, in short transactions that check each candidate again.
//!
//! A push of the same digest that commits first wins: the check finds its rows.

use std::sync::Arc;
use std::time::Duration;

use super::applier::Applier;
use super::apply::{Apply, FileFact, Needs};
use crate::oci::{Digest, RepositoryName};
use crate::store::error::StoreError;
use crate::store::index::event::{Cause, EventKind};
use crate::store::index::tables::candidates::{
    CandidateWithSubject, CollectedManifest, DatedTag, OrphanCandidate, SweepOutcome,
};
use crate::store::index::tables::forecast::Forecast;
use crate::store::index::tables::mark::{MAX_REPOSITORIES, Mark};
use crate::store::index::tables::meta::Meta;
use crate::store::index::tables::parents::References;
use crate::store::index::tables::rows::{BlobRow, ManifestRow, OrphanRow, RepositoryBlobRow, UploadRow};
use crate::store::index::tables::tag_index::TagIndex;
use crate::store::index::tables::{Table, WriteTables, keys};
use crate::store::transfer_leases::TransferLeases;

/// The maximum number of rows, roughly, that a sweep transaction changes: other changes wait for it.
const MAX_CHANGES: usize = 1000;

/// Removes blobs that are still orphans: their rows now, their files after the commit.
#[derive(Debug)]
pub(in crate::store) struct SweepBlobs {
    /// The candidates and their lengths.
    pub(in crate::store) blobs: Vec<(Digest, u64)>,
    pub(in crate::store) grace: Duration,
    /// The leases of open transfers, whose content stays.
    pub(in crate::store) leases: Arc<TransferLeases>,
}

impl Apply for SweepBlobs {
    type Reply = Vec<SweepOutcome<(Digest, u64)>>;

    fn apply<T: WriteTables>(&self, to: &mut Applier<'_, T>) -> Result<Self::Reply, StoreError> {
        to.sweep_blobs(&self.blobs, self.grace, &self.leases)
    }
}

/// Removes stale links that are still stale.
#[derive(Debug)]
pub(in crate::store) struct UnlinkStaleLinks {
    pub(in crate::store) links: Vec<(Digest, RepositoryName)>,
    pub(in crate::store) grace: Duration,
}

impl Apply for UnlinkStaleLinks {
    type Reply = ();

    fn apply<T: WriteTables>(&self, to: &mut Applier<'_, T>) -> Result<(), StoreError> {
        to.unlink_stale_links(&self.links, self.grace)
    }
}

/// Removes tags that a retention rule does not keep, unless they were set again.
#[derive(Debug)]
pub(in crate::store) struct RetireTags {
    pub(in crate::store) repository: RepositoryName,
    pub(in crate::store) tags: Vec<DatedTag>,
}

impl Apply for RetireTags {
    type Reply = Vec<DatedTag>;

    fn apply<T: WriteTables>(&self, to: &mut Applier<'_, T>) -> Result<Vec<DatedTag>, StoreError> {
        to.retire_tags(&self.repository, &self.tags)
    }
}

/// Removes manifests that are still orphans.
#[derive(Debug)]
pub(in crate::store) struct SweepManifests {
    pub(in crate::store) repository: RepositoryName,
    pub(in crate::store) manifests: Vec<CandidateWithSubject>,
    /// True if the tags that are attached to them are removed, too.
    pub(in crate::store) attached: bool,
}

impl Apply for SweepManifests {
    type Reply = Vec<SweepOutcome<CandidateWithSubject, CollectedManifest>>;

    fn apply<T: WriteTables>(&self, to: &mut Applier<'_, T>) -> Result<Self::Reply, StoreError> {
        to.sweep_manifests(&self.repository, &self.manifests, self.attached)
    }
}

/// Adds rows for files in `blobs/` that the index does not know. They get a grace period.
#[derive(Debug)]
pub(in crate::store) struct AdoptBlobs(pub(in crate::store) Vec<FileFact>);

impl Apply for AdoptBlobs {
    type Reply = Vec<(Digest, u64)>;

    fn apply<T: WriteTables>(&self, to: &mut Applier<'_, T>) -> Result<Self::Reply, StoreError> {
        let mut adopted = Vec::new();
        for file in &self.0 {
            let Some(length) = file.length() else { continue };
            if to.tables.get(Table::Blobs, &keys::digest_key(&file.digest))?.is_none() {
                to.record_blob(&file.digest, length)?;
                to.note_if_in_no_repository(&file.digest)?;
                adopted.push((file.digest.clone(), length));
            }
        }
        Ok(adopted)
    }

    fn needs(&mut self) -> Needs<'_> {
        Needs::Facts(&mut self.0)
    }
}

/// Records the lengths of uploads, and since when they have them.
#[derive(Debug)]
pub(in crate::store) struct RecordUploads(pub(in crate::store) Vec<(String, u64)>);

impl Apply for RecordUploads {
    type Reply = ();

    fn apply<T: WriteTables>(&self, to: &mut Applier<'_, T>) -> Result<(), StoreError> {
        to.record_uploads(&self.0)
    }
}

/// Removes the rows of uploads that are gone.
#[derive(Debug)]
pub(in crate::store) struct RemoveUploadRows(pub(in crate::store) Vec<Vec<u8>>);

impl Apply for RemoveUploadRows {
    type Reply = ();

    fn apply<T: WriteTables>(&self, to: &mut Applier<'_, T>) -> Result<(), StoreError> {
        self.0.iter().try_for_each(|name| Ok(to.tables.delete(Table::Uploads, name).map(drop)?))
    }
}

impl<T: WriteTables> Applier<'_, T> {
    fn sweep_blobs(
        &mut self,
        blobs: &[(Digest, u64)],
        grace: Duration,
        leases: &TransferLeases,
    ) -> Result<Vec<SweepOutcome<(Digest, u64)>>, StoreError> {
        let (mut handled, mut changes) = (Vec::new(), 0);
        for (digest, size) in blobs {
            if changes >= MAX_CHANGES {
                handled.push(SweepOutcome::Postponed((digest.clone(), *size)));
                continue;
            }
            let key = keys::digest_key(digest);
            let row: Option<BlobRow> = self.tables.row(Table::Blobs, &key)?;
            let Some(row) = row.filter(|row| row.leased_at.age(self.now.store_time) >= grace) else {
                continue;
            };
            if leases.contains(digest) {
                continue;
            }
            if self.tables.is_widely_linked(&key)?
                || self.tables.is_referenced(digest, &key, &Forecast::default())?
            {
                continue;
            }
            let repositories = self.repositories_of(digest)?;
            changes += repositories.len().min(MAX_REPOSITORIES);
            for repository in &repositories {
                self.drop_exception(repository, digest)?;
            }
            self.remove_blob_rows(digest, row.size)?;
            self.unlink(digest);
            handled.push(SweepOutcome::Swept((digest.clone(), row.size)));
        }
        Ok(handled)
    }

    /// Removes the rows of a file in `blobs/`, and its links in all repositories.
    pub(super) fn remove_blob_rows(&mut self, digest: &Digest, size: u64) -> Result<(), StoreError> {
        let key = keys::digest_key(digest);
        for repository in self.repositories_of(digest)? {
            self.unlink_blob(&repository, digest)?;
        }
        self.update_total_bytes(0, size)?;
        self.tables.delete(Table::Blobs, &key)?;
        self.forget_candidate(None, digest)
    }

    /// Removes stale links that are still stale.
    fn unlink_stale_links(
        &mut self,
        stale_links: &[(Digest, RepositoryName)],
        grace: Duration,
    ) -> Result<(), StoreError> {
        for (digest, repository) in stale_links {
            let key = keys::content_key(repository, digest);
            let row: Option<RepositoryBlobRow> = self.tables.row(Table::RepositoryBlobs, &key)?;
            let old = row.is_none_or(|row| row.leased_at.age(self.now.store_time) >= grace);
            if old && !self.tables.is_referenced_in(repository, digest)? {
                self.drop_exception(repository, digest)?;
                self.unlink_blob(repository, digest)?;
            }
        }
        Ok(())
    }

    /// Removes tags that have not been set again since, and returns those that it removed.
    fn retire_tags(
        &mut self,
        repository: &RepositoryName,
        tags: &[DatedTag],
    ) -> Result<Vec<DatedTag>, StoreError> {
        let mut retired = Vec::new();
        for wanted in tags {
            let key = keys::tag_key(repository, &wanted.tag);
            let row: Option<ManifestRow> = self.tables.row(Table::Tags, &key)?;
            let Some(row) = row else { continue };
            if (row.since, row.order) == (wanted.since, wanted.order)
                && row.digest(&*self.tables)? == wanted.digest
            {
                let removed = self.remove_tag(repository, &wanted.tag)?;
                let object = removed.object(repository, &wanted.tag);
                self.emit_by(Cause::Retention, EventKind::Expire, object);
                retired.push(wanted.clone());
            }
        }
        Ok(retired)
    }

    /// Removes candidates that are still orphans, and with `attached` the tags that are attached to them. Returns
    /// those that it removed or postponed.
    fn sweep_manifests(
        &mut self,
        repository: &RepositoryName,
        manifests: &[CandidateWithSubject],
        attached: bool,
    ) -> Result<Vec<SweepOutcome<CandidateWithSubject, CollectedManifest>>, StoreError> {
        let digests = manifests.iter().map(|(one, _)| &one.digest);
        let tagged = self.tables.tagged_among(repository, digests, &|_| false)?;
        let (mut handled, mut changes) = (Vec::new(), 0);
        for (one, subject) in manifests {
            if changes >= MAX_CHANGES {
                handled.push(SweepOutcome::Postponed((one.clone(), subject.clone())));
                continue;
            }
            if !tagged.contains(&one.digest) && self.may_be_collected(repository, one, subject.as_ref())? {
                changes += self.tables.children_of(&one.digest)?.len();
                let since = if one.by_delete { one.since } else { self.now.store_time };
                let removed = self.delete_manifest_row(repository, &one.digest, subject.as_ref(), since)?;
                let cause = if one.by_delete { Cause::Gc } else { Cause::Retention };
                self.emit_by(cause, EventKind::Expire, removed.object(repository, &one.digest));
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
        let key = keys::content_key(repository, &one.digest);
        let orphan: Option<OrphanRow> = self.tables.row(Table::Orphans, &key)?;
        let row: Option<ManifestRow> = self.tables.row(Table::Manifests, &key)?;
        let newest = orphan.map(|row| row.since).max(row.map(|row| row.since));
        if newest.is_some_and(|newest| newest > one.since) {
            return Ok(false);
        }
        if let Some(subject) = subject {
            let key = keys::content_key(repository, subject);
            if self.tables.get(Table::Manifests, &key)?.is_some() {
                return Ok(false);
            }
        }
        self.tables.is_unreferenced(repository, &one.digest, &Forecast::default())
    }

    /// Records the lengths of these uploads, and since when they have them.
    fn record_uploads(&mut self, uploads: &[(String, u64)]) -> Result<(), StoreError> {
        for (name, length) in uploads {
            let known: Option<UploadRow> = self.tables.row(Table::Uploads, name.as_bytes())?;
            if known.is_none_or(|row| row.length != *length) {
                let row = UploadRow { length: *length, since: self.now.store_time };
                self.tables.put_row(Table::Uploads, name.as_bytes(), &row)?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
