//! Lists for the admin page: queries for a page of a list, and their results.

use std::collections::BTreeMap;

use crate::oci::RepositoryName;

/// The maximum depth of namespaces in the list of repositories.
pub const NAMESPACES: usize = 4;

/// The number of bytes for a page. Where names are long a page has fewer items; the longest name of the whole list
/// decides, so that all pages of a list have the same number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PageBudget {
    /// The bytes for all items.
    pub bytes: usize,
    /// The bytes of an item without its name.
    pub each: usize,
    /// The number of times that the name of an item occurs on the page.
    pub names: usize,
}

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
    /// The maximum number of bytes on the page, if there is one.
    pub budget: Option<PageBudget>,
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
    /// The number of items on each page but the last.
    pub size: usize,
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
    /// Returns the number of items on a page, if the longest name of the list has `longest` bytes.
    pub(super) fn size(&self, longest: usize) -> usize {
        let fitting =
            self.budget.map_or(self.limit, |fit| fit.bytes / (fit.each + fit.names * longest).max(1));
        fitting.clamp(1, self.limit.max(1))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_of_long_names_has_fewer_items() {
        let mut part = ListQuery::<TagOrder> { limit: 50, ..ListQuery::default() };
        assert_eq!(part.size(10_000), 50);
        part.budget = Some(PageBudget { bytes: 10_000, each: 100, names: 2 });
        assert_eq!((part.size(0), part.size(50), part.size(200)), (50, 50, 20));
        assert_eq!(part.size(1_000_000), 1, "a page is never empty");
        part.limit = 0;
        assert_eq!(part.size(0), 1);
    }
}
