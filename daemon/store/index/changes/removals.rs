//! The removal of tags, manifests and blobs from a repository, for deletes, collections and repairs.

use std::ops::Bound;

use super::applier::{Applier, Object};
use super::deletes::{Deleted, ManifestDelete, TagsDeleted};
use crate::oci::{Digest, Reference, RepositoryName, Tag};
use crate::store::clock::StoreTime;
use crate::store::error::StoreError;
use crate::store::immutable::ImmutableRule;
use crate::store::index::event::EventKind;
use crate::store::index::tables::candidates::MAX_PER_TRANSACTION;
use crate::store::index::tables::meta::Meta;
use crate::store::index::tables::rows::{ManifestRow, OrphanRow};
use crate::store::index::tables::tag_index::TagIndex;
use crate::store::index::tables::{Table, WriteTables, keys};
use crate::store::index_error::IndexError;

/// A tag that was removed.
pub(super) struct RemovedTag {
    pub(super) digest: Digest,
    row: ManifestRow,
}

impl RemovedTag {
    /// Returns the object of an event about the removal.
    pub(super) fn object<'a>(&'a self, repository: &'a RepositoryName, tag: &'a Tag) -> Object<'a> {
        let RemovedTag { digest, row } = self;
        let media_type = Some(row.media_type.as_str());
        Object { repository, tag: Some(tag), digest, before: None, media_type, size: row.size }
    }
}

/// A manifest that was removed from a repository.
pub(super) struct RemovedManifest {
    media_type: String,
    size: u64,
    /// False if it has more referrers than one transaction orphans.
    is_whole: bool,
}

impl RemovedManifest {
    /// Returns the object of an event about the removal.
    pub(super) fn object<'a>(&'a self, repository: &'a RepositoryName, digest: &'a Digest) -> Object<'a> {
        let media_type = Some(self.media_type.as_str());
        Object { repository, tag: None, digest, before: None, media_type, size: self.size }
    }
}

impl<T: WriteTables> Applier<'_, T> {
    /// Removes one tag; its manifest and other tags stay.
    pub(super) fn delete_tag(&mut self, repository: &RepositoryName, tag: &Tag) -> Result<(), StoreError> {
        let removed = self.remove_tag(repository, tag)?;
        self.emit_untag(repository, tag, &removed);
        Ok(())
    }

    /// Removes the row of a tag, without an event; its manifest becomes an orphan.
    pub(super) fn remove_tag(
        &mut self,
        repository: &RepositoryName,
        tag: &Tag,
    ) -> Result<RemovedTag, StoreError> {
        let key = keys::tag_key(repository, tag);
        let row: Option<ManifestRow> = self.tables.row(Table::Tags, &key)?;
        let Some(row) = row else {
            return Err(self.no_manifest(repository, Reference::Tag(tag.clone()))?);
        };
        self.remove_tag_row(repository, tag, &row)?;
        self.names_changed();
        self.update_stats(repository, |counted| counted.tags = counted.tags.saturating_sub(1))?;
        let digest = row.digest(&*self.tables)?;
        self.mark_orphaned(repository, &digest, self.now.store_time, true)?;
        Ok(RemovedTag { digest, row })
    }

    /// Writes the event of a removed tag.
    pub(super) fn emit_untag(&mut self, repository: &RepositoryName, tag: &Tag, removed: &RemovedTag) {
        self.emit(EventKind::Untag, removed.object(repository, tag));
    }

    /// Removes those of the given tags that still name the given manifest. Returns the removed tags, and the number
    /// of tags that have moved to another manifest.
    pub(super) fn delete_tags(
        &mut self,
        repository: &RepositoryName,
        tags: &[(Tag, Digest)],
    ) -> Result<TagsDeleted, StoreError> {
        let (mut deleted, mut moved) = (Vec::new(), 0);
        for (tag, digest) in tags {
            let key = keys::tag_key(repository, tag);
            let row: Option<ManifestRow> = self.tables.row(Table::Tags, &key)?;
            match row {
                Some(row) if row.digest(&*self.tables)? == *digest => {
                    self.delete_tag(repository, tag)?;
                    deleted.push(tag.clone());
                }
                Some(_) => moved += 1,
                None => {}
            }
        }
        Ok(TagsDeleted { deleted, moved })
    }

    /// Removes a manifest from a repository together with its tags; only tags, if it has more than one transaction removes.
    pub(super) fn delete_manifest(&mut self, delete: &ManifestDelete) -> Result<Deleted, StoreError> {
        let ManifestDelete { repository, digest, subject, immutable } = delete;
        if self.tables.get(Table::Manifests, &keys::content_key(repository, digest))?.is_none() {
            return Err(self.no_manifest(repository, Reference::Digest(digest.clone()))?);
        }
        // Checked before any tag is removed.
        self.check_immutable_content(repository, digest, immutable)?;
        let mut tags = self.first_tags_of(repository, digest)?;
        tags.iter().try_for_each(|tag| ImmutableRule::check_delete(immutable, repository, tag))?;
        if tags.len() > MAX_PER_TRANSACTION {
            tags.truncate(MAX_PER_TRANSACTION);
            self.remove_tags_of(repository, digest, &tags)?;
            return Ok(Deleted::TagsLeft);
        }
        let removed = self.delete_manifest_row(repository, digest, subject.as_ref(), self.now.store_time)?;
        self.remove_tags_of(repository, digest, &tags)?;
        self.emit(EventKind::Delete, removed.object(repository, digest));
        Ok(if removed.is_whole { Deleted::Complete } else { Deleted::ReferrersLeft })
    }

    /// Returns the first tags of a manifest, one more than a transaction removes.
    fn first_tags_of(&self, repository: &RepositoryName, digest: &Digest) -> Result<Vec<Tag>, StoreError> {
        let tags = self.tables.parsed_tags_naming(repository, digest)?.take(MAX_PER_TRANSACTION + 1);
        Ok(tags.collect::<Result<_, _>>()?)
    }

    /// Removes an untagged manifest from a repository. Its dependents become orphans as of `since`: now, or when the
    /// manifest itself became one.
    pub(super) fn delete_manifest_row(
        &mut self,
        repository: &RepositoryName,
        digest: &Digest,
        subject: Option<&Digest>,
        since: StoreTime,
    ) -> Result<RemovedManifest, StoreError> {
        let key = keys::content_key(repository, digest);
        let Some(row) = self.tables.row::<ManifestRow>(Table::Manifests, &key)? else {
            return Err(self.no_manifest(repository, Reference::Digest(digest.clone()))?);
        };
        for table in [Table::Manifests, Table::Sparse, Table::Uses] {
            self.tables.delete(table, &key)?;
        }
        self.names_changed();
        self.show_attached(repository, digest)?;
        self.update_stats(repository, |counted| {
            counted.manifests = counted.manifests.saturating_sub(1);
            counted.bytes = counted.bytes.saturating_sub(row.size);
        })?;
        let is_whole = self.orphan_dependents(repository, digest, since)?;
        if let Some(subject) = subject {
            self.tables.delete(Table::Referrers, &keys::referrer_key(repository, subject, Some(digest)))?;
        }
        self.tables.delete(Table::ManifestRepositories, &keys::repository_key(digest, repository))?;
        // An image may reference the digest as its config or a layer: without the record a rebuild would give the
        // repository a blob that was deleted.
        self.record_deletion(repository, digest)?;
        let key = keys::digest_key(digest);
        if self.tables.prefix(Table::ManifestRepositories, &key)?.next().is_none() {
            self.delete_edges(digest)?;
            self.note_if_in_no_repository(digest)?;
        }
        Ok(RemovedManifest { media_type: row.media_type, size: row.size, is_whole })
    }

    /// Orphans the children of a manifest and the first of its referrers, and renews the leases of the children and
    /// of its own bytes. Returns false if referrers remain.
    pub(super) fn orphan_dependents(
        &mut self,
        repository: &RepositoryName,
        digest: &Digest,
        since: StoreTime,
    ) -> Result<bool, StoreError> {
        for child in self.tables.children_of(digest)? {
            self.mark_orphaned(repository, &child, since, true)?;
            self.renew_lease(Some(repository), &child, since)?;
            self.note_child(repository, &child)?;
        }
        self.renew_lease(None, digest, since)?;
        let key = keys::content_key(repository, digest);
        if self.tables.prefix(Table::Referrers, &key)?.next().is_none() {
            self.tables.delete(Table::Orphans, &key)?;
            return Ok(true);
        }
        // Until all its referrers are orphaned the manifest keeps an orphan row itself, so that a collection finishes
        // the delete if this process does not.
        self.tables.put_row(
            Table::Orphans,
            &key,
            &OrphanRow { since: self.now.store_time, deleted: true },
        )?;
        Ok(self.orphan_referrers(repository, digest, None)?.is_none())
    }

    /// Orphans up to [`MAX_PER_TRANSACTION`] referrers of a deleted manifest, after the digest `after`. Returns the
    /// last of them if there may be more.
    pub(super) fn orphan_referrers(
        &mut self,
        repository: &RepositoryName,
        subject: &Digest,
        after: Option<&Digest>,
    ) -> Result<Option<Digest>, StoreError> {
        let key = keys::content_key(repository, subject);
        let is_deleted = self.tables.get(Table::Manifests, &key)?.is_none();
        if !is_deleted || self.tables.get(Table::Orphans, &key)?.is_none() {
            // The manifest was pushed again, or another process finished the delete.
            return Ok(None);
        }
        let prefix = keys::referrer_key(repository, subject, None);
        let start = keys::referrer_key(repository, subject, after);
        let mut page = Vec::new();
        let range = (Bound::Excluded(&start[..]), Bound::Unbounded);
        for row in self.tables.range(Table::Referrers, &range)?.take(MAX_PER_TRANSACTION) {
            let Some(referrer) = row?.0.strip_prefix(&prefix[..]) else { break };
            page.extend(keys::split_digest(referrer).map(|(referrer, _)| referrer));
        }
        for referrer in &page {
            // A lease lookup on a blob does not search for subjects, so the orphan row of a referrer starts a lease
            // for its blobs from now on.
            self.mark_orphaned(repository, referrer, self.now.store_time, true)?;
        }
        if page.len() == MAX_PER_TRANSACTION {
            return Ok(page.pop());
        }
        self.tables.delete(Table::Orphans, &key)?;
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
        let key = keys::content_key(repository, digest);
        if self.tables.get(Table::Manifests, &key)?.is_none() {
            return Ok(());
        }
        let known: Option<OrphanRow> = self.tables.row(Table::Orphans, &key)?;
        let since = known.map_or(since, |row| row.since.max(since));
        Ok(self.tables.put_row(Table::Orphans, &key, &OrphanRow { since, deleted })?)
    }

    /// Removes tags of a manifest, which becomes an orphan.
    fn remove_tags_of(
        &mut self,
        repository: &RepositoryName,
        digest: &Digest,
        tags: &[Tag],
    ) -> Result<(), StoreError> {
        let (wanted, mut removed) = (keys::digest_key(digest), 0);
        for tag in tags {
            let row: Option<ManifestRow> = self.tables.row(Table::Tags, &keys::tag_key(repository, tag))?;
            let row = row.filter(|row| row.digest == wanted);
            let row = row.ok_or_else(|| IndexError::Row("a tag of a manifest names another one".into()));
            let row = self.tables.noted(row)?;
            self.remove_tag_row(repository, tag, &row)?;
            self.emit_untag(repository, tag, &RemovedTag { digest: digest.clone(), row });
            removed += 1;
        }
        if removed == 0 {
            return Ok(());
        }
        self.names_changed();
        self.mark_orphaned(repository, digest, self.now.store_time, true)?;
        self.update_stats(repository, |counted| counted.tags = counted.tags.saturating_sub(removed))
    }

    /// Removes the references of a manifest that no repository has any more.
    pub(super) fn delete_edges(&mut self, digest: &Digest) -> Result<(), StoreError> {
        for child in self.tables.children_of(digest)? {
            self.tables.delete(Table::Parents, &keys::edge_key(&child, digest))?;
        }
        self.tables.delete(Table::Children, &keys::digest_key(digest))?;
        Ok(())
    }

    /// Removes a blob from a repository; other repositories keep it.
    pub(super) fn delete_blob(
        &mut self,
        repository: &RepositoryName,
        digest: &Digest,
        immutable: &[ImmutableRule],
    ) -> Result<(), StoreError> {
        if self.tables.get(Table::RepositoryBlobs, &keys::content_key(repository, digest))?.is_some() {
            self.check_immutable_content(repository, digest, immutable)?;
        }
        let Some(size) = self.unlink_blob(repository, digest)? else {
            return Err(StoreError::BlobUnknown(digest.clone()));
        };
        self.record_deletion(repository, digest)?;
        self.renew_lease(None, digest, self.now.store_time)?;
        let object = Object { repository, tag: None, digest, before: None, media_type: None, size };
        self.emit(EventKind::Delete, object);
        Ok(())
    }

    /// Returns the error for a missing manifest: the name is unknown if the repository has no manifest at all.
    pub(super) fn no_manifest(
        &self,
        repository: &RepositoryName,
        reference: Reference,
    ) -> Result<StoreError, StoreError> {
        let known = self.tables.manifest_count(repository)? > 0;
        Ok(if known {
            StoreError::ManifestUnknown(reference)
        } else {
            StoreError::NameUnknown(repository.clone())
        })
    }
}
