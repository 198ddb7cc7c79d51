//! The port of the index: tables of bytes to bytes in key order, with typed rows above them.
//!
//! The set of tables is closed. A back end implements [`ReadTables`] for its snapshots and [`WriteTables`] for its
//! transactions; all lookups, lists and changes are generic over these two. Values are borrowed from the back end, so
//! that a lookup in mapped memory copies nothing.

use std::ops::Bound;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::store::index_error::IndexError;

/// A table of the index. Each comment gives the key and the row.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(in crate::store) enum Table {
    /// Name of a value → value: format version, clock, change number and the like.
    Meta,
    /// Repository → `RepositoryRow`; the row exists while the repository has a manifest.
    Repositories,
    /// Repository, tag → `ManifestRow`, so that a pull by tag is one lookup.
    Tags,
    /// Repository, digest → `ManifestRow`.
    Manifests,
    /// Digest, repository → empty: the repositories that have a manifest.
    ManifestRepositories,
    /// Digest of a manifest → the digests that it references, concatenated.
    Children,
    /// Digest, digest of a manifest that references it → empty.
    Parents,
    /// Repository, digest → `RepositoryBlobRow`: the blobs that a repository has.
    RepositoryBlobs,
    /// Digest, repository → empty: the repositories that have a blob.
    BlobRepositories,
    /// Repository → the total length of its blobs, while it has blobs and no manifest.
    BlobTotals,
    /// Repository, digest → `LinkExceptionRow`: see `link_exceptions`.
    LinkExceptions,
    /// Digest → `BlobRow`: every file in `blobs/`.
    Blobs,
    /// Repository, subject, referrer → the referrer's descriptor as JSON.
    Referrers,
    /// Repository, digest → `OrphanRow`: manifests that a collection may take.
    Orphans,
    /// File name in `uploads/` → `UploadRow`.
    Uploads,
    /// Repository, digest → empty: manifests some of whose content the repository does not have; see `sparse`.
    Sparse,
    /// Repository, digest → `UseRow`: the last pull of a manifest; see `uses`.
    Uses,
    /// Number of an event, big-endian → the event.
    Events,
    /// Name of a background job → `JobRow`.
    Jobs,
    /// Day since 1970, big-endian → `DailyRow`: the totals of a day; see `daily`.
    Daily,
    /// Rule, repository, tag → `SyncedRow`: the last copy of a tag from another registry; see `synced`.
    Synced,
    /// Repository, digest, tag → empty: the tags of each manifest; repository, digest → their number if it is above one.
    TagsByDigest,
    /// Repository, time, tag → empty: the tags that lists show, the newest first; repository → the number of those that they
    /// hide. See `tag_index`.
    TagsByTime,
    /// Digest, repository or nothing → empty: blobs that a collection looks at; see `blob_candidates`.
    BlobCandidates,
}

impl Table {
    /// All tables, in the order of the enum.
    pub(in crate::store) const ALL: [Table; 24] = [
        Table::Meta,
        Table::Repositories,
        Table::Tags,
        Table::Manifests,
        Table::ManifestRepositories,
        Table::Children,
        Table::Parents,
        Table::RepositoryBlobs,
        Table::BlobRepositories,
        Table::BlobTotals,
        Table::LinkExceptions,
        Table::Blobs,
        Table::Referrers,
        Table::Orphans,
        Table::Uploads,
        Table::Sparse,
        Table::Uses,
        Table::Events,
        Table::Jobs,
        Table::Daily,
        Table::Synced,
        Table::TagsByDigest,
        Table::TagsByTime,
        Table::BlobCandidates,
    ];

    /// Returns the name of the table on disk.
    pub(in crate::store) fn name(self) -> &'static str {
        match self {
            Table::Meta => "meta",
            Table::Repositories => "repositories",
            Table::Tags => "tags",
            Table::Manifests => "manifests",
            Table::ManifestRepositories => "manifest_repositories",
            Table::Children => "children",
            Table::Parents => "parents",
            Table::RepositoryBlobs => "repository_blobs",
            Table::BlobRepositories => "blob_repositories",
            Table::BlobTotals => "blob_totals",
            Table::LinkExceptions => "link_exceptions",
            Table::Blobs => "blobs",
            Table::Referrers => "referrers",
            Table::Orphans => "orphans",
            Table::Uploads => "uploads",
            Table::Sparse => "sparse",
            Table::Uses => "uses",
            Table::Events => "events",
            Table::Jobs => "jobs",
            Table::Daily => "daily",
            Table::Synced => "synced",
            Table::TagsByDigest => "tags_by_digest",
            Table::TagsByTime => "tags_by_time",
            Table::BlobCandidates => "blob_candidates",
        }
    }
}

/// A row: its key and its value.
pub(in crate::store) type Row<'a> = (&'a [u8], &'a [u8]);

/// The bounds of a range of keys.
pub(in crate::store) type Bounds<'a> = (Bound<&'a [u8]>, Bound<&'a [u8]>);

/// A consistent view of all tables.
pub(in crate::store) trait ReadTables: Sized {
    /// Returns the value of a key.
    fn get(&self, table: Table, key: &[u8]) -> Result<Option<&[u8]>, IndexError>;

    /// Returns the rows whose keys are in a range, in key order.
    fn range(
        &self,
        table: Table,
        range: &Bounds<'_>,
    ) -> Result<impl Iterator<Item = Result<Row<'_>, IndexError>> + use<'_, Self>, IndexError>;

    /// Returns the rows whose keys begin with `prefix`, in key order.
    fn prefix(
        &self,
        table: Table,
        prefix: &[u8],
    ) -> Result<impl Iterator<Item = Result<Row<'_>, IndexError>> + use<'_, Self>, IndexError>;

    /// Returns the first row whose key is not smaller than `key`.
    fn at_or_after(&self, table: Table, key: &[u8]) -> Result<Option<Row<'_>>, IndexError>;

    /// Returns the number of rows.
    fn len(&self, table: Table) -> Result<u64, IndexError>;

    /// Records an error that may come from corruption, so that the index is inspected before its next use.
    fn note(&self, error: &IndexError);

    /// Returns all rows of a table, in key order.
    fn rows(
        &self,
        table: Table,
    ) -> Result<impl Iterator<Item = Result<Row<'_>, IndexError>> + use<'_, Self>, IndexError> {
        self.range(table, &(Bound::Unbounded, Bound::Unbounded))
    }

    /// Records the error of a result as [`ReadTables::note`] does; returns the result.
    fn noted<T>(&self, result: Result<T, IndexError>) -> Result<T, IndexError> {
        if let Err(error) = &result {
            self.note(error);
        }
        result
    }

    /// Decodes the value of a row.
    fn decode<'row, T: Deserialize<'row>>(&self, value: &'row [u8]) -> Result<T, IndexError> {
        self.noted(postcard::from_bytes(value).map_err(|error| IndexError::Row(error.to_string())))
    }

    /// Looks up and decodes one row.
    fn row<T: DeserializeOwned>(&self, table: Table, key: &[u8]) -> Result<Option<T>, IndexError> {
        self.get(table, key)?.map(|value| self.decode(value)).transpose()
    }
}

/// A transaction: the tables with its changes.
pub(in crate::store) trait WriteTables: ReadTables {
    /// Stores a row.
    fn put(&mut self, table: Table, key: &[u8], value: &[u8]) -> Result<(), IndexError>;

    /// Removes a row; returns false if it did not exist.
    fn delete(&mut self, table: Table, key: &[u8]) -> Result<bool, IndexError>;

    /// Refuses a change that makes the tables larger if that would use the reserve for deletes. The change counts as
    /// one that grows the index from then on.
    fn check_capacity(&mut self) -> Result<(), IndexError>;

    /// Returns true if the tables are about to reach the reserve for deletes, or the disk has no room to extend them.
    fn is_nearly_full(&self) -> Result<bool, IndexError>;

    /// Returns true if rows of this table can be written: an index of an earlier release that was opened without room lacks tables.
    fn has_table(&self, _table: Table) -> bool {
        true
    }

    /// Encodes and stores one row.
    fn put_row<T: Serialize>(&mut self, table: Table, key: &[u8], row: &T) -> Result<(), IndexError> {
        let bytes = postcard::to_allocvec(row).map_err(|error| IndexError::Row(error.to_string()));
        let bytes = self.noted(bytes)?;
        self.put(table, key, &bytes)
    }
}
