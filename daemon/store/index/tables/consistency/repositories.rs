//! The tables in the order of repositories: their names, their content and their totals.

use std::hash::{BuildHasher, RandomState};

use super::super::port::{ReadTables, Table};
use super::super::rows::{BorrowedManifestRow, RepositoryBlobRow, RepositoryRow};
use super::cursor::{Cursor, corrupt};
use super::split_name;
use super::sum::Sums;
use crate::store::error::StoreError;

/// The manifests of a repository that are remembered; the tags of a larger one are looked up.
const MOST_KNOWN: usize = 1 << 18;

/// The tables, side by side.
struct Tables<'a, T> {
    source: &'a T,
    repositories: Cursor<'a>,
    totals: Cursor<'a>,
    manifests: Cursor<'a>,
    blobs: Cursor<'a>,
    tags: Cursor<'a>,
    sparse: Cursor<'a>,
    uses: Cursor<'a>,
    /// A hash with a random key of each manifest of a repository, sorted.
    known: Vec<u64>,
    key: RandomState,
}

/// Checks that tags have their manifests, and that the totals of the repositories are those of their rows.
pub(super) fn check(tables: &impl ReadTables, sums: &mut Sums) -> Result<(), StoreError> {
    let open = |table| Cursor::open(tables, table);
    let mut all = Tables {
        source: tables,
        repositories: open(Table::Repositories)?,
        totals: open(Table::BlobTotals)?,
        manifests: open(Table::Manifests)?,
        blobs: open(Table::RepositoryBlobs)?,
        tags: open(Table::Tags)?,
        sparse: open(Table::Sparse)?,
        uses: open(Table::Uses)?,
        known: Vec::new(),
        key: RandomState::new(),
    };
    while let Some(repository) = all.next_repository() {
        all.check_repository(repository, sums)?;
    }
    // A row that is left has no manifest.
    all.sparse.is_read()?;
    all.uses.is_read()
}

/// Returns the rest of a key if it begins with the name of a repository.
fn within<'a>(repository: &[u8], key: &'a [u8]) -> Option<&'a [u8]> {
    let (name, rest) = split_name(key);
    (name == repository).then_some(rest)
}

impl<'a, T: ReadTables> Tables<'a, T> {
    /// Returns the first repository that has a row.
    fn next_repository(&self) -> Option<&'a [u8]> {
        let names = [&self.repositories, &self.totals].into_iter().filter_map(Cursor::key);
        let content = [&self.manifests, &self.blobs, &self.tags].into_iter().filter_map(Cursor::key);
        names.chain(content.map(|key| split_name(key).0)).min()
    }

    fn check_repository(&mut self, repository: &[u8], sums: &mut Sums) -> Result<(), StoreError> {
        let is_it = |key: &'a [u8]| (key == repository).then_some(key);
        let row = self.repositories.next_if(is_it)?;
        let total = self.totals.next_if(is_it)?;
        let mut sum = RepositoryRow::default();
        self.add_manifests(repository, &mut sum, sums)?;
        while let Some((digest, value)) = self.blobs.next_if(|key| within(repository, key))? {
            let size = self.source.decode::<RepositoryBlobRow>(value)?.size;
            sums.blobs.forward(&[digest, repository], size);
            sum.bytes = sum.bytes.saturating_add(size);
        }
        self.add_tags(repository, &mut sum)?;
        let (table, agree) = match (row, total) {
            (Some((_, value)), None) => {
                let row: RepositoryRow = self.source.decode(value)?;
                let stored = (row.manifests, row.tags, row.bytes);
                (Table::Repositories, stored == (sum.manifests, sum.tags, sum.bytes))
            }
            (None, Some((_, value))) => {
                let bytes: u64 = self.source.decode(value)?;
                (Table::BlobTotals, bytes == sum.bytes && sum.manifests == 0)
            }
            (Some(_), Some(_)) => (Table::BlobTotals, false),
            // Blobs without a byte have no total.
            (None, None) => (Table::BlobTotals, sum.bytes == 0 && sum.manifests == 0),
        };
        if agree { Ok(()) } else { Err(corrupt(table)) }
    }

    fn add_manifests(
        &mut self,
        repository: &[u8],
        sum: &mut RepositoryRow,
        sums: &mut Sums,
    ) -> Result<(), StoreError> {
        self.known.clear();
        while let Some(key) = self.manifests.key()
            && let Some((digest, value)) = self.manifests.next_if(|key| within(repository, key))?
        {
            let row: BorrowedManifestRow = self.source.decode(value)?;
            if row.digest != digest {
                return Err(corrupt(Table::Manifests));
            }
            sums.manifests.forward(&[digest, repository], row.size);
            sum.manifests = sum.manifests.saturating_add(1);
            sum.bytes = sum.bytes.saturating_add(row.size);
            // Both tables have keys of manifests.
            for table in [&mut self.sparse, &mut self.uses] {
                table.next_if(|other| (other == key).then_some(other))?;
            }
            if self.known.len() <= MOST_KNOWN {
                self.known.push(self.key.hash_one(digest));
            }
        }
        self.known.sort_unstable();
        Ok(())
    }

    fn add_tags(&mut self, repository: &[u8], sum: &mut RepositoryRow) -> Result<(), StoreError> {
        while let Some((_, value)) = self.tags.next_if(|key| within(repository, key))? {
            let row: BorrowedManifestRow = self.source.decode(value)?;
            sum.tags = sum.tags.saturating_add(1);
            let is_known = if self.known.len() > MOST_KNOWN {
                self.source.get(Table::Manifests, &[repository, &[0], row.digest].concat())?.is_some()
            } else {
                self.known.binary_search(&self.key.hash_one(row.digest)).is_ok()
            };
            if !is_known {
                return Err(corrupt(Table::Tags));
            }
        }
        Ok(())
    }
}
