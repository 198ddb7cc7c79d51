//! The rows that are derived from tags, which change in the transaction of the tag; see
//! [`TagIndex`](crate::store::index::tables::tag_index::TagIndex).

use std::ops::Bound;

use super::applier::Applier;
use crate::oci::{AttachmentTarget, Digest, RepositoryName, Tag};
use crate::store::error::StoreError;
use crate::store::index::tables::rows::ManifestRow;
use crate::store::index::tables::tag_index::TagIndex;
use crate::store::index::tables::{Table, WriteTables, keys, meta};
use crate::store::index_error::IndexError;

impl<T: WriteTables> Applier<'_, T> {
    /// Stores the row of a tag in place of the row `before`.
    pub(super) fn put_tag(
        &mut self,
        repository: &RepositoryName,
        tag: &Tag,
        (before, row): (Option<&ManifestRow>, &ManifestRow),
    ) -> Result<(), StoreError> {
        let key = keys::tag_key(repository, tag);
        self.tables.put_row(Table::Tags, &key, row)?;
        if !self.tables.indexed_tags()?.include(&key) {
            return Ok(());
        }
        let Some(before) = before else { return add(self.tables, repository, tag.as_str(), row) };
        if before.digest != row.digest {
            remove_digest(self.tables, repository, tag.as_str(), &before.digest)?;
            add_digest(self.tables, repository, tag.as_str(), &row.digest)?;
        }
        if !self.tables.is_hidden(repository, tag.as_str())? {
            self.tables.delete(Table::TagsByTime, &time_key(repository, tag.as_str(), before))?;
            self.tables.put(Table::TagsByTime, &time_key(repository, tag.as_str(), row), &[])?;
        }
        Ok(())
    }

    /// Removes the row of a tag.
    pub(super) fn remove_tag_row(
        &mut self,
        repository: &RepositoryName,
        tag: &Tag,
        row: &ManifestRow,
    ) -> Result<(), StoreError> {
        let key = keys::tag_key(repository, tag);
        self.tables.delete(Table::Tags, &key)?;
        if !self.tables.indexed_tags()?.include(&key) {
            return Ok(());
        }
        remove_digest(self.tables, repository, tag.as_str(), &row.digest)?;
        if self.tables.is_hidden(repository, tag.as_str())? {
            return Ok(add_hidden(self.tables, repository, -1)?);
        }
        self.tables.delete(Table::TagsByTime, &time_key(repository, tag.as_str(), row))?;
        Ok(())
    }

    /// Hides the attachment tags of a manifest that the repository has got.
    pub(super) fn hide_attached(
        &mut self,
        repository: &RepositoryName,
        digest: &Digest,
    ) -> Result<(), StoreError> {
        // The tag contains only part of a long hash, which other digests may share.
        let prefix =
            keys::content_key_prefix(repository, digest.algorithm(), &AttachmentTarget::to(digest).hash);
        if self.tables.prefix(Table::Manifests, &prefix)?.nth(1).transpose()?.is_some() {
            return Ok(());
        }
        for (tag, row) in self.indexed_attached(repository, digest)? {
            self.tables.delete(Table::TagsByTime, &time_key(repository, tag.as_str(), &row))?;
            add_hidden(self.tables, repository, 1)?;
        }
        Ok(())
    }

    /// Shows the attachment tags of a manifest that the repository does not have any more.
    pub(super) fn show_attached(
        &mut self,
        repository: &RepositoryName,
        digest: &Digest,
    ) -> Result<(), StoreError> {
        for (tag, row) in self.indexed_attached(repository, digest)? {
            if !self.tables.is_hidden(repository, tag.as_str())? {
                self.tables.put(Table::TagsByTime, &time_key(repository, tag.as_str(), &row), &[])?;
                add_hidden(self.tables, repository, -1)?;
            }
        }
        Ok(())
    }

    /// Returns the attachment tags of a manifest that the derived tables have.
    fn indexed_attached(
        &self,
        repository: &RepositoryName,
        digest: &Digest,
    ) -> Result<Vec<(Tag, ManifestRow)>, IndexError> {
        let mut found = Vec::new();
        for tag in AttachmentTarget::tags_of(digest) {
            let key = keys::tag_key(repository, &tag);
            if let Some(row) = self.tables.row(Table::Tags, &key)?
                && self.tables.indexed_tags()?.include(&key)
            {
                found.push((tag, row));
            }
        }
        Ok(found)
    }
}

/// Adds the derived rows of the next `limit` tags of an index of an earlier release. Returns false if none is missing.
pub(in crate::store) fn index_more_tags(
    tables: &mut impl WriteTables,
    limit: usize,
) -> Result<bool, StoreError> {
    let Some(last) = tables.get(Table::Meta, meta::TAGS_INDEXED)?.map(<[u8]>::to_vec) else {
        return Ok(false);
    };
    tables.check_capacity()?;
    // LMDB has no empty key.
    let start = if last.is_empty() { Bound::Unbounded } else { Bound::Excluded(&last[..]) };
    let mut next: Vec<(Vec<u8>, ManifestRow)> = Vec::new();
    for row in tables.range(Table::Tags, &(start, Bound::Unbounded))?.take(limit) {
        let (key, value) = row?;
        next.push((key.to_vec(), tables.decode(value)?));
    }
    for (key, row) in &next {
        // A key that is no tag has no derived rows, as everywhere.
        if let Some((repository, tag)) = keys::split_tag(key) {
            add(tables, &repository, tag.as_str(), row)?;
        }
    }
    match next.last() {
        Some((key, _)) => tables.put(Table::Meta, meta::TAGS_INDEXED, key)?,
        None => drop(tables.delete(Table::Meta, meta::TAGS_INDEXED)?),
    }
    Ok(true)
}

/// Adds the derived rows of a tag.
fn add(
    tables: &mut impl WriteTables,
    repository: &RepositoryName,
    tag: &str,
    row: &ManifestRow,
) -> Result<(), StoreError> {
    add_digest(tables, repository, tag, &row.digest)?;
    if tables.is_hidden(repository, tag)? {
        return Ok(add_hidden(tables, repository, 1)?);
    }
    Ok(tables.put(Table::TagsByTime, &time_key(repository, tag, row), &[])?)
}

fn time_key(repository: &RepositoryName, tag: &str, row: &ManifestRow) -> Vec<u8> {
    keys::time_tag_key(repository, (row.pushed, row.order), tag)
}

/// Adds a tag to those of a digest. Their number has a row from the second one on.
fn add_digest(
    tables: &mut impl WriteTables,
    repository: &RepositoryName,
    tag: &str,
    digest: &[u8],
) -> Result<(), IndexError> {
    let of_digest = keys::digest_tag_key(repository, digest, "");
    let count: Option<u32> = tables.row(Table::TagsByDigest, &of_digest)?;
    if let Some(count) = count {
        tables.put_row(Table::TagsByDigest, &of_digest, &count.saturating_add(1))?;
    } else if tables.prefix(Table::TagsByDigest, &of_digest)?.next().transpose()?.is_some() {
        tables.put_row(Table::TagsByDigest, &of_digest, &2_u32)?;
    }
    tables.put(Table::TagsByDigest, &keys::digest_tag_key(repository, digest, tag), &[])
}

/// Removes a tag from those of a digest.
fn remove_digest(
    tables: &mut impl WriteTables,
    repository: &RepositoryName,
    tag: &str,
    digest: &[u8],
) -> Result<(), IndexError> {
    let of_digest = keys::digest_tag_key(repository, digest, "");
    match tables.row::<u32>(Table::TagsByDigest, &of_digest)? {
        Some(count @ 3..) => tables.put_row(Table::TagsByDigest, &of_digest, &(count - 1))?,
        Some(_) => drop(tables.delete(Table::TagsByDigest, &of_digest)?),
        None => {}
    }
    tables.delete(Table::TagsByDigest, &keys::digest_tag_key(repository, digest, tag)).map(drop)
}

/// Changes the number of hidden tags of a repository, which has a row unless it is zero.
fn add_hidden(
    tables: &mut impl WriteTables,
    repository: &RepositoryName,
    change: i32,
) -> Result<(), IndexError> {
    let key = keys::repository_prefix(repository);
    match tables.count_hidden_tags(repository)?.saturating_add_signed(change) {
        0 => tables.delete(Table::TagsByTime, &key).map(drop),
        count => tables.put_row(Table::TagsByTime, &key, &count),
    }
}
