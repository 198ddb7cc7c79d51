//! The delete of a whole repository, and other work on all of its manifests.

use std::sync::Arc;

use super::Store;
use super::error::StoreError;
use super::immutable::ImmutableRule;
use super::index::{ManifestEntry, Origin};
use super::management::Delete;
use super::work::Kind;
use crate::oci::{Digest, RepositoryName};

/// The number of tags that one short read checks.
const TAGS_PER_READ: usize = 1000;
/// The number of manifests that one read returns.
const MANIFESTS_PER_READ: usize = 500;

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

    /// Deletes all manifests of a repository with their tags, each in a transaction of its own. Adds their number to `deleted`,
    /// and stops before a manifest for which `proceed`, which gets that number, returns false. Returns true if nothing is
    /// left.
    ///
    /// # Errors
    /// Those of [`Store::check_repository_delete`], before the first manifest, and of [`Store::delete_manifest`].
    pub async fn delete_repository(
        &self,
        repository: &RepositoryName,
        origin: &Origin,
        deleted: &mut u64,
        mut proceed: impl FnMut(u64) -> bool + Send,
    ) -> Result<bool, StoreError> {
        // A repository with a tag that must stay is kept as a whole.
        self.check_repository_delete(repository).await?;
        loop {
            let (mut after, before, mut refused) = (None, *deleted, None);
            loop {
                let page = self.manifests_of(repository, after, MANIFESTS_PER_READ).await?;
                for entry in &page {
                    if !proceed(*deleted) {
                        return Ok(false);
                    }
                    let (repository, object) = (repository.clone(), entry.digest.clone());
                    match self.delete_manifest(Delete { repository, object, origin: origin.clone() }).await {
                        Ok(()) => *deleted += 1,
                        Err(StoreError::ManifestUnknown(_) | StoreError::NameUnknown(_)) => {}
                        // A manifest that an index references may go once that index has gone, in another pass.
                        Err(error @ StoreError::ContentKept { .. }) => refused = Some(error),
                        Err(error) => return Err(error),
                    }
                }
                match page.last().filter(|_| page.len() == MANIFESTS_PER_READ) {
                    Some(entry) => after = Some(entry.digest.clone()),
                    None => break,
                }
            }
            match refused {
                None => return Ok(true),
                Some(error) if *deleted == before => return Err(error),
                Some(_) => {}
            }
        }
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
