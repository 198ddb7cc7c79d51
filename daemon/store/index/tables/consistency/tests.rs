//! The check against one by lookups, on tables of which each row in turn is lost, changed or doubled.

use super::super::keys;
use super::super::memory::Memory;
use super::super::meta::Meta;
use super::super::port::{ReadTables, Table, WriteTables};
use super::super::rows::{BlobRow, ManifestRow, RepositoryBlobRow, RepositoryRow};
use super::super::stats::Stats;
use super::super::tag_index::TagIndex;
use super::check;
use crate::oci::RepositoryName;
use crate::store::error::StoreError;
use crate::store::index::test_index::{digest, image, image_index, repository};
use crate::store::index::test_tables::TestTables;
use crate::store::index_error::IndexError;

/// Tables of several repositories, with rows in every table that is compared.
fn tables() -> Memory {
    let mut tables = TestTables::default();
    let shared = tables.push_blob(&["a", "a-b", "b"], "layer");
    tables.push_blob(&["blobs/only"], "of no manifest");
    let first = image(&shared, None, &["1", "2"]);
    tables.push(&first);
    let other = tables.push_blob(&["a", "b"], "other layer");
    let mut second = image(&other, Some(&first.digest), &["1"]);
    tables.push(&second);
    tables.push(&image_index(&[first.digest.clone(), second.digest.clone()], 1, &["all"]));
    // An attachment tag, which is hidden.
    tables.push(&image_index(&[], 2, &[&format!("{}.sig", first.digest.fallback_tag())]));
    for name in ["a-b", "b"] {
        second.new.repository = repository(name);
        tables.push(&second);
    }
    let mut tables = tables.tables;
    for table in [Table::Sparse, Table::Uses] {
        tables.put(table, &keys::content_key(&repository("a"), &first.digest), &[]).unwrap();
    }
    tables
}

/// Checks in both ways; returns true if the tables are consistent.
fn is_consistent(tables: &Memory, how: &str) -> bool {
    let found = check(tables).is_ok();
    assert_eq!(found, check_by_lookups(tables).is_ok(), "{how}");
    found
}

/// Returns all rows.
fn rows(tables: &Memory) -> Vec<(Table, Vec<u8>, Vec<u8>)> {
    let mut all = Vec::new();
    for table in Table::ALL {
        let rows = tables.rows(table).unwrap().map(Result::unwrap);
        all.extend(rows.map(|(key, value)| (table, key.to_vec(), value.to_vec())));
    }
    all
}

#[test]
fn every_difference_that_lookups_find_is_found() {
    let tables = tables();
    assert!(is_consistent(&tables, "unchanged"));
    let all = rows(&tables);
    let mut corrupt = 0;
    for (table, key, value) in &all {
        let mut lost = tables.clone();
        lost.delete(*table, key).unwrap();
        corrupt += usize::from(!is_consistent(&lost, &format!("lost: {table:?} {key:?}")));
        for at in 0..value.len() {
            let mut changed = tables.clone();
            let mut value = value.clone();
            value[at] ^= 1;
            changed.put(*table, key, &value).unwrap();
            corrupt += usize::from(!is_consistent(&changed, &format!("byte {at}: {table:?} {key:?}")));
        }
        for at in 0..key.len() {
            let how = format!("byte {at} of the key: {table:?} {key:?}");
            let (mut moved, mut doubled) = (tables.clone(), tables.clone());
            let mut other = key.clone();
            other[at] ^= 1;
            moved.delete(*table, key).unwrap();
            moved.put(*table, &other, value).unwrap();
            doubled.put(*table, &other, value).unwrap();
            corrupt +=
                usize::from(!is_consistent(&moved, &how)) + usize::from(!is_consistent(&doubled, &how));
        }
    }
    assert!(corrupt > all.len(), "{corrupt}");
}

#[test]
fn an_edge_that_no_manifest_has_does_no_harm() {
    let mut tables = tables();
    let edge = keys::edge_key(&digest("a child"), &digest("a parent"));
    tables.put(Table::Parents, &edge, &[]).unwrap();
    check(&tables).unwrap();
    // The sums differ, and a lost edge is found all the same.
    let mut edges = tables.rows(Table::Parents).unwrap().map(|row| row.unwrap().0.to_vec());
    let lost = edges.find(|key| *key != edge).unwrap();
    drop(edges);
    tables.delete(Table::Parents, &lost).unwrap();
    assert!(!is_consistent(&tables, "lost edge"));
}

/// Reads a table to its end; the checksum of each row is checked.
fn read_table(tables: &impl ReadTables, table: Table) -> Result<(), StoreError> {
    let (count, mut seen) = (tables.len(table)?, 0);
    let mut before = Vec::new();
    for row in tables.rows(table)? {
        let (key, _) = row?;
        seen += 1;
        // Pages that link to each other in a circle would never end.
        if seen > count || (seen > 1 && key <= &before[..]) {
            return Err(corrupt_table(table));
        }
        before.clear();
        before.extend_from_slice(key);
    }
    if seen == count { Ok(()) } else { Err(corrupt_table(table)) }
}

/// Reads every row, and checks that tables with redundant content agree.
///
fn check_by_lookups(tables: &impl ReadTables) -> Result<(), StoreError> {
    Table::ALL.into_iter().try_for_each(|table| read_table(tables, table))?;
    cross_check(tables)?;
    check_tags_by_lookups(tables)?;
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
            return Err(corrupt_table(reverse));
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
        return Err(corrupt_table(Table::Meta));
    }
    let (mut counted, mut total) = (0, 0u64);
    each(tables, Table::Repositories, &mut |name, value| {
        let row: RepositoryRow = tables.decode(value)?;
        counted += u64::from(row.manifests);
        total = total.saturating_add(row.bytes);
        tables.stats_match(name, &row)
    })?;
    if counted != tables.len(Table::Manifests)? {
        return Err(corrupt_table(Table::Repositories));
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
    if sum == total { Ok(()) } else { Err(corrupt_table(Table::BlobTotals)) }
}

/// Returns true if a row is valid, by its key and its value.
type RowCheck<'a> = dyn FnMut(&[u8], &[u8]) -> Result<bool, StoreError> + 'a;

/// Checks every row of a table.
fn each(tables: &impl ReadTables, table: Table, is_valid: &mut RowCheck) -> Result<(), StoreError> {
    for row in tables.rows(table)? {
        let (key, value) = row?;
        if !is_valid(key, value)? {
            return Err(corrupt_table(table));
        }
    }
    Ok(())
}

/// Splits a key after the repository's name.
fn split(key: &[u8]) -> (&[u8], &[u8]) {
    let end = key.iter().position(|byte| *byte == 0).unwrap_or(key.len());
    (&key[..end], key.get(end + 1..).unwrap_or_default())
}

fn corrupt_table(table: Table) -> StoreError {
    IndexError::Row(format!("the table {} is corrupt", table.name())).into()
}

/// Checks that the derived tables have a row for each indexed tag, the right numbers of tags, and no other row.
fn check_tags_by_lookups(tables: &impl TagIndex) -> Result<(), StoreError> {
    let tags = check_times(tables)?;
    if check_digests(tables)? == tags { Ok(()) } else { Err(corrupt_table(Table::TagsByDigest)) }
}

/// The hidden tags of the repository that is being read.
#[derive(Default)]
struct Hidden {
    repository: Option<RepositoryName>,
    count: u32,
    /// The repositories with hidden tags so far.
    repositories: u64,
}

impl Hidden {
    /// Ends a repository. Returns true if the table has the number of its hidden tags.
    fn end(&mut self, tables: &impl TagIndex) -> Result<bool, StoreError> {
        self.repositories += u64::from(self.count > 0);
        let count = std::mem::take(&mut self.count);
        match self.repository.take() {
            Some(repository) => Ok(tables.count_hidden_tags(&repository)? == count),
            None => Ok(true),
        }
    }
}

/// Checks the rows of each tag; returns the number of tags.
fn check_times(tables: &impl TagIndex) -> Result<u64, StoreError> {
    let (mut tags, mut shown, mut hidden) = (0, 0, Hidden::default());
    each(tables, Table::Tags, &mut |key, value| {
        let Some((repository, tag)) = keys::split_tag(key) else { return Ok(true) };
        if !tables.indexed_tags()?.include(key) {
            return Ok(true);
        }
        if hidden.repository.as_ref() != Some(&repository) && !hidden.end(tables)? {
            return Ok(false);
        }
        let (row, tag): (ManifestRow, _) = (tables.decode(value)?, tag.as_str());
        let is_hidden = tables.is_hidden(&repository, tag)?;
        let by_digest = keys::digest_tag_key(&repository, &row.digest, tag);
        let by_time = keys::time_tag_key(&repository, (row.pushed, row.order), tag);
        tags += 1;
        shown += u64::from(!is_hidden);
        hidden.count += u32::from(is_hidden);
        hidden.repository = Some(repository);
        Ok(tables.get(Table::TagsByDigest, &by_digest)?.is_some()
            && (is_hidden || tables.get(Table::TagsByTime, &by_time)?.is_some()))
    })?;
    if !hidden.end(tables)? || tables.len(Table::TagsByTime)? != shown + hidden.repositories {
        return Err(corrupt_table(Table::TagsByTime));
    }
    Ok(tags)
}

/// Checks the number of tags of each digest; returns that of all.
fn check_digests(tables: &impl TagIndex) -> Result<u64, StoreError> {
    let (mut tags, mut digest, mut count, mut seen) = (0, Vec::new(), None, 0);
    let is_right =
        |count: Option<u32>, seen: u32| count.map_or(seen <= 1, |count| count > 1 && count == seen);
    each(tables, Table::TagsByDigest, &mut |key, value| {
        let (_, rest) = split(key);
        let Some((_, tag)) = keys::split_digest(rest) else { return Ok(false) };
        let of_digest = &key[..key.len() - tag.len()];
        if digest != of_digest {
            if !is_right(count, seen) {
                return Ok(false);
            }
            (digest, count, seen) = (of_digest.to_vec(), None, 0);
        }
        if tag.is_empty() {
            count = Some(tables.decode(value)?);
        } else {
            (tags, seen) = (tags + 1, seen + 1);
        }
        Ok(true)
    })?;
    if is_right(count, seen) { Ok(tags) } else { Err(corrupt_table(Table::TagsByDigest)) }
}
