//! The state of the store for health checks and metrics, kept in memory because they must not wait for the disk: the
//! last measurement, and the outcome of the collections and checks of this process.

use std::sync::atomic::{AtomicUsize, Ordering};

use arc_swap::ArcSwapOption;

use super::error::StoreError;
use super::index::Counts;
use crate::base::Lock;
use crate::base::clock::unix_seconds;

/// A measurement of the store and its disk.
#[derive(Clone, Copy, Debug)]
pub struct Measured {
    /// The stored content.
    pub counts: Counts,
    /// The number of unfinished uploads.
    pub uploads: u64,
    /// The size of the file system, in bytes.
    pub total_bytes: u64,
    /// The free space of the file system, in bytes.
    pub free_bytes: u64,
    /// The bytes that the index uses, and its limit for pushes.
    pub index: (u64, u64),
    /// True if a push would be refused for lack of space: reserve, quota or a full index.
    pub full: bool,
}

/// The state of a job of this process: the collection or the check.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct JobState {
    /// The end of the last run that succeeded, in seconds since 1970.
    pub succeeded: Option<u64>,
    /// The number of failures since then.
    pub failures: u64,
    /// True while it runs.
    pub is_running: bool,
}

/// The states of the jobs of this process.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct JobStates {
    /// The collection.
    pub collection: JobState,
    /// The check.
    pub check: JobState,
    /// The bytes that collections have freed.
    pub freed_bytes: u64,
    /// The number of faults that the last check found.
    pub faults: Option<u64>,
}

/// The reason why the store does not serve all requests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Impairment {
    /// The latch is closed: the disk failed, and nothing is written until a restart.
    ReadOnly,
    /// The disk has not answered for five seconds.
    Hanging,
    /// Pushes are refused for lack of space.
    Full,
}

/// The last measurement and the states of the jobs.
#[derive(Default)]
pub(super) struct Measurements {
    pub(super) last: ArcSwapOption<Measured>,
    jobs: Lock<JobStates>,
    collections: AtomicUsize,
    checks: AtomicUsize,
}

/// A running job; it ends on drop.
pub(super) struct Running<'a>(&'a AtomicUsize);

impl Measurements {
    pub(super) fn start_collection(&self) -> Running<'_> {
        Running::new(&self.collections)
    }

    pub(super) fn start_check(&self) -> Running<'_> {
        Running::new(&self.checks)
    }

    /// Changes the states of the jobs.
    pub(super) fn note(&self, change: impl FnOnce(&mut JobStates)) {
        change(&mut self.jobs.lock());
    }

    pub(super) fn jobs(&self) -> JobStates {
        let mut jobs = *self.jobs.lock();
        jobs.collection.is_running = self.collections.load(Ordering::Relaxed) > 0;
        jobs.check.is_running = self.checks.load(Ordering::Relaxed) > 0;
        jobs
    }
}

impl JobState {
    /// Records the end of a run. A run that the daemon's stop cancelled is not a failure.
    pub(super) fn end(&mut self, error: Option<&StoreError>) {
        match error {
            None => {
                self.succeeded = Some(unix_seconds());
                self.failures = 0;
            }
            Some(StoreError::Closing) => {}
            Some(_) => self.failures += 1,
        }
    }
}

impl<'a> Running<'a> {
    fn new(count: &'a AtomicUsize) -> Self {
        count.fetch_add(1, Ordering::Relaxed);
        Running(count)
    }
}

impl Drop for Running<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_job_counts_its_failures_until_it_succeeds() {
        let measurements = Measurements::default();
        let running = measurements.start_collection();
        measurements.note(|jobs| jobs.collection.end(Some(&StoreError::ReadOnly)));
        measurements.note(|jobs| jobs.collection.end(Some(&StoreError::Closing)));
        let state = measurements.jobs();
        assert_eq!((state.collection.failures, state.collection.is_running), (1, true));
        assert_eq!((state.collection.succeeded, state.check), (None, JobState::default()));
        drop(running);
        measurements.note(|jobs| jobs.collection.end(None));
        let state = measurements.jobs().collection;
        assert!(state.failures == 0 && !state.is_running && state.succeeded.is_some());
    }
}
