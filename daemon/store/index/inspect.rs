//! Reading an index to its end, to see whether it is one.
//!
//! LMDB trusts its file: a page that has rotted may end the process that reads it. So this runs in a process of its
//! own, and whoever started it takes a crash for an answer.

use std::path::Path;

use heed::types::Bytes;
use heed::{Env, RoTxn};

use super::schema::{self, BlobRow, LeftRow, LinkRow, ManifestRow, RepositoryRow, Table, UploadRow};
use crate::oci::Descriptor;
use crate::store::error::StoreError;
use crate::store::sys;

/// More than there is free in one piece, so that all that is free is looked at.
const PROBE: usize = 4 << 20;

/// What a row has to look like.
type Reads = fn(&[u8], &[u8]) -> bool;

/// Every table that holds what cannot be guessed, and its rows.
const TABLES: [(&str, Reads); 13] = [
    ("meta", |_, _| true),
    ("repositories", |key, row| text(key) && reads::<RepositoryRow>(row)),
    ("tags", |key, row| named(key) && manifest(row)),
    ("manifests", |key, row| named(key) && manifest(row)),
    ("manifest_homes", |key, _| digest(key)),
    ("children", |key, row| digest(key) && digests(row)),
    ("needed_by", |key, _| digests(key)),
    ("links", |key, row| named(key) && reads::<LinkRow>(row)),
    ("blob_homes", |key, _| digest(key)),
    ("blobs", |key, row| digests(key) && reads::<BlobRow>(row)),
    ("referrers", |key, row| named(key) && serde_json::from_slice::<Descriptor>(row).is_ok()),
    ("left", |key, row| named(key) && reads::<LeftRow>(row)),
    ("uploads", |_, row| reads::<UploadRow>(row)),
];

/// Reads every row of an index and what it has noted of free pages, at its newest snapshot or at the one before.
///
/// # Errors
/// [`StoreError::Index`] where something is not as it was written.
pub fn inspect(directory: &Path, map_size: usize, previous: bool) -> Result<(), StoreError> {
    let env = sys::open_environment(directory, map_size, previous)?;
    let txn = env.read_txn()?;
    TABLES.into_iter().try_for_each(|(name, reads)| read_table(&env, &txn, name, reads))?;
    cross_check(&env, &txn)?;
    drop(txn);
    try_to_write(&env)
}

/// Looks for room for something large, which reads what LMDB has noted of free pages, and writes nothing.
fn try_to_write(env: &Env) -> Result<(), StoreError> {
    let mut txn = env.write_txn()?;
    let meta = open(env, &txn, "meta")?;
    match meta.put(&mut txn, b"probe", &vec![0; PROBE]) {
        // A full index is no broken one.
        Err(heed::Error::Mdb(heed::MdbError::MapFull)) | Ok(()) => {}
        Err(error) => return Err(error.into()),
    }
    txn.abort();
    Ok(())
}

fn open(env: &Env, txn: &RoTxn, name: &'static str) -> Result<Table, StoreError> {
    env.open_database::<Bytes, Bytes>(txn, Some(name))?.ok_or_else(|| broken(name))
}

fn read_table(env: &Env, txn: &RoTxn, name: &'static str, reads: Reads) -> Result<(), StoreError> {
    let table = open(env, txn, name)?;
    let (count, mut seen) = (table.len(txn)?, 0);
    let mut before = Vec::new();
    for row in table.iter(txn)? {
        let (key, value) = row?;
        seen += 1;
        // Pages that point back at each other would go on for ever.
        let in_order = seen == 1 || key > &before[..];
        if seen > count || !in_order || !reads(key, value) {
            return Err(broken(name));
        }
        before.clear();
        before.extend_from_slice(key);
    }
    if seen == count { Ok(()) } else { Err(broken(name)) }
}

/// What is written in two places is the same in both: a bit that has turned over shows.
fn cross_check(env: &Env, txn: &RoTxn) -> Result<(), StoreError> {
    let table = |name| open(env, txn, name);
    let (manifests, homes) = (table("manifests")?, table("manifest_homes")?);
    let (children, needed_by) = (table("children")?, table("needed_by")?);
    let (links, blob_homes) = (table("links")?, table("blob_homes")?);
    let blobs = table("blobs")?;
    let stored = |digest: &[u8], size: u64| -> Result<bool, StoreError> {
        Ok(schema::row::<BlobRow>(blobs, txn, digest)?.is_some_and(|row| row.size == size))
    };
    each(table("tags")?, txn, "tags", &|key, value| {
        let (repository, _) = split(key);
        let row: ManifestRow = schema::decode(value)?;
        let manifest = manifests.get(txn, &[repository, &[0], &row.digest].concat())?;
        let manifest: Option<ManifestRow> = manifest.map(schema::decode).transpose()?;
        Ok(manifest.is_some_and(|known| known.size == row.size && known.media_type == row.media_type))
    })?;
    each(manifests, txn, "manifests", &|key, value| {
        let (repository, digest) = split(key);
        let row: ManifestRow = schema::decode(value)?;
        let home = homes.get(txn, &[digest, repository].concat())?.is_some();
        let whole = home && children.get(txn, digest)?.is_some();
        Ok(whole && row.digest == digest && stored(digest, row.size)?)
    })?;
    each(children, txn, "children", &|parent, mut rest| {
        while let Some((child, behind)) = schema::split_digest(rest) {
            let edge = [&schema::digest_key(&child)[..], parent].concat();
            if needed_by.get(txn, &edge)?.is_none() {
                return Ok(false);
            }
            rest = behind;
        }
        Ok(true)
    })?;
    each(links, txn, "links", &|key, value| {
        let (repository, digest) = split(key);
        let row: LinkRow = schema::decode(value)?;
        let home = blob_homes.get(txn, &[digest, repository].concat())?.is_some();
        Ok(home && stored(digest, row.size)?)
    })?;
    let pairs = [("manifest_homes", manifests, homes), ("blob_homes", links, blob_homes)];
    for (name, table, homes) in pairs {
        if table.len(txn)? != homes.len(txn)? {
            return Err(broken(name));
        }
    }
    Ok(())
}

/// Whether a row is right, by its key and its value.
type Holds<'a> = dyn Fn(&[u8], &[u8]) -> Result<bool, StoreError> + 'a;

/// Calls `holds` with every row.
fn each(table: Table, txn: &RoTxn, name: &'static str, holds: &Holds) -> Result<(), StoreError> {
    for row in table.iter(txn)? {
        let (key, value) = row?;
        if !holds(key, value)? {
            return Err(broken(name));
        }
    }
    Ok(())
}

/// The repository that a key begins with, and what follows it.
fn split(key: &[u8]) -> (&[u8], &[u8]) {
    let end = key.iter().position(|byte| *byte == 0).unwrap_or(key.len());
    (&key[..end], key.get(end + 1..).unwrap_or_default())
}

fn broken(table: &'static str) -> StoreError {
    StoreError::Index(heed::Error::Decoding(format!("the table {table} is damaged").into()))
}

fn reads<T: serde::de::DeserializeOwned>(row: &[u8]) -> bool {
    schema::decode::<T>(row).is_ok()
}

fn text(key: &[u8]) -> bool {
    std::str::from_utf8(key).is_ok()
}

/// A key that begins with a repository.
fn named(key: &[u8]) -> bool {
    key.iter().position(|byte| *byte == 0).is_some_and(|end| text(&key[..end]))
}

fn manifest(row: &[u8]) -> bool {
    schema::decode::<ManifestRow>(row).is_ok_and(|row| row.digest().is_ok())
}

/// A key that begins with a digest.
fn digest(key: &[u8]) -> bool {
    schema::split_digest(key).is_some_and(|(_, rest)| text(rest))
}

/// Nothing but digests.
fn digests(mut bytes: &[u8]) -> bool {
    while let Some((_, rest)) = schema::split_digest(bytes) {
        bytes = rest;
    }
    bytes.is_empty()
}
