//! The inspection of an index: reads every row and checks that the tables agree.
//!
//! LMDB trusts its file: reading a corrupt page may kill the process. So an inspection runs in a child process, and a
//! crash counts as corruption. LMDB's list of free pages cannot be read through its interface, and a wrong one makes
//! LMDB overwrite pages in use. So the rows are copied to a new file without that list, which then replaces the
//! index.

use std::path::Path;

use heed::{CompactionOption, Env, RoTxn};

use super::preallocation::Preallocation;
use super::rows::{BlobRow, ManifestRow, RepositoryBlobRow, RepositoryRow};
use super::schema::{self, Tables, VERSION};
use super::table::Table;
use super::{environment, keys};
use crate::store::error::StoreError;
use crate::store::sys;

/// The parameters of an inspection.
#[derive(Clone, Copy, Debug)]
pub struct Inspection<'a> {
    /// The directory of the index.
    pub directory: &'a Path,
    /// The size limit of the index, in bytes.
    pub map_size: usize,
    /// Reads LMDB's previous snapshot instead of the newest.
    pub previous: bool,
    /// The smallest acceptable change number.
    pub least_change: u64,
    /// The file to copy the rows to.
    pub copy: Option<&'a Path>,
}

/// Reads every row of an index, checks it and copies the index. If the disk has no room for the copy, it is removed
/// again.
///
/// # Errors
/// [`StoreError::Index`] when the index is corrupt, or older than `least_change`; otherwise an error that says
/// nothing about the index ([`StoreError::is_environment_error`]).
pub fn inspect(inspection: &Inspection) -> Result<(), StoreError> {
    let Inspection { directory, map_size, previous, least_change, copy } = *inspection;
    let env = environment::open(directory, map_size, previous)?;
    let txn = env.read_txn()?;
    let meta = Table::open(&env, &txn, "meta")?;
    if schema::row::<u64>(meta, &txn, schema::CHANGE)?.unwrap_or_default() < least_change {
        return Err(StoreError::Index(heed::Error::Decoding("index.json is newer".into())));
    }
    let version: Option<u32> = schema::row(meta, &txn, b"version")?;
    if version.is_some_and(|version| version != VERSION) {
        // Rows of other versions are not readable here: opening refuses a newer version and rebuilds an older one.
        return Ok(());
    }
    let tables = Tables::find(&env, &txn)?;
    tables.all().into_iter().try_for_each(|table| read_table(&txn, table))?;
    cross_check(&tables, &txn)?;
    // LMDB allows one read transaction per thread, and the copy opens one.
    txn.commit()?;
    copy.map_or(Ok(()), |copy| copy_to(&env, &tables, copy, map_size))
}

/// Copies an index whose rows are all readable; an error here says nothing about them.
fn copy_to(env: &Env, tables: &Tables, copy: &Path, map_size: usize) -> Result<(), StoreError> {
    match env.copy_to_path(copy, CompactionOption::Enabled).map_err(StoreError::from) {
        Ok(_) => {}
        Err(error) if error.is_environment_error() => return remove(copy),
        Err(_) => {
            // The number of pages does not add up: the list of free pages is wrong, and the old file must not be
            // used. Reading row by row does not depend on that list.
            remove(copy)?;
            copy_rows(env, tables, copy, map_size).or_else(|error| {
                remove(copy)?;
                Err(StoreError::io("copy the index", std::io::Error::other(error.to_string())))
            })?;
        }
    }
    // Without room on the disk, the margin is allocated once the old index is gone.
    let _ = preallocate(copy, map_size);
    Ok(())
}

/// Removes an incomplete copy, which must not be used.
#[expect(clippy::disallowed_methods, reason = "the file was made here, by a process that does nothing else")]
fn remove(copy: &Path) -> Result<(), StoreError> {
    match std::fs::remove_file(copy) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(StoreError::io("remove an incomplete copy of the index", error))
        }
        _ => Ok(()),
    }
}

/// The rows that one transaction copies; they stay in memory until its end.
const AT_ONCE: usize = 10_000;

/// Copies the rows one by one.
fn copy_rows(old: &Env, tables: &Tables, copy: &Path, map_size: usize) -> Result<(), StoreError> {
    let env = sys::open_environment_file(copy, map_size)?;
    let txn = old.read_txn()?;
    for table in tables.all() {
        let mut new = env.write_txn()?;
        let target = Table::create(&env, &mut new, table.name())?;
        for (number, row) in table.rows(&txn)?.enumerate() {
            let (key, value) = row?;
            target.put(&mut new, key, value)?;
            if number % AT_ONCE == AT_ONCE - 1 {
                new.commit()?;
                new = env.write_txn()?;
            }
        }
        new.commit()?;
    }
    Ok(())
}

/// Allocates the margin of a copy; see [`Preallocation`].
fn preallocate(copy: &Path, map_size: usize) -> Result<(), StoreError> {
    let env = sys::open_environment_file(copy, map_size)?;
    Preallocation::new(&env)?.refill(&env);
    Ok(())
}

/// Reads a table to its end; the checksum of each row is checked.
fn read_table(txn: &RoTxn, table: Table) -> Result<(), StoreError> {
    let (count, mut seen) = (table.len(txn)?, 0);
    let mut before = Vec::new();
    for row in table.rows(txn)? {
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

/// Checks that tables with redundant content agree, so that lost pages are noticed.
fn cross_check(tables: &Tables, txn: &RoTxn) -> Result<(), StoreError> {
    let Tables {
        tags,
        manifests,
        manifest_repositories,
        children,
        parents,
        repository_blobs,
        blob_repositories,
        blobs,
        ..
    } = *tables;
    let stored = |digest: &[u8], size: u64| -> Result<bool, StoreError> {
        Ok(schema::row::<BlobRow>(blobs, txn, digest)?.is_some_and(|row| row.size == size))
    };
    each(tags, txn, &mut |key, value| {
        let (repository, _) = split(key);
        let row: ManifestRow = tags.decode(value)?;
        Ok(manifests.get(txn, &[repository, &[0], &row.digest].concat())?.is_some())
    })?;
    each(manifests, txn, &mut |key, value| {
        let (repository, digest) = split(key);
        let row: ManifestRow = manifests.decode(value)?;
        let is_linked = manifest_repositories.get(txn, &[digest, repository].concat())?.is_some();
        let is_complete = is_linked && children.get(txn, digest)?.is_some();
        Ok(is_complete && row.digest == digest && stored(digest, row.size)?)
    })?;
    each(children, txn, &mut |parent, mut rest| {
        while let Some((child, behind)) = keys::split_digest(rest) {
            let edge = [&keys::digest_key(&child)[..], parent].concat();
            if parents.get(txn, &edge)?.is_none() {
                return Ok(false);
            }
            rest = behind;
        }
        Ok(true)
    })?;
    each(repository_blobs, txn, &mut |key, value| {
        let (repository, digest) = split(key);
        let row: RepositoryBlobRow = repository_blobs.decode(value)?;
        let is_linked = blob_repositories.get(txn, &[digest, repository].concat())?.is_some();
        Ok(is_linked && stored(digest, row.size)?)
    })?;
    check_counts(tables, txn)?;
    for (table, reverse) in [(manifests, manifest_repositories), (repository_blobs, blob_repositories)] {
        if table.len(txn)? != reverse.len(txn)? {
            return Err(corrupt(reverse));
        }
    }
    Ok(())
}

/// Checks the totals and the statistics of the repositories.
fn check_counts(tables: &Tables, txn: &RoTxn) -> Result<(), StoreError> {
    let mut bytes: u64 = 0;
    each(tables.blobs, txn, &mut |_, value| {
        bytes = bytes.saturating_add(tables.blobs.decode::<BlobRow>(value)?.size);
        Ok(true)
    })?;
    if tables.bytes(txn)? != bytes {
        return Err(corrupt(tables.meta));
    }
    let (mut counted, mut total) = (0, 0u64);
    each(tables.repositories, txn, &mut |name, value| {
        let row: RepositoryRow = tables.repositories.decode(value)?;
        counted += u64::from(row.manifests);
        total = total.saturating_add(row.bytes);
        tables.stats_match(txn, name, &row)
    })?;
    if counted != tables.manifests.len(txn)? {
        return Err(corrupt(tables.repositories));
    }
    each(tables.blob_totals, txn, &mut |name, value| {
        let bytes: u64 = tables.blob_totals.decode(value)?;
        total = total.saturating_add(bytes);
        Ok(tables.repositories.get(txn, name)?.is_none() && tables.sum_stats(txn, name)?.bytes == bytes)
    })?;
    // A repository without statistics shows only in the sum over all.
    let mut sum: u64 = 0;
    each(tables.manifests, txn, &mut |_, value| {
        sum = sum.saturating_add(tables.manifests.decode::<ManifestRow>(value)?.size);
        Ok(true)
    })?;
    each(tables.repository_blobs, txn, &mut |_, value| {
        sum = sum.saturating_add(tables.repository_blobs.decode::<RepositoryBlobRow>(value)?.size);
        Ok(true)
    })?;
    if sum == total { Ok(()) } else { Err(corrupt(tables.blob_totals)) }
}

/// Returns true if a row is valid, by its key and its value.
type RowCheck<'a> = dyn FnMut(&[u8], &[u8]) -> Result<bool, StoreError> + 'a;

/// Checks every row of a table.
fn each(table: Table, txn: &RoTxn, is_valid: &mut RowCheck) -> Result<(), StoreError> {
    for row in table.rows(txn)? {
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
    StoreError::Index(heed::Error::Decoding(format!("the table {} is corrupt", table.name()).into()))
}
