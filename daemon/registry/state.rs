//! The state of the registry for health checks and metrics. It comes from memory, so that a hanging disk does not delay
//! it.

use super::Registry;
use crate::metrics::StoreState;
use crate::store::Impairment;

impl Registry {
    /// Returns the body of `/healthz`, or of `/readyz` if `ready` is true, for an impaired registry; `None` for a
    /// healthy one.
    pub fn impairment(&self, ready: bool) -> Option<&'static str> {
        match self.store.impairment()? {
            Impairment::ReadOnly => Some("read-only"),
            Impairment::Hanging => Some("hanging"),
            // A full registry still serves pulls, and a restart does not help: only `/readyz` reports it.
            Impairment::Full => ready.then_some("full"),
        }
    }

    /// Returns the number of committed events since the start, by their kind.
    pub fn event_counts(&self) -> Vec<(&'static str, u64)> {
        self.store.event_counts().into_iter().map(|(kind, count)| (kind.name(), count)).collect()
    }

    /// Returns the state of the store for the metrics; `None` before the first measurement.
    pub fn store_state(&self) -> Option<StoreState> {
        let (measured, totals) = (self.store.measured()?, self.store.maintenance_totals());
        let impairment = self.store.impairment();
        Some(StoreState {
            repositories: measured.counts.repositories,
            tags: measured.counts.tags,
            manifests: measured.counts.manifests,
            blobs: measured.counts.blobs,
            blob_bytes: measured.counts.bytes,
            uploads: measured.uploads,
            disk_free: measured.free_bytes,
            disk_total: measured.total_bytes,
            index: measured.index,
            read_only: impairment == Some(Impairment::ReadOnly),
            hanging: impairment == Some(Impairment::Hanging),
            full: measured.full,
            freed_bytes: totals.freed_bytes,
            faults: totals.faults,
        })
    }
}
