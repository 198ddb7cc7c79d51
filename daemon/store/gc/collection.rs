//! State of one run of a collection.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use super::report::{CollectedItem, CollectionReport};
use super::stop::StopRequest;
use super::waiting::WaitingContent;
use crate::base::Lock;
use crate::base::clock::unix_seconds;
use crate::store::error::StoreError;
use crate::store::index::changes::blob_candidates::NoteFullCollection;
use crate::store::index::tables::candidates::{Amount, Remaining};
use crate::store::index::tables::forecast::Forecast;
use crate::store::index::{Counts, Index};
use crate::store::retention::{CollectionPolicy, RetentionRule};
use crate::store::verify::Share;
use crate::store::{Store, blocking};

/// The number of rows in one read of the index.
pub(in crate::store) const ROWS_PER_READ: usize = 1000;
/// The number of items in one transaction: other changes wait for it.
pub(in crate::store) const ITEMS_PER_TRANSACTION: usize = 32;

/// The waiting manifests up to which their layers are counted as well.
const MANIFESTS_IN_PREVIEW: u64 = 10_000;

/// A run of a collection, or a dry run.
#[expect(clippy::struct_excessive_bools, reason = "each is a state of its own")]
pub(in crate::store) struct Collection<'a> {
    pub(in crate::store) store: &'a Store,
    pub(super) policy: &'a CollectionPolicy,
    pub(in crate::store) dry_run: bool,
    pub(in crate::store) observe: &'a mut (dyn FnMut(CollectedItem) + Send),
    pub(in crate::store) report: CollectionReport,
    /// True if this run looks at all content; otherwise at the content of which changes have noted that nothing may need it.
    pub(super) is_full: bool,
    /// True if this run has left out something that only a full one finds.
    pub(super) is_partial: bool,
    /// The remaining times of what waits for its grace period.
    pub(super) remaining: Remaining,
    /// True for a look at what waits; see [`Collection::preview`].
    pub(super) is_preview: bool,
    /// True if this run has seen manifests that are not due yet.
    pub(super) waiting: bool,
    pub(super) stop: StopRequest<'a>,
    share: Share,
    /// True once this run has verified the index.
    verified: bool,
    /// The changes that a dry run would have made; empty otherwise.
    forecast: Arc<Lock<Forecast>>,
}

impl<'a> Collection<'a> {
    /// Begins a run. Counts all content, so that the run can compute the share that it frees.
    pub(super) fn new(
        store: &'a Store,
        policy: &'a CollectionPolicy,
        (dry_run, stop): (bool, StopRequest<'a>),
        observe: &'a mut (dyn FnMut(CollectedItem) + Send),
    ) -> Result<Self, StoreError> {
        let counts = store.0.index.counts()?;
        let is_full = policy.full || store.0.index.needs_full_collection()?;
        Ok(Collection {
            store,
            policy,
            dry_run,
            observe,
            report: CollectionReport {
                dry_run,
                repositories: counts.repositories,
                ..CollectionReport::default()
            },
            is_full,
            is_partial: false,
            remaining: Remaining::default(),
            is_preview: false,
            waiting: false,
            stop,
            share: Share::of(counts.blobs.saturating_add(counts.manifests)),
            verified: false,
            forecast: Arc::default(),
        })
    }

    /// Frees all that is due.
    pub(super) async fn run(&mut self) -> Result<(), StoreError> {
        self.run_on_index().await?;
        self.count_needed()?;
        if self.is_full {
            self.link_exceptions().await?;
            self.sparse_marks().await?;
        }
        if self.is_full || self.store.0.may_have_unknown_files.load(Ordering::Relaxed) {
            self.unknown_files().await?;
        }
        self.uploads().await?;
        self.note_full().await?;
        self.note_waiting().await;
        Ok(())
    }

    /// Counts the files that manifests need: those that were neither freed nor wait.
    fn count_needed(&mut self) -> Result<(), StoreError> {
        let Counts { blobs, bytes, .. } = self.store.0.index.counts()?;
        let freed = if self.dry_run { self.report.freed_blobs } else { Amount::default() };
        let other = |freed: u64, young: u64| freed.saturating_add(young);
        self.report.kept_needed = Amount {
            count: blobs.saturating_sub(other(freed.count, self.report.kept_young.count)),
            bytes: bytes.saturating_sub(other(freed.bytes, self.report.kept_young.bytes)),
        };
        Ok(())
    }

    /// Notes that a full collection is complete: the next ones look at what changes note from now on.
    async fn note_full(&mut self) -> Result<(), StoreError> {
        if !self.is_full || self.dry_run || self.is_partial {
            return Ok(());
        }
        self.safe_point().await?;
        match self.store.writer()?.submit(NoteFullCollection).await {
            // The next collection is a full one again.
            Err(error) if error.is_lack_of_space() => Ok(()),
            noted => {
                self.is_full = false;
                noted
            }
        }
    }

    /// Notes in the report what waits for the end of its grace period.
    pub(super) async fn note_waiting(&mut self) {
        let mut waiting = WaitingContent { blobs: self.report.kept_young, ..self.report.waiting };
        // The forecast is in memory.
        let mut counted = None;
        if (1..=MANIFESTS_IN_PREVIEW).contains(&waiting.manifests) {
            match self.preview().await {
                Ok(later) => {
                    // A dry run leaves in place what it would free.
                    let now = if self.dry_run { self.report.freed_blobs } else { Amount::default() };
                    let blobs = Amount {
                        count: later.freed_blobs.count.saturating_sub(now.count),
                        bytes: later.freed_blobs.bytes.saturating_sub(now.bytes),
                    };
                    counted = Some((later.freed_manifests, blobs));
                }
                // The collection itself is complete.
                Err(error) => log::debug!("the layers of what waits are not counted: {error}"),
            }
        }
        waiting.set_counted(counted);
        waiting.set_times(self.remaining, unix_seconds());
        self.report.waiting = waiting;
    }

    /// Returns what a collection without grace periods would free after this one.
    async fn preview(&mut self) -> Result<CollectionReport, StoreError> {
        let at_once = |rule: &RetentionRule| RetentionRule {
            untagged: rule.untagged.map(|_| Duration::ZERO),
            ..rule.clone()
        };
        let policy = CollectionPolicy {
            grace: Duration::ZERO,
            retention: self.policy.retention.iter().map(at_once).collect(),
            ..self.policy.clone()
        };
        let mut ignore = |_| {};
        let mut later = Collection::new(self.store, &policy, (true, StopRequest::never()), &mut ignore)?;
        later.is_preview = true;
        later.is_full = self.is_full;
        later.forecast = Arc::clone(&self.forecast);
        self.stop.stoppable(later.run_on_index()).await?;
        Ok(later.report)
    }

    /// Frees the manifests and blobs of the index that are due.
    pub(super) async fn run_on_index(&mut self) -> Result<(), StoreError> {
        self.repositories().await?;
        self.blobs().await
    }

    /// Passes a safe point: fails if the run has to stop. Before each read of the index, and before each transaction.
    pub(in crate::store) async fn safe_point(&mut self) -> Result<(), StoreError> {
        self.stop.safe_point().await
    }

    /// Runs a long step that changes nothing, which a stop ends at once.
    pub(in crate::store) async fn stoppable<T>(
        &mut self,
        step: impl Future<Output = Result<T, StoreError>>,
    ) -> Result<T, StoreError> {
        self.stop.stoppable(step).await
    }

    /// Reads the index together with the forecast, on a blocking thread. A dry run notes its changes in the forecast.
    pub(in crate::store) async fn read_with_forecast<T: Send + 'static>(
        &mut self,
        read: impl FnOnce(&Index, &mut Forecast) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        self.safe_point().await?;
        let (index, forecast) = (Arc::clone(&self.store.0.index), Arc::clone(&self.forecast));
        blocking(move || read(&index, &mut forecast.lock())).await
    }

    /// Verifies the index before `count` items are freed: once per process, and again before this run frees a large
    /// share of all content. Content is freed because rows are absent, and the loss of rows to damage is not noticed
    /// otherwise.
    pub(super) async fn verify_before_sweep(&mut self, count: usize) -> Result<(), StoreError> {
        self.safe_point().await?;
        if self.is_preview {
            return Ok(());
        }
        let is_large = self.share.take(count as u64);
        let is_due = !self.store.index_is_verified() || (is_large && !self.verified);
        if count > 0 && is_due {
            let store = self.store;
            self.stoppable(store.verify_index()).await?;
            self.verified = true;
        }
        Ok(())
    }
}
