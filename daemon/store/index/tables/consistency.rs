//! The consistency of the tables: every row is readable, and tables with redundant content agree, so that lost pages are
//! noticed.

mod tags;

use super::keys;
use super::meta::Meta;
use super::port::{ReadTables, Table};
use super::rows::{BlobRow, ManifestRow, RepositoryBlobRow, RepositoryRow};
use super::stats::Stats;
use crate::store::error::StoreError;
use crate::store::index_error::IndexError;

/// Reads a table to its end; the checksum of each row is checked.
fn read_table(tables: &impl ReadTables, table: Table) -> Result<(), StoreError> {
    let (count, mut seen) = (tables.len(table)?, 0);
    let mut before = Vec::new();
    for row in tables.rows(table)? {
        let (key, _) = row?;
        seen += 1;
        // Pages that link to each other in a circle would never end.
        if seen > count || (seen > 1 && key <= &before[..]) {
            return Err(corrupt(table));
        }
        before.clear();
        before.extend_from_slice(key);
    }
    if seen == count { Ok(()) } else { Err(corrupt(table)) }
}

/// Reads every row, and checks that tables with redundant content agree.
///
/// # Errors
/// [`StoreError::Index`] when a row is corrupt or the tables do not agree.
pub(in crate::store) fn check(tables: &impl ReadTables) -> Result<(), StoreError> {
    Table::ALL.into_iter().try_for_each(|table| read_table(tables, table))?;
    cross_check(tables)?;
    tags::check(tables)?;
    check_counts(tables)
}

fn cross_check(tables: &impl ReadTables) -> Result<(), StoreError> {
    let stored = |digest: &[u8], size: u64| -> Result<bool, StoreError> {
        Ok(tables.row::<BlobRow>(Table::Blobs, digest)?.is_some_and(|row| row.size == size))
    };
    each(tables, Table::Tags, &mut |key, value| {
        let (repository, _) = split(key);
        let row: ManifestRow = tables.decode(value)?;
        Ok(tables.get(Table::Manifests, &[repository, &[0], &row.digest].concat())?.is_some())
    })?;
    each(tables, Table::Manifests, &mut |key, value| {
        let (repository, digest) = split(key);
        let row: ManifestRow = tables.decode(value)?;
        let is_linked = tables.get(Table::ManifestRepositories, &[digest, repository].concat())?.is_some();
        let is_complete = is_linked && tables.get(Table::Children, digest)?.is_some();
        Ok(is_complete && row.digest == digest && stored(digest, row.size)?)
    })?;
    each(tables, Table::Children, &mut |parent, children| {
        for child in keys::digests(children) {
            let edge = [&keys::digest_key(&child)[..], parent].concat();
            if tables.get(Table::Parents, &edge)?.is_none() {
                return Ok(false);
            }
        }
        Ok(true)
    })?;
    each(tables, Table::RepositoryBlobs, &mut |key, value| {
        let (repository, digest) = split(key);
        let row: RepositoryBlobRow = tables.decode(value)?;
        let is_linked = tables.get(Table::BlobRepositories, &[digest, repository].concat())?.is_some();
        Ok(is_linked && stored(digest, row.size)?)
    })?;
    for table in [Table::Sparse, Table::Uses] {
        each(tables, table, &mut |key, _| Ok(tables.get(Table::Manifests, key)?.is_some()))?;
    }
    for (table, reverse) in
        [(Table::Manifests, Table::ManifestRepositories), (Table::RepositoryBlobs, Table::BlobRepositories)]
    {
        if tables.len(table)? != tables.len(reverse)? {
            return Err(corrupt(reverse));
        }
    }
    Ok(())
}

/// Checks the totals and the statistics of the repositories.
fn check_counts(tables: &impl ReadTables) -> Result<(), StoreError> {
    let mut bytes: u64 = 0;
    each(tables, Table::Blobs, &mut |_, value| {
        bytes = bytes.saturating_add(tables.decode::<BlobRow>(value)?.size);
        Ok(true)
    })?;
    if tables.bytes()? != bytes {
        return Err(corrupt(Table::Meta));
    }
    let (mut counted, mut total) = (0, 0u64);
    each(tables, Table::Repositories, &mut |name, value| {
        let row: RepositoryRow = tables.decode(value)?;
        counted += u64::from(row.manifests);
        total = total.saturating_add(row.bytes);
        tables.stats_match(name, &row)
    })?;
    if counted != tables.len(Table::Manifests)? {
        return Err(corrupt(Table::Repositories));
    }
    each(tables, Table::BlobTotals, &mut |name, value| {
        let bytes: u64 = tables.decode(value)?;
        total = total.saturating_add(bytes);
        Ok(tables.get(Table::Repositories, name)?.is_none() && tables.sum_stats(name)?.bytes == bytes)
    })?;
    // A repository without statistics shows only in the sum over all.
    let mut sum: u64 = 0;
    each(tables, Table::Manifests, &mut |_, value| {
        sum = sum.saturating_add(tables.decode::<ManifestRow>(value)?.size);
        Ok(true)
    })?;
    each(tables, Table::RepositoryBlobs, &mut |_, value| {
        sum = sum.saturating_add(tables.decode::<RepositoryBlobRow>(value)?.size);
        Ok(true)
    })?;
    if sum == total { Ok(()) } else { Err(corrupt(Table::BlobTotals)) }
}

/// Returns true if a row is valid, by its key and its value.
type RowCheck<'a> = dyn FnMut(&[u8], &[u8]) -> Result<bool, StoreError> + 'a;

/// Checks every row of a table.
fn each(tables: &impl ReadTables, table: Table, is_valid: &mut RowCheck) -> Result<(), StoreError> {
    for row in tables.rows(table)? {
        let (key, value) = row?;
        if !is_valid(key, value)? {
            return Err(corrupt(table));
        }
    }
    Ok(())
}

/// Splits a key after the repository's name.
fn split(key: &[u8]) -> (&[u8], &[u8]) {
    let end = key.iter().position(|byte| *byte == 0).unwrap_or(key.len());
    (&key[..end], key.get(end + 1..).unwrap_or_default())
}

fn corrupt(table: Table) -> StoreError {
    IndexError::Row(format!("the table {} is corrupt", table.name())).into()
}
