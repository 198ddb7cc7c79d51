//! The lists of the admin page: filtered, sorted, one page at a time.
//!
//! One pass reads the rows of the list, which contain their statistics; only the items on the page are sorted and
//! read further.

use std::cmp::Ordering;
use std::collections::{BTreeSet, HashMap};

use serde::Deserialize;

use super::entry::{ManifestEntry, entry};
use super::keys;
use super::lookups::Lookups;
use super::meta::Meta;
use super::port::{ReadTables, Table};
use super::rows::{ManifestRow, RepositoryBlobRow, digest_of};
use crate::oci::{self, AttachmentTarget, Digest, Reference, RepositoryName, Tag};
use crate::store::clock::StoreTime;
use crate::store::error::StoreError;
use crate::store::index_error::IndexError;
use crate::store::listing::{ListPage, ListQuery, TagOrder, TotalSize};
use crate::store::version_order;
use crate::store::work::Cancel;

/// The length of a descriptor, in bytes, above which it is not read for the badges of a list.
const LONG_DESCRIPTOR: usize = 64 << 10;

/// A row of the table `tags`, decoded without copying.
#[derive(Deserialize)]
struct TagRow<'a> {
    digest: &'a [u8],
    size: u64,
    media_type: &'a str,
    pushed: u64,
    since: StoreTime,
    order: u64,
}

/// A tag on a page, and the number of tags of its repository that name the same digest.
pub(in crate::store) type SharedTag = (Tag, ManifestEntry, usize);

/// The lists of the admin page.
pub(in crate::store) trait Overviews: ReadTables {
    /// Returns at most `limit` referrers of a manifest, and how many more there are.
    fn referrers_overview(
        &self,
        repository: &RepositoryName,
        subject: &Digest,
        limit: usize,
        cancel: &Cancel,
    ) -> Result<(Vec<oci::DescriptorView>, usize), StoreError> {
        let prefix = keys::referrer_key(repository, subject, None);
        let (mut found, mut more) = (Vec::new(), 0);
        for row in self.prefix(Table::Referrers, &prefix)? {
            cancel.check()?;
            let (_, value) = row?;
            if found.len() < limit {
                let part = serde_json::from_slice(value).map_err(|error| IndexError::Row(error.to_string()));
                found.push(self.noted(part)?);
            } else {
                more += 1;
            }
        }
        Ok((found, more))
    }

    /// Returns the first referrers of a manifest, without those of long descriptors.
    fn first_referrers(
        &self,
        repository: &RepositoryName,
        subject: &Digest,
        limit: usize,
        cancel: &Cancel,
    ) -> Result<Vec<oci::DescriptorView>, StoreError> {
        let prefix = keys::referrer_key(repository, subject, None);
        let mut found = Vec::new();
        for row in self.prefix(Table::Referrers, &prefix)?.take(limit) {
            cancel.check()?;
            let (_, value) = row?;
            if value.len() <= LONG_DESCRIPTOR {
                let part = serde_json::from_slice(value).map_err(|error| IndexError::Row(error.to_string()));
                found.push(self.noted(part)?);
            }
        }
        Ok(found)
    }

    /// Returns true if the repository has a manifest that does not name `subject` as its subject itself.
    fn is_only_listed(
        &self,
        repository: &RepositoryName,
        subject: &Digest,
        digest: &Digest,
    ) -> Result<bool, StoreError> {
        let is_here = self.get(Table::Manifests, &keys::content_key(repository, digest))?.is_some();
        let key = keys::referrer_key(repository, subject, Some(digest));
        Ok(is_here && self.get(Table::Referrers, &key)?.is_none())
    }

    /// Returns a page of the tags of a repository. An attachment tag is left out if its manifest is in the repository: the
    /// page shows it there.
    fn tags_overview(
        &self,
        repository: &RepositoryName,
        part: &ListQuery<TagOrder>,
        cancel: &Cancel,
    ) -> Result<ListPage<SharedTag>, StoreError> {
        let prefix = keys::repository_prefix(repository);
        let mut all: Vec<(&str, TagRow)> = Vec::new();
        for row in self.prefix(Table::Tags, &prefix)? {
            cancel.check()?;
            let (key, value) = row?;
            let Some(tag) = keys::text_after(key, prefix.len()) else { continue };
            if !self.is_folded(repository, tag)? {
                all.push((tag, self.decode(value)?));
            }
        }
        let digests: Vec<&[u8]> = all.iter().map(|(_, row)| row.digest).collect();
        all.retain(|(tag, _)| tag.contains(&part.search));
        let total = all.len();
        let order = |one: &(&str, TagRow), other: &(&str, TagRow)| {
            let by = match part.order {
                TagOrder::Name => version_order::compare(one.0, other.0),
                // Tags of one second have a sequence number each.
                TagOrder::Pushed => (one.1.pushed, one.1.order).cmp(&(other.1.pushed, other.1.order)),
            };
            directed(by, part.descending).then_with(|| version_order::compare(one.0, other.0))
        };
        let page = sorted_page(all, part.skip(), part.limit, order);
        Ok(ListPage { total, items: with_shares(self, page, &digests)? })
    }

    /// Returns true for an attachment tag of a manifest that the repository has.
    fn is_folded(&self, repository: &RepositoryName, tag: &str) -> Result<bool, StoreError> {
        // Cheaper than parsing each tag.
        if !tag.starts_with("sha") {
            return Ok(false);
        }
        let target = tag.parse().ok().and_then(|tag| AttachmentTarget::of(&tag));
        target.map_or(Ok(false), |target| self.has_attached_subject(repository, &target))
    }

    /// Returns those of the given tags that exist.
    fn tags_named(
        &self,
        repository: &RepositoryName,
        wanted: &BTreeSet<Tag>,
        cancel: &Cancel,
    ) -> Result<Vec<SharedTag>, StoreError> {
        let prefix = keys::repository_prefix(repository);
        let (mut found, mut digests) = (Vec::new(), Vec::new());
        let names: BTreeSet<&str> = wanted.iter().map(Tag::as_str).collect();
        for row in self.prefix(Table::Tags, &prefix)? {
            cancel.check()?;
            let (key, value) = row?;
            let row: TagRow = self.decode(value)?;
            digests.push(row.digest);
            let tag = keys::text_after(key, prefix.len()).filter(|tag| names.contains(tag));
            found.extend(tag.map(|tag| (tag, row)));
        }
        found.sort_by(|one, other| version_order::compare(one.0, other.0));
        with_shares(self, found, &digests)
    }

    /// Returns at most `limit` tags of a repository that name a manifest, and how many there are.
    fn tags_of(
        &self,
        repository: &RepositoryName,
        digest: &Digest,
        limit: usize,
        cancel: &Cancel,
    ) -> Result<(Vec<Tag>, usize), StoreError> {
        let prefix = keys::repository_prefix(repository);
        let (wanted, mut tags, mut count) = (keys::digest_key(digest), Vec::new(), 0);
        for row in self.prefix(Table::Tags, &prefix)? {
            cancel.check()?;
            let (key, value) = row?;
            if digest_of(self, value)? == wanted {
                count += 1;
                let tag = keys::text_after(key, prefix.len()).filter(|_| tags.len() < limit);
                tags.extend(tag.and_then(|tag| tag.parse::<Tag>().ok()));
            }
        }
        tags.sort_by(|one, other| version_order::compare(one.as_str(), other.as_str()));
        Ok((tags, count))
    }

    /// Returns the total length of a manifest and of all content in its repository that it references, each counted
    /// once. Reads at most `rows` rows besides its own and subtracts them; beyond that the size is partial.
    fn total_size(
        &self,
        repository: &RepositoryName,
        digest: &Digest,
        rows: &mut usize,
        cancel: &Cancel,
    ) -> Result<TotalSize, StoreError> {
        let mut size = TotalSize { bytes: 0, is_more: false };
        let (mut seen, mut open) = (BTreeSet::from([digest.clone()]), vec![digest.clone()]);
        while let Some(digest) = open.pop() {
            cancel.check()?;
            let key = keys::content_key(repository, &digest);
            let Some(row) = self.row::<ManifestRow>(Table::Manifests, &key)? else {
                size.bytes = size.bytes.saturating_add(self.blob_link_size(&key)?);
                continue;
            };
            size.bytes = size.bytes.saturating_add(row.size);
            for child in self.children_of(&digest)? {
                if seen.contains(&child) {
                    continue;
                }
                if *rows == 0 {
                    size.is_more = true;
                    break;
                }
                *rows -= 1;
                seen.insert(child.clone());
                open.push(child);
            }
        }
        Ok(size)
    }

    /// Returns the length of a blob in a repository; zero if it is missing.
    fn blob_link_size(&self, key: &[u8]) -> Result<u64, StoreError> {
        Ok(self.row::<RepositoryBlobRow>(Table::RepositoryBlobs, key)?.map_or(0, |row| row.size))
    }

    /// Returns those of the given manifests that the repository has.
    fn manifests_among(
        &self,
        repository: &RepositoryName,
        digests: &[Digest],
    ) -> Result<Vec<ManifestEntry>, StoreError> {
        let mut there = Vec::new();
        for digest in digests {
            there.extend(self.manifest(repository, &Reference::Digest(digest.clone()))?);
        }
        Ok(there)
    }
}

impl<T: ReadTables> Overviews for T {}

impl From<TagRow<'_>> for ManifestRow {
    fn from(row: TagRow<'_>) -> Self {
        ManifestRow {
            digest: row.digest.to_vec(),
            size: row.size,
            media_type: row.media_type.to_owned(),
            pushed: row.pushed,
            since: row.since,
            order: row.order,
        }
    }
}

/// Adds to each tag the number of tags among `all` with the same digest.
fn with_shares(
    tables: &impl ReadTables,
    tags: Vec<(&str, TagRow)>,
    all: &[&[u8]],
) -> Result<Vec<SharedTag>, StoreError> {
    let mut shared: HashMap<&[u8], usize> = tags.iter().map(|(_, row)| (row.digest, 0)).collect();
    for digest in all {
        if let Some(count) = shared.get_mut(digest) {
            *count += 1;
        }
    }
    let mut items = Vec::with_capacity(tags.len());
    for (tag, row) in tags {
        let count = shared.get(row.digest).copied().unwrap_or(1);
        if let Ok(tag) = tag.parse() {
            items.push((tag, entry(tables, &row.into())?, count));
        }
    }
    Ok(items)
}

fn directed(order: Ordering, descending: bool) -> Ordering {
    if descending { order.reverse() } else { order }
}

/// Returns a sorted page of a list, without sorting the other pages.
fn sorted_page<T>(mut all: Vec<T>, skip: usize, size: usize, order: impl Fn(&T, &T) -> Ordering) -> Vec<T> {
    if skip >= all.len() {
        return Vec::new();
    }
    if skip > 0 {
        all.select_nth_unstable_by(skip, &order);
        all.drain(..skip);
    }
    if all.len() > size {
        all.select_nth_unstable_by(size, &order);
        all.truncate(size);
    }
    all.sort_unstable_by(&order);
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn page_is_sorted_at_any_offset() {
        let all: Vec<u32> = (0..100).map(|number| number * 37 % 100).collect();
        let page = |skip, size| sorted_page(all.clone(), skip, size, Ord::cmp);
        assert_eq!(page(0, 3), [0, 1, 2]);
        assert_eq!(page(95, 10), [95, 96, 97, 98, 99]);
        assert_eq!(page(40, 2), [40, 41]);
        assert!(page(100, 2).is_empty());
    }
}
