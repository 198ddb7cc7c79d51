//! Rows of the tables, encoded with postcard.

use serde::{Deserialize, Serialize};

use super::keys;
use crate::oci::Digest;
use crate::store::clock::Moment;
use crate::store::error::StoreError;

/// What is known of a repository.
#[derive(Serialize, Deserialize, Default)]
pub(in crate::store) struct RepositoryRow {
    /// How many manifests it has.
    pub manifests: u32,
    /// How many tags it has.
    pub tags: u32,
    /// The length of its blobs and manifests together, each once, in bytes.
    pub bytes: u64,
    /// When a manifest was pushed to it last, in seconds since 1970.
    pub pushed: u64,
}

/// When a name was given.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::store) struct NameTimestamps {
    /// In seconds since 1970: for people, who may have set the clock wrong.
    pub pushed: u64,
    /// In the time that ages are measured in.
    pub since: Moment,
    /// The place among the names that were given in the same second; zero if it is unknown.
    pub order: u64,
}

/// A manifest in a repository, under its digest or under a tag.
#[derive(Serialize, Deserialize, Clone)]
pub(in crate::store) struct ManifestRow {
    /// The digest as a key.
    pub digest: Vec<u8>,
    /// Its length in bytes.
    pub size: u64,
    /// What it is sent as.
    pub media_type: String,
    /// When it was pushed or the tag was set, in seconds since 1970: for people, who may have set the clock wrong.
    pub pushed: u64,
    /// The same in the time that ages are measured in.
    pub since: Moment,
    /// Rises from one name that is given to the next, so that names of the same second have an order.
    pub order: u64,
}

impl ManifestRow {
    /// When the name was given.
    pub(in crate::store) fn given(&self) -> NameTimestamps {
        NameTimestamps { pushed: self.pushed, since: self.since, order: self.order }
    }

    /// The digest.
    pub(in crate::store) fn digest(&self) -> Result<Digest, StoreError> {
        let digest = keys::split_digest(&self.digest).map(|(digest, _)| digest);
        digest.ok_or_else(|| heed::Error::Decoding("a manifest's digest".into()).into())
    }
}

/// Reads the key of the digest from a [`ManifestRow`], without the rest of it.
pub(in crate::store) fn digest_of(row: &[u8]) -> Result<&[u8], StoreError> {
    let digest: Result<(&[u8], _), _> = postcard::take_from_bytes(row);
    Ok(digest.map_err(|error| heed::Error::Decoding(error.into()))?.0)
}

/// A blob in a repository.
#[derive(Serialize, Deserialize)]
pub(in crate::store) struct RepositoryBlobRow {
    /// Its length in bytes.
    pub size: u64,
    /// When a push last had reason to count on it in this repository.
    pub counted_on: Moment,
}

/// A link between a repository and a blob that the manifests of the repository do not imply. `index.json` carries these
/// rows, so that a rebuilt index grants the same rights as the one before.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(in crate::store) enum LinkExceptionRow {
    /// A client deleted the blob while a manifest of the repository names it: there is no link.
    Deleted,
    /// A client pushed the blob, and the manifests of the repository may name it only as foreign: there is a link.
    Linked,
}

/// A file in `blobs/`.
#[derive(Serialize, Deserialize)]
pub(in crate::store) struct BlobRow {
    /// Its length in bytes.
    pub size: u64,
    /// When a push last had reason to count on it in any repository.
    pub counted_on: Moment,
}

/// A manifest that has lost a tag or what pointed at it.
#[derive(Serialize, Deserialize)]
pub(in crate::store) struct OrphanRow {
    /// When it lost it.
    pub since: Moment,
    /// Whether by a delete, rather than by a tag that moved on.
    pub deleted: bool,
}

/// An unfinished upload as the last collection saw it.
#[derive(Serialize, Deserialize)]
pub(in crate::store) struct UploadRow {
    /// Its length in bytes.
    pub length: u64,
    /// When that length was first seen.
    pub since: Moment,
}
