//! The walk through all names, from which `index.json` is written.

use std::collections::HashSet;
use std::hash::{BuildHasher, RandomState};

use heed::RoTxn;

use super::database::Index;
use super::entry::{ManifestEntry, entry};
use super::rows::{ManifestRow, NameTimestamps, OrphanRow};
use super::schema::Tables;
use super::table::Row;
use super::{keys, schema};
use crate::oci::{Digest, MediaType, Reference, RepositoryName, Tag};
use crate::store::error::StoreError;

/// A manifest as `index.json` names it.
#[derive(Clone)]
pub(in crate::store) struct Name {
    pub(in crate::store) repository: RepositoryName,
    pub(in crate::store) reference: Reference,
    pub(in crate::store) digest: Digest,
    pub(in crate::store) size: u64,
    pub(in crate::store) media_type: MediaType,
    /// When the name was given, if that is said.
    pub(in crate::store) given: Option<NameTimestamps>,
}

/// What [`Index::for_each_name`] calls for every name.
pub(in crate::store) type NameVisitor<'a> = dyn FnMut(&Name) -> Result<(), StoreError> + 'a;

/// How far [`Index::for_each_name`] has come.
pub(in crate::store) struct Named {
    /// The number of the last change of names.
    pub(in crate::store) change: u64,
    /// Why some rows could not be read, if that is so.
    pub(in crate::store) damage: Option<StoreError>,
    /// Whether all rows that can be read were visited: damage to a tree ends the walk through it.
    pub(in crate::store) complete: bool,
    /// Whether there were fewer rows or more than the tables say: a name that is not found may not have been deleted.
    pub(in crate::store) rows_missing: bool,
}

impl Index {
    /// Calls `visit` with every manifest of every repository, once for each of its tags, and once without a tag
    /// where it has none. What is damaged is passed over.
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
            let Some(name) = keys::text_behind(key, 0).and_then(|name| name.parse().ok()) else { continue };
            seen.repositories += 1;
            self.names_of(txn, &name, (&mut damage, &mut seen), visit)?;
        }
        // A page that holds the bytes of another has sound rows, and hides its own: only their number shows it.
        let rows_missing = !self.has_rows(txn, &seen)?;
        if rows_missing {
            let error = heed::Error::Decoding("rows of the index are missing".into());
            damage.error.get_or_insert(error.into());
        }
        let complete = !damage.ended_early && !rows_missing;
        Ok(Named { change, complete, rows_missing, damage: damage.error })
    }

    /// Returns true if the tables have as many rows as were seen.
    fn has_rows(&self, txn: &RoTxn, seen: &Seen) -> Result<bool, StoreError> {
        let Tables { repositories, tags, manifests, .. } = self.tables;
        let counted = Seen {
            repositories: repositories.len(txn)?,
            tags: tags.len(txn)?,
            manifests: manifests.len(txn)?,
        };
        Ok(counted == *seen)
    }

    /// Returns a name as `index.json` has it, by a lookup of its own; an untagged manifest by its digest.
    pub(in crate::store) fn name_of(
        &self,
        repository: &RepositoryName,
        reference: &Reference,
    ) -> Result<Option<Name>, StoreError> {
        let txn = self.env.read_txn()?;
        let (key, tag) = match reference {
            Reference::Tag(tag) => (keys::tag_key(repository, tag), Some(tag.clone())),
            Reference::Digest(digest) => (keys::content_key(repository, digest), None),
        };
        let table = if tag.is_some() { self.tables.tags } else { self.tables.manifests };
        let row: Option<ManifestRow> = schema::row(table, &txn, &key)?;
        row.map(|row| name(repository, tag, row.given(), &row)).transpose()
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
            let Some(tag) = keys::text_behind(key, prefix.len()).and_then(|tag| tag.parse().ok()) else {
                continue;
            };
            let row: ManifestRow = schema::decode(value)?;
            visit(&name(repository, Some(tag), row.given(), &row)?)?;
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
            let row: ManifestRow = schema::decode(value)?;
            if !tagged.contains(&row.digest) {
                // It has been without a tag since it lost its last one.
                let left: Option<OrphanRow> =
                    damage.note(schema::row(self.tables.orphans, txn, key)).flatten();
                let since = left.map_or(row.since, |left| left.since.max(row.since));
                visit(&name(repository, None, NameTimestamps { since, ..row.given() }, &row)?)?;
            }
        }
        Ok(())
    }
}

/// A set of digests of which eight bytes each are kept, so that a repository with a million tags costs megabytes. The
/// hash is keyed at random: no client can choose two digests that are taken for one.
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

/// How many rows a walk through the names has seen.
#[derive(Default, PartialEq, Eq)]
struct Seen {
    repositories: u64,
    tags: u64,
    manifests: u64,
}

/// Why something could not be read, if that is so.
struct Damage {
    error: Option<StoreError>,
    /// Whether a walk through a tree ended before its last row.
    ended_early: bool,
}

/// What there is where the next row is expected.
enum Found<'txn> {
    Row(Row<'txn>),
    /// A row that is not as it was written.
    Damaged,
    /// Nothing that could be read: the tree itself is broken.
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
                let goes_on = matches!(error, heed::Error::Decoding(_));
                self.error = Some(error.into());
                self.ended_early |= !goes_on;
                if goes_on { Found::Damaged } else { Found::End }
            }
        }
    }
}

fn name(
    repository: &RepositoryName,
    tag: Option<Tag>,
    given: NameTimestamps,
    row: &ManifestRow,
) -> Result<Name, StoreError> {
    let ManifestEntry { digest, size, media_type, .. } = entry(row)?;
    let reference = tag.map_or_else(|| Reference::Digest(digest.clone()), Reference::Tag);
    Ok(Name { repository: repository.clone(), reference, digest, size, media_type, given: Some(given) })
}
