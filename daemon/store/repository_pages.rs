//! Cache of pages of repositories in an order that no table has: a page takes a look at all repositories, and many pages are asked
//! for between two changes.

use std::num::NonZeroUsize;

use lru::LruCache;

use super::listing::{ListQuery, Repositories, RepositoryOrder};
use crate::base::Lock;

/// The number of pages in the cache.
const KEPT: NonZeroUsize = NonZeroUsize::new(8).unwrap();

/// The last pages, each with the number of the transaction after which it was made.
pub(super) struct KeptLists(Lock<LruCache<ListQuery<RepositoryOrder>, (u64, Repositories)>>);

impl Default for KeptLists {
    fn default() -> Self {
        KeptLists(Lock::new(LruCache::new(KEPT)))
    }
}

impl KeptLists {
    /// Returns true for pages that take a look at all repositories, and that several users may ask for.
    pub(super) fn keeps(part: &ListQuery<RepositoryOrder>) -> bool {
        part.order != RepositoryOrder::Name && part.search.is_empty()
    }

    /// Returns a page that was made after the transaction `at`, the last one.
    pub(super) fn find(&self, part: &ListQuery<RepositoryOrder>, at: u64) -> Option<Repositories> {
        self.0.lock().get(part).filter(|(made, _)| *made == at).map(|(_, found)| found.clone())
    }

    /// Keeps a page.
    pub(super) fn keep(&self, part: ListQuery<RepositoryOrder>, at: u64, found: &Repositories) {
        self.0.lock().put(part, (at, found.clone()));
    }
}

#[cfg(test)]
mod tests {
    use super::super::listing::Visible;
    use super::super::test_store::TestStore;
    use super::*;

    #[tokio::test(flavor = "multi_thread", worker_threads = 1)]
    async fn page_by_size_is_kept_until_the_next_change() {
        let test = TestStore::open().await;
        test.push_image("a", &["1"], b"layer", None).await;
        let part =
            ListQuery { order: RepositoryOrder::Size, descending: true, limit: 5, ..ListQuery::default() };
        let list = async |visible| {
            let found = test.store.repositories_overview(part.clone(), visible).await.unwrap();
            found.listing.items.iter().map(|one| one.name.to_string()).collect::<Vec<_>>()
        };
        assert_eq!(
            (list(Visible::All).await, list(Visible::only(|_| false)).await),
            (vec!["a".into()], vec![])
        );
        let at = test.store.0.index.sequence();
        assert!(test.store.0.repository_lists.find(&part, at).is_some());
        assert_eq!(list(Visible::only(|_| false)).await, Vec::<String>::new(), "not from the cache");
        test.push_image("b", &["1"], b"a longer layer", None).await;
        assert_eq!(list(Visible::All).await, ["b", "a"]);
        let by_name = ListQuery { order: RepositoryOrder::Name, ..part };
        assert!(!KeptLists::keeps(&by_name));
    }
}
