//! The walk over all names, from which `index.json` is written.
//!
//! A name is a manifest in a repository together with one of its tags, or alone if it has none. The walk tolerates
//! damage: it skips corrupt rows, notes the error, and compares the number of rows with the counts of the tables, so
//! that hidden rows are noticed as well.

use std::collections::HashSet;
use std::hash::{BuildHasher, RandomState};

use super::entry::{ManifestEntry, entry};
use super::keys;
use super::meta::Meta;
use super::port::{ReadTables, Row, Table};
use super::rows::{ManifestRow, NameTimestamps, OrphanRow};
use super::sparse::SparseManifests;
use crate::oci::{Digest, MediaType, Reference, RepositoryName, Tag};
use crate::store::error::StoreError;
use crate::store::index_error::IndexError;

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
    /// True if the manifest is sparse.
    pub(in crate::store) is_sparse: bool,
}

/// Receives each name of [`Names::for_each_name`]; an error ends the walk.
pub(in crate::store) type NameVisitor<'a> = dyn FnMut(&Name) -> Result<(), StoreError> + 'a;

/// The result of [`Names::for_each_name`].
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

/// The walk over all names.
pub(in crate::store) trait Names: ReadTables {
    /// Calls `visit` with every manifest of every repository, once for each of its tags, and once without a tag if it
    /// has none. Skips corrupt rows.
    fn for_each_name(&self, visit: &mut NameVisitor) -> Result<Named, StoreError> {
        let mut damage = Damage { error: None, ended_early: false };
        let mut seen = Seen::default();
        let change = damage.note(self.change()).unwrap_or_default();
        for row in self.rows(Table::Repositories)? {
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
            names_of(self, &name, (&mut damage, &mut seen), visit)?;
        }
        // A page that holds the bytes of another page has valid rows and hides its own: only the row count shows it.
        let rows_missing = !row_counts_match(self, &seen)?;
        if rows_missing {
            let missing = IndexError::Row("rows of the index are missing".into());
            self.note(&missing);
            damage.error.get_or_insert(missing.into());
        }
        let complete = !damage.ended_early && !rows_missing;
        Ok(Named { change, complete, rows_missing, damage: damage.error })
    }

    /// Returns one name as `index.json` has it, by a lookup of its own.
    fn name_of(
        &self,
        repository: &RepositoryName,
        reference: &Reference,
    ) -> Result<Option<Name>, StoreError> {
        let (key, tag) = match reference {
            Reference::Tag(tag) => (keys::tag_key(repository, tag), Some(tag.clone())),
            Reference::Digest(digest) => (keys::content_key(repository, digest), None),
        };
        let table = if tag.is_some() { Table::Tags } else { Table::Manifests };
        let row: Option<ManifestRow> = self.row(table, &key)?;
        row.map(|row| name(self, repository, tag, (row.timestamps(), &row))).transpose()
    }

    /// Returns the name that a manifest has if it has no tag, as [`Names::for_each_name`] visits it.
    fn untagged_name_of(
        &self,
        repository: &RepositoryName,
        digest: &Digest,
    ) -> Result<Option<Name>, StoreError> {
        let key = keys::content_key(repository, digest);
        let Some(row) = self.row::<ManifestRow>(Table::Manifests, &key)? else { return Ok(None) };
        let timestamps = untagged_timestamps(&row, self.row(Table::Orphans, &key)?);
        name(self, repository, None, (timestamps, &row)).map(Some)
    }
}

impl<T: ReadTables> Names for T {}

/// Returns the timestamps of a manifest without a tag: its age counts from the loss of its last tag, which its orphan
/// row records.
fn untagged_timestamps(row: &ManifestRow, orphan: Option<OrphanRow>) -> NameTimestamps {
    let since = orphan.map_or(row.since, |orphan| orphan.since.max(row.since));
    NameTimestamps { since, ..row.timestamps() }
}

/// Returns true if the tables have as many rows as the walk has seen.
fn row_counts_match(tables: &impl ReadTables, seen: &Seen) -> Result<bool, StoreError> {
    let counted = Seen {
        repositories: tables.len(Table::Repositories)?,
        tags: tables.len(Table::Tags)?,
        manifests: tables.len(Table::Manifests)?,
    };
    Ok(counted == *seen)
}

/// Visits the names of one repository.
fn names_of(
    tables: &impl ReadTables,
    repository: &RepositoryName,
    (damage, seen): (&mut Damage, &mut Seen),
    visit: &mut NameVisitor,
) -> Result<(), StoreError> {
    let prefix = keys::repository_prefix(repository);
    let mut tagged = Fingerprints::default();
    for row in damage.iter(tables.prefix(Table::Tags, &prefix)) {
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
        let row: ManifestRow = tables.decode(value)?;
        visit(&name(tables, repository, Some(tag), (row.timestamps(), &row))?)?;
        tagged.insert(&row.digest);
    }
    for row in damage.iter(tables.prefix(Table::Manifests, &prefix)) {
        let (key, value) = match damage.row(row) {
            Found::Row(row) => row,
            Found::Damaged => {
                seen.manifests += 1;
                continue;
            }
            Found::End => break,
        };
        seen.manifests += 1;
        let row: ManifestRow = tables.decode(value)?;
        if !tagged.contains(&row.digest) {
            let orphan = damage.note(tables.row(Table::Orphans, key).map_err(StoreError::from)).flatten();
            visit(&name(tables, repository, None, (untagged_timestamps(&row, orphan), &row))?)?;
        }
    }
    Ok(())
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

    fn iter<I: Iterator>(&mut self, rows: Result<I, IndexError>) -> impl Iterator<Item = I::Item> + use<I> {
        let rows = self.note(rows.map_err(StoreError::from));
        self.ended_early |= rows.is_none();
        rows.into_iter().flatten()
    }

    fn row<'txn>(&mut self, row: Result<Row<'txn>, IndexError>) -> Found<'txn> {
        match row {
            Ok(row) => Found::Row(row),
            Err(error) => {
                let can_continue = matches!(error, IndexError::Row(_));
                self.error = Some(error.into());
                self.ended_early |= !can_continue;
                if can_continue { Found::Damaged } else { Found::End }
            }
        }
    }
}

/// Converts a row, with the timestamps of the name.
fn name(
    tables: &impl ReadTables,
    repository: &RepositoryName,
    tag: Option<Tag>,
    (timestamps, row): (NameTimestamps, &ManifestRow),
) -> Result<Name, StoreError> {
    let ManifestEntry { digest, size, media_type, .. } = entry(tables, row)?;
    let is_sparse = tables.is_sparse(repository, &digest)?;
    let reference = tag.map_or_else(|| Reference::Digest(digest.clone()), Reference::Tag);
    Ok(Name {
        repository: repository.clone(),
        reference,
        digest,
        size,
        media_type,
        timestamps: Some(timestamps),
        is_sparse,
    })
}
