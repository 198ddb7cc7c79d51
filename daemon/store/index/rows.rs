//! The rows of the tables, encoded with postcard, which has the same form on every machine.

use serde::{Deserialize, Serialize};

use super::keys;
use super::table::Table;
use crate::oci::Digest;
use crate::store::clock::StoreTime;

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

    /// Decodes the digest of a row of `table`.
    pub(super) fn digest(&self, table: Table) -> heed::Result<Digest> {
        let digest = keys::split_digest(&self.digest).map(|(digest, _)| digest);
        table.noted(digest.ok_or_else(|| heed::Error::Decoding("a manifest's digest".into())))
    }
}

/// Decodes only the digest of a [`ManifestRow`] of `table`, still encoded as a key.
pub(super) fn digest_of(table: Table, row: &[u8]) -> heed::Result<&[u8]> {
    let digest: Result<(&[u8], _), _> = postcard::take_from_bytes(row);
    Ok(table.noted(digest.map_err(|error| heed::Error::Decoding(error.into())))?.0)
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
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(in crate::store) enum LinkExceptionRow {
    /// A client deleted the blob while a manifest of the repository references it: the repository does not have it.
    Deleted,
    /// A client pushed the blob, and the manifests may reference it only as a foreign layer: the repository has it.
    Linked,
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
