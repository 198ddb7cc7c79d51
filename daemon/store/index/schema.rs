//! The tables of the index: their keys and their rows.
//!
//! Keys are bytes that sort as the standard wants lists sorted. A repository's name ends with a zero byte, which
//! no name contains, so that a repository's rows stand together. Rows are postcard, which is the same on every
//! machine; the version in the table `meta` says which rows these are.

use heed::{Env, RoTxn, RwTxn};
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::keys;
use super::table::Table;
use crate::oci::Digest;
use crate::store::error::StoreError;

/// The version of the tables that this release reads and writes.
pub(in crate::store) const VERSION: u32 = 4;

/// The row of the table `meta` that is there once the index has been filled.
pub(super) const COMPLETE: &[u8] = b"complete";
/// The row of the table `meta` with the length of all blobs together.
pub(in crate::store) const BYTES: &[u8] = b"bytes";
/// The row of the table `meta` that is there when names were lost, so that nothing is collected for lack of them.
pub(in crate::store) const HOLD: &[u8] = b"hold";
/// The row of the table `meta` with the number of the last change of names.
pub(in crate::store) const CHANGE: &[u8] = b"change";
/// The row of the table `meta` with the [`ClockRow`](crate::store::clock::ClockRow).
pub(in crate::store) const CLOCK: &[u8] = b"clock";

/// All tables.
#[derive(Clone, Copy)]
pub(in crate::store) struct Tables {
    /// "version" to the version of the tables.
    pub meta: Table,
    /// repository to [`RepositoryRow`]; a row is there exactly while the repository has a manifest.
    pub repositories: Table,
    /// repository, tag to [`ManifestRow`], so that a pull by tag is one lookup.
    pub tags: Table,
    /// repository, digest to [`ManifestRow`].
    pub manifests: Table,
    /// digest, repository to nothing: where a manifest is.
    pub manifest_repositories: Table,
    /// digest of a manifest to the digests it points at, one after the other.
    pub children: Table,
    /// digest, digest of a manifest that points at it, to nothing.
    pub parents: Table,
    /// repository, digest to [`RepositoryBlobRow`]: which blobs a repository has.
    pub repository_blobs: Table,
    /// digest, repository to nothing: where a blob is.
    pub blob_repositories: Table,
    /// repository to the length of its blobs together, while it has blobs and no manifest.
    pub blob_totals: Table,
    /// repository, digest to [`LinkExceptionRow`]: links that cannot be derived from the manifests of the repository.
    pub link_exceptions: Table,
    /// digest to [`BlobRow`]: every file in `blobs/`.
    pub blobs: Table,
    /// repository, subject, referrer to the referrer's descriptor as JSON.
    pub referrers: Table,
    /// repository, digest to [`OrphanRow`]: manifests that may be needed by nobody any more.
    pub orphans: Table,
    /// name of a file in `uploads/` to [`UploadRow`].
    pub uploads: Table,
}

impl Tables {
    /// Opens the tables and makes those that are missing.
    pub(in crate::store) fn create(env: &Env, txn: &mut RwTxn) -> Result<Self, StoreError> {
        let mut table = |name| Table::create(env, txn, name);
        Ok(Tables {
            meta: table("meta")?,
            repositories: table("repositories")?,
            tags: table("tags")?,
            manifests: table("manifests")?,
            manifest_repositories: table("manifest_homes")?,
            children: table("children")?,
            parents: table("needed_by")?,
            repository_blobs: table("links")?,
            blob_repositories: table("blob_homes")?,
            blob_totals: table("blob_totals")?,
            link_exceptions: table("link_exceptions")?,
            blobs: table("blobs")?,
            referrers: table("referrers")?,
            orphans: table("left")?,
            uploads: table("uploads")?,
        })
    }

    /// Opens the tables of an index that is complete; nothing is written.
    pub(in crate::store) fn find(env: &Env, txn: &RoTxn) -> Result<Self, StoreError> {
        let table = |name| Table::open(env, txn, name);
        Ok(Tables {
            meta: table("meta")?,
            repositories: table("repositories")?,
            tags: table("tags")?,
            manifests: table("manifests")?,
            manifest_repositories: table("manifest_homes")?,
            children: table("children")?,
            parents: table("needed_by")?,
            repository_blobs: table("links")?,
            blob_repositories: table("blob_homes")?,
            blob_totals: table("blob_totals")?,
            link_exceptions: table("link_exceptions")?,
            blobs: table("blobs")?,
            referrers: table("referrers")?,
            orphans: table("left")?,
            uploads: table("uploads")?,
        })
    }

    /// The length of all blobs together, in bytes.
    pub(in crate::store) fn bytes(&self, txn: &RoTxn) -> Result<u64, StoreError> {
        Ok(row(self.meta, txn, BYTES)?.unwrap_or_default())
    }

    /// What a manifest points at.
    pub(in crate::store) fn children_of(
        &self,
        txn: &RoTxn,
        digest: &Digest,
    ) -> Result<Vec<Digest>, StoreError> {
        let mut rest = self.children.get(txn, &keys::digest_key(digest))?.unwrap_or_default();
        let mut children = Vec::new();
        while let Some((child, behind)) = keys::split_digest(rest) {
            children.push(child);
            rest = behind;
        }
        Ok(children)
    }

    /// Returns true if names were lost, so that only a person may collect.
    pub(in crate::store) fn collection_is_held(&self, txn: &RoTxn) -> Result<bool, StoreError> {
        Ok(self.meta.get(txn, HOLD)?.is_some())
    }

    /// The number of the last change of names.
    pub(in crate::store) fn change(&self, txn: &RoTxn) -> Result<u64, StoreError> {
        Ok(row(self.meta, txn, CHANGE)?.unwrap_or_default())
    }

    /// Every table.
    pub(in crate::store) fn all(&self) -> [Table; 15] {
        [
            self.meta,
            self.repositories,
            self.tags,
            self.manifests,
            self.manifest_repositories,
            self.children,
            self.parents,
            self.repository_blobs,
            self.blob_repositories,
            self.blob_totals,
            self.link_exceptions,
            self.blobs,
            self.referrers,
            self.orphans,
            self.uploads,
        ]
    }

    /// How many bytes of the index are in use.
    pub(in crate::store) fn used(&self, txn: &RoTxn) -> Result<u64, StoreError> {
        let mut bytes = 0;
        for table in self.all() {
            let stat = table.stat(txn)?;
            let pages = stat.branch_pages + stat.leaf_pages + stat.overflow_pages;
            bytes += pages as u64 * u64::from(stat.page_size);
        }
        Ok(bytes)
    }
}

/// Looks up one row.
pub(in crate::store) fn row<T: DeserializeOwned>(
    table: Table,
    txn: &RoTxn,
    key: &[u8],
) -> Result<Option<T>, StoreError> {
    table.get(txn, key)?.map(decode).transpose()
}

/// Stores one row.
pub(in crate::store) fn put_row<T: Serialize>(
    table: Table,
    txn: &mut RwTxn,
    key: &[u8],
    row: &T,
) -> Result<(), StoreError> {
    let bytes = postcard::to_allocvec(row).map_err(|error| heed::Error::Encoding(error.into()))?;
    Ok(table.put(txn, key, &bytes)?)
}

/// Reads a row from its bytes.
pub(in crate::store) fn decode<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, StoreError> {
    postcard::from_bytes(bytes).map_err(|error| heed::Error::Decoding(error.into()).into())
}
