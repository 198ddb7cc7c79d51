//! The changes that the index knows, each applied inside the writer's transaction.
//!
//! Every one checks first and writes afterwards, so that a refusal leaves nothing behind.

use super::schema::{self, BlobRow, LinkRow, ManifestRow, RepositoryRow};
use super::writer::Batch;
use crate::oci::{Descriptor, Digest, LinkKind, Manifest, Reference, RepositoryName, Tag};
use crate::store::error::StoreError;

/// A blob whose file is synced and waits in `uploads/`.
#[derive(Clone)]
pub(in crate::store) struct NewBlob {
    /// The name of the file in `uploads/`.
    pub upload: String,
    /// The digest of its content.
    pub digest: Digest,
    /// Its length in bytes.
    pub size: u64,
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
}

/// So much of the index, at least and at most, is kept back for deletes, which need room to make room.
const RESERVE: (u64, u64) = (256 << 10, 16 << 20);

impl Batch<'_> {
    /// Refuses a change that makes the index larger when there is no more room than deletes may need.
    fn check_room(&self) -> Result<(), StoreError> {
        let size = self.index.env.info().map_size as u64;
        let reserve = (size / 16).clamp(RESERVE.0, RESERVE.1);
        let used = self.index.tables.used(&self.txn)?;
        if used + reserve > size { Err(StoreError::IndexFull) } else { Ok(()) }
    }

    /// Notes that the index holds everything it should: an index without this is made again when it is opened.
    pub(in crate::store) fn mark_complete(&mut self) -> Result<(), StoreError> {
        Ok(self.index.tables.meta.put(&mut self.txn, super::COMPLETE, &[])?)
    }

    /// Moves a blob to its place and makes it known in a repository.
    pub(in crate::store) fn admit_blob(
        &mut self,
        repository: &RepositoryName,
        blob: &NewBlob,
    ) -> Result<(), StoreError> {
        self.check_room()?;
        self.admit_file(blob)?;
        self.link_blob(repository, &blob.digest, blob.size)
    }

    fn admit_file(&mut self, blob: &NewBlob) -> Result<(), StoreError> {
        self.disk.admit(&blob.upload, &blob.digest)?;
        self.renamed(blob.digest.algorithm());
        self.know_blob(&blob.digest, blob.size)
    }

    /// Makes a file in `blobs/` known.
    pub(in crate::store) fn know_blob(&mut self, digest: &Digest, size: u64) -> Result<(), StoreError> {
        let row = BlobRow { size, stored: self.now };
        schema::put_row(self.index.tables.blobs, &mut self.txn, &schema::digest_key(digest), &row)
    }

    fn link_blob(
        &mut self,
        repository: &RepositoryName,
        digest: &Digest,
        size: u64,
    ) -> Result<(), StoreError> {
        let tables = self.index.tables;
        let row = LinkRow { size, linked: self.now };
        schema::put_row(tables.links, &mut self.txn, &schema::content_key(repository, digest), &row)?;
        Ok(tables.blob_homes.put(&mut self.txn, &schema::home_key(digest, repository), &[])?)
    }

    /// Makes a blob of one repository known in another; false if the first does not have it.
    pub(in crate::store) fn mount_blob(
        &mut self,
        from: &RepositoryName,
        to: &RepositoryName,
        digest: &Digest,
    ) -> Result<bool, StoreError> {
        let tables = self.index.tables;
        let row: Option<LinkRow> = schema::row(tables.links, &self.txn, &schema::content_key(from, digest))?;
        let Some(row) = row else { return Ok(false) };
        if !self.disk.blob_path(digest).exists() {
            return Ok(false);
        }
        self.check_room()?;
        self.know_blob(digest, row.size)?;
        self.link_blob(to, digest, row.size)?;
        Ok(true)
    }

    /// Takes a manifest into a repository: its file, its tags, what it points at and what it is about, at once.
    /// It is refused if what it points at is not there.
    pub(in crate::store) fn put_manifest(
        &mut self,
        new: &NewManifest,
        upload: &str,
    ) -> Result<(), StoreError> {
        self.check_links(new)?;
        self.check_room()?;
        self.admit_file(&NewBlob { upload: upload.to_owned(), digest: new.digest.clone(), size: new.size })?;
        self.index_manifest(new)
    }

    /// An image needs all its blobs; an index needs one of its manifests, since copies of single platforms are
    /// what is carried to places without internet.
    fn check_links(&self, new: &NewManifest) -> Result<(), StoreError> {
        let (mut resolved, mut missing, mut refused) = (0, Vec::new(), false);
        for link in new.manifest.links() {
            if self.is_present(&new.repository, &link.digest)? {
                resolved += 1;
            } else if link.kind != LinkKind::Foreign {
                refused |= link.kind == LinkKind::Blob;
                missing.push(link.digest.clone());
            }
        }
        if refused || (resolved == 0 && !missing.is_empty()) {
            return Err(StoreError::ManifestBlobUnknown(missing));
        }
        Ok(())
    }

    fn is_present(&self, repository: &RepositoryName, digest: &Digest) -> Result<bool, StoreError> {
        let key = schema::content_key(repository, digest);
        let tables = self.index.tables;
        Ok(tables.links.get(&self.txn, &key)?.is_some() || tables.manifests.get(&self.txn, &key)?.is_some())
    }

    /// Writes all rows of a manifest whose file is in `blobs/`.
    pub(in crate::store) fn index_manifest(&mut self, new: &NewManifest) -> Result<(), StoreError> {
        let tables = self.index.tables;
        let row = ManifestRow {
            digest: schema::digest_key(&new.digest),
            size: new.size,
            media_type: new.manifest.media_type().to_string(),
            pushed: self.now,
        };
        let key = schema::content_key(&new.repository, &new.digest);
        if tables.manifests.get(&self.txn, &key)?.is_none() {
            self.count_manifests(&new.repository, 1)?;
        }
        schema::put_row(tables.manifests, &mut self.txn, &key, &row)?;
        tables.manifest_homes.put(&mut self.txn, &schema::home_key(&new.digest, &new.repository), &[])?;
        let mut children = Vec::new();
        for link in new.manifest.links() {
            children.extend_from_slice(&schema::digest_key(&link.digest));
            tables.needed_by.put(&mut self.txn, &schema::edge_key(&link.digest, &new.digest), &[])?;
        }
        tables.children.put(&mut self.txn, &row.digest, &children)?;
        if let Some(subject) = new.manifest.subject() {
            let descriptor = new.manifest.descriptor(new.digest.clone(), new.size);
            self.put_referrer(&new.repository, subject, &descriptor)?;
        }
        for tag in &new.tags {
            schema::put_row(tables.tags, &mut self.txn, &schema::tag_key(&new.repository, tag), &row)?;
        }
        Ok(())
    }

    fn put_referrer(
        &mut self,
        repository: &RepositoryName,
        subject: &Digest,
        descriptor: &Descriptor,
    ) -> Result<(), StoreError> {
        let value = serde_json::to_vec(descriptor).map_err(|error| heed::Error::Encoding(error.into()))?;
        let key = schema::referrer_key(repository, subject, Some(&descriptor.digest));
        Ok(self.index.tables.referrers.put(&mut self.txn, &key, &value)?)
    }

    /// Links every blob of a manifest that is on the disk to its repository; used when the index is rebuilt.
    pub(in crate::store) fn link_children(&mut self, new: &NewManifest) -> Result<(), StoreError> {
        for link in new.manifest.links().iter().filter(|link| link.kind != LinkKind::Manifest) {
            let key = schema::digest_key(&link.digest);
            let row: Option<BlobRow> = schema::row(self.index.tables.blobs, &self.txn, &key)?;
            if let Some(row) = row {
                self.link_blob(&new.repository, &link.digest, row.size)?;
            }
        }
        Ok(())
    }

    /// Removes one tag; its manifest and its other tags stay.
    pub(in crate::store) fn delete_tag(
        &mut self,
        repository: &RepositoryName,
        tag: &Tag,
    ) -> Result<(), StoreError> {
        if self.index.tables.tags.delete(&mut self.txn, &schema::tag_key(repository, tag))? {
            return Ok(());
        }
        Err(self.no_manifest(repository, Reference::Tag(tag.clone()))?)
    }

    /// Removes a manifest from a repository, and every tag that points at it.
    pub(in crate::store) fn delete_manifest(
        &mut self,
        repository: &RepositoryName,
        digest: &Digest,
        subject: Option<&Digest>,
    ) -> Result<(), StoreError> {
        let tables = self.index.tables;
        if !tables.manifests.delete(&mut self.txn, &schema::content_key(repository, digest))? {
            return Err(self.no_manifest(repository, Reference::Digest(digest.clone()))?);
        }
        self.count_manifests(repository, -1)?;
        self.delete_tags_of(repository, digest)?;
        if let Some(subject) = subject {
            tables
                .referrers
                .delete(&mut self.txn, &schema::referrer_key(repository, subject, Some(digest)))?;
        }
        tables.manifest_homes.delete(&mut self.txn, &schema::home_key(digest, repository))?;
        let key = schema::digest_key(digest);
        if tables.manifest_homes.prefix_iter(&self.txn, &key)?.next().is_none() {
            self.delete_edges(digest)?;
        }
        Ok(())
    }

    fn delete_tags_of(&mut self, repository: &RepositoryName, digest: &Digest) -> Result<(), StoreError> {
        let (tables, wanted) = (self.index.tables, schema::digest_key(digest));
        let mut keys = Vec::new();
        for row in tables.tags.prefix_iter(&self.txn, &schema::repository_prefix(repository))? {
            let (key, value) = row?;
            if schema::decode::<ManifestRow>(value)?.digest == wanted {
                keys.push(key.to_vec());
            }
        }
        for key in keys {
            tables.tags.delete(&mut self.txn, &key)?;
        }
        Ok(())
    }

    /// Forgets what a manifest points at, once no repository has it any more.
    fn delete_edges(&mut self, digest: &Digest) -> Result<(), StoreError> {
        let (tables, key) = (self.index.tables, schema::digest_key(digest));
        let children = tables.children.get(&self.txn, &key)?.unwrap_or_default().to_vec();
        let mut rest = &children[..];
        while let Some((child, behind)) = schema::split_digest(rest) {
            tables.needed_by.delete(&mut self.txn, &schema::edge_key(&child, digest))?;
            rest = behind;
        }
        tables.children.delete(&mut self.txn, &key)?;
        Ok(())
    }

    /// Removes a blob from a repository; others that have it keep it.
    pub(in crate::store) fn delete_blob(
        &mut self,
        repository: &RepositoryName,
        digest: &Digest,
    ) -> Result<(), StoreError> {
        let tables = self.index.tables;
        if !tables.links.delete(&mut self.txn, &schema::content_key(repository, digest))? {
            return Err(StoreError::BlobUnknown(digest.clone()));
        }
        tables.blob_homes.delete(&mut self.txn, &schema::home_key(digest, repository))?;
        Ok(())
    }

    fn count_manifests(&mut self, repository: &RepositoryName, change: i32) -> Result<(), StoreError> {
        let (table, key) = (self.index.tables.repositories, repository.as_str().as_bytes());
        let manifests = self.index.manifest_count(&self.txn, repository)?.saturating_add_signed(change);
        if manifests == 0 {
            table.delete(&mut self.txn, key)?;
            return Ok(());
        }
        schema::put_row(table, &mut self.txn, key, &RepositoryRow { manifests })
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
