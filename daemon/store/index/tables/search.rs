//! The search over the names of all repositories and tags, which reads a bounded number of rows.

use std::ops::ControlFlow;

use super::keys;
use super::port::{ReadTables, Table};
use super::repository_lists::overview;
use super::rows::digest_of;
use crate::oci::RepositoryName;
use crate::store::error::StoreError;
use crate::store::listing::{FoundNames, FoundTag, NameQuery};
use crate::store::work::Cancel;

/// The search for names.
pub(in crate::store) trait Searches: ReadTables {
    /// Returns the repositories that the filter `wanted` accepts whose name matches, and the tags of such repositories that
    /// match.
    fn search_names(
        &self,
        query: &NameQuery,
        wanted: &dyn Fn(&RepositoryName) -> bool,
        cancel: &Cancel,
    ) -> Result<FoundNames, StoreError> {
        let mut found = FoundNames { is_complete: true, ..FoundNames::default() };
        let mut rows = query.rows;
        self.visit_repositories(wanted, cancel, |name, row| {
            if rows == 0 {
                found.is_complete = false;
                return Ok(ControlFlow::Break(()));
            }
            rows -= 1;
            if query.matches_repository(name) {
                found.repositories_total += 1;
                if found.repositories.len() < query.limit {
                    found.repositories.push(overview(name.clone(), &self.decode(row)?));
                }
            }
            Ok(ControlFlow::Continue(()))
        })?;
        // After all repositories: one with many tags must not hide others.
        let mut rows = query.rows;
        self.visit_repositories(wanted, cancel, |name, _| {
            if !query.searches_tags_of(name) {
                return Ok(ControlFlow::Continue(()));
            }
            let searched = self.search_tags(name, query, &mut rows, &mut found, cancel)?;
            found.is_complete &= searched.is_continue();
            Ok(searched)
        })?;
        Ok(found)
    }

    /// Visits the repositories that the filter accepts, each with its row, until a visit breaks.
    fn visit_repositories(
        &self,
        wanted: &dyn Fn(&RepositoryName) -> bool,
        cancel: &Cancel,
        mut visit: impl FnMut(&RepositoryName, &[u8]) -> Result<ControlFlow<()>, StoreError>,
    ) -> Result<(), StoreError> {
        for row in self.rows(Table::Repositories)? {
            cancel.check()?;
            let (key, value) = row?;
            let parsed = keys::text_after(key, 0).and_then(|name| name.parse::<RepositoryName>().ok());
            let Some(name) = parsed.filter(|name| wanted(name)) else { continue };
            if visit(&name, value)?.is_break() {
                break;
            }
        }
        Ok(())
    }

    /// Adds the tags of a repository that match; breaks when no more rows may be read.
    fn search_tags(
        &self,
        repository: &RepositoryName,
        query: &NameQuery,
        rows: &mut usize,
        found: &mut FoundNames,
        cancel: &Cancel,
    ) -> Result<ControlFlow<()>, StoreError> {
        let prefix = keys::repository_prefix(repository);
        for row in self.prefix(Table::Tags, &prefix)? {
            cancel.check()?;
            if *rows == 0 {
                return Ok(ControlFlow::Break(()));
            }
            *rows -= 1;
            let (key, value) = row?;
            let Some(tag) = keys::text_after(key, prefix.len()).filter(|tag| query.matches_tag(tag)) else {
                continue;
            };
            found.tags_total += 1;
            if found.tags_total > query.skipped && found.tags.len() < query.limit {
                let digest = digest_of(self, value)?;
                if let (Ok(tag), Some((digest, _))) = (tag.parse(), keys::split_digest(digest)) {
                    found.tags.push(FoundTag { repository: repository.clone(), tag, digest });
                }
            }
        }
        Ok(ControlFlow::Continue(()))
    }
}

impl<T: ReadTables> Searches for T {}
