//! Work on all manifests of a repository, for the delete of a whole one.

use std::sync::Arc;

use super::Store;
use super::error::StoreError;
use super::immutable::ImmutableRule;
use super::index::ManifestEntry;
use super::work::Kind;
use crate::oci::{Digest, RepositoryName};

/// The number of tags that one short read checks.
const TAGS_PER_READ: usize = 1000;

impl Store {
    /// Returns at most `limit` manifests of a repository after `after`.
    ///
    /// # Errors
    /// [`StoreError::Index`].
    pub async fn manifests_of(
        &self,
        repository: &RepositoryName,
        after: Option<Digest>,
        limit: usize,
    ) -> Result<Vec<ManifestEntry>, StoreError> {
        let (index, repository) = (Arc::clone(&self.0.index), repository.clone());
        self.0.work.run(Kind::Read, move || index.manifests_after(&repository, after.as_ref(), limit)).await
    }

    /// Refuses the delete of a whole repository that has a tag which must stay.
    ///
    /// # Errors
    /// [`StoreError::NameUnknown`], or [`StoreError::TagKept`] with the first such tag.
    pub async fn check_repository_delete(&self, repository: &RepositoryName) -> Result<(), StoreError> {
        self.check_exists(repository)?;
        let rules = self.0.immutable.load_full();
        if !ImmutableRule::forbids_deletes(&rules, repository) {
            return Ok(());
        }
        let repository = repository.clone();
        self.list(Kind::List, move |inner, cancel| {
            let mut last: Option<String> = None;
            loop {
                cancel.check()?;
                let page = inner.index.tags(&repository, last.as_deref(), TAGS_PER_READ)?;
                for tag in &page.items {
                    ImmutableRule::check_delete(&rules, &repository, tag)?;
                }
                match page.items.last().filter(|_| page.more) {
                    Some(tag) => last = Some(tag.to_string()),
                    None => return Ok(()),
                }
            }
        })
        .await
    }
}
