//! The lists of repositories of the admin page: one page at a time, without a copy of the others.
//!
//! A list by name of all repositories costs a page of rows, and its totals are those that the index keeps. A search and the
//! repositories of some users take a look at every row, and so do other orders.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::ops::{Bound, Range};

use super::keys;
use super::lookups::Lookups;
use super::port::{ReadTables, Table};
use super::ranked::ranked;
use super::rows::RepositoryRow;
use crate::oci::RepositoryName;
use crate::store::error::StoreError;
use crate::store::listing::{
    ListPage, ListQuery, NAMESPACES, NamespaceCount, Repositories, RepositoryOrder, RepositoryOverview,
    Visible,
};
use crate::store::work::Cancel;

/// The number of repositories up to which those of a namespace are counted.
const MAX_COUNTED: usize = 100;
/// The number of rows that are read to count those of all namespaces on a page.
const MAX_COUNT_ROWS: usize = 2000;

/// A place in a list: the value that decides, and the name.
type Place<'a> = (u64, &'a str);

/// A visit of a repository, by its name and its row.
type Visit<'v, 'a> = dyn FnMut(&'a str, RepositoryRow) + 'v;

/// The lists of repositories.
pub(in crate::store) trait RepositoryLists: ReadTables {
    /// Returns a page of the repositories that a user may see.
    fn repositories_overview(
        &self,
        part: &ListQuery<RepositoryOrder>,
        visible: &Visible,
        cancel: &Cancel,
    ) -> Result<Repositories, StoreError> {
        let filter = Filter { search: part.search.to_lowercase(), visible };
        let mut found = self.repository_totals(&filter, cancel)?;
        let (total, limit) = (found.listing.total, part.limit);
        found.listing.items = match part.order {
            RepositoryOrder::Name if part.descending => {
                let end = total.saturating_sub(part.skip());
                let mut items = self.repositories_at(&filter, end.saturating_sub(limit)..end, cancel)?;
                items.reverse();
                items
            }
            RepositoryOrder::Name => {
                let start = part.skip();
                self.repositories_at(&filter, start..start.saturating_add(limit), cancel)?
            }
            _ if part.skip() >= total => Vec::new(),
            RepositoryOrder::Size | RepositoryOrder::Tags | RepositoryOrder::Pushed => {
                self.ranked_repositories(&filter, part, cancel)?
            }
        };
        if part.order == RepositoryOrder::Name {
            found.namespaces = self.namespaces(&filter, &found.listing.items, cancel)?;
        }
        Ok(found)
    }

    /// Returns the row of a repository; `None` while it has no manifest.
    fn repository_overview(&self, name: &RepositoryName) -> Result<Option<RepositoryOverview>, StoreError> {
        let row: Option<RepositoryRow> = self.row(Table::Repositories, name.as_str().as_bytes())?;
        Ok(row.map(|row| overview(name.clone(), &row)))
    }

    /// Returns the totals of a list. Those of all repositories are kept.
    fn repository_totals(&self, filter: &Filter<'_>, cancel: &Cancel) -> Result<Repositories, StoreError> {
        let mut found = Repositories {
            listing: ListPage { items: Vec::new(), total: 0 },
            namespaces: BTreeMap::new(),
            bytes: 0,
            tags: 0,
            manifests: 0,
        };
        if filter.accepts_all() {
            let counts = self.counts()?;
            found.listing.total = usize::try_from(counts.repositories).unwrap_or(usize::MAX);
            (found.bytes, found.tags, found.manifests) = (counts.bytes, counts.tags, counts.manifests);
            return Ok(found);
        }
        self.visit_accepted(filter, cancel, &mut |_, row| {
            found.listing.total += 1;
            found.bytes = found.bytes.saturating_add(row.bytes);
            found.tags += u64::from(row.tags);
            found.manifests += u64::from(row.manifests);
        })?;
        Ok(found)
    }

    /// Returns the repositories at these places of a list by name.
    fn repositories_at(
        &self,
        filter: &Filter<'_>,
        places: Range<usize>,
        cancel: &Cancel,
    ) -> Result<Vec<RepositoryOverview>, StoreError> {
        let (mut items, mut place) = (Vec::new(), 0);
        for row in self.rows(Table::Repositories)? {
            cancel.check()?;
            if place >= places.end {
                break;
            }
            let (key, value) = row?;
            let Some(name) = keys::text_after(key, 0).filter(|name| filter.accepts(name)) else { continue };
            if place >= places.start
                && let Ok(name) = name.parse()
            {
                items.push(overview(name, &self.decode(value)?));
            }
            place += 1;
        }
        Ok(items)
    }

    /// Returns a page of a list in an order that the table does not have.
    fn ranked_repositories(
        &self,
        filter: &Filter<'_>,
        part: &ListQuery<RepositoryOrder>,
        cancel: &Cancel,
    ) -> Result<Vec<RepositoryOverview>, StoreError> {
        let value = |row: &RepositoryRow| match part.order {
            RepositoryOrder::Name => 0,
            RepositoryOrder::Size => row.bytes,
            RepositoryOrder::Tags => row.tags.into(),
            RepositoryOrder::Pushed => row.pushed,
        };
        let order = |one: &Place, other: &Place| {
            let by = one.0.cmp(&other.0);
            (if part.descending { by.reverse() } else { by }).then_with(|| one.1.cmp(other.1))
        };
        let places = |add: &mut dyn FnMut(_)| {
            self.visit_accepted(filter, cancel, &mut |name, row| add((value(&row), name)))
        };
        let mut items = Vec::new();
        for (_, name) in ranked(places, (part.skip(), part.limit), order)? {
            let name = name.parse().ok();
            let item = name.map(|name| self.repository_overview(&name)).transpose()?;
            items.extend(item.flatten());
        }
        Ok(items)
    }

    /// Visits the repositories of a list by name.
    fn visit_accepted<'a>(
        &'a self,
        filter: &Filter<'_>,
        cancel: &Cancel,
        visit: &mut Visit<'_, 'a>,
    ) -> Result<(), StoreError> {
        for row in self.rows(Table::Repositories)? {
            cancel.check()?;
            let (key, value) = row?;
            if let Some(name) = keys::text_after(key, 0).filter(|name| filter.accepts(name)) {
                visit(name, self.decode(value)?);
            }
        }
        Ok(())
    }

    /// Counts the repositories of a list in each upper namespace on a page.
    fn namespaces(
        &self,
        filter: &Filter<'_>,
        page: &[RepositoryOverview],
        cancel: &Cancel,
    ) -> Result<BTreeMap<String, NamespaceCount>, StoreError> {
        let (mut counts, rows) = (BTreeMap::new(), Cell::new(MAX_COUNT_ROWS));
        for one in page {
            for (at, _) in one.name.as_str().match_indices('/').take(NAMESPACES) {
                let namespace = &one.name.as_str()[..=at];
                if !counts.contains_key(namespace) {
                    cancel.check()?;
                    counts.insert(namespace.to_owned(), self.count_in(filter, namespace, &rows)?);
                }
            }
        }
        Ok(counts)
    }

    /// Counts the repositories in a namespace, as far as `rows` and [`MAX_COUNTED`] allow.
    fn count_in(
        &self,
        filter: &Filter<'_>,
        namespace: &str,
        rows: &Cell<usize>,
    ) -> Result<NamespaceCount, StoreError> {
        let mut count = NamespaceCount::default();
        let start = (Bound::Included(namespace.as_bytes()), Bound::Unbounded);
        for row in self.range(Table::Repositories, &start)? {
            let Some(name) = keys::text_after(row?.0, 0) else { continue };
            if !name.starts_with(namespace) {
                break;
            }
            if count.count == MAX_COUNTED {
                count.is_more = true;
                break;
            }
            if rows.get() == 0 {
                // The page has one of them at least. Rows that the user may not see are no reason to say that there are more.
                return Ok(NamespaceCount { count: count.count.max(1), is_more: filter.visible.has_all() });
            }
            rows.set(rows.get() - 1);
            count.count += usize::from(filter.accepts(name));
        }
        Ok(count)
    }
}

impl<T: ReadTables> RepositoryLists for T {}

/// The repositories that belong to a list.
pub(in crate::store) struct Filter<'a> {
    /// A text that their names contain.
    search: String,
    visible: &'a Visible,
}

impl Filter<'_> {
    /// Returns true if all repositories belong to the list.
    fn accepts_all(&self) -> bool {
        self.search.is_empty() && self.visible.has_all()
    }

    fn accepts(&self, name: &str) -> bool {
        name.contains(&self.search) && self.visible.has(name)
    }
}

/// Returns a repository of a list by its row.
pub(super) fn overview(name: RepositoryName, row: &RepositoryRow) -> RepositoryOverview {
    let RepositoryRow { manifests, tags, bytes, pushed } = *row;
    RepositoryOverview { name, manifests, tags, bytes, pushed, emptied: None }
}

#[cfg(test)]
mod tests;
