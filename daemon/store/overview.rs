//! What people want to see of the store: lists with their sums, and how the disk is.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::Store;
use super::capacity::Space;
use super::delay::DiskDelay;
use super::error::StoreError;
use super::gc::Collected;
use super::index::{Counts, ManifestEntry};
use super::summary::Summary;
use super::uploads::RunningUpload;
use super::work::Kind;
use crate::oci::{self, Contents, Digest, RepositoryName, Tag};

/// How many rows are read at the most to add up the sizes on one page.
const WHOLE_ROWS: usize = 100_000;

/// How deep a list of repositories goes into namespaces.
pub const NAMESPACES: usize = 4;

/// How many bytes there are for a page, so that one of long names has fewer of them. All pages of a list have the same
/// number: the longest name on any of them decides.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fit {
    /// What there is for all.
    pub bytes: usize,
    /// What each item takes, whatever its name.
    pub each: usize,
    /// How often the name of an item is on the page.
    pub names: usize,
}

/// Which part of a list is wanted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Part<O> {
    /// What the names contain.
    pub search: String,
    /// By what they are sorted.
    pub order: O,
    /// Whether the largest comes first.
    pub descending: bool,
    /// How many pages come before.
    pub page: usize,
    /// How many items a page has at the most.
    pub limit: usize,
    /// What limits them further, if something does.
    pub fit: Option<Fit>,
}

/// By what repositories are sorted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum RepositoryOrder {
    /// By their names.
    #[default]
    Name,
    /// By their size.
    Size,
    /// By the number of their tags.
    Tags,
    /// By the time of the last push.
    Pushed,
}

/// By what tags are sorted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum TagOrder {
    /// By their names, as people sort versions.
    #[default]
    Name,
    /// By the time when they were set.
    Pushed,
}

/// A part of a list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listing<T> {
    /// What is on the page.
    pub items: Vec<T>,
    /// How many there are on all pages.
    pub total: usize,
    /// How many a page has, but the last.
    pub size: usize,
}

/// A part of the list of repositories, and what all that may be seen are together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Repositories {
    /// What is on the page.
    pub listing: Listing<RepositoryOverview>,
    /// How many there are in each namespace on the page, where the list is by name.
    pub namespaces: BTreeMap<String, usize>,
    /// The length of all of them, in bytes.
    pub bytes: u64,
    /// Their tags.
    pub tags: u64,
    /// Their manifests.
    pub manifests: u64,
}

/// A repository in a list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RepositoryOverview {
    /// Its name.
    pub name: RepositoryName,
    /// How many manifests it has.
    pub manifests: u32,
    /// How many tags it has.
    pub tags: u32,
    /// The length of its blobs and manifests, each once, in bytes.
    pub bytes: u64,
    /// When it was pushed to last, in seconds since 1970.
    pub pushed: u64,
}

/// A tag in a list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TagOverview {
    /// The tag.
    pub tag: Tag,
    /// What it names.
    pub entry: ManifestEntry,
    /// How many tags of the repository name the same, this one among them.
    pub shared: usize,
    /// The length of all that it points at.
    pub size: WholeSize,
    /// What its manifest says.
    pub summary: Arc<Summary>,
}

/// The length of a manifest and of all that it points at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WholeSize {
    /// Bytes.
    pub bytes: u64,
    /// It points at more than is added up.
    pub is_more: bool,
}

/// The referrers that a page shows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReferrersShown {
    /// Their descriptors.
    pub items: Vec<oci::Part>,
    /// How many more there are.
    pub more: usize,
    /// The list under the referrers tag is too long to be read for a page: what it has is not among them.
    pub list_is_too_long: bool,
}

/// How the store and its disk are.
#[derive(Clone, Debug)]
pub struct Overview {
    /// How much there is.
    pub counts: Counts,
    /// The bytes of unfinished uploads.
    pub uploading: u64,
    /// The size of the file system, in bytes.
    pub total_bytes: u64,
    /// What is free of it.
    pub free_bytes: u64,
    /// What pushes leave free.
    pub reserve_bytes: u64,
    /// What blobs and uploads may have together, if that is said.
    pub quota_bytes: Option<u64>,
    /// How many bytes the index uses, and how many pushes may use.
    pub index: (u64, u64),
    /// Why the store takes no more writes, if it does not.
    pub read_only: Option<String>,
    /// Whether names were lost, so that nothing is collected until a person has done so.
    pub collection_is_held: bool,
    /// What the last collection in this process did.
    pub collected: Option<Collected>,
    /// The uploads that go on.
    pub uploads: Vec<RunningUpload>,
    /// How long the disk has not answered.
    pub delay: DiskDelay,
}

impl<O> Part<O> {
    /// How many items a page has, where the longest of all names has so many bytes.
    pub(super) fn size(&self, longest: usize) -> usize {
        let fitting = self.fit.map_or(self.limit, |fit| fit.bytes / (fit.each + fit.names * longest).max(1));
        fitting.clamp(1, self.limit.max(1))
    }
}

impl Store {
    /// How everything is.
    ///
    /// # Errors
    /// [`StoreError::Index`] or [`StoreError::Io`].
    pub async fn overview(&self) -> Result<Overview, StoreError> {
        self.list(Kind::Page, move |inner, _| {
            let space = Space::of(&inner.disk.top(""))?;
            let uploads = inner.uploads.running()?;
            Ok(Overview {
                counts: inner.index.counts()?,
                uploading: uploads.iter().map(|one| one.length).sum(),
                total_bytes: space.total,
                free_bytes: space.free,
                reserve_bytes: inner.capacity.reserve(space.total),
                quota_bytes: inner.capacity.quota(),
                index: inner.index.fill()?,
                read_only: inner.disk.failure(),
                collection_is_held: inner.index.collection_is_held()?,
                collected: *inner.collected.lock(),
                uploads,
                delay: inner.disk.delay(),
            })
        })
        .await
    }

    /// A part of the list of repositories that `wanted` lets through.
    ///
    /// # Errors
    /// [`StoreError::Index`].
    pub async fn repositories_overview(
        &self,
        part: Part<RepositoryOrder>,
        wanted: impl Fn(&RepositoryName) -> bool + Send + 'static,
    ) -> Result<Repositories, StoreError> {
        self.list(Kind::Page, move |inner, cancel| inner.index.repositories_overview(&part, &wanted, cancel))
            .await
    }

    /// A part of the list of tags of a repository.
    ///
    /// # Errors
    /// [`StoreError::NameUnknown`] when the repository has no manifest.
    pub async fn tags_overview(
        &self,
        repository: &RepositoryName,
        part: Part<TagOrder>,
    ) -> Result<Listing<TagOverview>, StoreError> {
        let (store, repository, turn) = (self.clone(), repository.clone(), self.turn_to_read().await?);
        self.list(Kind::Page, move |_, cancel| {
            let _turn = turn;
            store.check_exists(&repository)?;
            let Listing { items, total, size } = store.0.index.tags_overview(&repository, &part, cancel)?;
            let mut rows = WHOLE_ROWS;
            let mut tags = Vec::with_capacity(items.len());
            for (tag, entry, shared) in items {
                let summary = store.summary(&repository, &entry);
                let size = store.0.index.whole_size(&repository, &entry.digest, &mut rows, cancel)?;
                tags.push(TagOverview { tag, entry, shared, size, summary });
            }
            Ok(Listing { items: tags, total, size })
        })
        .await
    }

    /// Those of some tags that are there, each with the number of tags that name the same.
    ///
    /// # Errors
    /// [`StoreError::Index`].
    pub async fn tags_named(
        &self,
        repository: &RepositoryName,
        tags: Vec<Tag>,
    ) -> Result<Vec<(Tag, ManifestEntry, usize)>, StoreError> {
        let repository = repository.clone();
        let tags = tags.into_iter().collect();
        self.list(Kind::Page, move |inner, cancel| inner.index.tags_named(&repository, &tags, cancel)).await
    }

    /// What refers to a manifest, `limit` of it at the most, and how much more there is. What clients keep under the
    /// referrers tag is among it.
    ///
    /// # Errors
    /// What the disk or the index says.
    pub async fn referrers_overview(
        &self,
        repository: &RepositoryName,
        subject: &Digest,
        limit: usize,
    ) -> Result<ReferrersShown, StoreError> {
        let (store, repository, subject) = (self.clone(), repository.clone(), subject.clone());
        self.list(Kind::Page, move |inner, cancel| {
            let (items, more) = inner.index.referrers_overview(&repository, &subject, limit, cancel)?;
            let mut shown = ReferrersShown { items, more, list_is_too_long: false };
            let Some(entry) = inner.fallback_index(&repository, &subject)? else { return Ok(shown) };
            let bytes = store.read_shown(&entry)?;
            shown.list_is_too_long = bytes.is_none();
            let listed = Contents::parse(&bytes.unwrap_or_default()).manifests;
            shown.more += listed.more;
            for part in listed.items {
                if !store.0.index.is_only_listed(&repository, &subject, &part.digest)? {
                    continue;
                }
                if shown.items.len() < limit {
                    shown.items.push(part);
                } else {
                    shown.more += 1;
                }
            }
            Ok(shown)
        })
        .await
    }

    /// Whether a repository has a manifest.
    ///
    /// # Errors
    /// [`StoreError::Index`].
    pub fn has_repository(&self, repository: &RepositoryName) -> Result<bool, StoreError> {
        self.0.index.repository_exists(repository)
    }

    /// The tags of a repository that name a manifest, `limit` of them at the most, and how many there are.
    ///
    /// # Errors
    /// [`StoreError::Index`].
    pub async fn tags_of(
        &self,
        repository: &RepositoryName,
        digest: &Digest,
        limit: usize,
    ) -> Result<(Vec<Tag>, usize), StoreError> {
        let (repository, digest) = (repository.clone(), digest.clone());
        self.list(Kind::Page, move |inner, cancel| inner.index.tags_of(&repository, &digest, limit, cancel))
            .await
    }

    /// Returns the length of a manifest and of all that it points at in its repository, each once; of one that points at very
    /// much a part of it is added up.
    ///
    /// # Errors
    /// [`StoreError::Index`].
    pub async fn whole_size(
        &self,
        repository: &RepositoryName,
        digest: &Digest,
    ) -> Result<WholeSize, StoreError> {
        let (repository, digest) = (repository.clone(), digest.clone());
        self.list(Kind::Page, move |inner, cancel| {
            inner.index.whole_size(&repository, &digest, &mut WHOLE_ROWS.clone(), cancel)
        })
        .await
    }
}
