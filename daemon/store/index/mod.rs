//! The index: who is called what, in LMDB.
//!
//! Reads are short and each has its own transaction; they look at memory that is mapped from the file and do
//! no system call. All writes go through the one thread of [`writer`].

mod attached;
pub(super) mod changes;
mod commit;
#[cfg(test)]
mod delete_tests;
pub(super) mod deletes;
pub(super) mod discard;
mod environment;
pub(super) mod exceptions;
pub(super) mod forecast;
pub(super) mod garbage;
pub(super) mod inspect;
mod lists;
mod overview;
mod pages;
mod parents;
mod preallocation;
mod repair;
pub(super) mod schema;
mod table;
mod totals;
pub(super) mod watches;
pub(super) mod writer;

use std::collections::HashSet;
use std::hash::{BuildHasher, RandomState};
use std::ops::Bound;

use heed::{Env, RoTxn};

pub(super) use self::lists::{PartEnd, RepositoryPart};
use self::preallocation::Preallocation;
use self::schema::{Given, LeftRow, LinkRow, ManifestRow, RepositoryRow, Tables, VERSION};
use self::table::Row;
use self::watches::Watches;
use super::clock::Clock;
use super::disk::Disk;
use super::error::StoreError;
use super::layout::Name;
use crate::oci::{Digest, MediaType, Reference, RepositoryName, Tag};

/// The row of the table `meta` that is there once the index has been filled.
const COMPLETE: &[u8] = b"complete";

/// A manifest as the index knows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ManifestEntry {
    /// The digest of its bytes.
    pub digest: Digest,
    /// Its length in bytes.
    pub size: u64,
    /// What it is sent as.
    pub media_type: MediaType,
    /// When it was pushed or tagged, in seconds since 1970.
    pub pushed: u64,
}

/// One page of a list, and whether there is more behind it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Page<T> {
    /// The items, in the order of their bytes.
    pub items: Vec<T>,
    /// Whether the list goes on.
    pub more: bool,
}

/// How much there is in the store.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Counts {
    /// Repositories with at least one manifest.
    pub repositories: u64,
    /// Tags of all repositories.
    pub tags: u64,
    /// Manifests, counted once for each repository.
    pub manifests: u64,
    /// Files in `blobs/`.
    pub blobs: u64,
    /// Their length in bytes, all together.
    pub bytes: u64,
}

/// What [`Index::for_each_name`] calls for every name.
pub(super) type NameVisitor<'a> = dyn FnMut(&Name) -> Result<(), StoreError> + 'a;

/// How far [`Index::for_each_name`] has come.
pub(super) struct Named {
    /// The number of the last change of names.
    pub(super) change: u64,
    /// Why some rows could not be read, if that is so.
    pub(super) damage: Option<StoreError>,
    /// Whether all rows that can be read were visited: damage to a tree ends the walk through it.
    pub(super) complete: bool,
    /// Whether there were fewer rows or more than the tables say: a name that is not found may not have been deleted.
    pub(super) is_short: bool,
}

/// The open index.
pub(super) struct Index {
    pub(super) env: Env,
    pub(super) tables: Tables,
    pub(super) clock: Clock,
    preallocation: Preallocation,
    /// The deletes that look for tags.
    watches: Watches,
    /// How large the index may get, as configured; LMDB's map is larger.
    map_size: usize,
}

impl Index {
    /// Opens the index, and makes it where there is none.
    pub(super) fn open(disk: &Disk, map_size: usize) -> Result<Self, StoreError> {
        let env = environment::open(&disk.index_directory(), map_size, false)?;
        env.clear_stale_readers()?;
        let preallocation = Preallocation::new(&env)?;
        preallocation.keep_up(&env);
        match Self::begin(&env, &preallocation) {
            Ok((tables, clock)) => {
                Ok(Index { env, tables, clock, preallocation, watches: Watches::default(), map_size })
            }
            // Pulls go on all the same, and the first change that makes room keeps the clock.
            Err(full @ (StoreError::Full | StoreError::PagesHeld)) => {
                Self::look(env, map_size).map_err(|_| full)
            }
            Err(error) => Err(error),
        }
    }

    /// Makes what is missing, and keeps the clock at once, so that another process on the same index goes by the same.
    fn begin(env: &Env, preallocation: &Preallocation) -> Result<(Tables, Clock), StoreError> {
        let mut txn = env.write_txn()?;
        let tables = Tables::create(env, &mut txn)?;
        let found = tables.meta.get(&txn, b"version")?.map(schema::decode::<u32>).transpose()?;
        match found {
            None => schema::put_row(tables.meta, &mut txn, b"version", &VERSION)?,
            Some(VERSION) => {}
            Some(found) => return Err(StoreError::Format { found, known: VERSION }),
        }
        let clock = Clock::start(schema::row(tables.meta, &txn, schema::CLOCK)?.as_ref())?;
        schema::put_row(tables.meta, &mut txn, schema::CLOCK, &clock.row())?;
        commit::commit(env, preallocation, txn, &tables)?;
        Ok((tables, clock))
    }

    /// Opens the index to look at it: nothing is written, so that it works on a disk that takes no more writes.
    pub(super) fn open_to_look(disk: &Disk, map_size: usize) -> Result<Self, StoreError> {
        Self::look(environment::open(&disk.index_directory(), map_size, false)?, map_size)
    }

    fn look(env: Env, map_size: usize) -> Result<Self, StoreError> {
        let txn = env.read_txn()?;
        let tables = Tables::find(&env, &txn)?;
        let clock = Clock::start(schema::row(tables.meta, &txn, schema::CLOCK)?.as_ref())?;
        txn.commit()?;
        let preallocation = Preallocation::new(&env)?;
        Ok(Index { env, tables, clock, preallocation, watches: Watches::default(), map_size })
    }

    /// Returns how large the index may get, in bytes.
    pub(super) fn map_size(&self) -> usize {
        self.map_size
    }

    /// Returns the number of the last change of names.
    pub(super) fn change(&self) -> Result<u64, StoreError> {
        let txn = self.env.read_txn()?;
        self.tables.change(&txn)
    }

    /// Whether the index was filled to the end, when it was new or was made again.
    pub(super) fn is_complete(&self) -> Result<bool, StoreError> {
        let txn = self.env.read_txn()?;
        Ok(self.tables.meta.get(&txn, COMPLETE)?.is_some())
    }

    /// Whether names were lost, so that only a person may collect.
    pub(super) fn collection_is_held(&self) -> Result<bool, StoreError> {
        let txn = self.env.read_txn()?;
        self.tables.collection_is_held(&txn)
    }

    /// The manifest under a tag or a digest: one lookup.
    pub(super) fn manifest(
        &self,
        repository: &RepositoryName,
        reference: &Reference,
    ) -> Result<Option<ManifestEntry>, StoreError> {
        let txn = self.env.read_txn()?;
        let row = match reference {
            Reference::Tag(tag) => schema::row(self.tables.tags, &txn, &schema::tag_key(repository, tag))?,
            Reference::Digest(digest) => {
                schema::row(self.tables.manifests, &txn, &schema::content_key(repository, digest))?
            }
        };
        row.as_ref().map(entry).transpose()
    }

    /// A blob, if the repository has it: one lookup.
    pub(super) fn blob(
        &self,
        repository: &RepositoryName,
        digest: &Digest,
    ) -> Result<Option<LinkRow>, StoreError> {
        let txn = self.env.read_txn()?;
        schema::row(self.tables.links, &txn, &schema::content_key(repository, digest))
    }

    /// The repositories that have a blob, at most `limit` of them.
    pub(super) fn blob_homes(
        &self,
        digest: &Digest,
        limit: usize,
    ) -> Result<Vec<RepositoryName>, StoreError> {
        let txn = self.env.read_txn()?;
        let prefix = schema::digest_key(digest);
        let mut homes = Vec::new();
        for row in self.tables.blob_homes.prefix_iter(&txn, &prefix)?.take(limit) {
            homes.extend(text_behind(row?.0, prefix.len()).and_then(|name| name.parse().ok()));
        }
        Ok(homes)
    }

    /// Returns the repositories that have a manifest.
    pub(super) fn manifest_homes(&self, digest: &Digest) -> Result<Vec<RepositoryName>, StoreError> {
        let (txn, key) = (self.env.read_txn()?, schema::digest_key(digest));
        let mut homes = Vec::new();
        for row in self.tables.manifest_homes.prefix_iter(&txn, &key)? {
            homes.extend(text_behind(row?.0, key.len()).and_then(|name| name.parse().ok()));
        }
        Ok(homes)
    }

    /// Whether the repository has a manifest.
    pub(super) fn repository_exists(&self, repository: &RepositoryName) -> Result<bool, StoreError> {
        let txn = self.env.read_txn()?;
        Ok(self.tables.repositories.get(&txn, repository.as_str().as_bytes())?.is_some())
    }

    /// A page of the tags of a repository, after `last`.
    pub(super) fn tags(
        &self,
        repository: &RepositoryName,
        last: Option<&str>,
        limit: usize,
    ) -> Result<Page<Tag>, StoreError> {
        let txn = self.env.read_txn()?;
        let prefix = schema::repository_prefix(repository);
        let mut after = prefix.clone();
        after.extend_from_slice(last.unwrap_or_default().as_bytes());
        let (mut page, mut bytes) = (Page { items: Vec::new(), more: false }, 0);
        for row in self.tables.tags.range(&txn, &(Bound::Excluded(&after[..]), Bound::Unbounded))? {
            let (key, _) = row?;
            if !key.starts_with(&prefix) {
                break;
            }
            bytes += key.len() - prefix.len();
            if page.items.len() == limit || (bytes > lists::NAMES_BYTES && !page.items.is_empty()) {
                page.more = true;
                break;
            }
            page.items.extend(text_behind(key, prefix.len()).and_then(|tag| tag.parse().ok()));
        }
        Ok(page)
    }

    /// The blobs that come after one, and their lengths.
    pub(super) fn blobs_after(
        &self,
        after: Option<&Digest>,
        limit: usize,
    ) -> Result<Vec<(Digest, u64)>, StoreError> {
        let (txn, after) = (self.env.read_txn()?, after.map(schema::digest_key));
        let start = after.as_deref().map_or(Bound::Unbounded, Bound::Excluded);
        let mut blobs = Vec::new();
        for row in self.tables.blobs.range(&txn, &(start, Bound::Unbounded))?.take(limit) {
            let (key, value) = row?;
            let row: schema::BlobRow = schema::decode(value)?;
            blobs.extend(schema::split_digest(key).map(|(digest, _)| (digest, row.size)));
        }
        Ok(blobs)
    }

    /// Returns the length of a file in `blobs/` as the index knows it.
    pub(super) fn blob_size(&self, digest: &Digest) -> Result<Option<u64>, StoreError> {
        let txn = self.env.read_txn()?;
        let row: Option<schema::BlobRow> = schema::row(self.tables.blobs, &txn, &schema::digest_key(digest))?;
        Ok(row.map(|row| row.size))
    }

    /// Returns a page of the blobs that a repository has, and their lengths, after the digest `after`.
    pub(super) fn links_after(
        &self,
        repository: &RepositoryName,
        after: Option<&Digest>,
        limit: usize,
    ) -> Result<Vec<(Digest, u64)>, StoreError> {
        let (txn, prefix) = (self.env.read_txn()?, schema::repository_prefix(repository));
        let start = after.map_or_else(|| prefix.clone(), |after| schema::content_key(repository, after));
        let range = (Bound::Excluded(&start[..]), Bound::Unbounded);
        let mut links = Vec::new();
        for row in self.tables.links.range(&txn, &range)?.take(limit) {
            let (key, value) = row?;
            if !key.starts_with(&prefix) {
                break;
            }
            let row: LinkRow = schema::decode(value)?;
            links.extend(schema::split_digest(&key[prefix.len()..]).map(|(digest, _)| (digest, row.size)));
        }
        Ok(links)
    }

    /// The manifests of a repository that come after one.
    pub(super) fn manifests_after(
        &self,
        repository: &RepositoryName,
        after: Option<&Digest>,
        limit: usize,
    ) -> Result<Vec<ManifestEntry>, StoreError> {
        let (txn, prefix) = (self.env.read_txn()?, schema::repository_prefix(repository));
        let start = after.map_or_else(|| prefix.clone(), |after| schema::content_key(repository, after));
        let range = (Bound::Excluded(&start[..]), Bound::Unbounded);
        let mut manifests = Vec::new();
        for row in self.tables.manifests.range(&txn, &range)?.take(limit) {
            let (key, value) = row?;
            if !key.starts_with(&prefix) {
                break;
            }
            manifests.push(entry(&schema::decode(value)?)?);
        }
        Ok(manifests)
    }

    /// The length of all blobs together, in bytes.
    pub(super) fn bytes(&self) -> Result<u64, StoreError> {
        let txn = self.env.read_txn()?;
        self.tables.bytes(&txn)
    }

    /// How much there is.
    pub(super) fn counts(&self) -> Result<Counts, StoreError> {
        let txn = self.env.read_txn()?;
        Ok(Counts {
            repositories: self.tables.repositories.len(&txn)?,
            tags: self.tables.tags.len(&txn)?,
            manifests: self.tables.manifests.len(&txn)?,
            blobs: self.tables.blobs.len(&txn)?,
            bytes: self.tables.bytes(&txn)?,
        })
    }

    /// Calls `visit` with every manifest of every repository, once for each of its tags, and once without a tag
    /// where it has none. What is damaged is passed over.
    pub(super) fn for_each_name(&self, txn: &RoTxn, visit: &mut NameVisitor) -> Result<Named, StoreError> {
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
            let Some(name) = text_behind(key, 0).and_then(|name| name.parse().ok()) else { continue };
            seen.repositories += 1;
            self.names_of(txn, &name, (&mut damage, &mut seen), visit)?;
        }
        // A page that holds the bytes of another has sound rows, and hides its own: only their number shows it.
        let is_short = !self.has_rows(txn, &seen)?;
        if is_short {
            let error = heed::Error::Decoding("rows of the index are missing".into());
            damage.error.get_or_insert(error.into());
        }
        let complete = !damage.ended_early && !is_short;
        Ok(Named { change, complete, is_short, damage: damage.error })
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
    pub(super) fn name_of(
        &self,
        repository: &RepositoryName,
        reference: &Reference,
    ) -> Result<Option<Name>, StoreError> {
        let txn = self.env.read_txn()?;
        let (key, tag) = match reference {
            Reference::Tag(tag) => (schema::tag_key(repository, tag), Some(tag.clone())),
            Reference::Digest(digest) => (schema::content_key(repository, digest), None),
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
        let prefix = schema::repository_prefix(repository);
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
            let Some(tag) = text_behind(key, prefix.len()).and_then(|tag| tag.parse().ok()) else { continue };
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
                let left: Option<LeftRow> = damage.note(schema::row(self.tables.left, txn, key)).flatten();
                let since = left.map_or(row.since, |left| left.since.max(row.since));
                visit(&name(repository, None, Given { since, ..row.given() }, &row)?)?;
            }
        }
        Ok(())
    }

    /// How many manifests the repository has.
    fn manifest_count(&self, txn: &RoTxn, repository: &RepositoryName) -> Result<u32, StoreError> {
        let row: Option<RepositoryRow> =
            schema::row(self.tables.repositories, txn, repository.as_str().as_bytes())?;
        Ok(row.unwrap_or_default().manifests)
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
    given: Given,
    row: &ManifestRow,
) -> Result<Name, StoreError> {
    let ManifestEntry { digest, size, media_type, .. } = entry(row)?;
    let reference = tag.map_or_else(|| Reference::Digest(digest.clone()), Reference::Tag);
    Ok(Name { repository: repository.clone(), reference, digest, size, media_type, given: Some(given) })
}

fn text_behind(key: &[u8], prefix: usize) -> Option<&str> {
    std::str::from_utf8(key.get(prefix..)?).ok()
}

fn entry(row: &ManifestRow) -> Result<ManifestEntry, StoreError> {
    let media_type = row.media_type.parse();
    let media_type = media_type.map_err(|_| heed::Error::Decoding("a manifest's media type".into()))?;
    Ok(ManifestEntry { digest: row.digest()?, size: row.size, media_type, pushed: row.pushed })
}
