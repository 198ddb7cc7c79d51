//! The state of the registry, from memory: for health checks and metrics.

use super::Registry;
use crate::metrics::{Job, StoreState};
use crate::store::{Impairment, JobState};

impl Registry {
    /// Returns the word of `/healthz`, or of `/readyz` if `ready` is true, for a registry that does not do all of its work.
    pub fn impairment(&self, ready: bool) -> Option<&'static str> {
        match self.store.impairment()? {
            Impairment::ReadOnly => Some("read-only"),
            Impairment::Hanging => Some("hanging"),
            Impairment::Full => ready.then_some("full"),
        }
    }

    /// Returns the state of the store for the metrics, once it was measured.
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
