//! The state of the store in memory, for health checks and metrics, which must not wait for the disk: measured every few
//! seconds in the pool of reads, and the outcome of collections and checks of this process.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

use arc_swap::ArcSwapOption;

use super::Store;
use super::error::StoreError;
use super::index::Counts;
use super::room::Space;
use super::work::Kind;

/// What a measurement found.
#[derive(Clone, Copy, Debug)]
pub struct Measured {
    /// How much content there is.
    pub counts: Counts,
    /// Unfinished uploads.
    pub uploads: u64,
    /// The size of the file system, in bytes.
    pub total_bytes: u64,
    /// Free bytes of it.
    pub free_bytes: u64,
    /// How many bytes the index uses, and how many pushes may use.
    pub index: (u64, u64),
    /// Whether a push would be refused because of the reserve, the quota or a full index.
    pub full: bool,
}

/// A job of this process: the collection or the check.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct JobState {
    /// When it last succeeded, in seconds since 1970.
    pub succeeded: Option<u64>,
    /// Failures since then.
    pub failures: u64,
    /// Whether it runs.
    pub is_running: bool,
}

/// The jobs of this process.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct JobStates {
    /// The collection.
    pub collection: JobState,
    /// The check.
    pub check: JobState,
    /// The bytes that collections have freed.
    pub freed_bytes: u64,
    /// The faults that the last check found.
    pub faults: Option<u64>,
}

/// Why the store does not do all of its work.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Impairment {
    /// The disk failed, and nothing is written any more.
    ReadOnly,
    /// The disk has not answered for several seconds.
    Hanging,
    /// Pushes are refused for lack of room.
    Full,
}

/// What is kept in memory.
#[derive(Default)]
pub(super) struct Measurements {
    last: ArcSwapOption<Measured>,
    jobs: Mutex<JobStates>,
    collections: AtomicUsize,
    checks: AtomicUsize,
}

/// A job while it runs.
pub(super) struct Running<'a>(&'a AtomicUsize);

impl Measurements {
    pub(super) fn collection_begins(&self) -> Running<'_> {
        Running::new(&self.collections)
    }

    pub(super) fn check_begins(&self) -> Running<'_> {
        Running::new(&self.checks)
    }

    /// Changes what is known of the jobs.
    pub(super) fn note(&self, change: impl FnOnce(&mut JobStates)) {
        change(&mut self.jobs.lock().unwrap_or_else(PoisonError::into_inner));
    }

    fn jobs(&self) -> JobStates {
        let mut jobs = *self.jobs.lock().unwrap_or_else(PoisonError::into_inner);
        jobs.collection.is_running = self.collections.load(Ordering::Relaxed) > 0;
        jobs.check.is_running = self.checks.load(Ordering::Relaxed) > 0;
        jobs
    }
}

impl JobState {
    /// Notes how a job ended. That the daemon stops is no failure.
    pub(super) fn end(&mut self, error: Option<&StoreError>) {
        match error {
            None => {
                self.succeeded = Some(super::seconds_since_1970());
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

impl Store {
    /// Measures the store and its disk, and keeps the outcome for [`Store::measured`].
    ///
    /// # Errors
    /// [`StoreError::Index`] or [`StoreError::Io`].
    pub async fn measure(&self) -> Result<(), StoreError> {
        let inner = Arc::clone(&self.0);
        let measure = move || {
            let _read = inner.disk.reads();
            let space = Space::of(&inner.disk.top(""))?;
            let index = inner.index.fill()?;
            let full = match inner.room.check(1) {
                Ok(()) => index.0 >= index.1,
                Err(StoreError::Full | StoreError::Quota) => true,
                Err(error) => return Err(error),
            };
            inner.measurements.last.store(Some(Arc::new(Measured {
                counts: inner.index.counts()?,
                uploads: inner.disk.upload_count(),
                total_bytes: space.total,
                free_bytes: space.free,
                index,
                full,
            })));
            Ok(())
        };
        self.0.work.run(Kind::Read, measure).await
    }

    /// Returns the last measurement; waits for nothing.
    pub fn measured(&self) -> Option<Measured> {
        self.0.measurements.last.load().as_deref().copied()
    }

    /// Returns the jobs of this process; waits for nothing.
    pub fn jobs(&self) -> JobStates {
        self.0.measurements.jobs()
    }

    /// Returns why the store does not do all of its work, if that is so; waits for nothing.
    pub fn impairment(&self) -> Option<Impairment> {
        if self.0.disk.check_writable().is_err() {
            return Some(Impairment::ReadOnly);
        }
        if self.0.disk.delay().warning().is_some() {
            return Some(Impairment::Hanging);
        }
        self.measured().filter(|measured| measured.full).map(|_| Impairment::Full)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_job_counts_its_failures_until_it_succeeds() {
        let measurements = Measurements::default();
        let running = measurements.collection_begins();
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
