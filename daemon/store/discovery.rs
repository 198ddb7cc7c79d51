//! Discovery: lists of tags, repositories and referrers, a page at a time.

use std::sync::Arc;

use super::error::StoreError;
use super::index::{ManifestEntry, Page};
use super::{Store, blob, blocking};
use crate::oci::{Descriptor, Digest, Manifest, Reference, RepositoryName, Tag, referrers_of_index};

/// The largest list of referrers in one answer, in descriptors and in bytes.
const REFERRERS_PAGE: (usize, usize) = (1000, 4 << 20);

impl Store {
    /// A page of the tags of a repository in the order of their bytes, after `last`.
    ///
    /// # Errors
    /// [`StoreError::NameUnknown`] when the repository has no manifest.
    pub async fn tags(
        &self,
        repository: &RepositoryName,
        last: Option<String>,
        limit: usize,
    ) -> Result<Page<Tag>, StoreError> {
        let (store, repository) = (self.clone(), repository.clone());
        blocking(move || {
            store.check_exists(&repository)?;
            store.0.index.tags(&repository, last.as_deref(), limit)
        })
        .await
    }

    /// A page of the repositories that have a manifest and that `wanted` lets through, after `last`.
    ///
    /// # Errors
    /// [`StoreError::Index`].
    pub async fn repositories(
        &self,
        last: Option<String>,
        limit: usize,
        wanted: impl Fn(&RepositoryName) -> bool + Send + 'static,
    ) -> Result<Page<RepositoryName>, StoreError> {
        let index = Arc::clone(&self.0.index);
        blocking(move || index.repositories(last.as_deref(), limit, &wanted)).await
    }

    /// A page of the manifests in a repository whose subject is `subject`, after the digest `last`, of one
    /// artifact type if one is named. The first page has what clients keep under the referrers tag merged into it.
    ///
    /// # Errors
    /// [`StoreError::Index`]; an unknown repository has no referrers and is no error.
    pub async fn referrers(
        &self,
        repository: &RepositoryName,
        subject: &Digest,
        last: Option<Digest>,
        artifact_type: Option<String>,
    ) -> Result<Page<Descriptor>, StoreError> {
        let (store, repository, subject) = (self.clone(), repository.clone(), subject.clone());
        blocking(move || {
            let wanted = |descriptor: &Descriptor| {
                artifact_type.is_none() || descriptor.artifact_type == artifact_type
            };
            let index = &store.0.index;
            let mut page = index.referrers(&repository, &subject, last.as_ref(), REFERRERS_PAGE, &wanted)?;
            if last.is_none() {
                let fallback = store.fallback_referrers(&repository, &subject)?;
                page.items.extend(fallback.into_iter().filter(wanted));
            }
            Ok(page)
        })
        .await
    }

    /// The referrers in the index that clients keep under the referrers tag ("Enabling the Referrers API"), less
    /// those that the registry lists by itself.
    fn fallback_referrers(
        &self,
        repository: &RepositoryName,
        subject: &Digest,
    ) -> Result<Vec<Descriptor>, StoreError> {
        let Some(entry) = self.fallback_index(repository, subject)? else { return Ok(Vec::new()) };
        let bytes = blob::read_whole(&self.0.disk, &entry.digest, entry.size)?;
        let mut kept = Vec::new();
        for descriptor in referrers_of_index(&bytes) {
            let reference = Reference::Digest(descriptor.digest.clone());
            let here = self.0.index.manifest(repository, &reference)?.is_some();
            let listed =
                here && self.subject_of(repository, &descriptor.digest)?.is_some_and(|own| own == *subject);
            if here && !listed {
                kept.push(descriptor);
            }
        }
        Ok(kept)
    }

    /// The index under the referrers tag, if there is one.
    pub(super) fn fallback_index(
        &self,
        repository: &RepositoryName,
        subject: &Digest,
    ) -> Result<Option<ManifestEntry>, StoreError> {
        let Ok(tag) = subject.referrers_tag().parse() else { return Ok(None) };
        let entry = self.0.index.manifest(repository, &Reference::Tag(tag))?;
        Ok(entry.filter(|entry| entry.media_type.is_index()))
    }

    /// What a manifest of a repository is about, read from its bytes.
    pub(super) fn subject_of(
        &self,
        repository: &RepositoryName,
        digest: &Digest,
    ) -> Result<Option<Digest>, StoreError> {
        let reference = Reference::Digest(digest.clone());
        let Some(entry) = self.0.index.manifest(repository, &reference)? else { return Ok(None) };
        let bytes = blob::read_whole(&self.0.disk, digest, entry.size)?;
        Ok(Manifest::parse(&bytes, Some(&entry.media_type))
            .ok()
            .and_then(|manifest| manifest.subject().cloned()))
    }
}
