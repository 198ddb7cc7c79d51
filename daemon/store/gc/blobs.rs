//! Collection of blobs, of rows about them, and of files that the index does not have.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Instant;

use super::collection::{Collection, ITEMS_PER_TRANSACTION, ROWS_PER_READ};
use super::report::CollectedItem;
use crate::oci::{Algorithm, Digest};
use crate::store::blob_store::BlobStore;
use crate::store::error::StoreError;
use crate::store::index::Index;
use crate::store::index::changes::FileFact;
use crate::store::index::changes::blob_candidates::{NoteCandidates, SettleCandidates};
use crate::store::index::changes::link_exceptions::RemoveLinkExceptions;
use crate::store::index::changes::sweep::{AdoptBlobs, SweepBlobs, UnlinkStaleLinks};
use crate::store::index::tables::candidates::BlobCandidate;
use crate::store::index::tables::forecast::Forecast;
use crate::store::index::tables::link_exceptions::LinkException;
use crate::store::{Store, blocking};

impl Collection<'_> {
    /// Frees the blobs that no manifest references, and removes repositories' links to blobs that only others need.
    pub(super) async fn blobs(&mut self) -> Result<(), StoreError> {
        self.store.0.leases.expire(Instant::now());
        let (mut after, grace) = (None, self.policy.grace);
        loop {
            let is_full = self.is_full;
            let page = move |index: &Index, forecast: &mut Forecast| {
                index.blob_page(after.as_deref(), is_full, (ROWS_PER_READ, grace), forecast)
            };
            let page = self.read_with_forecast(page).await?;
            self.is_partial |= page.is_partial;
            self.report.kept_young.add_all(page.leased);
            self.remaining.add_all(page.remaining);
            for part in page.orphans.chunks(ITEMS_PER_TRANSACTION) {
                self.sweep_blobs(part.to_vec()).await?;
            }
            if !self.dry_run {
                for part in page.stale_links.chunks(ITEMS_PER_TRANSACTION) {
                    self.verify_before_sweep(part.len()).await?;
                    let forget = |part: &[_]| UnlinkStaleLinks { links: part.to_vec(), grace };
                    self.store.change(part.to_vec(), forget).await?;
                }
                self.settle_candidates(&page.settled).await?;
                if is_full {
                    // Links that a client has renewed meanwhile wait.
                    let links = page.stale_links.into_iter();
                    let links = links.map(|(digest, name)| BlobCandidate { digest, repository: Some(name) });
                    self.note_candidates(page.waiting.into_iter().chain(links).collect(), page.orphans)
                        .await?;
                }
            }
            if page.next.is_none() {
                return Ok(());
            }
            after = page.next;
        }
    }

    /// Removes the rows of candidates that are none.
    async fn settle_candidates(&mut self, settled: &[BlobCandidate]) -> Result<(), StoreError> {
        for part in settled.chunks(ITEMS_PER_TRANSACTION) {
            self.safe_point().await?;
            self.store.change(part.to_vec(), |part| SettleCandidates(part.to_vec())).await?;
        }
        Ok(())
    }

    /// Notes the candidates of a page of all blobs: those that wait, and orphans that are still there.
    async fn note_candidates(
        &mut self,
        mut candidates: Vec<BlobCandidate>,
        orphans: Vec<(Digest, u64)>,
    ) -> Result<(), StoreError> {
        let index = Arc::clone(&self.store.0.index);
        let left = blocking(move || {
            for (digest, _) in orphans {
                if index.contains_blob(&digest)? {
                    candidates.append(&mut index.candidates_of(&digest)?);
                }
            }
            Ok(candidates)
        });
        for part in left.await?.chunks(ITEMS_PER_TRANSACTION) {
            self.safe_point().await?;
            match self.store.writer()?.submit(NoteCandidates(part.to_vec())).await {
                Err(error) if error.is_lack_of_space() => self.is_partial = true,
                noted => noted?,
            }
        }
        Ok(())
    }

    async fn sweep_blobs(&mut self, blobs: Vec<(Digest, u64)>) -> Result<(), StoreError> {
        let (grace, leases) = (self.policy.grace, Arc::clone(&self.store.0.leases));
        // What open imports and exports need stays, whatever its age.
        let (spared, blobs): (Vec<_>, Vec<_>) =
            blobs.into_iter().partition(|(digest, _)| leases.contains(digest));
        for (_, bytes) in spared {
            self.report.kept_young.add(bytes);
        }
        self.verify_before_sweep(blobs.len()).await?;
        let taken = if self.dry_run {
            blobs
        } else {
            let sweep = |part: &[_]| SweepBlobs { blobs: part.to_vec(), grace, leases: Arc::clone(&leases) };
            self.store.sweep_items(blobs, sweep).await?
        };
        for (digest, bytes) in taken {
            self.report.freed_blobs.add(bytes);
            (self.observe)(CollectedItem::Blob { digest, bytes });
        }
        Ok(())
    }

    /// Removes the link exceptions whose blob no manifest of the repository references.
    pub(super) async fn link_exceptions(&mut self) -> Result<(), StoreError> {
        if self.dry_run {
            return Ok(());
        }
        let mut after = None;
        loop {
            let (index, last) = (Arc::clone(&self.store.0.index), after.take());
            let page = blocking(move || index.link_exceptions_after(last.as_ref(), ROWS_PER_READ)).await?;
            for part in page.chunks(ITEMS_PER_TRANSACTION) {
                self.safe_point().await?;
                let forget = |part: &[LinkException]| RemoveLinkExceptions(part.to_vec());
                self.store.change(part.to_vec(), forget).await?;
            }
            after = page.into_iter().next_back();
            if after.is_none() {
                return Ok(());
            }
        }
    }

    /// Indexes the files in `blobs/` that the index does not have, such as those that a power cut leaves. They get a
    /// grace period; without one they are freed at once.
    pub(super) async fn unknown_files(&mut self) -> Result<(), StoreError> {
        for algorithm in Algorithm::ALL {
            let store = self.store.clone();
            let unknown = self.stoppable(blocking(move || store.unknown_files(algorithm))).await?;
            for part in unknown.chunks(ITEMS_PER_TRANSACTION) {
                self.safe_point().await?;
                let found = if self.dry_run {
                    part.to_vec()
                } else {
                    let files = part.iter().map(|(digest, _)| FileFact::about(digest.clone())).collect();
                    match self.store.writer()?.submit(AdoptBlobs(files)).await {
                        Err(error) if error.is_lack_of_space() => Vec::new(),
                        found => found?,
                    }
                };
                self.report.found += found.len() as u64;
                if self.policy.grace.is_zero() {
                    self.sweep_blobs(found).await?;
                }
            }
        }
        if !self.dry_run {
            self.store.0.may_have_unknown_files.store(false, Ordering::Relaxed);
        }
        Ok(())
    }
}

impl Store {
    /// Returns the files in `blobs/` that the index does not have, with their lengths.
    pub(in crate::store) fn unknown_files(
        &self,
        algorithm: Algorithm,
    ) -> Result<Vec<(Digest, u64)>, StoreError> {
        let mut unknown = Vec::new();
        for digest in self.0.disk.list(algorithm)? {
            let digest = digest?;
            if !self.0.index.contains_blob(&digest)? {
                let length = self.0.disk.blob_length(&digest)?;
                unknown.extend(length.map(|length| (digest, length)));
            }
        }
        Ok(unknown)
    }
}
