//! Lists for the admin page: queries for a page of a list, and their results.

use std::collections::BTreeMap;

use crate::oci::RepositoryName;

/// The maximum depth of namespaces in the list of repositories.
pub const NAMESPACES: usize = 4;

/// A query for a page of a list.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
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
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
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
    pub namespaces: BTreeMap<String, usize>,
    /// The length of their content in bytes.
    pub bytes: u64,
    /// The number of their tags.
    pub tags: u64,
    /// The number of their manifests.
    pub manifests: u64,
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
