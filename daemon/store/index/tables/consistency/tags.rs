//! The agreement of the tables that are derived from `tags` with it.

use super::super::keys;
use super::super::port::Table;
use super::super::rows::BorrowedManifestRow;
use super::super::tag_index::TagIndex;
use super::cursor::{Cursor, corrupt};
use super::split_name;
use super::sum::Difference;
use crate::oci::RepositoryName;
use crate::store::error::StoreError;

/// Checks that the derived tables have a row for each indexed tag, the right numbers of tags, and no other row.
pub(super) fn check(tables: &impl TagIndex) -> Result<(), StoreError> {
    let (mut by_digest, mut by_time) = (Difference::default(), Difference::default());
    let hidden = add_tags(tables, &mut by_digest, &mut by_time)?;
    subtract_times(tables, hidden, &mut by_time)?;
    subtract_digests(tables, &mut by_digest)?;
    match (by_digest.agree(), by_time.agree()) {
        (true, true) => Ok(()),
        (false, _) => Err(corrupt(Table::TagsByDigest)),
        (true, false) => Err(corrupt(Table::TagsByTime)),
    }
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
    /// Ends a repository, whose number of hidden tags the table must have.
    fn end(&mut self, tables: &impl TagIndex) -> Result<(), StoreError> {
        self.repositories += u64::from(self.count > 0);
        let count = std::mem::take(&mut self.count);
        match self.repository.take() {
            Some(repository) if tables.count_hidden_tags(&repository)? != count => {
                Err(corrupt(Table::TagsByTime))
            }
            Some(_) | None => Ok(()),
        }
    }
}

/// Adds the rows that the indexed tags must have. Returns the number of repositories with hidden tags.
fn add_tags(
    tables: &impl TagIndex,
    by_digest: &mut Difference,
    by_time: &mut Difference,
) -> Result<u64, StoreError> {
    let (indexed, mut hidden) = (tables.indexed_tags()?, Hidden::default());
    let mut rows = Cursor::open(tables, Table::Tags)?;
    while let Some((key, value)) = rows.next()? {
        // A key that is no tag has no derived rows.
        let Some((repository, tag)) = keys::split_tag(key).filter(|_| indexed.include(key)) else { continue };
        if hidden.repository.as_ref() != Some(&repository) {
            hidden.end(tables)?;
        }
        let row: BorrowedManifestRow = tables.decode(value)?;
        let (name, tag) = (repository.as_str().as_bytes(), tag.as_str());
        by_digest.forward(&[name, row.digest, tag.as_bytes()], 0);
        if tables.is_hidden(&repository, tag)? {
            hidden.count += 1;
        } else {
            by_time.forward(&[name, &keys::inverted_time(row.pushed, row.order), tag.as_bytes()], 0);
        }
        hidden.repository = Some(repository);
    }
    hidden.end(tables)?;
    Ok(hidden.repositories)
}

/// Subtracts the rows of `tags_by_time`, and compares the number of those that are counts.
fn subtract_times(tables: &impl TagIndex, hidden: u64, by_time: &mut Difference) -> Result<(), StoreError> {
    let mut counts = 0;
    let mut rows = Cursor::open(tables, Table::TagsByTime)?;
    while let Some((key, _)) = rows.next()? {
        let (name, rest) = split_name(key);
        match rest.split_at_checked(keys::TIME) {
            Some((time, tag)) => by_time.backward(&[name, time, tag], 0),
            None => counts += 1,
        }
    }
    if counts == hidden { Ok(()) } else { Err(corrupt(Table::TagsByTime)) }
}

/// Subtracts the rows of `tags_by_digest`, and compares the number of tags of each digest with the row that has it.
fn subtract_digests(tables: &impl TagIndex, by_digest: &mut Difference) -> Result<(), StoreError> {
    let (mut before, mut count, mut seen): (&[u8], Option<u32>, u32) = (&[], None, 0);
    let is_right =
        |count: Option<u32>, seen: u32| count.map_or(seen <= 1, |count| count > 1 && count == seen);
    let mut rows = Cursor::open(tables, Table::TagsByDigest)?;
    while let Some((key, value)) = rows.next()? {
        let (name, rest) = split_name(key);
        let Some(length) = keys::digest_length(rest) else { return Err(corrupt(Table::TagsByDigest)) };
        let (digest, tag) = rest.split_at(length);
        let of_digest = &key[..key.len() - tag.len()];
        if before != of_digest {
            if !is_right(count, seen) {
                return Err(corrupt(Table::TagsByDigest));
            }
            (before, count, seen) = (of_digest, None, 0);
        }
        if tag.is_empty() {
            count = Some(tables.decode(value)?);
        } else {
            by_digest.backward(&[name, digest, tag], 0);
            seen += 1;
        }
    }
    if is_right(count, seen) { Ok(()) } else { Err(corrupt(Table::TagsByDigest)) }
}
