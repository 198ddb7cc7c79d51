//! Single-row lookups, and pages of rows.

use std::collections::BTreeSet;
use std::ops::Bound;

use super::entry::{Counts, ManifestEntry, Page, entry};
use super::meta::Meta;
use super::port::{ReadTables, Table};
use super::rows::{BlobRow, RepositoryBlobRow, UploadRow};
use super::{keys, lists};
use crate::oci::{AttachmentTarget, Digest, Reference, RepositoryName, Tag};
use crate::store::error::StoreError;

/// Lookups and pages.
pub(in crate::store) trait Lookups: ReadTables {
    /// Returns the manifest that a tag or digest names, by one lookup.
    fn manifest(
        &self,
        repository: &RepositoryName,
        reference: &Reference,
    ) -> Result<Option<ManifestEntry>, StoreError> {
        let (table, key) = match reference {
            Reference::Tag(tag) => (Table::Tags, keys::tag_key(repository, tag)),
            Reference::Digest(digest) => (Table::Manifests, keys::content_key(repository, digest)),
        };
        let row = self.row(table, &key)?;
        Ok(row.map(|row| entry(self, &row)).transpose()?)
    }

    /// Returns the row of a blob if the repository has it, by one lookup.
    fn blob(
        &self,
        repository: &RepositoryName,
        digest: &Digest,
    ) -> Result<Option<RepositoryBlobRow>, StoreError> {
        Ok(self.row(Table::RepositoryBlobs, &keys::content_key(repository, digest))?)
    }

    /// Returns the repositories that have a blob, at most `limit` of them.
    fn blob_repositories(&self, digest: &Digest, limit: usize) -> Result<Vec<RepositoryName>, StoreError> {
        let prefix = keys::digest_key(digest);
        let mut repositories = Vec::new();
        for row in self.prefix(Table::BlobRepositories, &prefix)?.take(limit) {
            repositories.extend(keys::text_after(row?.0, prefix.len()).and_then(|name| name.parse().ok()));
        }
        Ok(repositories)
    }

    /// Returns the repositories that have a manifest.
    fn manifest_repositories(&self, digest: &Digest) -> Result<Vec<RepositoryName>, StoreError> {
        let key = keys::digest_key(digest);
        let mut repositories = Vec::new();
        for row in self.prefix(Table::ManifestRepositories, &key)? {
            repositories.extend(keys::text_after(row?.0, key.len()).and_then(|name| name.parse().ok()));
        }
        Ok(repositories)
    }

    /// Returns true if the repository exists, which it does while it has a manifest.
    fn repository_exists(&self, repository: &RepositoryName) -> Result<bool, StoreError> {
        Ok(self.get(Table::Repositories, repository.as_str().as_bytes())?.is_some())
    }

    /// Returns a page of the tags of a repository after `last`, in byte order. A page is bounded by `limit` and by
    /// the bytes of its tags.
    fn tags(
        &self,
        repository: &RepositoryName,
        last: Option<&str>,
        limit: usize,
    ) -> Result<Page<Tag>, StoreError> {
        let prefix = keys::repository_prefix(repository);
        let mut after = prefix.clone();
        after.extend_from_slice(last.unwrap_or_default().as_bytes());
        let (mut page, mut bytes) = (Page { items: Vec::new(), more: false }, 0);
        for row in self.range(Table::Tags, &(Bound::Excluded(&after[..]), Bound::Unbounded))? {
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
    fn blobs_after(&self, after: Option<&Digest>, limit: usize) -> Result<Vec<(Digest, u64)>, StoreError> {
        let after = after.map(keys::digest_key);
        let start = after.as_deref().map_or(Bound::Unbounded, Bound::Excluded);
        let mut blobs = Vec::new();
        for row in self.range(Table::Blobs, &(start, Bound::Unbounded))?.take(limit) {
            let (key, value) = row?;
            let row: BlobRow = self.decode(value)?;
            blobs.extend(keys::split_digest(key).map(|(digest, _)| (digest, row.size)));
        }
        Ok(blobs)
    }

    /// Returns the indexed length of a file in `blobs/`.
    fn blob_size(&self, digest: &Digest) -> Result<Option<u64>, StoreError> {
        let row: Option<BlobRow> = self.row(Table::Blobs, &keys::digest_key(digest))?;
        Ok(row.map(|row| row.size))
    }

    /// Returns the digests and lengths of at most `limit` blobs of a repository after `after`.
    fn repository_blobs_after(
        &self,
        repository: &RepositoryName,
        after: Option<&Digest>,
        limit: usize,
    ) -> Result<Vec<(Digest, u64)>, StoreError> {
        let prefix = keys::repository_prefix(repository);
        let start = after.map_or_else(|| prefix.clone(), |after| keys::content_key(repository, after));
        let range = (Bound::Excluded(&start[..]), Bound::Unbounded);
        let mut links = Vec::new();
        for row in self.range(Table::RepositoryBlobs, &range)?.take(limit) {
            let (key, value) = row?;
            if !key.starts_with(&prefix) {
                break;
            }
            let row: RepositoryBlobRow = self.decode(value)?;
            links.extend(keys::split_digest(&key[prefix.len()..]).map(|(digest, _)| (digest, row.size)));
        }
        Ok(links)
    }

    /// Returns at most `limit` manifests of a repository after `after`.
    fn manifests_after(
        &self,
        repository: &RepositoryName,
        after: Option<&Digest>,
        limit: usize,
    ) -> Result<Vec<ManifestEntry>, StoreError> {
        let prefix = keys::repository_prefix(repository);
        let start = after.map_or_else(|| prefix.clone(), |after| keys::content_key(repository, after));
        let range = (Bound::Excluded(&start[..]), Bound::Unbounded);
        let mut manifests = Vec::new();
        for row in self.range(Table::Manifests, &range)?.take(limit) {
            let (key, value) = row?;
            if !key.starts_with(&prefix) {
                break;
            }
            manifests.push(entry(self, &self.decode(value)?)?);
        }
        Ok(manifests)
    }

    /// Returns the number of repositories, tags, manifests and blobs, and the total length of the blobs.
    fn counts(&self) -> Result<Counts, StoreError> {
        Ok(Counts {
            repositories: self.len(Table::Repositories)?,
            tags: self.len(Table::Tags)?,
            manifests: self.len(Table::Manifests)?,
            blobs: self.len(Table::Blobs)?,
            bytes: self.bytes()?,
        })
    }

    /// Returns true if the index has a row for the file of a blob.
    fn contains_blob(&self, digest: &Digest) -> Result<bool, StoreError> {
        Ok(self.get(Table::Blobs, &keys::digest_key(digest))?.is_some())
    }

    /// Returns the keys of upload rows whose file is not among `there`, names and lengths of the files in `uploads/`.
    fn vanished_uploads(&self, there: &[(String, u64)]) -> Result<Vec<Vec<u8>>, StoreError> {
        let there: BTreeSet<&[u8]> = there.iter().map(|(name, _)| name.as_bytes()).collect();
        let mut gone = Vec::new();
        for row in self.rows(Table::Uploads)? {
            let (name, _) = row?;
            if !there.contains(name) {
                gone.push(name.to_vec());
            }
        }
        Ok(gone)
    }

    /// Returns the row that the last collection wrote for an upload.
    fn upload_row(&self, name: &str) -> Result<Option<UploadRow>, StoreError> {
        Ok(self.row(Table::Uploads, name.as_bytes())?)
    }

    /// Returns true if the repository has the manifest that an attached tag belongs to.
    fn has_attached_subject(
        &self,
        repository: &RepositoryName,
        attached: &AttachmentTarget,
    ) -> Result<bool, StoreError> {
        let key = keys::content_key_prefix(repository, attached.algorithm, &attached.hash);
        Ok(self.prefix(Table::Manifests, &key)?.next().transpose()?.is_some())
    }
}

impl<T: ReadTables> Lookups for T {}
