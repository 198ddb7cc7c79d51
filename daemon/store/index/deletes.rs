//! The changes of a delete, applied inside the writer's transaction.
//!
//! Each one checks first and writes afterwards, so that a refused change has written nothing. The children and the
//! referrers of a deleted manifest become orphans, which a collection removes after the grace period.

use std::ops::Bound;
use std::sync::Arc;

use super::batch::Batch;
use super::rows::{BlobRow, ManifestRow, OrphanRow, RepositoryBlobRow, RepositoryRow, digest_of};
use super::{keys, schema};
use crate::oci::{Digest, Reference, RepositoryName, Tag};
use crate::store::clock::StoreTime;
use crate::store::error::StoreError;
use crate::store::immutable::ImmutableRule;

/// The maximum number of tags of a repository among which the writer itself searches for those of a manifest; in larger
/// repositories the search runs beside the writer.
const MAX_TAGS_IN_TRANSACTION: u32 = 1000;
/// The maximum number of tags that one transaction removes, and the maximum number of referrers that it
/// orphans.
pub(in crate::store) const MAX_PER_TRANSACTION: usize = 256;

/// A manifest to delete.
pub(in crate::store) struct ManifestDelete {
    pub(in crate::store) repository: RepositoryName,
    pub(in crate::store) digest: Digest,
    /// The subject of the manifest.
    pub(in crate::store) subject: Option<Digest>,
    /// The rules for immutable tags.
    pub(in crate::store) immutable: Arc<Vec<ImmutableRule>>,
}

/// The progress of a delete.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::store) enum Deleted {
    /// The delete is complete.
    Complete,
    /// The manifest is removed; [`Batch::orphan_referrers`] has to orphan the rest of its referrers.
    ReferrersLeft,
    /// Nothing is done: the tags of the manifest have to be searched first.
    TagsUnknown,
}

impl Batch<'_> {
    /// Removes one tag; its manifest and other tags stay.
    pub(in crate::store) fn delete_tag(
        &mut self,
        repository: &RepositoryName,
        tag: &Tag,
    ) -> Result<(), StoreError> {
        let (table, key) = (self.index.tables.tags, keys::tag_key(repository, tag));
        let row: Option<ManifestRow> = schema::row(table, &self.txn, &key)?;
        let Some(row) = row else {
            return Err(self.no_manifest(repository, Reference::Tag(tag.clone()))?);
        };
        table.delete(&mut self.txn, &key)?;
        self.names_changed();
        self.update_stats(repository, |counted| counted.tags = counted.tags.saturating_sub(1))?;
        self.mark_orphaned(repository, &row.digest(table)?, self.store_time, true)
    }

    /// Removes those of the given tags that still name the given manifest. Returns the removed tags, and the number
    /// of tags that have moved to another manifest.
    pub(in crate::store) fn delete_tags(
        &mut self,
        repository: &RepositoryName,
        tags: &[(Tag, Digest)],
    ) -> Result<(Vec<Tag>, usize), StoreError> {
        let (table, mut deleted, mut moved) = (self.index.tables.tags, Vec::new(), 0);
        for (tag, digest) in tags {
            let key = keys::tag_key(repository, tag);
            let row: Option<ManifestRow> = schema::row(table, &self.txn, &key)?;
            match row {
                Some(row) if row.digest(table)? == *digest => {
                    self.delete_tag(repository, tag)?;
                    deleted.push(tag.clone());
                }
                Some(_) => moved += 1,
                None => {}
            }
        }
        Ok((deleted, moved))
    }

    /// Removes a manifest from a repository together with its tags, if the repository has few tags.
    pub(in crate::store) fn delete_manifest(
        &mut self,
        delete: &ManifestDelete,
    ) -> Result<Deleted, StoreError> {
        let ManifestDelete { repository, digest, .. } = delete;
        let row: Option<RepositoryRow> =
            schema::row(self.index.tables.repositories, &self.txn, repository.as_str().as_bytes())?;
        let key = keys::content_key(repository, digest);
        if self.index.tables.manifests.get(&self.txn, &key)?.is_none() {
            return Err(self.no_manifest(repository, Reference::Digest(digest.clone()))?);
        }
        // Checked before any tag is removed.
        self.check_immutable_content(repository, digest, &delete.immutable)?;
        if row.unwrap_or_default().tags > MAX_TAGS_IN_TRANSACTION {
            return Ok(Deleted::TagsUnknown);
        }
        let tags = self.index.tables.tags_of(&self.txn, repository, digest, None, usize::MAX)?;
        self.delete_with_tags(delete, &tags.items)
    }

    /// Removes a manifest from a repository with many tags: `tags` were found while the manifest was watched.
    pub(in crate::store) fn delete_watched_manifest(
        &mut self,
        delete: &ManifestDelete,
        tags: &[Tag],
    ) -> Result<Deleted, StoreError> {
        let key = keys::content_key(&delete.repository, &delete.digest);
        let mut all: Vec<Tag> = self.index.watches.recorded(&key).into_iter().collect();
        all.extend_from_slice(tags);
        self.delete_with_tags(delete, &all)
    }

    /// Removes a manifest and those of the given tags that name it.
    pub(super) fn delete_with_tags(
        &mut self,
        delete: &ManifestDelete,
        tags: &[Tag],
    ) -> Result<Deleted, StoreError> {
        let ManifestDelete { repository, digest, subject, immutable } = delete;
        self.check_immutable_tags(delete, tags)?;
        self.check_immutable_content(repository, digest, immutable)?;
        let is_whole = self.delete_manifest_row(repository, digest, subject.as_ref(), self.store_time)?;
        self.delete_tags_of(repository, digest, tags)?;
        Ok(if is_whole { Deleted::Complete } else { Deleted::ReferrersLeft })
    }

    /// Removes an untagged manifest from a repository. Its dependents become orphans as of `since`: now, or when the
    /// manifest itself became one. Returns false if it has more referrers than one transaction orphans.
    pub(super) fn delete_manifest_row(
        &mut self,
        repository: &RepositoryName,
        digest: &Digest,
        subject: Option<&Digest>,
        since: StoreTime,
    ) -> Result<bool, StoreError> {
        let (tables, key) = (self.index.tables, keys::content_key(repository, digest));
        let Some(row) = schema::row::<ManifestRow>(tables.manifests, &self.txn, &key)? else {
            return Err(self.no_manifest(repository, Reference::Digest(digest.clone()))?);
        };
        tables.manifests.delete(&mut self.txn, &key)?;
        self.names_changed();
        self.update_stats(repository, |counted| {
            counted.manifests = counted.manifests.saturating_sub(1);
            counted.bytes = counted.bytes.saturating_sub(row.size);
        })?;
        let is_whole = self.orphan_dependents(repository, digest, since)?;
        if let Some(subject) = subject {
            tables.referrers.delete(&mut self.txn, &keys::referrer_key(repository, subject, Some(digest)))?;
        }
        tables.manifest_repositories.delete(&mut self.txn, &keys::repository_key(digest, repository))?;
        // An image may reference the digest as its config or a layer: without the record a rebuild would give the
        // repository a blob that was deleted.
        self.record_deletion(repository, digest)?;
        let key = keys::digest_key(digest);
        if tables.manifest_repositories.prefix_iter(&self.txn, &key)?.next().is_none() {
            self.delete_edges(digest)?;
        }
        Ok(is_whole)
    }

    /// Orphans the children of a manifest and the first of its referrers, and renews the leases of the children and
    /// of its own bytes. Returns false if referrers remain.
    fn orphan_dependents(
        &mut self,
        repository: &RepositoryName,
        digest: &Digest,
        since: StoreTime,
    ) -> Result<bool, StoreError> {
        let tables = self.index.tables;
        for child in tables.children_of(&self.txn, digest)? {
            self.mark_orphaned(repository, &child, since, true)?;
            self.renew_lease(Some(repository), &child, since)?;
        }
        self.renew_lease(None, digest, since)?;
        let key = keys::content_key(repository, digest);
        if tables.referrers.prefix_iter(&self.txn, &key)?.next().is_none() {
            tables.orphans.delete(&mut self.txn, &key)?;
            return Ok(true);
        }
        // Until all its referrers are orphaned the manifest keeps an orphan row itself, so that a collection finishes
        // the delete if this process does not.
        schema::put_row(
            tables.orphans,
            &mut self.txn,
            &key,
            &OrphanRow { since: self.store_time, deleted: true },
        )?;
        Ok(self.orphan_referrers(repository, digest, None)?.is_none())
    }

    /// Orphans up to [`MAX_PER_TRANSACTION`] referrers of a deleted manifest, after the digest `after`. Returns the
    /// last of them if there may be more.
    pub(in crate::store) fn orphan_referrers(
        &mut self,
        repository: &RepositoryName,
        subject: &Digest,
        after: Option<&Digest>,
    ) -> Result<Option<Digest>, StoreError> {
        let (tables, key) = (self.index.tables, keys::content_key(repository, subject));
        let is_deleted = tables.manifests.get(&self.txn, &key)?.is_none();
        if !is_deleted || tables.orphans.get(&self.txn, &key)?.is_none() {
            // The manifest was pushed again, or another process finished the delete.
            return Ok(None);
        }
        let prefix = keys::referrer_key(repository, subject, None);
        let start = keys::referrer_key(repository, subject, after);
        let mut page = Vec::new();
        let range = (Bound::Excluded(&start[..]), Bound::Unbounded);
        for row in tables.referrers.range(&self.txn, &range)?.take(MAX_PER_TRANSACTION) {
            let Some(referrer) = row?.0.strip_prefix(&prefix[..]) else { break };
            page.extend(keys::split_digest(referrer).map(|(referrer, _)| referrer));
        }
        for referrer in &page {
            // A lease lookup on a blob does not search for subjects, so the orphan row of a referrer starts a lease
            // for its blobs from now on.
            self.mark_orphaned(repository, referrer, self.store_time, true)?;
        }
        if page.len() == MAX_PER_TRANSACTION {
            return Ok(page.pop());
        }
        tables.orphans.delete(&mut self.txn, &key)?;
        Ok(None)
    }

    /// Marks a manifest as an orphan as of `since`, if the repository has it. If it was one
    /// already, the later time counts, and `deleted` replaces the recorded cause.
    pub(super) fn mark_orphaned(
        &mut self,
        repository: &RepositoryName,
        digest: &Digest,
        since: StoreTime,
        deleted: bool,
    ) -> Result<(), StoreError> {
        let (tables, key) = (self.index.tables, keys::content_key(repository, digest));
        if tables.manifests.get(&self.txn, &key)?.is_none() {
            return Ok(());
        }
        let known: Option<OrphanRow> = schema::row(tables.orphans, &self.txn, &key)?;
        let since = known.map_or(since, |row| row.since.max(since));
        schema::put_row(tables.orphans, &mut self.txn, &key, &OrphanRow { since, deleted })
    }

    /// Renews the lease of an orphan, or of an untagged manifest that a retention rule limits, by an orphan row as of
    /// now.
    pub(in crate::store) fn renew_manifest_lease(
        &mut self,
        repository: &RepositoryName,
        digest: &Digest,
    ) -> Result<(), StoreError> {
        let key = keys::content_key(repository, digest);
        let known: Option<OrphanRow> = schema::row(self.index.tables.orphans, &self.txn, &key)?;
        if known.is_none() {
            self.check_capacity()?;
        }
        self.mark_orphaned(repository, digest, self.store_time, known.is_some_and(|row| row.deleted))
    }

    /// Renews the lease of a blob as of `start`: in one repository, if that has it, and in the store.
    pub(in crate::store) fn renew_lease(
        &mut self,
        repository: Option<&RepositoryName>,
        digest: &Digest,
        start: StoreTime,
    ) -> Result<(), StoreError> {
        let tables = self.index.tables;
        if let Some(repository) = repository {
            let key = keys::content_key(repository, digest);
            let row: Option<RepositoryBlobRow> = schema::row(tables.repository_blobs, &self.txn, &key)?;
            if let Some(row) = row.filter(|row| row.leased_at < start) {
                let row = RepositoryBlobRow { leased_at: start, ..row };
                schema::put_row(tables.repository_blobs, &mut self.txn, &key, &row)?;
            }
        }
        let key = keys::digest_key(digest);
        let row: Option<BlobRow> = schema::row(tables.blobs, &self.txn, &key)?;
        if let Some(row) = row.filter(|row| row.leased_at < start) {
            let row = BlobRow { leased_at: start, ..row };
            schema::put_row(tables.blobs, &mut self.txn, &key, &row)?;
        }
        Ok(())
    }

    /// Removes those of the given tags that name a manifest, which becomes an orphan.
    pub(in crate::store) fn delete_tags_of(
        &mut self,
        repository: &RepositoryName,
        digest: &Digest,
        tags: &[Tag],
    ) -> Result<(), StoreError> {
        let (tables, wanted) = (self.index.tables, keys::digest_key(digest));
        let mut removed = 0;
        for tag in tags {
            let key = keys::tag_key(repository, tag);
            let row = tables.tags.get(&self.txn, &key)?;
            if row.map(|row| digest_of(tables.tags, row)).transpose()? == Some(&wanted[..]) {
                tables.tags.delete(&mut self.txn, &key)?;
                removed += 1;
            }
        }
        if removed == 0 {
            return Ok(());
        }
        self.names_changed();
        self.mark_orphaned(repository, digest, self.store_time, true)?;
        self.update_stats(repository, |counted| counted.tags = counted.tags.saturating_sub(removed))
    }

    /// Removes the references of a manifest that no repository has any more.
    fn delete_edges(&mut self, digest: &Digest) -> Result<(), StoreError> {
        let tables = self.index.tables;
        for child in tables.children_of(&self.txn, digest)? {
            tables.parents.delete(&mut self.txn, &keys::edge_key(&child, digest))?;
        }
        tables.children.delete(&mut self.txn, &keys::digest_key(digest))?;
        Ok(())
    }

    /// Removes a blob from a repository; other repositories keep it.
    pub(in crate::store) fn delete_blob(
        &mut self,
        repository: &RepositoryName,
        digest: &Digest,
        immutable: &[ImmutableRule],
    ) -> Result<(), StoreError> {
        if self
            .index
            .tables
            .repository_blobs
            .get(&self.txn, &keys::content_key(repository, digest))?
            .is_some()
        {
            self.check_immutable_content(repository, digest, immutable)?;
        }
        if !self.unlink_blob(repository, digest)? {
            return Err(StoreError::BlobUnknown(digest.clone()));
        }
        self.record_deletion(repository, digest)?;
        self.renew_lease(None, digest, self.store_time)
    }

    /// Returns the error for a missing manifest: the name is unknown if the repository has no manifest at all.
    fn no_manifest(
        &self,
        repository: &RepositoryName,
        reference: Reference,
    ) -> Result<StoreError, StoreError> {
        let known = self.index.manifest_count(&self.txn, repository)? > 0;
        Ok(if known {
            StoreError::ManifestUnknown(reference)
        } else {
            StoreError::NameUnknown(repository.clone())
        })
    }
}

#[cfg(test)]
mod tests;
