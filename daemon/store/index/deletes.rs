//! The changes that a delete makes in the index, each applied inside the writer's transaction.
//!
//! Every one checks first and writes afterwards, so that a refusal leaves nothing behind. What is no longer needed
//! for the sake of what was deleted is noted with its moment, and collected when the grace time has passed.

use super::schema::{self, BlobRow, LeftRow, LinkRow, ManifestRow};
use super::writer::Batch;
use crate::oci::{Digest, Reference, RepositoryName, Tag};
use crate::store::clock::Moment;
use crate::store::error::StoreError;

/// What the manifest to be deleted is about.
pub(in crate::store) enum Subject {
    /// Its bytes say it.
    Known(Option<Digest>),
    /// Its bytes cannot be read: only a search through the rows of its repository tells.
    Unreadable,
}

impl Batch<'_> {
    /// Removes one tag; its manifest and its other tags stay.
    pub(in crate::store) fn delete_tag(
        &mut self,
        repository: &RepositoryName,
        tag: &Tag,
    ) -> Result<(), StoreError> {
        let (table, key) = (self.index.tables.tags, schema::tag_key(repository, tag));
        let row: Option<ManifestRow> = schema::row(table, &self.txn, &key)?;
        let Some(row) = row else {
            return Err(self.no_manifest(repository, Reference::Tag(tag.clone()))?);
        };
        table.delete(&mut self.txn, &key)?;
        self.names_changed();
        self.count(repository, |counted| counted.tags = counted.tags.saturating_sub(1))?;
        self.leave(repository, &row.digest()?, self.moment, true)
    }

    /// Removes those of some tags that still name the manifest beside them, and gives them and the number of those
    /// that name another one by now.
    pub(in crate::store) fn delete_tags(
        &mut self,
        repository: &RepositoryName,
        tags: &[(Tag, Digest)],
    ) -> Result<(Vec<Tag>, usize), StoreError> {
        let (mut deleted, mut moved) = (Vec::new(), 0);
        for (tag, digest) in tags {
            let key = schema::tag_key(repository, tag);
            let row: Option<ManifestRow> = schema::row(self.index.tables.tags, &self.txn, &key)?;
            match row {
                Some(row) if row.digest()? == *digest => {
                    self.delete_tag(repository, tag)?;
                    deleted.push(tag.clone());
                }
                Some(_) => moved += 1,
                None => {}
            }
        }
        Ok((deleted, moved))
    }

    /// Removes a manifest from a repository, and every tag that points at it.
    pub(in crate::store) fn delete_manifest(
        &mut self,
        repository: &RepositoryName,
        digest: &Digest,
        subject: &Subject,
    ) -> Result<(), StoreError> {
        let subject = match subject {
            Subject::Known(subject) => subject.clone(),
            Subject::Unreadable => self.index.tables.subjects(&self.txn, repository)?.remove(digest),
        };
        self.delete_untagged(repository, digest, subject.as_ref(), self.moment)?;
        self.delete_tags_of(repository, digest)
    }

    /// Removes a manifest that has no tag from a repository. What it leaves behind is not needed since `since`:
    /// now, or when it was left behind itself.
    pub(super) fn delete_untagged(
        &mut self,
        repository: &RepositoryName,
        digest: &Digest,
        subject: Option<&Digest>,
        since: Moment,
    ) -> Result<(), StoreError> {
        let (tables, key) = (self.index.tables, schema::content_key(repository, digest));
        let Some(row) = schema::row::<ManifestRow>(tables.manifests, &self.txn, &key)? else {
            return Err(self.no_manifest(repository, Reference::Digest(digest.clone()))?);
        };
        tables.manifests.delete(&mut self.txn, &key)?;
        self.names_changed();
        self.count(repository, |counted| {
            counted.manifests = counted.manifests.saturating_sub(1);
            counted.bytes = counted.bytes.saturating_sub(row.size);
        })?;
        self.leave_behind(repository, digest, since)?;
        if let Some(subject) = subject {
            tables
                .referrers
                .delete(&mut self.txn, &schema::referrer_key(repository, subject, Some(digest)))?;
        }
        tables.manifest_homes.delete(&mut self.txn, &schema::home_key(digest, repository))?;
        // An image may name it as its config or a layer: a rebuild would make it a blob of the repository.
        self.note_deletion(repository, digest)?;
        let key = schema::digest_key(digest);
        if tables.manifest_homes.prefix_iter(&self.txn, &key)?.next().is_none() {
            self.delete_edges(digest)?;
        }
        Ok(())
    }

    /// Notes what is no longer needed for the sake of a manifest: what it points at, what is about it, its bytes.
    fn leave_behind(
        &mut self,
        repository: &RepositoryName,
        digest: &Digest,
        since: Moment,
    ) -> Result<(), StoreError> {
        let tables = self.index.tables;
        for child in tables.children_of(&self.txn, digest)? {
            self.leave(repository, &child, since, true)?;
            self.count_on(Some(repository), &child, since)?;
        }
        let mut about = Vec::new();
        let prefix = schema::referrer_key(repository, digest, None);
        for row in tables.referrers.prefix_iter(&self.txn, &prefix)? {
            about.extend(schema::split_digest(&row?.0[prefix.len()..]).map(|(referrer, _)| referrer));
        }
        for referrer in about {
            // Whether something is about another is not looked up when somebody hears of its blobs: from now on those
            // can be counted on for as long as anything that is left behind.
            self.leave(repository, &referrer, self.moment, true)?;
        }
        tables.left.delete(&mut self.txn, &schema::content_key(repository, digest))?;
        self.count_on(None, digest, since)
    }

    /// Notes that a manifest, if it is one of the repository, has lost a tag or what pointed at it. The last of
    /// these decides whether it was by a delete.
    pub(super) fn leave(
        &mut self,
        repository: &RepositoryName,
        digest: &Digest,
        since: Moment,
        deleted: bool,
    ) -> Result<(), StoreError> {
        let (tables, key) = (self.index.tables, schema::content_key(repository, digest));
        if tables.manifests.get(&self.txn, &key)?.is_none() {
            return Ok(());
        }
        let known: Option<LeftRow> = schema::row(tables.left, &self.txn, &key)?;
        let since = known.map_or(since, |row| row.since.max(since));
        schema::put_row(tables.left, &mut self.txn, &key, &LeftRow { since, deleted })
    }

    /// Lets a push count from now on on a manifest that something has left behind, or that has become old.
    pub(in crate::store) fn count_on_manifest(
        &mut self,
        repository: &RepositoryName,
        digest: &Digest,
    ) -> Result<(), StoreError> {
        let key = schema::content_key(repository, digest);
        let known: Option<LeftRow> = schema::row(self.index.tables.left, &self.txn, &key)?;
        if known.is_none() {
            self.check_room()?;
        }
        self.leave(repository, digest, self.moment, known.is_some_and(|row| row.deleted))
    }

    /// Lets a push count on a blob from a moment on, in one repository if it is there, and at all.
    pub(in crate::store) fn count_on(
        &mut self,
        repository: Option<&RepositoryName>,
        digest: &Digest,
        moment: Moment,
    ) -> Result<(), StoreError> {
        let tables = self.index.tables;
        if let Some(repository) = repository {
            let key = schema::content_key(repository, digest);
            let row: Option<LinkRow> = schema::row(tables.links, &self.txn, &key)?;
            if let Some(row) = row.filter(|row| row.counted_on < moment) {
                let row = LinkRow { counted_on: moment, ..row };
                schema::put_row(tables.links, &mut self.txn, &key, &row)?;
            }
        }
        let key = schema::digest_key(digest);
        let row: Option<BlobRow> = schema::row(tables.blobs, &self.txn, &key)?;
        if let Some(row) = row.filter(|row| row.counted_on < moment) {
            let row = BlobRow { counted_on: moment, ..row };
            schema::put_row(tables.blobs, &mut self.txn, &key, &row)?;
        }
        Ok(())
    }

    fn delete_tags_of(&mut self, repository: &RepositoryName, digest: &Digest) -> Result<(), StoreError> {
        let (tables, wanted) = (self.index.tables, schema::digest_key(digest));
        let mut keys = Vec::new();
        for row in tables.tags.prefix_iter(&self.txn, &schema::repository_prefix(repository))? {
            let (key, value) = row?;
            if schema::digest_of(value)? == wanted {
                keys.push(key.to_vec());
            }
        }
        for key in &keys {
            tables.tags.delete(&mut self.txn, key)?;
        }
        let gone = u32::try_from(keys.len()).unwrap_or(u32::MAX);
        self.count(repository, |counted| counted.tags = counted.tags.saturating_sub(gone))
    }

    /// Forgets what a manifest points at, once no repository has it any more.
    fn delete_edges(&mut self, digest: &Digest) -> Result<(), StoreError> {
        let tables = self.index.tables;
        for child in tables.children_of(&self.txn, digest)? {
            tables.needed_by.delete(&mut self.txn, &schema::edge_key(&child, digest))?;
        }
        tables.children.delete(&mut self.txn, &schema::digest_key(digest))?;
        Ok(())
    }

    /// Removes a blob from a repository; others that have it keep it.
    pub(in crate::store) fn delete_blob(
        &mut self,
        repository: &RepositoryName,
        digest: &Digest,
    ) -> Result<(), StoreError> {
        if !self.unlink_blob(repository, digest)? {
            return Err(StoreError::BlobUnknown(digest.clone()));
        }
        self.note_deletion(repository, digest)?;
        self.count_on(None, digest, self.moment)
    }

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
