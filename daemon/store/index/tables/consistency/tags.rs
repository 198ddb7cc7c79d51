//! The agreement of the tables that are derived from `tags` with it.

use super::{corrupt, each, split};
use crate::oci::RepositoryName;
use crate::store::error::StoreError;
use crate::store::index::tables::rows::ManifestRow;
use crate::store::index::tables::tag_index::TagIndex;
use crate::store::index::tables::{Table, keys};

/// Checks that the derived tables have a row for each indexed tag, the right numbers of tags, and no other row.
pub(super) fn check(tables: &impl TagIndex) -> Result<(), StoreError> {
    let tags = check_times(tables)?;
    if check_digests(tables)? == tags { Ok(()) } else { Err(corrupt(Table::TagsByDigest)) }
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
        return Err(corrupt(Table::TagsByTime));
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
    if is_right(count, seen) { Ok(tags) } else { Err(corrupt(Table::TagsByDigest)) }
}
