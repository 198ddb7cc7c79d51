//! Queries of the admin page: lists with their totals, and the state of the store and its disk.

use std::collections::BTreeSet;
use std::ops::Bound;
use std::sync::Arc;

use super::Store;
use super::capacity::Space;
use super::delay::DiskDelay;
use super::error::StoreError;
use super::gc::LastCollection;
use super::index::tables::sparse::Presence;
use super::index::{Counts, ManifestEntry};
use super::inner::Inner;
use super::listing::{
    FoundNames, ListPage, ListQuery, NameQuery, Repositories, RepositoryOrder, RepositoryOverview, TagOrder,
    TotalSize, Visible,
};
use super::repository_pages::KeptLists;
use super::summaries::Summary;
use super::uploads::UnfinishedUpload;
use super::work::{Cancel, Kind};
use crate::oci::{self, Attachment, Digest, ManifestView, RepositoryName, Tag};

/// The maximum number of rows that are read to add up the sizes on one page.
const SIZE_ROWS: usize = 100_000;

/// A tag in a list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TagOverview {
    /// The tag.
    pub tag: Tag,
    /// The manifest that it points to.
    pub entry: ManifestEntry,
    /// The number of tags of the repository that point to this manifest, including this one.
    pub shared: usize,
    /// The length of the manifest and all content that it references.
    pub size: TotalSize,
    /// The summary of the manifest.
    pub summary: Arc<Summary>,
    /// The kinds of its attachments.
    pub attached: BTreeSet<Attachment>,
}

/// A tag in a list of all tags.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListedTag {
    /// The tag.
    pub tag: Tag,
    /// The manifest that it points to.
    pub entry: ManifestEntry,
    /// Its sequence number: of two tags, the one that was set later has the greater number.
    pub order: u64,
    /// The length of the manifest and all content that it references.
    pub size: TotalSize,
    /// The summary of the manifest.
    pub summary: Arc<Summary>,
}

/// The referrers of a manifest that a page shows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReferrersOverview {
    /// The descriptors.
    pub items: Vec<oci::DescriptorView>,
    /// The number of other referrers.
    pub more: usize,
    /// True if the index under the fallback tag is too long to be read for a page; its entries are missing then.
    pub list_is_too_long: bool,
}

/// The state of the store and its disk.
#[derive(Clone, Debug)]
pub struct Overview {
    /// The amounts of content.
    pub counts: Counts,
    /// The length of unfinished uploads in bytes.
    pub uploading: u64,
    /// The size of the file system in bytes.
    pub total_bytes: u64,
    /// The free bytes of the file system.
    pub free_bytes: u64,
    /// The reserve that pushes leave free, in bytes.
    pub reserve_bytes: u64,
    /// The quota of blobs and uploads together in bytes, if there is one.
    pub quota_bytes: Option<u64>,
    /// The bytes that the index uses, and the bytes that pushes may use.
    pub index: (u64, u64),
    /// The reason why the store is read-only, if it is.
    pub read_only: Option<String>,
    /// True if names were lost, so that only the operator may start a collection.
    pub collection_is_held: bool,
    /// The last collection of this process.
    pub collected: Option<LastCollection>,
    /// The unfinished uploads.
    pub uploads: Vec<UnfinishedUpload>,
    /// The time for which the disk has not responded.
    pub delay: DiskDelay,
}

impl Store {
    /// Returns the state of the store and its disk.
    ///
    /// # Errors
    /// [`StoreError::Index`] or [`StoreError::Io`].
    pub async fn overview(&self) -> Result<Overview, StoreError> {
        self.list(Kind::Page, move |inner, _| {
            let space = Space::of(&inner.disk.path(""))?;
            let uploads = inner.uploads.unfinished()?;
            Ok(Overview {
                counts: inner.index.counts()?,
                uploading: uploads.iter().map(|upload| upload.length).sum(),
                total_bytes: space.total,
                free_bytes: space.free,
                reserve_bytes: inner.capacity.reserve(space.total),
                quota_bytes: inner.capacity.quota(),
                index: inner.index.usage()?,
                read_only: inner.disk.read_only_reason(),
                collection_is_held: inner.index.collection_is_held()?,
                collected: *inner.last_collection.lock(),
                uploads,
                delay: inner.disk.delay(),
            })
        })
        .await
    }

    /// Returns a page of the repositories that a user may see.
    ///
    /// # Errors
    /// [`StoreError::Index`].
    pub async fn repositories_overview(
        &self,
        part: ListQuery<RepositoryOrder>,
        visible: Visible,
    ) -> Result<Repositories, StoreError> {
        let is_kept = visible.has_all() && KeptLists::keeps(&part);
        // Before the snapshot of the list: a change in between makes the kept list old, never new.
        let at = self.0.index.sequence();
        if is_kept && let Some(found) = self.0.repository_lists.find(&part, at) {
            return Ok(found);
        }
        self.list(Kind::Page, move |inner, cancel| {
            let mut found = inner.index.repositories_overview(&part, &visible, cancel)?;
            find_emptied(inner, &mut found.listing.items, cancel)?;
            if is_kept {
                inner.repository_lists.keep(part, at, &found);
            }
            Ok(found)
        })
        .await
    }

    /// Returns the repositories among these that have a manifest.
    ///
    /// # Errors
    /// [`StoreError::Index`].
    pub async fn repositories_named(
        &self,
        names: Vec<RepositoryName>,
    ) -> Result<Vec<RepositoryOverview>, StoreError> {
        self.list(Kind::Page, move |inner, cancel| {
            let mut found = Vec::new();
            for name in names {
                found.extend(inner.index.repository_overview(&name)?);
            }
            find_emptied(inner, &mut found, cancel)?;
            Ok(found)
        })
        .await
    }

    /// Searches the names of the repositories for which `wanted` returns true, and those of their tags.
    ///
    /// # Errors
    /// [`StoreError::Index`].
    pub async fn search_names(
        &self,
        query: NameQuery,
        wanted: impl Fn(&RepositoryName) -> bool + Send + 'static,
    ) -> Result<FoundNames, StoreError> {
        self.list(Kind::Page, move |inner, cancel| {
            let mut found = inner.index.search_names(&query, &wanted, cancel)?;
            find_emptied(inner, &mut found.repositories, cancel)?;
            Ok(found)
        })
        .await
    }

    /// Returns the time at which a delete removed the last name of a repository, in seconds since 1970, if it has no tags
    /// and its manifests only wait for a collection.
    ///
    /// # Errors
    /// [`StoreError::Index`].
    pub async fn emptied(&self, repository: &RepositoryName) -> Result<Option<u64>, StoreError> {
        let repository = repository.clone();
        let find = move |inner: &Inner, cancel: &Cancel| {
            inner.index.emptied_at(&repository, &mut SIZE_ROWS.clone(), cancel)
        };
        self.list(Kind::Page, find).await
    }

    /// Returns a page of the tags of a repository.
    ///
    /// # Errors
    /// [`StoreError::NameUnknown`] when the repository has no manifest.
    pub async fn tags_overview(
        &self,
        repository: &RepositoryName,
        part: ListQuery<TagOrder>,
    ) -> Result<ListPage<TagOverview>, StoreError> {
        let (store, repository, permit) =
            (self.clone(), repository.clone(), self.acquire_read_permit().await?);
        self.list(Kind::Page, move |_, cancel| {
            let _permit = permit;
            store.check_exists(&repository)?;
            let ListPage { items, total } = store.0.index.tags_overview(&repository, &part, cancel)?;
            // One budget for the page: many large images do not multiply its cost.
            let mut rows = SIZE_ROWS;
            let mut tags = Vec::with_capacity(items.len());
            for (tag, entry, shared) in items {
                let summary = store.summary(&repository, &entry);
                let size = store.0.index.total_size(&repository, &entry.digest, &mut rows, cancel)?;
                let attached = store.attachments(&repository, &entry, &summary, cancel)?;
                tags.push(TagOverview { tag, entry, shared, size, summary, attached });
            }
            Ok(ListPage { items: tags, total })
        })
        .await
    }

    /// Returns at most `limit` tags of a repository from `start`, in byte order.
    ///
    /// # Errors
    /// [`StoreError::NameUnknown`] when the repository has no manifest.
    pub async fn tags_from(
        &self,
        repository: &RepositoryName,
        start: Bound<Tag>,
        limit: usize,
    ) -> Result<Vec<ListedTag>, StoreError> {
        let (store, repository, permit) =
            (self.clone(), repository.clone(), self.acquire_read_permit().await?);
        self.list(Kind::Page, move |_, cancel| {
            let _permit = permit;
            store.check_exists(&repository)?;
            let (mut rows, mut tags) = (SIZE_ROWS, Vec::new());
            for (tag, entry, order) in store.0.index.tags_from(&repository, &start, limit)? {
                cancel.check()?;
                let summary = store.summary(&repository, &entry);
                let size = store.0.index.total_size(&repository, &entry.digest, &mut rows, cancel)?;
                tags.push(ListedTag { tag, entry, order, size, summary });
            }
            Ok(tags)
        })
        .await
    }

    /// Returns those of `tags` that exist, each with the number of tags that point to the same manifest.
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
        self.list(Kind::Page, move |inner, _| inner.index.tags_named(&repository, &tags)).await
    }

    /// Returns how much of the content of a sparse manifest is here, without `config`; `None` for any other manifest.
    ///
    /// # Errors
    /// [`StoreError::Index`].
    pub async fn presence(
        &self,
        repository: &RepositoryName,
        digest: &Digest,
        config: Option<&Digest>,
    ) -> Result<Option<Presence>, StoreError> {
        let (repository, digest, config) = (repository.clone(), digest.clone(), config.cloned());
        self.list(Kind::Page, move |inner, _| inner.index.presence(&repository, &digest, config.as_ref()))
            .await
    }

    /// Returns the first `limit` referrers of a manifest and the number of others. Includes the entries of the index
    /// that clients keep under the fallback tag.
    ///
    /// # Errors
    /// Those of the disk and of the index.
    pub async fn referrers_overview(
        &self,
        repository: &RepositoryName,
        subject: &Digest,
        limit: usize,
    ) -> Result<ReferrersOverview, StoreError> {
        let (store, repository, subject) = (self.clone(), repository.clone(), subject.clone());
        self.list(Kind::Page, move |inner, cancel| {
            let (items, more) = inner.index.referrers_overview(&repository, &subject, limit, cancel)?;
            let mut shown = ReferrersOverview { items, more, list_is_too_long: false };
            let Some(entry) = inner.fallback_index(&repository, &subject)? else { return Ok(shown) };
            let bytes = store.read_for_page(&entry)?;
            shown.list_is_too_long = bytes.is_none();
            let listed = ManifestView::parse(&bytes.unwrap_or_default()).manifests;
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

    /// Returns true if a repository has a manifest.
    ///
    /// # Errors
    /// [`StoreError::Index`].
    pub fn has_repository(&self, repository: &RepositoryName) -> Result<bool, StoreError> {
        self.0.index.repository_exists(repository)
    }

    /// Returns the first `limit` tags of a repository that point to a manifest, and the number of all of them.
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

    /// Returns the length of a manifest and of the content of its repository that it references, each digest once. Of a
    /// manifest with very many references only a part is added up.
    ///
    /// # Errors
    /// [`StoreError::Index`].
    pub async fn total_size(
        &self,
        repository: &RepositoryName,
        digest: &Digest,
    ) -> Result<TotalSize, StoreError> {
        let (repository, digest) = (repository.clone(), digest.clone());
        self.list(Kind::Page, move |inner, cancel| {
            inner.index.total_size(&repository, &digest, &mut SIZE_ROWS.clone(), cancel)
        })
        .await
    }
}

/// Adds the times at which the repositories without tags became empty. All of a page share one budget of rows.
fn find_emptied(
    inner: &Inner,
    repositories: &mut [RepositoryOverview],
    cancel: &Cancel,
) -> Result<(), StoreError> {
    let mut rows = SIZE_ROWS;
    for one in repositories.iter_mut().filter(|one| one.tags == 0) {
        one.emptied = inner.index.emptied_at(&one.name, &mut rows, cancel)?;
    }
    Ok(())
}
