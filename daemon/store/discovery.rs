//! Discovery: lists of tags, repositories and referrers, a page at a time.

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::sync::Arc;

use bytes::Bytes;

use super::error::StoreError;
use super::index::{ManifestEntry, Page, PartEnd, RepositoryPart};
use super::work::{Cancel, Kind};
use super::{Inner, Store, blob, blocking};
use crate::oci::{
    Descriptor, Digest, Hasher, Listed, Manifest, Reference, RepositoryName, Tag, referrers_of_index,
};

/// How much one answer has of each of the two lists of referrers, in descriptors and in bytes. An answer is in memory until
/// its client has taken it, and every connection may have one.
const REFERRERS_PAGE: (usize, usize) = (1000, 64 << 10);
/// How many repositories that a user may not see are passed over at once.
const ROWS_AT_ONCE: usize = 5000;

/// A page of referrers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Referrers {
    /// The descriptors, in the order of their digests. There may be none though the list goes on.
    pub items: Vec<Descriptor>,
    /// The digest after which the next page begins, if the list goes on.
    pub next: Option<Digest>,
}

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
        let tags = move || {
            store.check_exists(&repository)?;
            store.0.index.tags(&repository, last.as_deref(), limit)
        };
        self.0.work.run(Kind::Read, tags).await
    }

    /// A page of the repositories that have a manifest and that `wanted` lets through, after `last`.
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
            // After each part another request has its turn, and one whose client has disconnected ends.
            let (wanted, after, limit) = (Arc::clone(&wanted), last, limit - page.items.len());
            let part = self.list(Kind::List, move |inner, _| {
                inner.index.repositories(after.as_deref(), (limit, ROWS_AT_ONCE), &*wanted)
            });
            let RepositoryPart { items, end } = part.await?;
            page.items.extend(items);
            match end {
                PartEnd::Complete => return Ok(page),
                PartEnd::Full => return Ok(Page { more: true, ..page }),
                PartEnd::After(name) => last = Some(name.to_string()),
            }
        }
    }

    /// A page of all repositories that have a manifest, for long jobs, which take no place from requests.
    pub(super) async fn all_repositories(
        &self,
        last: Option<String>,
        limit: usize,
    ) -> Result<Page<RepositoryName>, StoreError> {
        let index = Arc::clone(&self.0.index);
        let part =
            blocking(move || index.repositories(last.as_deref(), (limit, usize::MAX), &|_| true)).await?;
        Ok(Page { items: part.items, more: matches!(part.end, PartEnd::Full) })
    }

    /// A page of the manifests in a repository whose subject is `subject`. The descriptors that clients keep under the
    /// referrers tag are among them.
    ///
    /// # Errors
    /// [`StoreError::Index`]; an unknown repository has no referrers and is no error.
    pub async fn referrers(
        &self,
        repository: &RepositoryName,
        subject: &Digest,
        query: ReferrersQuery,
    ) -> Result<Referrers, StoreError> {
        let (repository, subject) = (repository.clone(), subject.clone());
        self.list(Kind::List, move |inner, cancel| query.page(inner, (&repository, &subject), cancel)).await
    }

    /// Returns what the manifest says that it is about, by its bytes; an error if these cannot be read.
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
    /// Returns what a manifest is about; an error if its bytes cannot be read or are not those of its digest.
    pub(super) fn read_subject(&self, digest: &Digest, size: u64) -> Result<Option<Digest>, StoreError> {
        let bytes = blob::read_whole(&self.disk, digest, size)?;
        if Hasher::digest(digest.algorithm(), &bytes) != *digest {
            return Err(StoreError::Damaged(digest.clone()));
        }
        Manifest::subject_of(&bytes).map_err(|_| StoreError::Damaged(digest.clone()))
    }

    /// The bytes of the index under the referrers tag; none if there is no such index.
    fn fallback_list(&self, repository: &RepositoryName, subject: &Digest) -> Result<Bytes, StoreError> {
        let Some(entry) = self.fallback_index(repository, subject)? else { return Ok(Bytes::new()) };
        blob::read_whole(&self.disk, &entry.digest, entry.size)
    }

    /// The index under the referrers tag, if there is one.
    pub(super) fn fallback_index(
        &self,
        repository: &RepositoryName,
        subject: &Digest,
    ) -> Result<Option<ManifestEntry>, StoreError> {
        let Ok(tag) = subject.referrers_tag().parse() else { return Ok(None) };
        let entry = self.index.manifest(repository, &Reference::Tag(tag))?;
        Ok(entry.filter(|entry| entry.media_type.is_index()))
    }
}

/// Which referrers a client asks for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ReferrersQuery {
    /// The page begins after this digest.
    pub last: Option<Digest>,
    /// The artifact type, if only one is asked for.
    pub artifact_type: Option<String>,
    /// How many entries of a list under the referrers tag are read.
    pub limit: usize,
}

impl ReferrersQuery {
    fn wants(&self, listed: &Listed) -> bool {
        self.artifact_type.is_none() || listed.artifact_type() == self.artifact_type.as_deref()
    }

    /// Collects a page of the manifests that name `subject` and of those that a client listed under the referrers tag.
    /// Both are read in the order of their digests, so that what lies behind the end of one is for the next page.
    fn page(
        &self,
        inner: &Inner,
        (repository, subject): (&RepositoryName, &Digest),
        cancel: &Cancel,
    ) -> Result<Referrers, StoreError> {
        let mut own = Filling::default();
        let mut visit = |listed: Listed<'_>| {
            if self.wants(&listed) { own.add(listed) } else { ControlFlow::Continue(()) }
        };
        let last = self.last.as_ref();
        let mut next = inner.index.referrers((repository, subject), last, cancel, &mut visit)?;
        let mut items = own.items;
        let bytes = inner.fallback_list(repository, subject)?;
        let mut fallback = Filling::default();
        let mut end = None;
        for (digest, listed) in referrers_of_index(&bytes, self.limit) {
            cancel.check()?;
            let earlier = last.is_some_and(|last| digest <= *last);
            if earlier || !self.wants(&listed) {
                continue;
            }
            if next.as_ref().is_some_and(|next| digest > *next) {
                break;
            }
            // An entry that says itself what it is about is listed already, or is about something else.
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

/// Referrers that fill a page.
#[derive(Default)]
struct Filling {
    items: BTreeMap<Digest, Descriptor>,
    bytes: usize,
}

impl Filling {
    /// Takes a descriptor, unless the page is full.
    fn add(&mut self, listed: Listed<'_>) -> ControlFlow<()> {
        let bytes = self.bytes + listed.length();
        let (most, largest) = REFERRERS_PAGE;
        if self.items.len() == most || (bytes > largest && !self.items.is_empty()) {
            return ControlFlow::Break(());
        }
        self.bytes = bytes;
        self.items.insert(listed.digest().clone(), listed.complete());
        ControlFlow::Continue(())
    }
}
