//! The changes of a push, applied inside the writer's transaction.
//!
//! Each one checks first and writes afterwards, so that a refused change has written nothing.

use std::collections::BTreeSet;

use super::batch::Batch;
use super::rows::{BlobRow, ManifestRow, NameTimestamps, RepositoryBlobRow, RepositoryRow};
use super::{keys, schema};
use crate::oci::{Descriptor, Digest, Manifest, ReferenceKind, RepositoryName, Tag};
use crate::store::capacity_limits::NameLimits;
use crate::store::error::StoreError;
use crate::store::immutable::ImmutableRule;
use crate::store::upload_files::HashedFile;

/// A blob whose synced file waits in `uploads/`.
#[derive(Clone)]
pub(in crate::store) struct NewBlob {
    /// The file in `uploads/`.
    pub file: HashedFile,
    /// The digest of its content.
    pub digest: Digest,
}

/// A manifest to store, and its tags.
#[derive(Clone)]
pub(in crate::store) struct NewManifest {
    /// The repository.
    pub repository: RepositoryName,
    /// The parsed manifest.
    pub manifest: Manifest,
    /// The digest of its bytes.
    pub digest: Digest,
    /// Its length in bytes.
    pub size: u64,
    /// The tags to set.
    pub tags: Vec<Tag>,
    /// The time at which the names were set; now if `None`.
    pub timestamps: Option<NameTimestamps>,
}

/// The maximum number of missing digests that an error lists.
const MAX_MISSING_DIGESTS: usize = 100;

impl Batch<'_> {
    /// Marks the index as complete. An index without the mark is rebuilt when it is opened.
    pub(in crate::store) fn mark_complete(&mut self) -> Result<(), StoreError> {
        Ok(self.index.tables.meta.put(&mut self.txn, schema::COMPLETE, &[])?)
    }

    /// Moves a blob to `blobs/` and adds it to a repository.
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
        self.disk.rename_to_blob(&blob.file, &blob.digest)?;
        self.renamed(blob.digest.algorithm());
        self.record_blob(&blob.digest, blob.file.length)
    }

    /// Writes the row of a file in `blobs/`, with a new lease.
    pub(in crate::store) fn record_blob(&mut self, digest: &Digest, size: u64) -> Result<(), StoreError> {
        let (table, key) = (self.index.tables.blobs, keys::digest_key(digest));
        let known: Option<BlobRow> = schema::row(table, &self.txn, &key)?;
        self.update_total_bytes(size, known.map_or(0, |row| row.size))?;
        schema::put_row(table, &mut self.txn, &key, &BlobRow { size, leased_at: self.store_time })
    }

    /// Updates the total length of all blobs.
    pub(super) fn update_total_bytes(&mut self, more: u64, less: u64) -> Result<(), StoreError> {
        if more == less {
            return Ok(());
        }
        let bytes = self.index.tables.bytes(&self.txn)?.saturating_add(more).saturating_sub(less);
        schema::put_row(self.index.tables.meta, &mut self.txn, schema::BYTES, &bytes)
    }

    /// Adds a blob to a repository, with a new lease, and updates the statistics of the repository.
    pub(super) fn link_blob(
        &mut self,
        repository: &RepositoryName,
        digest: &Digest,
        size: u64,
    ) -> Result<(), StoreError> {
        let tables = self.index.tables;
        let (key, row) =
            (keys::content_key(repository, digest), RepositoryBlobRow { size, leased_at: self.store_time });
        let before: Option<RepositoryBlobRow> = schema::row(tables.repository_blobs, &self.txn, &key)?;
        schema::put_row(tables.repository_blobs, &mut self.txn, &key, &row)?;
        tables.blob_repositories.put(&mut self.txn, &keys::repository_key(digest, repository), &[])?;
        if before.is_none() {
            self.record_new_link(repository, digest)?;
        }
        match before.map_or(0, |row| row.size) {
            before if before == size => Ok(()),
            before => self.update_stats(repository, |counted| {
                counted.bytes = counted.bytes.saturating_add(size).saturating_sub(before);
            }),
        }
    }

    /// Mounts a blob of one repository in another; returns false if the source does not have it.
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
        // False makes the client upload the blob, which replaces the file.
        if !self.disk.has_blob(digest, row.size)? {
            self.disk.report_damaged(digest);
            return Ok(false);
        }
        self.check_capacity()?;
        self.record_blob(digest, row.size)?;
        self.link_blob(to, digest, row.size)?;
        Ok(true)
    }

    /// Stores a manifest with its file, tags, references and referrer row. Refuses it with
    /// [`StoreError::ManifestBlobUnknown`] if content that it references is missing; `damaged` lists content whose
    /// file is not as indexed.
    pub(in crate::store) fn put_manifest(
        &mut self,
        new: &NewManifest,
        file: &HashedFile,
        (limits, immutable): (NameLimits, &[ImmutableRule]),
        damaged: &BTreeSet<Digest>,
    ) -> Result<(), StoreError> {
        self.check_immutable(new, immutable)?;
        self.check_references(new, damaged)?;
        self.check_name_limits(new, limits)?;
        self.check_capacity()?;
        self.admit_file(&NewBlob { file: file.clone(), digest: new.digest.clone() })?;
        self.index_manifest(new)
    }

    /// Refuses new names beyond the limits; moving a tag adds no name.
    fn check_name_limits(&self, new: &NewManifest, limits: NameLimits) -> Result<(), StoreError> {
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

    /// Refuses an image if any of its blobs is missing, and an index if all of its manifests are: users mirror single
    /// platforms of an index to places without internet.
    fn check_references(&self, new: &NewManifest, damaged: &BTreeSet<Digest>) -> Result<(), StoreError> {
        let (mut resolved, mut missing, mut refused) = (0, Vec::new(), false);
        for link in new.manifest.references() {
            if !damaged.contains(&link.digest) && self.is_present(&new.repository, &link.digest)? {
                resolved += 1;
            } else if link.kind != ReferenceKind::Foreign {
                refused |= link.kind == ReferenceKind::Blob;
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
        let timestamps = self.timestamps_or_now(new.timestamps)?;
        let mut row = ManifestRow {
            digest: keys::digest_key(&new.digest),
            size: new.size,
            media_type: new.manifest.media_type().to_string(),
            pushed: timestamps.pushed,
            since: timestamps.since,
            order: timestamps.order,
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
        self.record_push(&new.repository, is_new.then_some(new.size), new.timestamps)?;
        for (number, tag) in new.tags.iter().enumerate() {
            if number > 0 && new.timestamps.is_none() {
                row.order = self.next_sequence_number()?;
            }
            self.move_tag(&new.repository, tag, &row)?;
        }
        self.index.watches.record_push(&key, &new.tags);
        // A push makes an orphan live again.
        tables.orphans.delete(&mut self.txn, &key)?;
        Ok(())
    }

    /// Writes the references of a manifest, and records foreign layers that the repository has, which a rebuild could
    /// not derive from the manifest.
    fn put_edges(&mut self, new: &NewManifest) -> Result<(), StoreError> {
        let tables = self.index.tables;
        let mut children = Vec::new();
        for link in new.manifest.references() {
            children.extend_from_slice(&keys::digest_key(&link.digest));
            tables.parents.put(&mut self.txn, &keys::edge_key(&link.digest, &new.digest), &[])?;
            if link.kind == ReferenceKind::Foreign {
                self.record_foreign_link(&new.repository, &link.digest)?;
            }
        }
        tables.children.put(&mut self.txn, &keys::digest_key(&new.digest), &children)?;
        Ok(())
    }

    /// Restores a tag of an indexed manifest; returns false if the repository does not have the manifest.
    pub(in crate::store) fn restore_tag(
        &mut self,
        repository: &RepositoryName,
        tag: &Tag,
        digest: &Digest,
        timestamps: Option<NameTimestamps>,
    ) -> Result<bool, StoreError> {
        let (table, key) = (self.index.tables.manifests, keys::content_key(repository, digest));
        let Some(row) = schema::row::<ManifestRow>(table, &self.txn, &key)? else { return Ok(false) };
        let timestamps = self.timestamps_or_now(timestamps)?;
        let NameTimestamps { pushed, since, order } = timestamps;
        let named = ManifestRow { pushed, since, order, ..row.clone() };
        if since > row.since {
            schema::put_row(table, &mut self.txn, &key, &named)?;
        }
        self.names_changed();
        self.move_tag(repository, tag, &named)?;
        self.record_push(repository, None, Some(timestamps))?;
        Ok(true)
    }

    /// Returns the timestamps of a name, or those of a name that is set now.
    fn timestamps_or_now(
        &mut self,
        timestamps: Option<NameTimestamps>,
    ) -> Result<NameTimestamps, StoreError> {
        match timestamps {
            Some(timestamps) => Ok(timestamps),
            None => Ok(NameTimestamps {
                pushed: self.wall_time,
                since: self.store_time,
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
            None => self.update_stats(repository, |counted| counted.tags = counted.tags.saturating_add(1))?,
            Some(before) if before.digest != row.digest => {
                self.mark_orphaned(repository, &before.digest(table)?, self.store_time, false)?;
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
        let value = serde_json::to_vec(descriptor).map_err(|error| heed::Error::Encoding(error.into()));
        let value = self.index.tables.noted(value)?;
        let key = keys::referrer_key(repository, subject, Some(&descriptor.digest));
        Ok(self.index.tables.referrers.put(&mut self.txn, &key, &value)?)
    }
}
