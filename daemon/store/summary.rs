//! What a manifest says in a line: what it is, what it runs on, when it was made.
//!
//! It is read from the manifest and its configuration, and remembered for each repository: content with a digest never
//! changes, but which of it a summary may show depends on what the repository has.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use bytes::Bytes;

use super::error::StoreError;
use super::holder::Holder;
use super::index::ManifestEntry;
use super::work::Kind;
use super::{Store, blob, lock};
use crate::oci::{Contents, Digest, ImageConfig, Platform, RepositoryName};
use crate::queue::{FairPermit, FairPool, Limits};

/// How many are remembered.
const KEPT: usize = 2000;
/// How many pages read manifests at once, and with them what that takes in memory.
const READERS: usize = 2;
/// How many pages of one holder wait for that; more are refused.
const WAITING: usize = 64;
/// How many platforms one names at the most.
const PLATFORMS: usize = 16;
/// The longest manifest or configuration that is read to show what it says, in bytes: many times what builders make,
/// and less than what the registry takes.
const LONGEST_SHOWN: u64 = 1 << 20;
/// The longest word of a stranger that is kept.
const LONGEST_WORD: usize = 128;

/// A manifest in a line.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Summary {
    /// What an image runs on, or the images of an index.
    pub platforms: Vec<String>,
    /// When it was made, as its builder wrote it.
    pub created: Option<String>,
    /// The kind of an artifact that is no image.
    pub artifact: Option<String>,
}

/// The summaries that are remembered, and the turns of those who read more.
pub(super) struct Summaries {
    kept: Mutex<HashMap<(RepositoryName, Digest), Arc<Summary>>>,
    turns: Arc<FairPool<Holder>>,
}

/// Leave to read what manifests and configurations say, for as long as this lives. How much memory that takes is
/// decided by the number of turns, and not by the number of those who ask.
pub struct Turn(#[expect(dead_code, reason = "it is given back when it is dropped")] FairPermit<Holder>);

impl Default for Summaries {
    fn default() -> Self {
        let limits = Limits {
            places: READERS,
            places_per_holder: READERS,
            reserved: 0,
            waiting_per_holder: WAITING,
            holders: super::work::HOLDERS,
        };
        Summaries { kept: Mutex::default(), turns: Arc::new(FairPool::new(limits)) }
    }
}

impl Summaries {
    fn find(&self, repository: &RepositoryName, digest: &Digest) -> Option<Arc<Summary>> {
        lock(&self.kept).get(&(repository.clone(), digest.clone())).cloned()
    }

    fn keep(&self, repository: &RepositoryName, digest: &Digest, summary: &Arc<Summary>) {
        let mut kept = lock(&self.kept);
        if kept.len() >= KEPT {
            kept.clear();
        }
        kept.insert((repository.clone(), digest.clone()), Arc::clone(summary));
    }
}

impl Store {
    /// Waits for a turn to read what manifests say.
    ///
    /// # Errors
    /// [`StoreError::TooManyWaiting`].
    pub async fn turn_to_read(&self) -> Result<Turn, StoreError> {
        Ok(Turn(self.0.summaries.turns.acquire(Holder::current()).await?))
    }

    /// The configuration of an image, if the repository has it and it is not too long to be read; nobody counts on
    /// it for that.
    ///
    /// # Errors
    /// What the disk or the index says.
    pub async fn read_config(
        &self,
        repository: &RepositoryName,
        digest: &Digest,
    ) -> Result<Option<Bytes>, StoreError> {
        let (store, repository, digest) = (self.clone(), repository.clone(), digest.clone());
        self.0.work.run(Kind::Read, move || store.config(&repository, &digest)).await
    }

    /// The bytes of a manifest, if they are not too many to be shown.
    ///
    /// # Errors
    /// What the disk says.
    pub async fn read_manifest_shown(&self, entry: &ManifestEntry) -> Result<Option<Bytes>, StoreError> {
        let (store, entry) = (self.clone(), entry.clone());
        self.0.work.run(Kind::Read, move || store.read_shown(&entry)).await
    }

    /// The same, blocking.
    pub(super) fn read_shown(&self, entry: &ManifestEntry) -> Result<Option<Bytes>, StoreError> {
        let entry = Some(entry).filter(|entry| entry.size <= LONGEST_SHOWN);
        entry.map(|entry| blob::read_whole(&self.0.disk, &entry.digest, entry.size)).transpose()
    }

    fn config(&self, repository: &RepositoryName, digest: &Digest) -> Result<Option<Bytes>, StoreError> {
        let link = self.0.index.blob(repository, digest)?.filter(|link| link.size <= LONGEST_SHOWN);
        link.map(|link| blob::read_whole(&self.0.disk, digest, link.size)).transpose()
    }

    /// A manifest in a line; what cannot be read is not in it, and is asked for again the next time.
    pub(super) fn summary(&self, repository: &RepositoryName, entry: &ManifestEntry) -> Arc<Summary> {
        if let Some(summary) = self.0.summaries.find(repository, &entry.digest) {
            return summary;
        }
        match self.read_summary(repository, entry) {
            Ok(summary) => {
                let summary = Arc::new(summary);
                self.0.summaries.keep(repository, &entry.digest, &summary);
                summary
            }
            Err(error) => {
                log::debug!("{} cannot be shown: {error}", entry.digest);
                Arc::default()
            }
        }
    }

    fn read_summary(
        &self,
        repository: &RepositoryName,
        entry: &ManifestEntry,
    ) -> Result<Summary, StoreError> {
        let contents = Contents::parse(&self.read_shown(entry)?.unwrap_or_default());
        if entry.media_type.is_index() {
            return self.index_summary(repository, &contents);
        }
        let kind = contents.kind().map(short);
        let Some(config) = contents.config.filter(|_| kind.is_none()) else {
            return Ok(Summary { artifact: kind, ..Summary::default() });
        };
        let config = self.config(repository, &config.digest)?.unwrap_or_default();
        let config = ImageConfig::parse(&config);
        Ok(Summary {
            platforms: platforms(std::iter::once(&config.platform())),
            created: config.created.map(short),
            artifact: None,
        })
    }

    fn index_summary(&self, repository: &RepositoryName, contents: &Contents) -> Result<Summary, StoreError> {
        let images = contents.manifests.items.iter().filter(|part| part.platform.is_some());
        let digests: Vec<Digest> = images.clone().take(1).map(|part| part.digest.clone()).collect();
        let first = self.0.index.manifests_among(repository, &digests)?;
        // An index that points at itself is impossible: its digest would have to be known before it was made.
        let created = first.first().filter(|first| !first.media_type.is_index());
        let created = created.and_then(|first| self.summary(repository, first).created.clone());
        Ok(Summary {
            platforms: platforms(images.filter_map(|part| part.platform.as_ref())),
            created,
            artifact: contents.artifact_type.clone().map(short),
        })
    }
}

fn platforms<'a>(all: impl Iterator<Item = &'a Platform>) -> Vec<String> {
    all.filter(|platform| !platform.is_unknown()).take(PLATFORMS).map(|one| short(one.to_string())).collect()
}

fn short(text: String) -> String {
    match text.char_indices().nth(LONGEST_WORD) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text,
    }
}
