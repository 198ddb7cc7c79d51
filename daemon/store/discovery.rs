//! Content discovery: lists of tags, repositories and referrers, a page at a time (distribution specification, "Content
//! Discovery").

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::sync::Arc;

use bytes::Bytes;

use super::error::StoreError;
use super::index::{ManifestEntry, Page, PageEnd, RepositoryPage};
use super::work::{Cancel, Kind};
use super::{Inner, Store, blob, blocking};
use crate::oci::{
    Descriptor, Digest, Hasher, ListedDescriptor, Manifest, Reference, RepositoryName, Tag,
    referrers_of_index,
};

/// The maximum number of descriptors in a page of each of the two lists of referrers.
const PAGE_ITEMS: usize = 1000;
/// The maximum length of these descriptors in bytes. A response is in memory until its client has received it, and each
/// connection may have one.
const PAGE_BYTES: usize = 64 << 10;
/// The number of rows after which a list of repositories returns its place in the pool. A user may see only a few of
/// them.
const ROWS_PER_PART: usize = 5000;

/// A page of referrers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Referrers {
    /// The descriptors, sorted by digest. A page may be empty although more pages follow.
    pub items: Vec<Descriptor>,
    /// The digest after which the next page begins, if there is one.
    pub next: Option<Digest>,
}

impl Store {
    /// Returns a page of the tags of a repository after `last`, sorted by their bytes.
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
        let tags = move || {
            store.check_exists(&repository)?;
            store.0.index.tags(&repository, last.as_deref(), limit)
        };
        self.0.work.run(Kind::Read, tags).await
    }

    /// Returns a page of the repositories after `last` that have a manifest and for which `wanted` returns true.
    ///
    /// # Errors
    /// [`StoreError::Index`], or [`StoreError::Closing`] when the daemon stops.
    pub async fn repositories(
        &self,
        mut last: Option<String>,
        limit: usize,
        wanted: impl Fn(&RepositoryName) -> bool + Send + Sync + 'static,
    ) -> Result<Page<RepositoryName>, StoreError> {
        let wanted = Arc::new(wanted);
        let mut page = Page { items: Vec::new(), more: false };
        loop {
            // Each part takes a new place in the pool, so that other requests are served in between, and the list ends
            // when its client has disconnected.
            let (wanted, after, limit) = (Arc::clone(&wanted), last, limit - page.items.len());
            let part = self.list(Kind::List, move |inner, _| {
                inner.index.repositories(after.as_deref(), (limit, ROWS_PER_PART), &*wanted)
            });
            let RepositoryPage { items, end } = part.await?;
            page.items.extend(items);
            match end {
                PageEnd::Complete => return Ok(page),
                PageEnd::Full => return Ok(Page { more: true, ..page }),
                PageEnd::After(name) => last = Some(name.to_string()),
            }
        }
    }

    /// Returns a page of all repositories that have a manifest, for long jobs, which use no place of the pools.
    pub(super) async fn all_repositories(
        &self,
        last: Option<String>,
        limit: usize,
    ) -> Result<Page<RepositoryName>, StoreError> {
        let index = Arc::clone(&self.0.index);
        let part =
            blocking(move || index.repositories(last.as_deref(), (limit, usize::MAX), &|_| true)).await?;
        Ok(Page { items: part.items, more: matches!(part.end, PageEnd::Full) })
    }

    /// Returns a page of the referrers of `subject` in a repository (distribution specification, "Listing Referrers").
    /// Includes the entries of the index that clients keep under the fallback tag.
    ///
    /// # Errors
    /// [`StoreError::Index`]. An unknown repository has no referrers, which is not an error.
    pub async fn referrers(
        &self,
        repository: &RepositoryName,
        subject: &Digest,
        query: ReferrersQuery,
    ) -> Result<Referrers, StoreError> {
        let (repository, subject) = (repository.clone(), subject.clone());
        self.list(Kind::List, move |inner, cancel| query.page(inner, (&repository, &subject), cancel)).await
    }

    /// Returns the subject of a manifest, read from its bytes.
    ///
    /// # Errors
    /// [`StoreError::Damaged`] if the bytes are corrupt, or those of the disk and of the index.
    pub(super) async fn subject_of(
        &self,
        repository: &RepositoryName,
        digest: &Digest,
    ) -> Result<Option<Digest>, StoreError> {
        let (inner, repository, digest) = (Arc::clone(&self.0), repository.clone(), digest.clone());
        self.0
            .work
            .run(Kind::Read, move || {
                let reference = Reference::Digest(digest.clone());
                let Some(entry) = inner.index.manifest(&repository, &reference)? else { return Ok(None) };
                inner.read_subject(&digest, entry.size)
            })
            .await
    }
}

impl Inner {
    /// Returns the subject of a manifest, read from its bytes; blocking.
    ///
    /// # Errors
    /// [`StoreError::Damaged`] if the bytes are missing or corrupt, or those of the disk.
    pub(super) fn read_subject(&self, digest: &Digest, size: u64) -> Result<Option<Digest>, StoreError> {
        let bytes = blob::read_whole(&*self.disk, digest, size)?;
        if Hasher::digest(digest.algorithm(), &bytes) != *digest {
            return Err(StoreError::Damaged(digest.clone()));
        }
        Manifest::subject_of(&bytes).map_err(|_| StoreError::Damaged(digest.clone()))
    }

    /// Returns the bytes of the index under the fallback tag; empty if there is no such index.
    fn fallback_list(&self, repository: &RepositoryName, subject: &Digest) -> Result<Bytes, StoreError> {
        let Some(entry) = self.fallback_index(repository, subject)? else { return Ok(Bytes::new()) };
        blob::read_whole(&*self.disk, &entry.digest, entry.size)
    }

    /// Returns the index under the fallback tag, if there is one.
    pub(super) fn fallback_index(
        &self,
        repository: &RepositoryName,
        subject: &Digest,
    ) -> Result<Option<ManifestEntry>, StoreError> {
        let Ok(tag) = subject.fallback_tag().parse() else { return Ok(None) };
        let entry = self.index.manifest(repository, &Reference::Tag(tag))?;
        Ok(entry.filter(|entry| entry.media_type.is_index()))
    }
}

/// A query for referrers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ReferrersQuery {
    /// The digest after which the page begins.
    pub last: Option<Digest>,
    /// The artifact type to which the list is limited.
    pub artifact_type: Option<String>,
    /// The maximum number of entries of the index under the fallback tag that are read.
    pub limit: usize,
}

impl ReferrersQuery {
    fn matches(&self, listed: &ListedDescriptor) -> bool {
        self.artifact_type.is_none() || listed.artifact_type() == self.artifact_type.as_deref()
    }

    /// Merges the referrers in the index of the store with those in the index under the fallback tag. Both lists are
    /// read in the order of their digests; where one of them ends early, entries of the other after that point are for
    /// the next page.
    fn page(
        &self,
        inner: &Inner,
        (repository, subject): (&RepositoryName, &Digest),
        cancel: &Cancel,
    ) -> Result<Referrers, StoreError> {
        let mut own = PageBuilder::default();
        let mut visit = |listed: ListedDescriptor<'_>| {
            if self.matches(&listed) { own.add(listed) } else { ControlFlow::Continue(()) }
        };
        let last = self.last.as_ref();
        let mut next = inner.index.referrers((repository, subject), last, cancel, &mut visit)?;
        let mut items = own.items;
        let bytes = inner.fallback_list(repository, subject)?;
        let mut fallback = PageBuilder::default();
        let mut end = None;
        for (digest, listed) in referrers_of_index(&bytes, self.limit) {
            cancel.check()?;
            let earlier = last.is_some_and(|last| digest <= *last);
            if earlier || !self.matches(&listed) {
                continue;
            }
            if next.as_ref().is_some_and(|next| digest > *next) {
                break;
            }
            // A manifest with a subject field of its own is in the first list, or refers to another manifest.
            if inner.index.is_only_listed(repository, subject, &digest)? && fallback.add(listed).is_break() {
                next = end;
                break;
            }
            end = Some(digest);
        }
        items.extend(fallback.items);
        let fits = |digest: &Digest| next.as_ref().is_none_or(|next| digest <= next);
        items.retain(|digest, _| fits(digest));
        Ok(Referrers { items: items.into_values().collect(), next })
    }
}

/// The descriptors of a page, within its limits.
#[derive(Default)]
struct PageBuilder {
    items: BTreeMap<Digest, Descriptor>,
    bytes: usize,
}

impl PageBuilder {
    /// Adds a descriptor, or breaks if the page is full. A page takes at least one descriptor, however long.
    fn add(&mut self, listed: ListedDescriptor<'_>) -> ControlFlow<()> {
        let bytes = self.bytes + listed.length();
        if self.items.len() == PAGE_ITEMS || (bytes > PAGE_BYTES && !self.items.is_empty()) {
            return ControlFlow::Break(());
        }
        self.bytes = bytes;
        self.items.insert(listed.digest().clone(), listed.into_descriptor());
        ControlFlow::Continue(())
    }
}
