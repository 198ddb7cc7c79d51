//! The tables of the index: their keys and their rows.
//!
//! Keys are bytes that sort as the standard wants lists sorted. A repository's name ends with a zero byte, which
//! no name contains, so that a repository's rows stand together. Rows are postcard, which is the same on every
//! machine; the version in the table `meta` says which rows these are.

use heed::{Env, RoTxn, RwTxn};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::table::Table;
use crate::oci::{Algorithm, Digest, RepositoryName, Tag};
use crate::store::clock::Moment;
use crate::store::error::StoreError;
use crate::store::index_failure::IndexFailure;

/// The version of the tables that this release reads and writes.
pub(in crate::store) const VERSION: u32 = 4;

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
    pub manifest_homes: Table,
    /// digest of a manifest to the digests it points at, one after the other.
    pub children: Table,
    /// digest, digest of a manifest that points at it, to nothing.
    pub needed_by: Table,
    /// repository, digest to [`LinkRow`]: which blobs a repository has.
    pub links: Table,
    /// digest, repository to nothing: where a blob is.
    pub blob_homes: Table,
    /// repository to the length of its blobs together, while it has blobs and no manifest.
    pub blob_totals: Table,
    /// repository, digest to [`LinkExceptionRow`]: links that cannot be derived from the manifests of the repository.
    pub link_exceptions: Table,
    /// digest to [`BlobRow`]: every file in `blobs/`.
    pub blobs: Table,
    /// repository, subject, referrer to the referrer's descriptor as JSON.
    pub referrers: Table,
    /// repository, digest to [`LeftRow`]: manifests that may be needed by nobody any more.
    pub left: Table,
    /// name of a file in `uploads/` to [`UploadRow`].
    pub uploads: Table,
}

impl Tables {
    /// Opens the tables and makes those that are missing.
    pub(in crate::store) fn create(env: &Env, txn: &mut RwTxn) -> Result<Self, StoreError> {
        let failure = IndexFailure::leak();
        let mut table = |name| Table::create(env, txn, name).map(|table| table.reporting_to(failure));
        Ok(Tables {
            meta: table("meta")?,
            repositories: table("repositories")?,
            tags: table("tags")?,
            manifests: table("manifests")?,
            manifest_homes: table("manifest_homes")?,
            children: table("children")?,
            needed_by: table("needed_by")?,
            links: table("links")?,
            blob_homes: table("blob_homes")?,
            blob_totals: table("blob_totals")?,
            link_exceptions: table("link_exceptions")?,
            blobs: table("blobs")?,
            referrers: table("referrers")?,
            left: table("left")?,
            uploads: table("uploads")?,
        })
    }

    /// Opens the tables of an index that is complete; nothing is written.
    pub(in crate::store) fn find(env: &Env, txn: &RoTxn) -> Result<Self, StoreError> {
        let failure = IndexFailure::leak();
        let table = |name| Table::open(env, txn, name).map(|table| table.reporting_to(failure));
        Ok(Tables {
            meta: table("meta")?,
            repositories: table("repositories")?,
            tags: table("tags")?,
            manifests: table("manifests")?,
            manifest_homes: table("manifest_homes")?,
            children: table("children")?,
            needed_by: table("needed_by")?,
            links: table("links")?,
            blob_homes: table("blob_homes")?,
            blob_totals: table("blob_totals")?,
            link_exceptions: table("link_exceptions")?,
            blobs: table("blobs")?,
            referrers: table("referrers")?,
            left: table("left")?,
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
        let mut rest = self.children.get(txn, &digest_key(digest))?.unwrap_or_default();
        let mut children = Vec::new();
        while let Some((child, behind)) = split_digest(rest) {
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
            self.manifest_homes,
            self.children,
            self.needed_by,
            self.links,
            self.blob_homes,
            self.blob_totals,
            self.link_exceptions,
            self.blobs,
            self.referrers,
            self.left,
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
pub(in crate::store) struct Given {
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
    pub(in crate::store) fn given(&self) -> Given {
        Given { pushed: self.pushed, since: self.since, order: self.order }
    }

    /// The digest.
    pub(in crate::store) fn digest(&self) -> Result<Digest, StoreError> {
        let digest = split_digest(&self.digest).map(|(digest, _)| digest);
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
pub(in crate::store) struct LinkRow {
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
pub(in crate::store) struct LeftRow {
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

/// A digest as a key: one byte for the algorithm, then the hash.
pub(in crate::store) fn digest_key(digest: &Digest) -> Vec<u8> {
    let mut key = Vec::with_capacity(65);
    push_digest(&mut key, digest);
    key
}

fn push_digest(key: &mut Vec<u8>, digest: &Digest) {
    key.push(code_of(digest.algorithm()));
    key.extend_from_slice(digest.bytes());
}

fn code_of(algorithm: Algorithm) -> u8 {
    match algorithm {
        Algorithm::Sha256 => 1,
        Algorithm::Sha512 => 2,
    }
}

/// Reads the digest at the beginning of a key, and gives what follows it.
pub(in crate::store) fn split_digest(key: &[u8]) -> Option<(Digest, &[u8])> {
    let (&code, rest) = key.split_first()?;
    let algorithm = match code {
        1 => Algorithm::Sha256,
        2 => Algorithm::Sha512,
        _ => return None,
    };
    let (hash, rest) = rest.split_at_checked(algorithm.hash_len())?;
    Some((Digest::from_hash(algorithm, hash)?, rest))
}

/// The beginning of every key of a repository.
pub(in crate::store) fn repository_prefix(repository: &RepositoryName) -> Vec<u8> {
    let mut key = Vec::with_capacity(repository.as_str().len() + 66);
    key.extend_from_slice(repository.as_str().as_bytes());
    key.push(0);
    key
}

/// The key of a tag.
pub(in crate::store) fn tag_key(repository: &RepositoryName, tag: &Tag) -> Vec<u8> {
    let mut key = repository_prefix(repository);
    key.extend_from_slice(tag.as_str().as_bytes());
    key
}

/// The key of a manifest or a blob in a repository.
pub(in crate::store) fn content_key(repository: &RepositoryName, digest: &Digest) -> Vec<u8> {
    let mut key = repository_prefix(repository);
    push_digest(&mut key, digest);
    key
}

/// The beginning of the keys of manifests or blobs in a repository whose hash begins with these bytes.
pub(in crate::store) fn content_key_prefix(
    repository: &RepositoryName,
    algorithm: Algorithm,
    hash: &[u8],
) -> Vec<u8> {
    let mut key = repository_prefix(repository);
    key.push(code_of(algorithm));
    key.extend_from_slice(hash);
    key
}

/// The key that says that content is in a repository.
pub(in crate::store) fn home_key(digest: &Digest, repository: &RepositoryName) -> Vec<u8> {
    let mut key = digest_key(digest);
    key.extend_from_slice(repository.as_str().as_bytes());
    key
}

/// The key of a referrer; without one, the beginning of the keys of all referrers of a subject.
pub(in crate::store) fn referrer_key(
    repository: &RepositoryName,
    subject: &Digest,
    referrer: Option<&Digest>,
) -> Vec<u8> {
    let mut key = content_key(repository, subject);
    if let Some(referrer) = referrer {
        push_digest(&mut key, referrer);
    }
    key
}

/// The key that says that a manifest points at content.
pub(in crate::store) fn edge_key(child: &Digest, parent: &Digest) -> Vec<u8> {
    let mut key = digest_key(child);
    push_digest(&mut key, parent);
    key
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::oci::Hasher;

    #[test]
    fn the_longest_keys_fit_into_lmdb() {
        let repository: RepositoryName = "a".repeat(255).parse().unwrap();
        let digest = Hasher::digest(Algorithm::Sha512, b"");
        let tag: Tag = "t".repeat(128).parse().unwrap();
        assert!(referrer_key(&repository, &digest, Some(&digest)).len() <= 511);
        assert!(tag_key(&repository, &tag).len() <= 511);
    }

    #[test]
    fn a_digest_reads_back_from_its_key() {
        for algorithm in Algorithm::ALL {
            let digest = Hasher::digest(algorithm, b"x");
            let mut key = digest_key(&digest);
            key.extend_from_slice(b"rest");
            assert_eq!(split_digest(&key), Some((digest, &b"rest"[..])));
        }
        assert_eq!(split_digest(&[1, 2, 3]), None);
        assert_eq!(split_digest(&[9; 40]), None);
    }
}
