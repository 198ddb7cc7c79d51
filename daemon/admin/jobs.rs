//! Collections and checks that were started on the page: one at a time, in the background, with progress.

use std::sync::Arc;

use super::format::freed;
use crate::base::human::{count, size};
use crate::base::{Lock, clock};
use crate::store::{
    CheckEvent, CheckOptions, CheckProgress, CheckReport, CollectedItem, CollectionPolicy, Fault, Store,
    StoreError,
};

/// The faults of a check that are kept; `holdfast check` prints all.
const FAULTS: usize = 100;

/// The kind of a job.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Work {
    Collection,
    Check,
}

/// A collection or a check, running or finished.
#[derive(Clone)]
pub(super) struct Job {
    pub(super) work: Work,
    /// The user who started it.
    pub(super) user: String,
    /// Start and end, in seconds since 1970.
    pub(super) started: u64,
    pub(super) finished: Option<u64>,
    /// The number of items that a collection has freed so far, and their bytes.
    freed: (u64, u64),
    progress: CheckProgress,
    /// The faults that a check found, as sentences.
    pub(super) faults: Vec<String>,
    /// The number of faults that were not kept.
    pub(super) more_faults: usize,
    /// The result: whether it succeeded, and a sentence; none while the job runs.
    pub(super) outcome: Option<(bool, String)>,
}

/// The running job, or the last one.
#[derive(Default)]
pub(super) struct Jobs(Lock<Option<Job>>);

impl Job {
    /// Returns a job that starts now.
    pub(super) fn new(work: Work, user: String) -> Self {
        Job {
            work,
            user,
            started: clock::unix_seconds(),
            finished: None,
            freed: (0, 0),
            progress: CheckProgress::default(),
            faults: Vec::new(),
            more_faults: 0,
            outcome: None,
        }
    }

    /// Returns the progress in percent; a collection does not know how much there is to do.
    pub(super) fn percent(&self) -> Option<u64> {
        let CheckProgress { done, all } = self.progress;
        let is_known = self.work == Work::Check && all.bytes > 0 && self.outcome.is_none();
        is_known.then(|| {
            u64::try_from(u128::from(done.bytes) * 100 / u128::from(all.bytes)).unwrap_or(100).min(100)
        })
    }

    /// Describes the progress in a line.
    pub(super) fn describe_progress(&self) -> String {
        let CheckProgress { done, all } = self.progress;
        match self.work {
            Work::Collection => {
                format!("{} freed so far, {}", count(self.freed.0, "item"), size(self.freed.1))
            }
            Work::Check => format!(
                "{} of {}, {} of {} read",
                done.count,
                count(all.count, "blob"),
                size(done.bytes),
                size(all.bytes)
            ),
        }
    }

    fn note_freed(&mut self, item: &CollectedItem) {
        self.freed.0 += 1;
        self.freed.1 += match item {
            CollectedItem::Blob { bytes, .. } | CollectedItem::Upload { bytes, .. } => *bytes,
            CollectedItem::Tag { .. } | CollectedItem::Manifest { .. } => 0,
        };
    }

    fn note_event(&mut self, event: CheckEvent) {
        match event {
            CheckEvent::Progress(progress) => self.progress = progress,
            CheckEvent::Fault(fault, _) if self.faults.len() < FAULTS => self.faults.push(describe(&fault)),
            CheckEvent::Fault(..) => self.more_faults += 1,
        }
    }
}

impl Jobs {
    /// Returns the running job, or the last one.
    pub(super) fn last(&self) -> Option<Job> {
        self.0.lock().clone()
    }

    /// Returns true while a job runs.
    pub(super) fn is_running(&self) -> bool {
        self.0.lock().as_ref().is_some_and(|job| job.outcome.is_none())
    }

    /// Starts a collection. Returns false if a job is running.
    pub(super) fn collect(self: &Arc<Self>, store: Store, policy: CollectionPolicy, user: String) -> bool {
        let (is_started, jobs) = (self.start(Work::Collection, user), Arc::clone(self));
        if is_started {
            tokio::spawn(async move {
                let mut observe = |item: CollectedItem| jobs.update(|job| job.note_freed(&item));
                let result = store.collect(&policy, false, &mut observe).await;
                jobs.finish(result.map(|report| (true, freed(&report))));
            });
        }
        is_started
    }

    /// Starts a check, which reads at most `rate` bytes per second. Returns false if a job is running.
    pub(super) fn check(self: &Arc<Self>, store: Store, rate: Option<u64>, user: String) -> bool {
        let (is_started, jobs) = (self.start(Work::Check, user), Arc::clone(self));
        if is_started {
            tokio::spawn(async move {
                let mut observe = |event: CheckEvent| jobs.update(|job| job.note_event(event));
                let result = store.check(CheckOptions { rate, repair: false }, &mut observe).await;
                jobs.finish(result.map(|checked| (checked.faults == 0, summarise(&checked))));
            });
        }
        is_started
    }

    fn start(&self, work: Work, user: String) -> bool {
        let mut last = self.0.lock();
        if last.as_ref().is_some_and(|job| job.outcome.is_none()) {
            return false;
        }
        *last = Some(Job::new(work, user));
        true
    }

    fn update(&self, update: impl FnOnce(&mut Job)) {
        if let Some(job) = &mut *self.0.lock() {
            update(job);
        }
    }

    fn finish(&self, result: Result<(bool, String), StoreError>) {
        let outcome = result.unwrap_or_else(|error| (false, format!("Stopped: {error}.")));
        self.update(|job| {
            job.finished = Some(clock::unix_seconds());
            job.outcome = Some(outcome);
        });
    }
}

fn summarise(checked: &CheckReport) -> String {
    let read = format!("{}, {} read", count(checked.blobs.count, "blob"), size(checked.blobs.bytes));
    match checked.faults {
        0 => format!("No faults found: {read}."),
        faults => format!(
            "{} found; {read}. On the registry's machine, holdfast check --repair sets damaged content aside, so that the \
             next push replaces it.",
            count(faults, "fault")
        ),
    }
}

fn describe(fault: &Fault) -> String {
    match fault {
        Fault::Missing { digest } => format!("{digest} is missing on the disk"),
        Fault::Length { digest, indexed, actual } => {
            format!("{digest} has {actual} bytes, but {indexed} in the index")
        }
        Fault::Corrupt { digest, .. } => format!("{digest} is corrupt"),
        Fault::Unreadable { digest, error } => format!("{digest} cannot be read: {error}"),
        Fault::MalformedManifest { repository, digest } => {
            format!("{digest} in {repository} is not a valid manifest")
        }
        Fault::Incomplete { repository, digest, missing } => {
            format!("{digest} in {repository} references {missing}, which is missing")
        }
        Fault::Index => "rows of the index are missing or contradict each other".to_owned(),
        Fault::Layout { problem } => format!("index.json: {problem}; it is rewritten from the index"),
        Fault::Dangling { repository, tag, digest } => {
            format!("{repository}:{tag} names {digest}, which is missing")
        }
        Fault::Miscounted { repository } => format!("the index has a wrong size for {repository}"),
    }
}
