//! Single-row lookups, and pages of rows, each in a read transaction of its own.

use std::collections::BTreeSet;
use std::ops::Bound;

use super::database::Index;
use super::entry::{Counts, ManifestEntry, Page, entry};
use super::rows::{BlobRow, RepositoryBlobRow, UploadRow};
use super::{keys, lists, schema};
use crate::oci::{Digest, Reference, RepositoryName, Tag};
use crate::store::error::StoreError;

impl Index {
    /// Returns the manifest that a tag or digest names, by one lookup.
    pub(in crate::store) fn manifest(
        &self,
        repository: &RepositoryName,
        reference: &Reference,
    ) -> Result<Option<ManifestEntry>, StoreError> {
        let txn = self.read_txn()?;
        let (table, key) = match reference {
            Reference::Tag(tag) => (self.tables.tags, keys::tag_key(repository, tag)),
            Reference::Digest(digest) => (self.tables.manifests, keys::content_key(repository, digest)),
        };
        let row = schema::row(table, &txn, &key)?;
        Ok(row.map(|row| entry(table, &row)).transpose()?)
    }

    /// Returns the row of a blob if the repository has it, by one lookup.
    pub(in crate::store) fn blob(
        &self,
        repository: &RepositoryName,
        digest: &Digest,
    ) -> Result<Option<RepositoryBlobRow>, StoreError> {
        let txn = self.read_txn()?;
        schema::row(self.tables.repository_blobs, &txn, &keys::content_key(repository, digest))
    }

    /// Returns the repositories that have a blob, at most `limit` of them.
    pub(in crate::store) fn blob_repositories(
        &self,
        digest: &Digest,
        limit: usize,
    ) -> Result<Vec<RepositoryName>, StoreError> {
        let txn = self.read_txn()?;
        let prefix = keys::digest_key(digest);
        let mut repositories = Vec::new();
        for row in self.tables.blob_repositories.prefix_iter(&txn, &prefix)?.take(limit) {
            repositories.extend(keys::text_after(row?.0, prefix.len()).and_then(|name| name.parse().ok()));
        }
        Ok(repositories)
    }

    /// Returns the repositories that have a manifest.
    pub(in crate::store) fn manifest_repositories(
        &self,
        digest: &Digest,
    ) -> Result<Vec<RepositoryName>, StoreError> {
        let (txn, key) = (self.read_txn()?, keys::digest_key(digest));
        let mut repositories = Vec::new();
        for row in self.tables.manifest_repositories.prefix_iter(&txn, &key)? {
            repositories.extend(keys::text_after(row?.0, key.len()).and_then(|name| name.parse().ok()));
        }
        Ok(repositories)
    }

    /// Returns true if the repository exists, which it does while it has a manifest.
    pub(in crate::store) fn repository_exists(
        &self,
        repository: &RepositoryName,
    ) -> Result<bool, StoreError> {
        let txn = self.read_txn()?;
        Ok(self.tables.repositories.get(&txn, repository.as_str().as_bytes())?.is_some())
    }

    /// Returns a page of the tags of a repository after `last`, in byte order. A page is bounded by `limit` and by
    /// the bytes of its tags.
    pub(in crate::store) fn tags(
        &self,
        repository: &RepositoryName,
        last: Option<&str>,
        limit: usize,
    ) -> Result<Page<Tag>, StoreError> {
        let txn = self.read_txn()?;
        let prefix = keys::repository_prefix(repository);
        let mut after = prefix.clone();
        after.extend_from_slice(last.unwrap_or_default().as_bytes());
        let (mut page, mut bytes) = (Page { items: Vec::new(), more: false }, 0);
        for row in self.tables.tags.range(&txn, &(Bound::Excluded(&after[..]), Bound::Unbounded))? {
            let (key, _) = row?;
            if !key.starts_with(&prefix) {
                break;
            }
            bytes += key.len() - prefix.len();
            if page.items.len() == limit || (bytes > lists::MAX_NAME_BYTES && !page.items.is_empty()) {
                page.more = true;
                break;
            }
            page.items.extend(keys::text_after(key, prefix.len()).and_then(|tag| tag.parse().ok()));
        }
        Ok(page)
    }

    /// Returns the digests and lengths of at most `limit` blobs after `after`, in key order.
    pub(in crate::store) fn blobs_after(
        &self,
        after: Option<&Digest>,
        limit: usize,
    ) -> Result<Vec<(Digest, u64)>, StoreError> {
        let (txn, after) = (self.read_txn()?, after.map(keys::digest_key));
        let start = after.as_deref().map_or(Bound::Unbounded, Bound::Excluded);
        let mut blobs = Vec::new();
        for row in self.tables.blobs.range(&txn, &(start, Bound::Unbounded))?.take(limit) {
            let (key, value) = row?;
            let row: BlobRow = self.tables.blobs.decode(value)?;
            blobs.extend(keys::split_digest(key).map(|(digest, _)| (digest, row.size)));
        }
        Ok(blobs)
    }

    /// Returns the indexed length of a file in `blobs/`.
    pub(in crate::store) fn blob_size(&self, digest: &Digest) -> Result<Option<u64>, StoreError> {
        let txn = self.read_txn()?;
        let row: Option<BlobRow> = schema::row(self.tables.blobs, &txn, &keys::digest_key(digest))?;
        Ok(row.map(|row| row.size))
    }

    /// Returns the digests and lengths of at most `limit` blobs of a repository after `after`.
    pub(in crate::store) fn repository_blobs_after(
        &self,
        repository: &RepositoryName,
        after: Option<&Digest>,
        limit: usize,
    ) -> Result<Vec<(Digest, u64)>, StoreError> {
        let (txn, prefix) = (self.read_txn()?, keys::repository_prefix(repository));
        let start = after.map_or_else(|| prefix.clone(), |after| keys::content_key(repository, after));
        let range = (Bound::Excluded(&start[..]), Bound::Unbounded);
        let mut links = Vec::new();
        for row in self.tables.repository_blobs.range(&txn, &range)?.take(limit) {
            let (key, value) = row?;
            if !key.starts_with(&prefix) {
                break;
            }
            let row: RepositoryBlobRow = self.tables.repository_blobs.decode(value)?;
            links.extend(keys::split_digest(&key[prefix.len()..]).map(|(digest, _)| (digest, row.size)));
        }
        Ok(links)
    }

    /// Returns at most `limit` manifests of a repository after `after`.
    pub(in crate::store) fn manifests_after(
        &self,
        repository: &RepositoryName,
        after: Option<&Digest>,
        limit: usize,
    ) -> Result<Vec<ManifestEntry>, StoreError> {
        let (txn, prefix) = (self.read_txn()?, keys::repository_prefix(repository));
        let start = after.map_or_else(|| prefix.clone(), |after| keys::content_key(repository, after));
        let range = (Bound::Excluded(&start[..]), Bound::Unbounded);
        let mut manifests = Vec::new();
        for row in self.tables.manifests.range(&txn, &range)?.take(limit) {
            let (key, value) = row?;
            if !key.starts_with(&prefix) {
                break;
            }
            let table = self.tables.manifests;
            manifests.push(entry(table, &table.decode(value)?)?);
        }
        Ok(manifests)
    }

    /// Returns the total length of all blobs, in bytes.
    pub(in crate::store) fn bytes(&self) -> Result<u64, StoreError> {
        let txn = self.read_txn()?;
        self.tables.bytes(&txn)
    }

    /// Returns the number of repositories, tags, manifests and blobs, and the total length of the blobs.
    pub(in crate::store) fn counts(&self) -> Result<Counts, StoreError> {
        let txn = self.read_txn()?;
        Ok(Counts {
            repositories: self.tables.repositories.len(&txn)?,
            tags: self.tables.tags.len(&txn)?,
            manifests: self.tables.manifests.len(&txn)?,
            blobs: self.tables.blobs.len(&txn)?,
            bytes: self.tables.bytes(&txn)?,
        })
    }

    /// Returns true if the index has a row for the file of a blob.
    pub(in crate::store) fn contains_blob(&self, digest: &Digest) -> Result<bool, StoreError> {
        let txn = self.read_txn()?;
        Ok(self.tables.blobs.get(&txn, &keys::digest_key(digest))?.is_some())
    }

    /// Returns the keys of upload rows whose file is not among `there`, names and lengths of the files in `uploads/`.
    pub(in crate::store) fn vanished_uploads(
        &self,
        there: &[(String, u64)],
    ) -> Result<Vec<Vec<u8>>, StoreError> {
        let there: BTreeSet<&[u8]> = there.iter().map(|(name, _)| name.as_bytes()).collect();
        let txn = self.read_txn()?;
        let mut gone = Vec::new();
        for row in self.tables.uploads.rows(&txn)? {
            let (name, _) = row?;
            if !there.contains(name) {
                gone.push(name.to_vec());
            }
        }
        Ok(gone)
    }

    /// Returns the row that the last collection wrote for an upload.
    pub(in crate::store) fn upload_row(&self, name: &str) -> Result<Option<UploadRow>, StoreError> {
        let txn = self.read_txn()?;
        schema::row(self.tables.uploads, &txn, name.as_bytes())
    }
}
