//! The rows of the table `meta`: format version, totals, marks and the change number.

use uuid::Uuid;

use super::keys;
use super::port::{ReadTables, Table};
use super::rows::RepositoryRow;
use crate::oci::{Digest, RepositoryName};
use crate::store::error::StoreError;

/// The format version of the tables, which this release reads and writes. A change to a table, a key or a row raises it
/// (`docs/reference/format.md`).
pub(in crate::store) const VERSION: u32 = 7;
/// The version before the tables that are derived from `tags`. It becomes the present one when it is opened.
pub(in crate::store) const WITHOUT_TAG_INDEX: u32 = 6;
/// The version before the write-ahead log, whose tables are those of [`WITHOUT_TAG_INDEX`].
pub(in crate::store) const WITHOUT_LOG: u32 = 5;

/// `meta` row: the format version.
pub(in crate::store) const FORMAT: &[u8] = b"version";
/// `meta` row: set once the index is complete. An index without it is rebuilt when it is opened.
pub(in crate::store) const COMPLETE: &[u8] = b"complete";
/// `meta` row: the total length of all blobs in bytes.
pub(in crate::store) const BYTES: &[u8] = b"bytes";
/// `meta` row: the collection hold, set while names may be lost.
pub(in crate::store) const HOLD: &[u8] = b"hold";
/// `meta` row: the change number.
pub(in crate::store) const CHANGE: &[u8] = b"change";
/// `meta` row: the `ClockRow`.
pub(in crate::store) const CLOCK: &[u8] = b"clock";
/// `meta` row: the id of this registry, a UUID that a rebuild takes from `index.json`.
pub(in crate::store) const ID: &[u8] = b"id";
/// `meta` row: the epoch of the event feed, a random number of this index. Numbers of events are comparable within it.
pub(in crate::store) const EPOCH: &[u8] = b"epoch";
/// `meta` row: the store time from which on pulls have been recorded without a gap.
pub(in crate::store) const PULLS_RECORDED_SINCE: &[u8] = b"pulls_recorded_since";
/// `meta` row: the place in the write-ahead log up to which the tables have its transactions.
pub(in crate::store) const LOG: &[u8] = b"log";
/// `meta` row: the key of the last tag that the tables derived from `tags` have; it exists until they have all.
pub(in crate::store) const TAGS_INDEXED: &[u8] = b"tags_indexed";
/// `meta` row: the store time of the last full collection.
pub(in crate::store) const FULL_COLLECTION: &[u8] = b"full_collection";
/// `meta` row: the number of the next event.
pub(in crate::store) const NEXT_EVENT: &[u8] = b"next_event";

/// Returns true if this release reads the rows of an index of this version.
pub(in crate::store) fn is_readable(version: u32) -> bool {
    matches!(version, VERSION | WITHOUT_TAG_INDEX | WITHOUT_LOG)
}

/// Lookups of single values.
pub(in crate::store) trait Meta: ReadTables {
    /// Returns the total length of all blobs, in bytes.
    fn bytes(&self) -> Result<u64, StoreError> {
        Ok(self.row(Table::Meta, BYTES)?.unwrap_or_default())
    }

    /// Returns true while the collection hold is set: names may be lost, so that only the operator starts a
    /// collection.
    fn collection_is_held(&self) -> Result<bool, StoreError> {
        Ok(self.get(Table::Meta, HOLD)?.is_some())
    }

    /// Returns the id of this registry; `None` until the first start has chosen one.
    fn registry_id(&self) -> Result<Option<Uuid>, StoreError> {
        let bytes: Option<[u8; 16]> = self.row(Table::Meta, ID)?;
        Ok(bytes.map(Uuid::from_bytes))
    }

    /// Returns the change number: it rises with each transaction that changes a name.
    fn change(&self) -> Result<u64, StoreError> {
        Ok(self.row(Table::Meta, CHANGE)?.unwrap_or_default())
    }

    /// Returns true if the index is complete: it has been filled after its creation, or a rebuild has finished.
    fn is_complete(&self) -> Result<bool, StoreError> {
        Ok(self.get(Table::Meta, COMPLETE)?.is_some())
    }

    /// Returns the digests that a manifest references.
    fn children_of(&self, digest: &Digest) -> Result<Vec<Digest>, StoreError> {
        let children = self.get(Table::Children, &keys::digest_key(digest))?.unwrap_or_default();
        Ok(keys::digests(children).collect())
    }

    /// Returns the number of manifests in a repository.
    fn manifest_count(&self, repository: &RepositoryName) -> Result<u32, StoreError> {
        let row: Option<RepositoryRow> = self.row(Table::Repositories, repository.as_str().as_bytes())?;
        Ok(row.unwrap_or_default().manifests)
    }
}

impl<T: ReadTables> Meta for T {}
