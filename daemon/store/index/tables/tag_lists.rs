//! Lists of tags for the admin page and the local API, one page at a time.
//!
//! The cost of a page by time does not depend on the number of tags, but for those before the page. A page by name, and one of
//! a search, reads all names once or more, in memory that does not grow with them. While an index of an earlier release is taken over,
//! each page reads all tags.

use std::borrow::Cow;
use std::collections::{BTreeSet, HashMap};
use std::ops::ControlFlow;

use super::entry::{ManifestEntry, entry};
use super::keys;
use super::port::{ReadTables, Table};
use super::ranked::ranked;
use super::rows::{ManifestRow, digest_of};
use super::tag_index::TagIndex;
use crate::oci::{Digest, RepositoryName, Tag};
use crate::store::error::StoreError;
use crate::store::listing::{ListPage, ListQuery, TagOrder};
use crate::store::version_order;
use crate::store::work::Cancel;

/// A tag on a page, and the number of tags of its repository that name the same digest.
pub(in crate::store) type SharedTag = (Tag, ManifestEntry, usize);

/// The tags of a repository that a list shows, and that contain a text.
struct Matching<'a> {
    repository: &'a RepositoryName,
    search: &'a str,
    cancel: &'a Cancel,
}

impl Matching<'_> {
    /// Calls `visit` with each tag, the newest first, until it breaks.
    fn visit<'t>(
        &self,
        tables: &'t impl TagIndex,
        visit: &mut dyn FnMut(Cow<'t, str>) -> ControlFlow<()>,
    ) -> Result<(), StoreError> {
        for tag in tables.shown_tags(self.repository)? {
            self.cancel.check()?;
            let tag = match tag? {
                Cow::Borrowed(tag) => str::from_utf8(tag).map(Cow::Borrowed).ok(),
                Cow::Owned(tag) => String::from_utf8(tag).map(Cow::Owned).ok(),
            };
            let Some(tag) = tag.filter(|tag| tag.contains(self.search)) else { continue };
            if visit(tag).is_break() {
                break;
            }
        }
        Ok(())
    }

    fn count(&self, tables: &impl TagIndex) -> Result<usize, StoreError> {
        if self.search.is_empty() {
            return tables.count_shown_tags(self.repository);
        }
        let mut count = 0;
        self.visit(tables, &mut |_| {
            count += 1;
            ControlFlow::Continue(())
        })?;
        Ok(count)
    }

    /// Returns `count` tags after the first `skip`, the newest first.
    fn newest<'t>(
        &self,
        tables: &'t impl TagIndex,
        (mut skip, count): (usize, usize),
    ) -> Result<Vec<Cow<'t, str>>, StoreError> {
        let mut page = Vec::new();
        if count == 0 {
            return Ok(page);
        }
        self.visit(tables, &mut |tag| {
            if skip > 0 {
                skip -= 1;
                return ControlFlow::Continue(());
            }
            page.push(tag);
            if page.len() == count { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        })?;
        Ok(page)
    }

    /// Returns `count` tags after the first `skip`, in version order or in its reverse.
    fn by_name<'t>(
        &self,
        tables: &'t impl TagIndex,
        part: (usize, usize),
        reverse: bool,
    ) -> Result<Vec<Cow<'t, str>>, StoreError> {
        let all = |visit: &mut dyn FnMut(Cow<'t, str>)| {
            self.visit(tables, &mut |tag| {
                visit(tag);
                ControlFlow::Continue(())
            })
        };
        ranked(all, part, |one, other| {
            let order = version_order::compare(one, other);
            if reverse { order.reverse() } else { order }
        })
    }
}

/// Lists of tags.
pub(in crate::store) trait TagLists: ReadTables {
    /// Returns a page of the tags of a repository. An attachment tag is left out if its manifest is in the repository: the
    /// page shows it there.
    fn tags_overview(
        &self,
        repository: &RepositoryName,
        part: &ListQuery<TagOrder>,
        cancel: &Cancel,
    ) -> Result<ListPage<SharedTag>, StoreError> {
        let matching = Matching { repository, search: &part.search, cancel };
        let total = matching.count(self)?;
        let skip = part.skip().min(total);
        let count = part.limit.min(total - skip);
        // The same page counted from the other end.
        let mirrored = total - skip - count;
        let (names, is_mirrored) = match part.order {
            TagOrder::Pushed if part.descending => (matching.newest(self, (skip, count))?, false),
            TagOrder::Pushed => (matching.newest(self, (mirrored, count))?, true),
            TagOrder::Name if skip <= mirrored => {
                (matching.by_name(self, (skip, count), part.descending)?, false)
            }
            TagOrder::Name => (matching.by_name(self, (mirrored, count), !part.descending)?, true),
        };
        let mut names: Vec<Tag> = names.iter().filter_map(|name| name.parse().ok()).collect();
        if is_mirrored {
            names.reverse();
        }
        Ok(ListPage { total, items: self.with_shares(repository, names)? })
    }

    /// Returns those of the given tags that exist, in version order.
    fn tags_named(
        &self,
        repository: &RepositoryName,
        wanted: &BTreeSet<Tag>,
    ) -> Result<Vec<SharedTag>, StoreError> {
        let mut wanted: Vec<Tag> = wanted.iter().cloned().collect();
        wanted.sort_by(|one, other| version_order::compare(one.as_str(), other.as_str()));
        self.with_shares(repository, wanted)
    }

    /// Returns the rows of those of the given tags that exist, each with the number of tags that name the same digest.
    fn with_shares(&self, repository: &RepositoryName, tags: Vec<Tag>) -> Result<Vec<SharedTag>, StoreError> {
        let mut items: Vec<SharedTag> = Vec::with_capacity(tags.len());
        for tag in tags {
            let row: Option<ManifestRow> = self.row(Table::Tags, &keys::tag_key(repository, &tag))?;
            let Some(row) = row else { continue };
            items.push((tag, entry(self, &row)?, 0));
        }
        let counts = self.counts_of_tags(repository, items.iter().map(|(_, entry, _)| &entry.digest))?;
        for (_, entry, count) in &mut items {
            *count = counts.get(&entry.digest).copied().unwrap_or_default();
        }
        Ok(items)
    }

    /// Returns the number of tags that name each of some manifests.
    fn counts_of_tags<'a>(
        &self,
        repository: &RepositoryName,
        digests: impl Iterator<Item = &'a Digest>,
    ) -> Result<HashMap<Digest, usize>, StoreError> {
        let mut counts: HashMap<Digest, usize> = digests.map(|digest| (digest.clone(), 0)).collect();
        if self.has_all_tags_indexed()? {
            for (digest, count) in &mut counts {
                *count = self.count_tags_naming(repository, digest)?;
            }
            return Ok(counts);
        }
        // One pass for all of them.
        let mut by_key: HashMap<Vec<u8>, &mut usize> =
            counts.iter_mut().map(|(digest, count)| (keys::digest_key(digest), count)).collect();
        for row in self.prefix(Table::Tags, &keys::repository_prefix(repository))? {
            if let Some(count) = by_key.get_mut(digest_of(self, row?.1)?) {
                **count += 1;
            }
        }
        Ok(counts)
    }

    /// Returns the first `limit` tags of a repository that name a manifest, in version order, and how many there are.
    fn tags_of(
        &self,
        repository: &RepositoryName,
        digest: &Digest,
        limit: usize,
        cancel: &Cancel,
    ) -> Result<(Vec<Tag>, usize), StoreError> {
        let mut tags: Vec<Tag> = Vec::new();
        for tag in self.parsed_tags_naming(repository, digest)?.take(limit) {
            cancel.check()?;
            tags.push(tag?);
        }
        tags.sort_by(|one, other| version_order::compare(one.as_str(), other.as_str()));
        Ok((tags, self.count_tags_naming(repository, digest)?))
    }

    /// Calls `visit` with each tag that names a manifest, in byte order. An error ends it.
    fn each_tag_naming(
        &self,
        repository: &RepositoryName,
        digest: &Digest,
        visit: &mut dyn FnMut(&Tag) -> Result<(), StoreError>,
    ) -> Result<(), StoreError> {
        for tag in self.parsed_tags_naming(repository, digest)? {
            visit(&tag?)?;
        }
        Ok(())
    }
}

impl<T: ReadTables> TagLists for T {}
