//! The rows of the tables, encoded with postcard, which has the same form on every machine.

use serde::{Deserialize, Serialize};

use super::keys;
use super::port::ReadTables;
use crate::oci::Digest;
use crate::store::clock::StoreTime;
use crate::store::index_error::IndexError;

/// The statistics of a repository.
#[derive(Serialize, Deserialize, Default)]
pub(in crate::store) struct RepositoryRow {
    /// The number of its manifests.
    pub manifests: u32,
    /// The number of its tags.
    pub tags: u32,
    /// The total length of its blobs and manifests, each counted once, in bytes.
    pub bytes: u64,
    /// The time of the last manifest push, in seconds since 1970.
    pub pushed: u64,
}

/// The time at which a name was set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::store) struct NameTimestamps {
    /// Wall-clock time in seconds since 1970, for display only: the clock may have been wrong.
    pub pushed: u64,
    /// Store time, which ages are computed from.
    pub since: StoreTime,
    /// The sequence number among all names, which orders names of the same second; zero if it is unknown.
    pub order: u64,
}

/// A manifest in a repository, in the table `manifests` or `tags`.
#[derive(Serialize, Deserialize, Clone)]
pub(in crate::store) struct ManifestRow {
    /// The digest, as [`keys::digest_key`] encodes it.
    pub digest: Vec<u8>,
    /// Its length in bytes.
    pub size: u64,
    /// The media type that it is served with.
    pub media_type: String,
    /// The wall-clock time of the push or of the tag, in seconds since 1970, for display only.
    pub pushed: u64,
    /// The store time of the push or of the tag, which ages are computed from.
    pub since: StoreTime,
    /// The sequence number of the name, which orders names of the same second.
    pub order: u64,
}

impl ManifestRow {
    /// Returns the time at which the name was set.
    pub(in crate::store) fn timestamps(&self) -> NameTimestamps {
        NameTimestamps { pushed: self.pushed, since: self.since, order: self.order }
    }

    /// Decodes the digest of a row.
    pub(in crate::store) fn digest(&self, tables: &impl ReadTables) -> Result<Digest, IndexError> {
        let digest = keys::split_digest(&self.digest).map(|(digest, _)| digest);
        tables.noted(digest.ok_or_else(|| IndexError::Row("a manifest's digest".into())))
    }
}

/// A [`ManifestRow`] that borrows its parts from the encoded row.
#[derive(Deserialize)]
pub(in crate::store) struct BorrowedManifestRow<'row> {
    /// The digest, as [`keys::digest_key`] encodes it.
    pub digest: &'row [u8],
    /// Its length in bytes.
    pub size: u64,
    _media_type: &'row str,
    /// As in [`ManifestRow`].
    pub pushed: u64,
    _since: StoreTime,
    /// As in [`ManifestRow`].
    pub order: u64,
}

/// Decodes only the digest of a [`ManifestRow`], still encoded as a key.
pub(in crate::store) fn digest_of<'row>(
    tables: &impl ReadTables,
    row: &'row [u8],
) -> Result<&'row [u8], IndexError> {
    let digest: Result<(&[u8], _), _> = postcard::take_from_bytes(row);
    Ok(tables.noted(digest.map_err(|error| IndexError::Row(error.to_string())))?.0)
}

/// A blob in a repository.
#[derive(Serialize, Deserialize)]
pub(in crate::store) struct RepositoryBlobRow {
    /// Its length in bytes.
    pub size: u64,
    /// The store time at which its lease in this repository was last renewed.
    pub leased_at: StoreTime,
}

/// An exception to the rule that a repository has the blobs that its manifests reference. `index.json` carries these
/// rows, so that a rebuilt index grants the same access.
#[derive(Clone, Copy, Debug, Hash, PartialEq, Eq, Serialize, Deserialize)]
pub(in crate::store) enum LinkExceptionRow {
    /// A client deleted the blob while a manifest of the repository references it: the repository does not have it.
    Deleted,
    /// A client pushed the blob, and the manifests may reference it only as a foreign layer: the repository has it.
    Linked,
    /// A sparse manifest references the blob, and the repository never had it.
    Missing,
}

impl LinkExceptionRow {
    /// Returns true if the repository does not have the blob, although a manifest references it as config or layer.
    pub(in crate::store) fn is_absence(self) -> bool {
        match self {
            LinkExceptionRow::Deleted | LinkExceptionRow::Missing => true,
            LinkExceptionRow::Linked => false,
        }
    }
}

/// A file in `blobs/`.
#[derive(Serialize, Deserialize)]
pub(in crate::store) struct BlobRow {
    /// Its length in bytes.
    pub size: u64,
    /// The store time at which its lease was last renewed in any repository.
    pub leased_at: StoreTime,
}

/// An orphan: a manifest that lost a tag, a parent or its subject.
#[derive(Serialize, Deserialize)]
pub(in crate::store) struct OrphanRow {
    /// The store time at which it lost the last of them.
    pub since: StoreTime,
    /// True if a delete caused it, and not a tag that moved to another manifest.
    pub deleted: bool,
}

/// An unfinished upload, as the last collection found it.
#[derive(Serialize, Deserialize)]
pub(in crate::store) struct UploadRow {
    /// Its length in bytes.
    pub length: u64,
    /// The store time at which that length was first seen.
    pub since: StoreTime,
}
