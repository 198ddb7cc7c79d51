//! Lists for requests: each read is bounded in rows and bytes, whatever is stored.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::{Bound, ControlFlow};

use super::entry::{ManifestEntry, entry};
use super::keys;
use super::port::{ReadTables, Table};
use super::rows::ManifestRow;
use crate::oci::{Digest, ListedDescriptor, RepositoryName, Tag};
use crate::store::error::StoreError;
use crate::store::index_error::IndexError;
use crate::store::work::Cancel;

/// A part of the list of repositories.
pub(in crate::store) struct RepositoryPage {
    pub(in crate::store) items: Vec<RepositoryName>,
    pub(in crate::store) end: PageEnd,
}

/// The reason why a part of a list ends.
pub(in crate::store) enum PageEnd {
    /// No item follows.
    Complete,
    /// The limit is reached, and another item follows.
    Full,
    /// The row limit is reached: the request has to continue after this name.
    After(RepositoryName),
}

/// The maximum number of bytes of names on a page that has more than one. An answer stays in memory until its client
/// has read it, and every connection may have one.
pub(in crate::store) const MAX_NAME_BYTES: usize = 128 << 10;

/// The maximum number of rows that one read transaction of a search visits: an old snapshot keeps pages from being
/// reused.
pub(in crate::store) const ROWS_PER_READ: usize = 5000;

/// A tag, and its sequence number among all names.
pub(in crate::store) type NumberedTag = (Tag, ManifestEntry, u64);

/// The maximum number of referrers that one request reads, in rows and in bytes.
const MAX_REFERRERS_READ: (usize, usize) = (5000, 8 << 20);

/// Lists that are bounded in rows and bytes.
pub(in crate::store) trait Lists: ReadTables {
    /// Adds the subjects of those of the given manifests that have one among the next rows of referrers after the key
    /// `after`. Returns the key after which the search continues.
    fn find_subjects(
        &self,
        repository: &RepositoryName,
        manifests: &BTreeSet<Digest>,
        after: Option<&[u8]>,
        subjects: &mut BTreeMap<Digest, Digest>,
    ) -> Result<Option<Vec<u8>>, StoreError> {
        let prefix = keys::repository_prefix(repository);
        let range = (Bound::Excluded(after.unwrap_or(&prefix)), Bound::Unbounded);
        let mut last = None;
        for row in self.range(Table::Referrers, &range)?.take(ROWS_PER_READ) {
            let (key, _) = row?;
            let Some(edge) = key.strip_prefix(&prefix[..]) else { return Ok(None) };
            if let Some((subject, rest)) = keys::split_digest(edge)
                && let Some((referrer, _)) = keys::split_digest(rest)
                && manifests.contains(&referrer)
            {
                subjects.insert(referrer, subject);
            }
            last = Some(key.to_vec());
        }
        Ok(last)
    }

    /// Returns at most `limit` repositories after `last` that the filter `wanted` accepts, among at most `rows` rows.
    fn repositories(
        &self,
        last: Option<&str>,
        (limit, rows): (usize, usize),
        wanted: &dyn Fn(&RepositoryName) -> bool,
    ) -> Result<RepositoryPage, StoreError> {
        let after = last.unwrap_or_default().as_bytes();
        let mut part = RepositoryPage { items: Vec::new(), end: PageEnd::Complete };
        let mut bytes = 0;
        let start = if after.is_empty() { Bound::Unbounded } else { Bound::Excluded(after) };
        for (number, row) in self.range(Table::Repositories, &(start, Bound::Unbounded))?.enumerate() {
            let Some(name) = keys::text_after(row?.0, 0).and_then(|name| name.parse::<RepositoryName>().ok())
            else {
                continue;
            };
            if wanted(&name) {
                bytes += name.as_str().len();
                if part.items.len() == limit || (bytes > MAX_NAME_BYTES && !part.items.is_empty()) {
                    part.end = PageEnd::Full;
                    break;
                }
                part.items.push(name);
            } else if number >= rows {
                part.end = PageEnd::After(name);
                break;
            }
        }
        Ok(part)
    }

    /// Returns at most `limit` tags of a repository from `start`, in byte order, each with its sequence number. A page costs the
    /// same wherever it begins.
    fn tags_from(
        &self,
        repository: &RepositoryName,
        start: &Bound<Tag>,
        limit: usize,
    ) -> Result<Vec<NumberedTag>, StoreError> {
        let rows = self.tag_rows(repository, start.as_ref(), limit)?.into_iter();
        rows.map(|(tag, row)| Ok((tag, entry(self, &row)?, row.order))).collect()
    }

    /// Returns the rows of at most `limit` tags of a repository from `start`, in byte order.
    fn tag_rows(
        &self,
        repository: &RepositoryName,
        start: Bound<&Tag>,
        limit: usize,
    ) -> Result<Vec<(Tag, ManifestRow)>, StoreError> {
        let prefix = keys::repository_prefix(repository);
        let start = match start {
            Bound::Included(tag) => Bound::Included(keys::tag_key(repository, tag)),
            Bound::Excluded(tag) => Bound::Excluded(keys::tag_key(repository, tag)),
            Bound::Unbounded => Bound::Excluded(prefix.clone()),
        };
        let mut page = Vec::new();
        for row in self.range(Table::Tags, &(start.as_ref().map(Vec::as_slice), Bound::Unbounded))? {
            let (key, value) = row?;
            if !key.starts_with(&prefix) || page.len() == limit {
                break;
            }
            let Some(tag) = keys::text_after(key, prefix.len()).and_then(|tag| tag.parse().ok()) else {
                continue;
            };
            page.push((tag, self.decode(value)?));
        }
        Ok(page)
    }

    /// Calls `visit` with the descriptors of the referrers of `subject` after `last`, in digest order. Returns the
    /// last digest that was read if the limits of one request were reached, and `None` after the last referrer.
    fn referrers(
        &self,
        (repository, subject): (&RepositoryName, &Digest),
        last: Option<&Digest>,
        cancel: &Cancel,
        visit: &mut dyn FnMut(ListedDescriptor<'_>) -> ControlFlow<()>,
    ) -> Result<Option<Digest>, StoreError> {
        let prefix = keys::referrer_key(repository, subject, None);
        let start = keys::referrer_key(repository, subject, last);
        let (mut read, mut before) = (0, None);
        let rows = self.range(Table::Referrers, &(Bound::Excluded(&start[..]), Bound::Unbounded))?;
        for (number, row) in rows.enumerate() {
            cancel.check()?;
            let (key, value) = row?;
            if !key.starts_with(&prefix) {
                break;
            }
            if number == MAX_REFERRERS_READ.0 || (read > MAX_REFERRERS_READ.1 && before.is_some()) {
                return Ok(before);
            }
            read += value.len();
            let text = std::str::from_utf8(value).ok();
            let listed = text.and_then(ListedDescriptor::parse);
            let listed = listed.ok_or_else(|| IndexError::Row("a referrer's descriptor".into()));
            let listed = self.noted(listed)?;
            let digest = listed.digest().clone();
            if visit(listed).is_break() {
                return Ok(before);
            }
            before = Some(digest);
        }
        Ok(None)
    }
}

impl<T: ReadTables> Lists for T {}

#[cfg(test)]
mod tests {
    use super::super::memory::Memory;
    use super::super::port::WriteTables;
    use super::*;

    #[test]
    fn repository_list_continues_after_row_limit() {
        let mut index = Memory::default();
        for number in 0..50 {
            index.put(Table::Repositories, format!("r{number:02}").as_bytes(), &[]).unwrap();
        }
        let wanted = |name: &RepositoryName| name.as_str().ends_with('9');
        let (mut last, mut found, mut parts) = (None, Vec::new(), 0);
        loop {
            let part = index.repositories(last.as_deref(), (10, 7), &wanted).unwrap();
            found.extend(part.items.iter().map(ToString::to_string));
            parts += 1;
            let PageEnd::After(name) = part.end else { break };
            last = Some(name.to_string());
        }
        assert_eq!((found.join(" ").as_str(), parts > 5), ("r09 r19 r29 r39 r49", true));
        let full = index.repositories(None, (2, 1000), &wanted).unwrap();
        assert!(full.items.len() == 2 && matches!(full.end, PageEnd::Full));
    }
}
