//! The walk over all names, from which `index.json` is written.
//!
//! A name is a manifest in a repository together with one of its tags, or alone if it has none. The walk tolerates
//! damage: it skips corrupt rows, notes the error, and compares the number of rows with the counts of the tables, so
//! that hidden rows are noticed as well.

use std::collections::HashSet;
use std::hash::{BuildHasher, RandomState};

use heed::RoTxn;

use super::database::Index;
use super::entry::{ManifestEntry, entry};
use super::rows::{ManifestRow, NameTimestamps, OrphanRow};
use super::schema::Tables;
use super::table::{Row, Table};
use super::{keys, schema};
use crate::oci::{Digest, MediaType, Reference, RepositoryName, Tag};
use crate::store::error::StoreError;

/// A name: a manifest under a tag, or under its digest if it has no tag.
#[derive(Clone)]
pub(in crate::store) struct Name {
    pub(in crate::store) repository: RepositoryName,
    pub(in crate::store) reference: Reference,
    pub(in crate::store) digest: Digest,
    pub(in crate::store) size: u64,
    pub(in crate::store) media_type: MediaType,
    /// The time at which the name was set, if it is known.
    pub(in crate::store) timestamps: Option<NameTimestamps>,
}

/// Receives each name of [`Index::for_each_name`]; an error ends the walk.
pub(in crate::store) type NameVisitor<'a> = dyn FnMut(&Name) -> Result<(), StoreError> + 'a;

/// The result of [`Index::for_each_name`].
pub(in crate::store) struct Named {
    /// The change number of the snapshot that was walked.
    pub(in crate::store) change: u64,
    /// The last read error, if any row was corrupt or missing.
    pub(in crate::store) damage: Option<StoreError>,
    /// True if every readable row was visited; a corrupt tree ends the walk early.
    pub(in crate::store) complete: bool,
    /// True if the number of rows differs from the count of a table: a name that a lookup does not find may not have
    /// been deleted.
    pub(in crate::store) rows_missing: bool,
}

impl Index {
    /// Calls `visit` with every manifest of every repository, once for each of its tags, and once without a tag if it
    /// has none. Skips corrupt rows.
    pub(in crate::store) fn for_each_name(
        &self,
        txn: &RoTxn,
        visit: &mut NameVisitor,
    ) -> Result<Named, StoreError> {
        let mut damage = Damage { error: None, ended_early: false };
        let mut seen = Seen::default();
        let change = damage.note(self.tables.change(txn)).unwrap_or_default();
        for row in self.tables.repositories.rows(txn)? {
            let key = match damage.row(row) {
                Found::Row((key, _)) => key,
                Found::Damaged => {
                    seen.repositories += 1;
                    continue;
                }
                Found::End => break,
            };
            let Some(name) = keys::text_after(key, 0).and_then(|name| name.parse().ok()) else { continue };
            seen.repositories += 1;
            self.names_of(txn, &name, (&mut damage, &mut seen), visit)?;
        }
        // A page that holds the bytes of another page has valid rows and hides its own: only the row count shows it.
        let rows_missing = !self.row_counts_match(txn, &seen)?;
        if rows_missing {
            let missing = heed::Error::Decoding("rows of the index are missing".into());
            self.tables.note(&missing);
            damage.error.get_or_insert(missing.into());
        }
        let complete = !damage.ended_early && !rows_missing;
        Ok(Named { change, complete, rows_missing, damage: damage.error })
    }

    /// Returns true if the tables have as many rows as the walk has seen.
    fn row_counts_match(&self, txn: &RoTxn, seen: &Seen) -> Result<bool, StoreError> {
        let Tables { repositories, tags, manifests, .. } = self.tables;
        let counted = Seen {
            repositories: repositories.len(txn)?,
            tags: tags.len(txn)?,
            manifests: manifests.len(txn)?,
        };
        Ok(counted == *seen)
    }

    /// Returns one name as `index.json` has it, by a lookup of its own.
    pub(in crate::store) fn name_of(
        &self,
        repository: &RepositoryName,
        reference: &Reference,
    ) -> Result<Option<Name>, StoreError> {
        let txn = self.read_txn()?;
        let (key, tag) = match reference {
            Reference::Tag(tag) => (keys::tag_key(repository, tag), Some(tag.clone())),
            Reference::Digest(digest) => (keys::content_key(repository, digest), None),
        };
        let table = if tag.is_some() { self.tables.tags } else { self.tables.manifests };
        let row: Option<ManifestRow> = schema::row(table, &txn, &key)?;
        row.map(|row| name(table, repository, tag, (row.timestamps(), &row))).transpose()
    }

    fn names_of(
        &self,
        txn: &RoTxn,
        repository: &RepositoryName,
        (damage, seen): (&mut Damage, &mut Seen),
        visit: &mut NameVisitor,
    ) -> Result<(), StoreError> {
        let prefix = keys::repository_prefix(repository);
        let mut tagged = Fingerprints::default();
        for row in damage.iter(self.tables.tags.prefix_iter(txn, &prefix)) {
            let (key, value) = match damage.row(row) {
                Found::Row(row) => row,
                Found::Damaged => {
                    seen.tags += 1;
                    continue;
                }
                Found::End => break,
            };
            seen.tags += 1;
            let Some(tag) = keys::text_after(key, prefix.len()).and_then(|tag| tag.parse().ok()) else {
                continue;
            };
            let row: ManifestRow = self.tables.tags.decode(value)?;
            visit(&name(self.tables.tags, repository, Some(tag), (row.timestamps(), &row))?)?;
            tagged.insert(&row.digest);
        }
        for row in damage.iter(self.tables.manifests.prefix_iter(txn, &prefix)) {
            let (key, value) = match damage.row(row) {
                Found::Row(row) => row,
                Found::Damaged => {
                    seen.manifests += 1;
                    continue;
                }
                Found::End => break,
            };
            seen.manifests += 1;
            let row: ManifestRow = self.tables.manifests.decode(value)?;
            if !tagged.contains(&row.digest) {
                // The age of an untagged manifest counts from the loss of its last tag, which its orphan row records.
                let orphan: Option<OrphanRow> =
                    damage.note(schema::row(self.tables.orphans, txn, key)).flatten();
                let since = orphan.map_or(row.since, |orphan| orphan.since.max(row.since));
                let timestamps = NameTimestamps { since, ..row.timestamps() };
                visit(&name(self.tables.manifests, repository, None, (timestamps, &row))?)?;
            }
        }
        Ok(())
    }
}

/// A set of digests that keeps eight bytes for each, so that a repository with a million tags costs megabytes. The
/// hash has a random key, so that no client can choose two colliding digests.
#[derive(Default)]
struct Fingerprints {
    state: RandomState,
    known: HashSet<u64>,
}

impl Fingerprints {
    fn insert(&mut self, digest: &[u8]) {
        self.known.insert(self.state.hash_one(digest));
    }

    fn contains(&self, digest: &[u8]) -> bool {
        self.known.contains(&self.state.hash_one(digest))
    }
}

/// The number of rows that a walk has seen.
#[derive(Default, PartialEq, Eq)]
struct Seen {
    repositories: u64,
    tags: u64,
    manifests: u64,
}

/// The errors of a walk.
struct Damage {
    error: Option<StoreError>,
    /// True once the walk over a tree ended before its last row.
    ended_early: bool,
}

/// The result of reading the next row.
enum Found<'txn> {
    Row(Row<'txn>),
    /// A row with a wrong checksum.
    Damaged,
    /// No more rows: the end, or a corrupt tree.
    End,
}

impl Damage {
    fn note<T>(&mut self, read: Result<T, StoreError>) -> Option<T> {
        read.map_err(|error| self.error = Some(error)).ok()
    }

    fn iter<I: Iterator>(&mut self, rows: heed::Result<I>) -> impl Iterator<Item = I::Item> + use<I> {
        let rows = self.note(rows.map_err(StoreError::from));
        self.ended_early |= rows.is_none();
        rows.into_iter().flatten()
    }

    fn row<'txn>(&mut self, row: heed::Result<Row<'txn>>) -> Found<'txn> {
        match row {
            Ok(row) => Found::Row(row),
            Err(error) => {
                let can_continue = matches!(error, heed::Error::Decoding(_));
                self.error = Some(error.into());
                self.ended_early |= !can_continue;
                if can_continue { Found::Damaged } else { Found::End }
            }
        }
    }
}

/// Converts a row of `table`, with the timestamps of the name.
fn name(
    table: Table,
    repository: &RepositoryName,
    tag: Option<Tag>,
    (timestamps, row): (NameTimestamps, &ManifestRow),
) -> Result<Name, StoreError> {
    let ManifestEntry { digest, size, media_type, .. } = entry(table, row)?;
    let reference = tag.map_or_else(|| Reference::Digest(digest.clone()), Reference::Tag);
    Ok(Name {
        repository: repository.clone(),
        reference,
        digest,
        size,
        media_type,
        timestamps: Some(timestamps),
    })
}
