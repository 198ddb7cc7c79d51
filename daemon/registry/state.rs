//! The state of the registry for health checks and metrics. It comes from memory, so that a hanging disk does not delay
//! it.

use super::Registry;
use crate::metrics::{Job, StoreState};
use crate::store::{Impairment, JobState};

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

    /// Returns the state of the store for the metrics; `None` before the first measurement.
    pub fn store_state(&self) -> Option<StoreState> {
        let (measured, jobs) = (self.store.measured()?, self.store.jobs());
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
            collection: job(jobs.collection),
            check: job(jobs.check),
            freed_bytes: jobs.freed_bytes,
            faults: jobs.faults,
        })
    }
}

fn job(state: JobState) -> Job {
    Job { succeeded: state.succeeded, failures: state.failures, is_running: state.is_running }
}
