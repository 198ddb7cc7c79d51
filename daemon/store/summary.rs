//! Summaries of manifests for lists: platforms, creation time, artifact type.
//!
//! A summary is read from the manifest and its config, which are untrusted input. Lengths and the number of
//! concurrent reads are bounded, so that clients do not decide the memory that a page takes.

use std::sync::Arc;

use bytes::Bytes;

use super::error::StoreError;
use super::holder::Holder;
use super::index::ManifestEntry;
use super::summaries::{ReadPermit, Summary};
use super::work::Kind;
use super::{Store, blob};
use crate::oci::{Digest, ImageConfig, ManifestView, Platform, RepositoryName};

/// The maximum number of platforms in a summary.
const PLATFORMS: usize = 16;
/// The maximum length of a manifest or config that is read for a page, in bytes: many times those that builders
/// create, and less than a push may have.
const MAX_SHOWN: u64 = 1 << 20;
/// The maximum number of characters of an untrusted string in a summary.
const MAX_WORD: usize = 128;

impl Store {
    /// Waits for a permit to read manifests and configs for a page.
    ///
    /// # Errors
    /// [`StoreError::TooManyWaiting`].
    pub async fn acquire_read_permit(&self) -> Result<ReadPermit, StoreError> {
        self.0.summaries.acquire(Holder::current()).await
    }

    /// Returns the config of an image, if the repository has it and it is not too long. This renews no lease.
    ///
    /// # Errors
    /// Those of the disk and of the index.
    pub async fn read_config(
        &self,
        repository: &RepositoryName,
        digest: &Digest,
    ) -> Result<Option<Bytes>, StoreError> {
        let (store, repository, digest) = (self.clone(), repository.clone(), digest.clone());
        self.0.work.run(Kind::Read, move || store.config(&repository, &digest)).await
    }

    /// Returns the bytes of a manifest, if it is not too long.
    ///
    /// # Errors
    /// Those of the disk.
    pub async fn read_manifest_for_page(&self, entry: &ManifestEntry) -> Result<Option<Bytes>, StoreError> {
        let (store, entry) = (self.clone(), entry.clone());
        self.0.work.run(Kind::Read, move || store.read_for_page(&entry)).await
    }

    /// As [`Store::read_manifest_for_page`]; blocking.
    pub(super) fn read_for_page(&self, entry: &ManifestEntry) -> Result<Option<Bytes>, StoreError> {
        let entry = Some(entry).filter(|entry| entry.size <= MAX_SHOWN);
        entry.map(|entry| blob::read_whole(&*self.0.disk, &entry.digest, entry.size)).transpose()
    }

    fn config(&self, repository: &RepositoryName, digest: &Digest) -> Result<Option<Bytes>, StoreError> {
        let link = self.0.index.blob(repository, digest)?.filter(|link| link.size <= MAX_SHOWN);
        link.map(|link| blob::read_whole(&*self.0.disk, digest, link.size)).transpose()
    }

    /// Returns the summary of a manifest. A summary that cannot be read is empty and is tried again the next time.
    pub(super) fn summary(&self, repository: &RepositoryName, entry: &ManifestEntry) -> Arc<Summary> {
        if let Some(summary) = self.0.summaries.find(repository, &entry.digest) {
            return summary;
        }
        match self.read_summary(repository, entry) {
            // Content that is missing may come later.
            Ok((summary, false)) => Arc::new(summary),
            Ok((summary, true)) => {
                let summary = Arc::new(summary);
                self.0.summaries.keep(repository, &entry.digest, &summary);
                summary
            }
            Err(error) => {
                log::debug!("the summary of {} cannot be read: {error}", entry.digest);
                Arc::default()
            }
        }
    }

    /// Reads the summary. Returns true with it if all content was there that it is made from.
    fn read_summary(
        &self,
        repository: &RepositoryName,
        entry: &ManifestEntry,
    ) -> Result<(Summary, bool), StoreError> {
        let contents = ManifestView::parse(&self.read_for_page(entry)?.unwrap_or_default());
        if entry.media_type.is_index() {
            return self.index_summary(repository, &contents);
        }
        let kind = contents.kind().map(short);
        let Some(config) = contents.config.filter(|_| kind.is_none()) else {
            return Ok((Summary { artifact: kind, ..Summary::default() }, true));
        };
        let is_whole = self.0.index.blob(repository, &config.digest)?.is_some();
        let config = self.config(repository, &config.digest)?.unwrap_or_default();
        let config = ImageConfig::parse(&config);
        let summary = Summary {
            platforms: platforms(std::iter::once(&config.platform())),
            created: config.created.map(short),
            artifact: None,
            attached: Vec::new(),
        };
        Ok((summary, is_whole))
    }

    fn index_summary(
        &self,
        repository: &RepositoryName,
        contents: &ManifestView,
    ) -> Result<(Summary, bool), StoreError> {
        let images = contents.manifests.items.iter().filter(|part| part.platform.is_some());
        let digests: Vec<Digest> = images.clone().take(1).map(|part| part.digest.clone()).collect();
        let first = self.0.index.manifests_among(repository, &digests)?;
        let is_whole = first.len() == digests.len();
        // An index of indexes gets no creation time, which bounds the recursion to one level.
        let created = first.first().filter(|first| !first.media_type.is_index());
        let created = created.and_then(|first| self.summary(repository, first).created.clone());
        let attested = contents.manifests.items.iter().find(|part| part.reference_type().is_some());
        let attested: Vec<Digest> = attested.map(|part| part.digest.clone()).into_iter().collect();
        let attested = self.0.index.manifests_among(repository, &attested)?;
        let summary = Summary {
            attached: attested.first().map(|entry| self.statements(entry)).unwrap_or_default(),
            platforms: platforms(images.filter_map(|part| part.platform.as_ref())),
            created,
            artifact: contents.artifact_type.clone().map(short),
        };
        Ok((summary, is_whole))
    }
}

fn platforms<'a>(platforms: impl Iterator<Item = &'a Platform>) -> Vec<String> {
    platforms
        .filter(|platform| !platform.is_unknown())
        .take(PLATFORMS)
        .map(|platform| short(platform.to_string()))
        .collect()
}

fn short(text: String) -> String {
    match text.char_indices().nth(MAX_WORD) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text,
    }
}
