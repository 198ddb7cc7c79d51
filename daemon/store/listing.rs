//! Lists for the admin page: queries for a page of a list, and their results.

use std::collections::BTreeMap;

use crate::base::human::{count, day};
use crate::oci::{Digest, RepositoryName, Tag};

/// The maximum depth of namespaces in the list of repositories.
pub const NAMESPACES: usize = 4;

/// A query for a page of a list.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct ListQuery<O> {
    /// A string that the names contain.
    pub search: String,
    /// The order.
    pub order: O,
    /// True to reverse the order.
    pub descending: bool,
    /// The number of the page, from 0.
    pub page: usize,
    /// The maximum number of items on the page.
    pub limit: usize,
}

/// The order of repositories.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum RepositoryOrder {
    /// By name.
    #[default]
    Name,
    /// By size.
    Size,
    /// By number of tags.
    Tags,
    /// By time of the last push.
    Pushed,
}

/// The order of tags.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum TagOrder {
    /// By name, in version order.
    #[default]
    Name,
    /// By the time at which they were set.
    Pushed,
}

/// A page of a list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListPage<T> {
    /// The items on the page.
    pub items: Vec<T>,
    /// The number of items on all pages.
    pub total: usize,
}

/// A page of the list of repositories, and the totals of all repositories that the user may see.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Repositories {
    /// The page.
    pub listing: ListPage<RepositoryOverview>,
    /// The number of repositories in each namespace on the page, in a list by name.
    pub namespaces: BTreeMap<String, NamespaceCount>,
    /// The length of their content in bytes; that of all repositories counts shared blobs once.
    pub bytes: u64,
    /// The number of their tags.
    pub tags: u64,
    /// The number of their manifests.
    pub manifests: u64,
}

/// The number of repositories in a namespace.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct NamespaceCount {
    /// Those that were counted.
    pub count: usize,
    /// True if there may be more.
    pub is_more: bool,
}

/// The repositories that a user may see in lists.
pub enum Visible {
    /// All of them.
    All,
    /// Those for which this returns true.
    Only(Box<dyn Fn(&RepositoryName) -> bool + Send + Sync>),
}

impl Visible {
    /// Returns the repositories for which `wanted` returns true.
    pub fn only(wanted: impl Fn(&RepositoryName) -> bool + Send + Sync + 'static) -> Self {
        Visible::Only(Box::new(wanted))
    }

    /// Returns true if the user may see every repository, also one that is pushed next.
    pub fn has_all(&self) -> bool {
        matches!(self, Visible::All)
    }

    pub(super) fn has(&self, name: &str) -> bool {
        match self {
            Visible::All => true,
            Visible::Only(wanted) => name.parse().is_ok_and(|name| wanted(&name)),
        }
    }
}

/// A repository in a list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RepositoryOverview {
    /// The name.
    pub name: RepositoryName,
    /// The number of manifests.
    pub manifests: u32,
    /// The number of tags.
    pub tags: u32,
    /// The length of its blobs and manifests, each once, in bytes.
    pub bytes: u64,
    /// The time of the last push, in seconds since 1970.
    pub pushed: u64,
    /// The time at which a delete removed its last name, in seconds since 1970, if its manifests only wait for a
    /// collection.
    pub emptied: Option<u64>,
}

/// Describes the tags of a repository: `3 tags`, `empty, removed on 2026-11-24`, or `2 untagged` for manifests that were
/// pushed by their digest or lost their tag to another manifest.
pub fn describe_tags(tags: u64, manifests: u64, emptied: Option<u64>) -> String {
    match (tags, emptied) {
        (0, Some(time)) => format!("empty, removed on {}", day(time)),
        (0, None) => format!("{manifests} untagged"),
        _ => count(tags, "tag"),
    }
}

impl RepositoryOverview {
    /// As [`describe_tags`].
    pub fn describe_tags(&self) -> String {
        describe_tags(self.tags.into(), self.manifests.into(), self.emptied)
    }
}

/// The length of a manifest and of all content that it references.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TotalSize {
    /// The length in bytes.
    pub bytes: u64,
    /// True if the manifest references more than was added up.
    pub is_more: bool,
}

impl<O> ListQuery<O> {
    /// Returns the number of items on the pages before this one.
    pub(super) fn skip(&self) -> usize {
        self.page.saturating_mul(self.limit)
    }
}

/// A search for names of repositories and tags.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NameQuery {
    /// A string that the names contain, in lower case.
    repository: String,
    /// A string that the tags contain.
    tag: String,
    /// True if a tag has to be in a repository that matches: the text is `REPOSITORY:TAG`.
    is_pair: bool,
    /// The tags before the page.
    pub(super) skipped: usize,
    /// The maximum number of repositories, and that of tags.
    pub(super) limit: usize,
    /// The maximum number of rows that are read.
    pub(super) rows: usize,
}

impl NameQuery {
    /// Parses a text: part of a repository's name or of a tag, or `REPOSITORY:TAG` with a part of each. The page of tags,
    /// from 0, has at most `limit` of them; at most `rows` rows are read.
    pub fn parse(text: &str, page: usize, limit: usize, rows: usize) -> Self {
        let pair = text.rsplit_once(':');
        let (repository, tag) = pair.unwrap_or((text, text));
        NameQuery {
            repository: repository.to_lowercase(),
            tag: tag.to_owned(),
            is_pair: pair.is_some(),
            skipped: page.saturating_mul(limit),
            limit,
            rows,
        }
    }

    pub(super) fn matches_repository(&self, name: &RepositoryName) -> bool {
        !self.is_pair && name.as_str().contains(&self.repository)
    }

    /// Returns true if tags of a repository may match.
    pub(super) fn searches_tags_of(&self, name: &RepositoryName) -> bool {
        !self.is_pair || name.as_str().contains(&self.repository)
    }

    pub(super) fn matches_tag(&self, tag: &str) -> bool {
        tag.contains(&self.tag)
    }
}

/// A tag that a search found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FoundTag {
    /// Its repository.
    pub repository: RepositoryName,
    /// The tag.
    pub tag: Tag,
    /// The manifest that it points to.
    pub digest: Digest,
}

/// The names that a search found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FoundNames {
    /// The first repositories, by name.
    pub repositories: Vec<RepositoryOverview>,
    /// The number of all repositories found.
    pub repositories_total: usize,
    /// The tags of the page.
    pub tags: Vec<FoundTag>,
    /// The number of all tags found.
    pub tags_total: usize,
    /// False if the search stopped at its limit of rows.
    pub is_complete: bool,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn repository_without_tags_is_empty_or_untagged() {
        let described = |tags, emptied| describe_tags(tags, 2, emptied);
        assert_eq!((described(1, None), described(3, None)), ("1 tag".into(), "3 tags".into()));
        assert_eq!(described(0, Some(1_764_102_667)), "empty, removed on 2025-11-25");
        assert_eq!(described(0, None), "2 untagged");
    }

    #[test]
    fn name_query_is_one_text_or_a_repository_with_a_tag() {
        let matches = |text: &str, name: &str, tag: &str| {
            let (query, name) = (NameQuery::parse(text, 0, 10, 10), name.parse().unwrap());
            (query.matches_repository(&name), query.searches_tags_of(&name) && query.matches_tag(tag))
        };
        assert_eq!(matches("App", "team/app", "1.0"), (true, false));
        assert_eq!(matches("1.0", "team/app", "1.0-rc"), (false, true));
        assert_eq!(matches("app:1", "team/app", "1.0"), (false, true));
        assert_eq!(matches("web:1", "team/app", "1.0"), (false, false));
        assert_eq!(matches("app:", "team/app", "1.0"), (false, true));
    }
}
