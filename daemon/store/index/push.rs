//! The changes that a push makes in the index, each applied inside the writer's transaction.
//!
//! Every one checks first and writes afterwards, so that a refusal leaves nothing behind.

use std::collections::BTreeSet;

use super::batch::Batch;
use super::rows::{BlobRow, ManifestRow, NameTimestamps, RepositoryBlobRow, RepositoryRow};
use super::{keys, schema};
use crate::oci::{Descriptor, Digest, LinkKind, Manifest, RepositoryName, Tag};
use crate::store::disk::HashedFile;
use crate::store::error::StoreError;
use crate::store::immutable::Immutable;
use crate::store::room::NameLimits;

/// A blob whose file is synced and waits in `uploads/`.
#[derive(Clone)]
pub(in crate::store) struct NewBlob {
    /// The file in `uploads/`.
    pub file: HashedFile,
    /// The digest of its content.
    pub digest: Digest,
}

/// A manifest to be put, with the names it is to have.
#[derive(Clone)]
pub(in crate::store) struct NewManifest {
    /// The repository it goes to.
    pub repository: RepositoryName,
    /// What it is.
    pub manifest: Manifest,
    /// The digest of its bytes.
    pub digest: Digest,
    /// Its length in bytes.
    pub size: u64,
    /// The tags it gets.
    pub tags: Vec<Tag>,
    /// When it got them, if not now.
    pub given: Option<NameTimestamps>,
}

/// How many digests that are not there are named in a refusal.
const MAX_MISSING_DIGESTS: usize = 100;

impl Batch<'_> {
    /// Notes that the index holds everything it should: an index without this is made again when it is opened.
    pub(in crate::store) fn mark_complete(&mut self) -> Result<(), StoreError> {
        Ok(self.index.tables.meta.put(&mut self.txn, schema::COMPLETE, &[])?)
    }

    /// Moves a blob to its place and makes it known in a repository.
    pub(in crate::store) fn admit_blob(
        &mut self,
        repository: &RepositoryName,
        blob: &NewBlob,
    ) -> Result<(), StoreError> {
        self.check_capacity()?;
        self.admit_file(blob)?;
        self.link_blob(repository, &blob.digest, blob.file.length)
    }

    fn admit_file(&mut self, blob: &NewBlob) -> Result<(), StoreError> {
        self.disk.admit(&blob.file, &blob.digest)?;
        self.renamed(blob.digest.algorithm());
        self.know_blob(&blob.digest, blob.file.length)
    }

    /// Makes a file in `blobs/` known, and lets a push count on it from now on.
    pub(in crate::store) fn know_blob(&mut self, digest: &Digest, size: u64) -> Result<(), StoreError> {
        let (table, key) = (self.index.tables.blobs, keys::digest_key(digest));
        let known: Option<BlobRow> = schema::row(table, &self.txn, &key)?;
        self.count_bytes(size, known.map_or(0, |row| row.size))?;
        schema::put_row(table, &mut self.txn, &key, &BlobRow { size, counted_on: self.moment })
    }

    /// Keeps the length of all blobs together up to date.
    pub(super) fn count_bytes(&mut self, more: u64, less: u64) -> Result<(), StoreError> {
        if more == less {
            return Ok(());
        }
        let bytes = self.index.tables.bytes(&self.txn)?.saturating_add(more).saturating_sub(less);
        schema::put_row(self.index.tables.meta, &mut self.txn, schema::BYTES, &bytes)
    }

    pub(super) fn link_blob(
        &mut self,
        repository: &RepositoryName,
        digest: &Digest,
        size: u64,
    ) -> Result<(), StoreError> {
        let tables = self.index.tables;
        let (key, row) =
            (keys::content_key(repository, digest), RepositoryBlobRow { size, counted_on: self.moment });
        let before: Option<RepositoryBlobRow> = schema::row(tables.repository_blobs, &self.txn, &key)?;
        schema::put_row(tables.repository_blobs, &mut self.txn, &key, &row)?;
        tables.blob_repositories.put(&mut self.txn, &keys::repository_key(digest, repository), &[])?;
        if before.is_none() {
            self.record_new_link(repository, digest)?;
        }
        match before.map_or(0, |row| row.size) {
            before if before == size => Ok(()),
            before => self.count(repository, |counted| {
                counted.bytes = counted.bytes.saturating_add(size).saturating_sub(before);
            }),
        }
    }

    /// Makes a blob of one repository known in another; false if the first does not have it.
    pub(in crate::store) fn mount_blob(
        &mut self,
        from: &RepositoryName,
        to: &RepositoryName,
        digest: &Digest,
    ) -> Result<bool, StoreError> {
        let tables = self.index.tables;
        let row: Option<RepositoryBlobRow> =
            schema::row(tables.repository_blobs, &self.txn, &keys::content_key(from, digest))?;
        let Some(row) = row else { return Ok(false) };
        // The client sends it then, and that replaces the file.
        if !self.disk.has_blob(digest, row.size)? {
            self.disk.report_damaged(digest);
            return Ok(false);
        }
        self.check_capacity()?;
        self.know_blob(digest, row.size)?;
        self.link_blob(to, digest, row.size)?;
        Ok(true)
    }

    /// Takes a manifest into a repository: its file, its tags, what it points at and what it is about, at once.
    /// It is refused if what it points at is not there; `damaged` is content whose file is not as the index says.
    pub(in crate::store) fn put_manifest(
        &mut self,
        new: &NewManifest,
        file: &HashedFile,
        (limits, immutable): (NameLimits, &[Immutable]),
        damaged: &BTreeSet<Digest>,
    ) -> Result<(), StoreError> {
        self.check_immutable(new, immutable)?;
        self.check_links(new, damaged)?;
        self.check_names(new, limits)?;
        self.check_capacity()?;
        self.admit_file(&NewBlob { file: file.clone(), digest: new.digest.clone() })?;
        self.index_manifest(new)
    }

    /// Refuses new names beyond the limits; a tag that moves is not new.
    fn check_names(&self, new: &NewManifest, limits: NameLimits) -> Result<(), StoreError> {
        let tables = self.index.tables;
        let mut tags = BTreeSet::new();
        for tag in &new.tags {
            let key = keys::tag_key(&new.repository, tag);
            if tables.tags.get(&self.txn, &key)?.is_none() {
                tags.insert(key);
            }
        }
        let key = keys::content_key(&new.repository, &new.digest);
        let manifests = u64::from(tables.manifests.get(&self.txn, &key)?.is_none());
        let tags = tags.len() as u64;
        if tags > 0 {
            let key = new.repository.as_str().as_bytes();
            let row: Option<RepositoryRow> = schema::row(tables.repositories, &self.txn, key)?;
            let limit = limits.tags_per_repository;
            if u64::from(row.unwrap_or_default().tags) + tags > limit {
                return Err(StoreError::TooManyTags { repository: new.repository.clone(), limit });
            }
        }
        if tags + manifests > 0 {
            let names = tables.tags.len(&self.txn)? + tables.manifests.len(&self.txn)?;
            if names + tags + manifests > limits.names {
                return Err(StoreError::TooManyNames { limit: limits.names });
            }
        }
        Ok(())
    }

    /// An image needs all its blobs; an index needs one of its manifests, since copies of single platforms are
    /// what is carried to places without internet.
    fn check_links(&self, new: &NewManifest, damaged: &BTreeSet<Digest>) -> Result<(), StoreError> {
        let (mut resolved, mut missing, mut refused) = (0, Vec::new(), false);
        for link in new.manifest.links() {
            if !damaged.contains(&link.digest) && self.is_present(&new.repository, &link.digest)? {
                resolved += 1;
            } else if link.kind != LinkKind::Foreign {
                refused |= link.kind == LinkKind::Blob;
                if missing.len() < MAX_MISSING_DIGESTS {
                    missing.push(link.digest.clone());
                }
            }
        }
        if refused || (resolved == 0 && !missing.is_empty()) {
            return Err(StoreError::ManifestBlobUnknown(missing));
        }
        Ok(())
    }

    fn is_present(&self, repository: &RepositoryName, digest: &Digest) -> Result<bool, StoreError> {
        let key = keys::content_key(repository, digest);
        let tables = self.index.tables;
        Ok(tables.repository_blobs.get(&self.txn, &key)?.is_some()
            || tables.manifests.get(&self.txn, &key)?.is_some())
    }

    /// Writes all rows of a manifest whose file is in `blobs/`.
    pub(in crate::store) fn index_manifest(&mut self, new: &NewManifest) -> Result<(), StoreError> {
        self.names_changed();
        let tables = self.index.tables;
        let given = self.timestamps_or_now(new.given)?;
        let mut row = ManifestRow {
            digest: keys::digest_key(&new.digest),
            size: new.size,
            media_type: new.manifest.media_type().to_string(),
            pushed: given.pushed,
            since: given.since,
            order: given.order,
        };
        let key = keys::content_key(&new.repository, &new.digest);
        let is_new = tables.manifests.get(&self.txn, &key)?.is_none();
        schema::put_row(tables.manifests, &mut self.txn, &key, &row)?;
        tables.manifest_repositories.put(
            &mut self.txn,
            &keys::repository_key(&new.digest, &new.repository),
            &[],
        )?;
        self.put_edges(new)?;
        if let Some(subject) = new.manifest.subject() {
            let descriptor = new.manifest.descriptor(new.digest.clone(), new.size);
            self.put_referrer(&new.repository, subject, &descriptor)?;
        }
        self.record_push(&new.repository, is_new.then_some(new.size), new.given)?;
        for (number, tag) in new.tags.iter().enumerate() {
            if number > 0 && new.given.is_none() {
                row.order = self.next_sequence_number()?;
            }
            self.move_tag(&new.repository, tag, &row)?;
        }
        self.index.watches.note_push(&key, &new.tags);
        // Whoever pushes it wants it.
        tables.orphans.delete(&mut self.txn, &key)?;
        Ok(())
    }

    /// Writes which content a manifest names, and notes the foreign layers that the repository has: a rebuild cannot derive
    /// those.
    fn put_edges(&mut self, new: &NewManifest) -> Result<(), StoreError> {
        let tables = self.index.tables;
        let mut children = Vec::new();
        for link in new.manifest.links() {
            children.extend_from_slice(&keys::digest_key(&link.digest));
            tables.parents.put(&mut self.txn, &keys::edge_key(&link.digest, &new.digest), &[])?;
            if link.kind == LinkKind::Foreign {
                self.record_foreign_link(&new.repository, &link.digest)?;
            }
        }
        tables.children.put(&mut self.txn, &keys::digest_key(&new.digest), &children)?;
        Ok(())
    }

    /// Restores a tag of a manifest that the index has already; false if it does not have it.
    pub(in crate::store) fn restore_tag(
        &mut self,
        repository: &RepositoryName,
        tag: &Tag,
        digest: &Digest,
        given: Option<NameTimestamps>,
    ) -> Result<bool, StoreError> {
        let (table, key) = (self.index.tables.manifests, keys::content_key(repository, digest));
        let Some(row) = schema::row::<ManifestRow>(table, &self.txn, &key)? else { return Ok(false) };
        let given = self.timestamps_or_now(given)?;
        let NameTimestamps { pushed, since, order } = given;
        let named = ManifestRow { pushed, since, order, ..row.clone() };
        if since > row.since {
            schema::put_row(table, &mut self.txn, &key, &named)?;
        }
        self.names_changed();
        self.move_tag(repository, tag, &named)?;
        self.record_push(repository, None, Some(given))?;
        Ok(true)
    }

    /// Returns when a name was given: now, if nothing else is said.
    fn timestamps_or_now(&mut self, given: Option<NameTimestamps>) -> Result<NameTimestamps, StoreError> {
        match given {
            Some(given) => Ok(given),
            None => Ok(NameTimestamps {
                pushed: self.now,
                since: self.moment,
                order: self.next_sequence_number()?,
            }),
        }
    }

    fn move_tag(
        &mut self,
        repository: &RepositoryName,
        tag: &Tag,
        row: &ManifestRow,
    ) -> Result<(), StoreError> {
        let (table, key) = (self.index.tables.tags, keys::tag_key(repository, tag));
        let before: Option<ManifestRow> = schema::row(table, &self.txn, &key)?;
        match before {
            None => self.count(repository, |counted| counted.tags = counted.tags.saturating_add(1))?,
            Some(before) if before.digest != row.digest => {
                self.mark_orphaned(repository, &before.digest()?, self.moment, false)?;
            }
            Some(_) => {}
        }
        schema::put_row(table, &mut self.txn, &key, row)
    }

    fn put_referrer(
        &mut self,
        repository: &RepositoryName,
        subject: &Digest,
        descriptor: &Descriptor,
    ) -> Result<(), StoreError> {
        let value = serde_json::to_vec(descriptor).map_err(|error| heed::Error::Encoding(error.into()))?;
        let key = keys::referrer_key(repository, subject, Some(&descriptor.digest));
        Ok(self.index.tables.referrers.put(&mut self.txn, &key, &value)?)
    }
}
