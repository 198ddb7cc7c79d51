//! The consistency of the tables: every row is readable, and tables with redundant content agree, so that lost pages are
//! noticed.
//!
//! Each table is read once, but for `tags`, which is read a second time for the tables that are derived from it. Tables of the same order are read side by side; two tables that have the same rows in different
//! orders are compared by sums over their rows.

mod contents;
mod cursor;
mod repositories;
mod sum;
mod tags;
#[cfg(test)]
mod tests;

use self::cursor::{Cursor, corrupt};
use self::sum::Sums;
use super::keys;
use super::meta::Meta;
use super::port::{ReadTables, Table};
use crate::store::error::StoreError;

/// The tables that [`contents`], [`repositories`] and [`tags`] read.
const COMPARED: [Table; 13] = [
    Table::Repositories,
    Table::Tags,
    Table::Manifests,
    Table::ManifestRepositories,
    Table::Children,
    Table::RepositoryBlobs,
    Table::BlobRepositories,
    Table::BlobTotals,
    Table::Blobs,
    Table::Sparse,
    Table::Uses,
    Table::TagsByDigest,
    Table::TagsByTime,
];

/// Reads every row, and checks that tables with redundant content agree.
///
/// # Errors
/// [`StoreError::Index`] when a row is corrupt or the tables do not agree.
pub(in crate::store) fn check(tables: &impl ReadTables) -> Result<(), StoreError> {
    let mut sums = Sums::default();
    let bytes = contents::check(tables, &mut sums)?;
    if tables.bytes()? != bytes {
        return Err(corrupt(Table::Meta));
    }
    repositories::check(tables, &mut sums)?;
    tags::check(tables)?;
    if !sums.manifests.agree() {
        return Err(corrupt(Table::ManifestRepositories));
    }
    if !sums.blobs.agree() {
        return Err(corrupt(Table::BlobRepositories));
    }
    for table in Table::ALL.into_iter().filter(|table| !COMPARED.contains(table)) {
        let mut rows = Cursor::open(tables, table)?;
        while let Some((key, _)) = rows.next()? {
            if table == Table::Parents {
                let (child, parent) = split_digest(key);
                sums.edges.backward(&[child, parent], 0);
            }
        }
    }
    // An edge that no manifest has any more does no harm.
    if sums.edges.agree() { Ok(()) } else { check_edges(tables) }
}

/// Checks by lookups that each reference of a manifest has its reverse edge.
fn check_edges(tables: &impl ReadTables) -> Result<(), StoreError> {
    for row in tables.rows(Table::Children)? {
        let (parent, children) = row?;
        for child in keys::digests(children) {
            let edge = [&keys::digest_key(&child)[..], parent].concat();
            if tables.get(Table::Parents, &edge)?.is_none() {
                return Err(corrupt(Table::Children));
            }
        }
    }
    Ok(())
}

/// Splits a key after the digest that it begins with.
fn split_digest(key: &[u8]) -> (&[u8], &[u8]) {
    key.split_at(keys::digest_length(key).unwrap_or(0))
}

/// Splits a key after the repository's name.
fn split_name(key: &[u8]) -> (&[u8], &[u8]) {
    let end = memchr::memchr(0, key).unwrap_or(key.len());
    (&key[..end], key.get(end + 1..).unwrap_or_default())
}
