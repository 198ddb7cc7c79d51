//! Reading an index to its end, to see whether it is one.
//!
//! LMDB trusts its file: a page that has rotted may end the process that reads it. So this runs in a process of its
//! own, and whoever started it takes a crash for an answer. What LMDB has noted of free pages cannot be read by its
//! interface, and one that is wrong there overwrites what is used. So the rows are copied to a new file, which has no
//! such notes, and that one is used from then on.

use std::path::Path;

use heed::{CompactionOption, Env, RoTxn};

use super::preallocation::Preallocation;
use super::rows::{BlobRow, ManifestRow, RepositoryBlobRow, RepositoryRow};
use super::schema::{self, Tables, VERSION};
use super::table::Table;
use super::{environment, keys};
use crate::store::error::StoreError;
use crate::store::sys;

/// What is to be inspected.
#[derive(Clone, Copy, Debug)]
pub struct Inspection<'a> {
    /// The directory of the index.
    pub directory: &'a Path,
    /// How large the index may get, in bytes.
    pub map_size: usize,
    /// Whether it is LMDB's snapshot before the newest.
    pub previous: bool,
    /// Of which change of names it has to be at the least.
    pub least_change: u64,
    /// Where a copy of what was read goes, if one is wanted.
    pub copy: Option<&'a Path>,
}

/// Reads every row of an index and copies it. A disk that does not take the copy is no fault of the index: there is
/// none then.
///
/// # Errors
/// [`StoreError::Index`] where something is not as it was written.
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
        // Only a release of that version can say more: opening refuses a newer one and makes an older one again.
        return Ok(());
    }
    let tables = Tables::find(&env, &txn)?;
    tables.all().into_iter().try_for_each(|table| read_table(&txn, table))?;
    cross_check(&tables, &txn)?;
    // LMDB wants one reader at a time from a thread, and a copy is one.
    txn.commit()?;
    copy.map_or(Ok(()), |copy| copy_to(&env, &tables, copy, map_size))
}

/// Copies an index that reads to its end: what goes wrong here says nothing of it.
fn copy_to(env: &Env, tables: &Tables, copy: &Path, map_size: usize) -> Result<(), StoreError> {
    match env.copy_to_path(copy, CompactionOption::Enabled).map_err(StoreError::from) {
        Ok(_) => {}
        Err(error) if error.says_nothing_of_the_index() => return remove(copy),
        Err(_) => {
            // It finds the pages not to be as many as they should: what is noted of the free ones is wrong, and the old
            // file must not be used.
            remove(copy)?;
            copy_rows(env, tables, copy, map_size).or_else(|error| {
                remove(copy)?;
                Err(StoreError::io("copy the index", std::io::Error::other(error.to_string())))
            })?;
        }
    }
    // A disk without room for them has the copy without them until the old index is gone.
    let _ = preallocate(copy, map_size);
    Ok(())
}

/// Removes half a copy, which must not be taken for one.
#[expect(clippy::disallowed_methods, reason = "the file was made here, by a process that does nothing else")]
fn remove(copy: &Path) -> Result<(), StoreError> {
    match std::fs::remove_file(copy) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(StoreError::io("remove half a copy of the index", error))
        }
        _ => Ok(()),
    }
}

/// How many rows are copied in one transaction, which is in memory until its end.
const AT_ONCE: usize = 10_000;

/// Copies row by row, which looks at nothing but the rows.
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

/// Allocates the blocks behind the end of a copy that deletes need on a full disk; see [`Preallocation`].
fn preallocate(copy: &Path, map_size: usize) -> Result<(), StoreError> {
    let env = sys::open_environment_file(copy, map_size)?;
    Preallocation::new(&env)?.keep_up(&env);
    Ok(())
}

/// Reads a table to its end; each row is held against its checksum.
fn read_table(txn: &RoTxn, table: Table) -> Result<(), StoreError> {
    let (count, mut seen) = (table.len(txn)?, 0);
    let mut before = Vec::new();
    for row in table.rows(txn)? {
        let (key, _) = row?;
        seen += 1;
        // Pages that point back at each other would go on for ever.
        if seen > count || (seen > 1 && key <= &before[..]) {
            return Err(broken(table));
        }
        before.clear();
        before.extend_from_slice(key);
    }
    if seen == count { Ok(()) } else { Err(broken(table)) }
}

/// What is written in two places is the same in both: a page that LMDB has lost shows.
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
        let row: ManifestRow = schema::decode(value)?;
        Ok(manifests.get(txn, &[repository, &[0], &row.digest].concat())?.is_some())
    })?;
    each(manifests, txn, &mut |key, value| {
        let (repository, digest) = split(key);
        let row: ManifestRow = schema::decode(value)?;
        let home = manifest_repositories.get(txn, &[digest, repository].concat())?.is_some();
        let whole = home && children.get(txn, digest)?.is_some();
        Ok(whole && row.digest == digest && stored(digest, row.size)?)
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
        let row: RepositoryBlobRow = schema::decode(value)?;
        let home = blob_repositories.get(txn, &[digest, repository].concat())?.is_some();
        Ok(home && stored(digest, row.size)?)
    })?;
    check_counts(tables, txn)?;
    for (table, homes) in [(manifests, manifest_repositories), (repository_blobs, blob_repositories)] {
        if table.len(txn)? != homes.len(txn)? {
            return Err(broken(homes));
        }
    }
    Ok(())
}

/// What is counted is as many as it says.
fn check_counts(tables: &Tables, txn: &RoTxn) -> Result<(), StoreError> {
    let mut bytes: u64 = 0;
    each(tables.blobs, txn, &mut |_, value| {
        bytes = bytes.saturating_add(schema::decode::<BlobRow>(value)?.size);
        Ok(true)
    })?;
    if tables.bytes(txn)? != bytes {
        return Err(broken(tables.meta));
    }
    let (mut counted, mut total) = (0, 0u64);
    each(tables.repositories, txn, &mut |name, value| {
        let row: RepositoryRow = schema::decode(value)?;
        counted += u64::from(row.manifests);
        total = total.saturating_add(row.bytes);
        tables.stats_match(txn, name, &row)
    })?;
    if counted != tables.manifests.len(txn)? {
        return Err(broken(tables.repositories));
    }
    each(tables.blob_totals, txn, &mut |name, value| {
        let bytes: u64 = schema::decode(value)?;
        total = total.saturating_add(bytes);
        Ok(tables.repositories.get(txn, name)?.is_none() && tables.sum_stats(txn, name)?.bytes == bytes)
    })?;
    // What no repository has counted shows only in the sum of all.
    let mut sum: u64 = 0;
    each(tables.manifests, txn, &mut |_, value| {
        sum = sum.saturating_add(schema::decode::<ManifestRow>(value)?.size);
        Ok(true)
    })?;
    each(tables.repository_blobs, txn, &mut |_, value| {
        sum = sum.saturating_add(schema::decode::<RepositoryBlobRow>(value)?.size);
        Ok(true)
    })?;
    if sum == total { Ok(()) } else { Err(broken(tables.blob_totals)) }
}

/// Whether a row is right, by its key and its value.
type Holds<'a> = dyn FnMut(&[u8], &[u8]) -> Result<bool, StoreError> + 'a;

/// Calls `holds` with every row.
fn each(table: Table, txn: &RoTxn, holds: &mut Holds) -> Result<(), StoreError> {
    for row in table.rows(txn)? {
        let (key, value) = row?;
        if !holds(key, value)? {
            return Err(broken(table));
        }
    }
    Ok(())
}

/// The repository that a key begins with, and what follows it.
fn split(key: &[u8]) -> (&[u8], &[u8]) {
    let end = key.iter().position(|byte| *byte == 0).unwrap_or(key.len());
    (&key[..end], key.get(end + 1..).unwrap_or_default())
}

fn broken(table: Table) -> StoreError {
    StoreError::Index(heed::Error::Decoding(format!("the table {} is damaged", table.name()).into()))
}
