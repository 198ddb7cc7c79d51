//! The manifests of a repository without a tag: the reason why each is kept, and until when.

use super::Store;
use super::error::StoreError;
use super::index::ManifestEntry;
use super::index::tables::untagged::UntaggedManifest;
use super::listing::{ListPage, TotalSize};
use super::work::Kind;
use crate::base::clock::unix_seconds;
use crate::oci::{Digest, ManifestView, RepositoryName};

/// The maximum number of rows that are read to add up the sizes on one page.
const SIZE_ROWS: usize = 100_000;

/// A manifest without a tag, in a list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Untagged {
    /// The manifest.
    pub entry: ManifestEntry,
    /// The length of the manifest and all content that it references.
    pub size: TotalSize,
    /// The reason why it is kept.
    pub kept: KeptUntagged,
}

/// The reason why a manifest without a tag is kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum KeptUntagged {
    /// An index of the repository references it.
    PartOf(Digest),
    /// It is attached to a manifest of the repository.
    AttachedTo(Digest),
    /// A delete or a retention rule leaves it to a collection after this time, in seconds since 1970.
    Until(u64),
    /// No rule removes it.
    Always,
}

impl Store {
    /// Returns the manifests without a tag on a page of `limit`, counted from zero, the newest first.
    ///
    /// # Errors
    /// [`StoreError::NameUnknown`] when the repository has no manifest.
    pub async fn untagged(
        &self,
        repository: &RepositoryName,
        page: usize,
        limit: usize,
    ) -> Result<ListPage<Untagged>, StoreError> {
        let (store, repository, permit) =
            (self.clone(), repository.clone(), self.acquire_read_permit().await?);
        self.list(Kind::Page, move |inner, cancel| {
            let _permit = permit;
            store.check_exists(&repository)?;
            let part = (page.saturating_mul(limit), limit);
            let (found, total) = inner.index.untagged(&repository, part, cancel)?;
            let (mut rows, mut items) = (SIZE_ROWS, Vec::with_capacity(found.len()));
            for (manifest, age) in found {
                let size = inner.index.total_size(&repository, &manifest.entry.digest, &mut rows, cancel)?;
                let kept = store.kept(&repository, &manifest, age)?;
                items.push(Untagged { entry: manifest.entry, size, kept });
            }
            Ok(ListPage { items, total })
        })
        .await
    }

    fn kept(
        &self,
        repository: &RepositoryName,
        manifest: &UntaggedManifest,
        age: u64,
    ) -> Result<KeptUntagged, StoreError> {
        if let Some(parent) = &manifest.parent {
            return Ok(KeptUntagged::PartOf(parent.clone()));
        }
        let (grace, untagged) = self.0.grace_periods.lock().of(repository);
        let by_delete = manifest.by_delete.then_some(grace);
        // A manifest that cannot be read has no known subject.
        let bytes = self.read_for_page(&manifest.entry).unwrap_or_default().unwrap_or_default();
        if let Some(subject) = ManifestView::parse(&bytes).subject {
            let among = self.0.index.manifests_among(repository, std::slice::from_ref(&subject.digest))?;
            if !among.is_empty() {
                return Ok(KeptUntagged::AttachedTo(subject.digest));
            }
        }
        let periods = [by_delete, untagged].into_iter().flatten();
        Ok(periods.min().map_or(KeptUntagged::Always, |period| {
            KeptUntagged::Until(unix_seconds().saturating_add(period.as_secs().saturating_sub(age)))
        }))
    }
}
