//! State of one run of a collection.

use std::sync::Arc;

use super::report::{CollectedItem, CollectionReport};
use super::stop::StopRequest;
use crate::base::Lock;
use crate::store::error::StoreError;
use crate::store::index::Index;
use crate::store::index::tables::forecast::Forecast;
use crate::store::retention::CollectionPolicy;
use crate::store::verify::Share;
use crate::store::{Store, blocking};

/// The number of rows in one read of the index.
pub(in crate::store) const ROWS_PER_READ: usize = 1000;
/// The number of items in one transaction: other changes wait for it.
pub(in crate::store) const ITEMS_PER_TRANSACTION: usize = 32;

/// A run of a collection, or a dry run.
pub(in crate::store) struct Collection<'a> {
    pub(in crate::store) store: &'a Store,
    pub(super) policy: &'a CollectionPolicy,
    pub(in crate::store) dry_run: bool,
    pub(in crate::store) observe: &'a mut (dyn FnMut(CollectedItem) + Send),
    pub(in crate::store) report: CollectionReport,
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
        Ok(Collection {
            store,
            policy,
            dry_run,
            observe,
            report: CollectionReport { dry_run, ..CollectionReport::default() },
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
        self.link_exceptions().await?;
        self.sparse_marks().await?;
        self.unknown_files().await?;
        self.uploads().await
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
