//! The store as the source of an export of one repository, which the user may pull from.

use crate::oci::{Digest, Hasher, MAX_REFERRERS, Reference, RepositoryName, Tag};
use crate::store::{ReferrersQuery, Store, StoreError};
use crate::transfer::export::{ExportError, ManifestText, Registry, TagEntry};

/// Tags that one read of the store returns.
const PAGE: usize = 500;

/// Reads names and manifests.
pub(super) struct StoreSource {
    store: Store,
    /// The error of the store that ended the walk.
    pub(super) failure: Option<StoreError>,
}

impl StoreSource {
    pub(super) fn new(store: Store) -> Self {
        StoreSource { store, failure: None }
    }

    /// Returns `None` for content that the store does not have.
    fn known<T>(&mut self, read: Result<T, StoreError>) -> Result<Option<T>, ExportError> {
        match read {
            Ok(value) => Ok(Some(value)),
            Err(
                StoreError::NameUnknown(_)
                | StoreError::ManifestUnknown(_)
                | StoreError::BlobUnknown(_)
                | StoreError::Damaged(_),
            ) => Ok(None),
            Err(error) => {
                let text = error.to_string();
                self.failure = Some(error);
                Err(ExportError::Registry(text))
            }
        }
    }

    fn tag(&mut self, repository: &RepositoryName, tag: Tag) -> Result<Option<TagEntry>, ExportError> {
        let entry = self.store.manifest(repository, &Reference::Tag(tag.clone()));
        let entry = self.known(entry)?;
        let repository = repository.clone();
        Ok(entry.map(|entry| TagEntry { repository, tag, digest: entry.digest, pushed: Some(entry.pushed) }))
    }
}

impl Registry for StoreSource {
    /// Returns one tag, or the tags with a prefix that `*` follows.
    async fn tags(&mut self, repository: &str, tag: &str) -> Result<Vec<TagEntry>, ExportError> {
        let Ok(repository) = repository.parse::<RepositoryName>() else { return Ok(Vec::new()) };
        let Some(prefix) = tag.strip_suffix('*') else {
            let tag = tag.parse().ok();
            return Ok(tag
                .map(|tag| self.tag(&repository, tag))
                .transpose()?
                .flatten()
                .into_iter()
                .collect());
        };
        let (mut tags, mut last) = (Vec::new(), prefix.to_owned());
        loop {
            tokio::task::yield_now().await;
            let page = self.store.tags(&repository, Some(last), PAGE).await;
            let Some(page) = self.known(page)? else { return Ok(tags) };
            for tag in &page.items {
                if !tag.as_str().starts_with(prefix) {
                    return Ok(tags);
                }
                tags.extend(self.tag(&repository, tag.clone())?);
            }
            match page.items.last().filter(|_| page.more) {
                Some(tag) => last = tag.to_string(),
                None => return Ok(tags),
            }
        }
    }

    async fn manifest(
        &mut self,
        repository: &RepositoryName,
        digest: &Digest,
    ) -> Result<Option<ManifestText>, ExportError> {
        let entry = self.store.manifest(repository, &Reference::Digest(digest.clone()));
        let Some(entry) = self.known(entry)? else { return Ok(None) };
        let bytes = self.store.read_manifest(&entry).await;
        let bytes = self.known(bytes)?.filter(|bytes| Hasher::digest(digest.algorithm(), bytes) == *digest);
        Ok(bytes.map(|bytes| ManifestText { media_type: entry.media_type, bytes }))
    }

    async fn blob_size(
        &mut self,
        repository: &RepositoryName,
        digest: &Digest,
    ) -> Result<Option<u64>, ExportError> {
        let size = self.store.blob(repository, digest);
        self.known(size)
    }

    async fn referrers(
        &mut self,
        repository: &RepositoryName,
        digest: &Digest,
    ) -> Result<Vec<Digest>, ExportError> {
        let (mut found, mut last) = (Vec::new(), None);
        while found.len() < MAX_REFERRERS {
            let query = ReferrersQuery { last, artifact_type: None, limit: MAX_REFERRERS };
            let page = self.store.referrers(repository, digest, query).await;
            let Some(page) = self.known(page)? else { break };
            found.extend(page.items.into_iter().map(|referrer| referrer.digest));
            match page.next {
                Some(next) => last = Some(next),
                None => break,
            }
        }
        Ok(found)
    }
}
