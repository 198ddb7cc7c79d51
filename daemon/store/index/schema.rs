//! The tables of the index, and typed access to their rows.
//!
//! `meta` has the format version; [`VERSION`] is the one that this release reads and writes. A change to a table, a
//! key or a row raises it (`docs/format.md`). Some tables have older names on disk than their fields here: those
//! names are part of the format, and the field's comment gives them.

use heed::{Env, RoTxn, RwTxn};
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::keys;
use super::table::Table;
use crate::oci::Digest;
use crate::store::error::StoreError;
use crate::store::index_failure::IndexFailure;

/// The format version of the tables.
pub(in crate::store) const VERSION: u32 = 4;

/// `meta` row: set once the index is complete. An index without it is rebuilt when it is opened.
pub(super) const COMPLETE: &[u8] = b"complete";
/// `meta` row: the total length of all blobs in bytes.
pub(in crate::store) const BYTES: &[u8] = b"bytes";
/// `meta` row: the collection hold, set while names may be lost.
pub(in crate::store) const HOLD: &[u8] = b"hold";
/// `meta` row: the change number.
pub(in crate::store) const CHANGE: &[u8] = b"change";
/// `meta` row: the `ClockRow`.
pub(in crate::store) const CLOCK: &[u8] = b"clock";

/// All tables. Each comment gives the key and the row.
#[derive(Clone, Copy)]
pub(in crate::store) struct Tables {
    /// Name of a value → value: format version, clock, change number and the like.
    pub meta: Table,
    /// Repository → [`RepositoryRow`]; the row exists while the repository has a manifest.
    pub repositories: Table,
    /// Repository, tag → [`ManifestRow`], so that a pull by tag is one lookup.
    pub tags: Table,
    /// Repository, digest → [`ManifestRow`].
    pub manifests: Table,
    /// Digest, repository → empty: the repositories that have a manifest. `manifest_homes` on disk.
    pub manifest_repositories: Table,
    /// Digest of a manifest → the digests that it references, concatenated.
    pub children: Table,
    /// Digest, digest of a manifest that references it → empty. `needed_by` on disk.
    pub parents: Table,
    /// Repository, digest → [`RepositoryBlobRow`]: the blobs that a repository has. `links` on disk.
    pub repository_blobs: Table,
    /// Digest, repository → empty: the repositories that have a blob. `blob_homes` on disk.
    pub blob_repositories: Table,
    /// Repository → the total length of its blobs, while it has blobs and no manifest.
    pub blob_totals: Table,
    /// Repository, digest → [`LinkExceptionRow`]: see `link_exceptions`.
    pub link_exceptions: Table,
    /// Digest → [`BlobRow`]: every file in `blobs/`.
    pub blobs: Table,
    /// Repository, subject, referrer → the referrer's descriptor as JSON.
    pub referrers: Table,
    /// Repository, digest → [`OrphanRow`]: manifests that a collection may take. `left` on disk.
    pub orphans: Table,
    /// File name in `uploads/` → [`UploadRow`].
    pub uploads: Table,
}

impl Tables {
    /// Opens the tables, and creates those that are missing.
    pub(in crate::store) fn create(env: &Env, txn: &mut RwTxn) -> Result<Self, StoreError> {
        let failure = IndexFailure::leak();
        let mut table = |name| Table::create(env, txn, name).map(|table| table.reporting_to(failure));
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

    /// Opens the tables of an existing index; writes nothing.
    pub(in crate::store) fn find(env: &Env, txn: &RoTxn) -> Result<Self, StoreError> {
        let failure = IndexFailure::leak();
        let table = |name| Table::open(env, txn, name).map(|table| table.reporting_to(failure));
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

    /// Returns the total length of all blobs, in bytes.
    pub(in crate::store) fn bytes(&self, txn: &RoTxn) -> Result<u64, StoreError> {
        Ok(row(self.meta, txn, BYTES)?.unwrap_or_default())
    }

    /// Returns the digests that a manifest references.
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

    /// Returns true while the collection hold is set.
    pub(in crate::store) fn collection_is_held(&self, txn: &RoTxn) -> Result<bool, StoreError> {
        Ok(self.meta.get(txn, HOLD)?.is_some())
    }

    /// Returns the change number.
    pub(in crate::store) fn change(&self, txn: &RoTxn) -> Result<u64, StoreError> {
        Ok(row(self.meta, txn, CHANGE)?.unwrap_or_default())
    }

    /// Sets the mark of the index if the result of an operation outside of a table, such as a commit, is an error that
    /// may come from corruption; returns the result.
    pub(super) fn noted<T>(&self, result: heed::Result<T>) -> heed::Result<T> {
        self.meta.noted(result)
    }

    /// Sets the mark of the index if the error may come from corruption.
    pub(in crate::store) fn note(&self, error: &heed::Error) {
        self.meta.note(error);
    }

    /// Returns every table.
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

    /// Returns the bytes of the index that are in use.
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

/// Looks up and decodes one row.
pub(in crate::store) fn row<T: DeserializeOwned>(
    table: Table,
    txn: &RoTxn,
    key: &[u8],
) -> Result<Option<T>, StoreError> {
    Ok(table.get(txn, key)?.map(|value| table.decode(value)).transpose()?)
}

/// Encodes and stores one row.
pub(in crate::store) fn put_row<T: Serialize>(
    table: Table,
    txn: &mut RwTxn,
    key: &[u8],
    row: &T,
) -> Result<(), StoreError> {
    let bytes = postcard::to_allocvec(row).map_err(|error| heed::Error::Encoding(error.into()));
    Ok(table.put(txn, key, &table.noted(bytes)?)?)
}
