//! The lists of the admin page: filtered, sorted, one page at a time.
//!
//! One pass reads the rows of the list, which contain their statistics; only the items on the page are sorted and
//! read further.

use std::cmp::Ordering;
use std::collections::{BTreeMap, BTreeSet};

use super::entry::ManifestEntry;
use super::keys;
use super::lookups::Lookups;
use super::meta::Meta;
use super::port::{ReadTables, Table};
use super::rows::{ManifestRow, RepositoryBlobRow, RepositoryRow};
use crate::oci::{self, Digest, Reference, RepositoryName};
use crate::store::error::StoreError;
use crate::store::index_error::IndexError;
use crate::store::listing::{
    ListPage, ListQuery, NAMESPACES, Repositories, RepositoryOrder, RepositoryOverview, TotalSize,
};
use crate::store::work::Cancel;

/// The length of a descriptor, in bytes, above which it is not read for the badges of a list.
const LONG_DESCRIPTOR: usize = 64 << 10;

/// The lists of the admin page.
pub(in crate::store) trait Overviews: ReadTables {
    /// Returns a page of the repositories that the filter `wanted` accepts.
    fn repositories_overview(
        &self,
        part: &ListQuery<RepositoryOrder>,
        wanted: &dyn Fn(&RepositoryName) -> bool,
        cancel: &Cancel,
    ) -> Result<Repositories, StoreError> {
        let search = part.search.to_lowercase();
        let mut all = Vec::new();
        for row in self.rows(Table::Repositories)? {
            cancel.check()?;
            let (key, value) = row?;
            let Some(name) = keys::text_after(key, 0).filter(|name| name.contains(&search)) else {
                continue;
            };
            let Ok(name) = name.parse() else { continue };
            if wanted(&name) {
                all.push(repository_overview(self, name, value)?);
            }
        }
        let mut repositories = Repositories {
            bytes: all.iter().map(|one| one.bytes).sum(),
            tags: all.iter().map(|one| u64::from(one.tags)).sum(),
            manifests: all.iter().map(|one| u64::from(one.manifests)).sum(),
            namespaces: BTreeMap::new(),
            listing: ListPage { total: all.len(), items: Vec::new() },
        };
        if part.order == RepositoryOrder::Name {
            let items = page_by_name(&all, part.descending, part.skip(), part.limit);
            repositories.namespaces = namespaces(&items, &all);
            repositories.listing.items = items;
        } else {
            let order = |one: &RepositoryOverview, other: &RepositoryOverview| {
                directed(compare(part.order, one, other), part.descending)
                    .then_with(|| one.name.cmp(&other.name))
            };
            repositories.listing.items = sorted_page(all, part.skip(), part.limit, order);
        }
        Ok(repositories)
    }

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

/// Decodes the row of a repository.
pub(super) fn repository_overview(
    tables: &impl ReadTables,
    name: RepositoryName,
    value: &[u8],
) -> Result<RepositoryOverview, StoreError> {
    let RepositoryRow { manifests, tags, bytes, pushed } = tables.decode(value)?;
    Ok(RepositoryOverview { name, manifests, tags, bytes, pushed, emptied: None })
}

fn directed(order: Ordering, descending: bool) -> Ordering {
    if descending { order.reverse() } else { order }
}

fn compare(order: RepositoryOrder, one: &RepositoryOverview, other: &RepositoryOverview) -> Ordering {
    match order {
        RepositoryOrder::Name => one.name.cmp(&other.name),
        RepositoryOrder::Size => one.bytes.cmp(&other.bytes),
        RepositoryOrder::Tags => one.tags.cmp(&other.tags),
        RepositoryOrder::Pushed => one.pushed.cmp(&other.pushed),
    }
}

/// Returns a page of repositories that are sorted by name.
fn page_by_name(
    all: &[RepositoryOverview],
    descending: bool,
    skip: usize,
    size: usize,
) -> Vec<RepositoryOverview> {
    if descending {
        return all.iter().rev().skip(skip).take(size).cloned().collect();
    }
    all.iter().skip(skip).take(size).cloned().collect()
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

/// Counts the repositories of `all`, sorted by name, in each upper namespace on a page. Those of a namespace are
/// contiguous, so that a binary search for both ends suffices.
fn namespaces(page: &[RepositoryOverview], all: &[RepositoryOverview]) -> BTreeMap<String, usize> {
    let mut counts = BTreeMap::new();
    for one in page {
        for (at, _) in one.name.as_str().match_indices('/').take(NAMESPACES) {
            let namespace = &one.name.as_str()[..=at];
            if !counts.contains_key(namespace) {
                let first = all.partition_point(|one| one.name.as_str() < namespace);
                let count = all[first..].partition_point(|one| one.name.as_str().starts_with(namespace));
                counts.insert(namespace.to_owned(), count);
            }
        }
    }
    counts
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

    #[test]
    fn namespaces_are_counted_across_pages_up_to_the_depth_limit() {
        let names = ["a", "a-b/x", "a/b/c/d/e/one", "a/b/c/d/e/two", "a/z", "a0/x"];
        let one = |name: &&str| RepositoryOverview {
            name: name.parse().unwrap(),
            manifests: 1,
            tags: 1,
            bytes: 1,
            pushed: 1,
            emptied: None,
        };
        let all: Vec<RepositoryOverview> = names.iter().map(one).collect();
        let counts = namespaces(&all[2..3], &all);
        let expected = [("a/", 3), ("a/b/", 2), ("a/b/c/", 2), ("a/b/c/d/", 2)];
        assert_eq!(counts, expected.map(|(name, count)| (name.to_owned(), count)).into());
    }
}
