//! Collections and checks that were asked for on the page: one at a time, in the background, watched while they go on.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::overview::freed;
use super::words::{self, count, size};
use crate::store::{CheckOptions, Checked, Event, Fault, Policy, Progress, Store, StoreError, Taken};

/// How many faults are kept to be shown.
const FAULTS: usize = 100;

/// What goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Work {
    Collection,
    Check,
}

/// A collection or a check, while it goes on and afterwards.
#[derive(Clone)]
pub(super) struct Job {
    pub(super) work: Work,
    pub(super) by: String,
    /// When it began, and ended, in seconds since 1970.
    pub(super) began: u64,
    pub(super) ended: Option<u64>,
    /// What it has taken so far, and in bytes.
    taken: (u64, u64),
    progress: Progress,
    /// What is wrong, in words.
    pub(super) faults: Vec<String>,
    /// How many faults are not kept.
    pub(super) more_faults: usize,
    /// How it ended, and whether well.
    pub(super) outcome: Option<(bool, String)>,
}

/// The job that goes on, or the last one.
#[derive(Default)]
pub(super) struct Jobs(Mutex<Option<Job>>);

impl Job {
    /// How far it is, of 100, where that is known.
    pub(super) fn percent(&self) -> Option<u64> {
        let Progress { done, all } = self.progress;
        let known = self.work == Work::Check && all.bytes > 0 && self.outcome.is_none();
        known.then(|| {
            u64::try_from(u128::from(done.bytes) * 100 / u128::from(all.bytes)).unwrap_or(100).min(100)
        })
    }

    /// How far it is, in words.
    pub(super) fn state(&self) -> String {
        let Progress { done, all } = self.progress;
        match self.work {
            Work::Collection => {
                format!("{} taken so far, {}", count(self.taken.0, "thing"), size(self.taken.1))
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
}

impl Jobs {
    fn lock(&self) -> MutexGuard<'_, Option<Job>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The job that goes on, or the last one.
    pub(super) fn last(&self) -> Option<Job> {
        self.lock().clone()
    }

    pub(super) fn is_running(&self) -> bool {
        self.lock().as_ref().is_some_and(|job| job.outcome.is_none())
    }

    /// Collects, unless something goes on already.
    pub(super) fn collect(self: &Arc<Self>, store: Store, policy: Policy, by: String) -> bool {
        let (begins, jobs) = (self.begin(Work::Collection, by), Arc::clone(self));
        if begins {
            tokio::spawn(async move {
                let mut observe = |taken: Taken| jobs.change(|job| note(job, &taken));
                let ended = store.collect(&policy, false, &mut observe).await;
                jobs.end(ended.map(|report| (true, freed(&report))));
            });
        }
        begins
    }

    /// Checks, at most so many bytes in a second, unless something goes on already.
    pub(super) fn check(self: &Arc<Self>, store: Store, rate: Option<u64>, by: String) -> bool {
        let (begins, jobs) = (self.begin(Work::Check, by), Arc::clone(self));
        if begins {
            tokio::spawn(async move {
                let mut observe = |event: Event| jobs.change(|job| watch(job, event));
                let ended = store.check(CheckOptions { rate, repair: false }, &mut observe).await;
                jobs.end(ended.map(|checked| (checked.faults == 0, told(&checked))));
            });
        }
        begins
    }

    fn begin(&self, work: Work, by: String) -> bool {
        let mut last = self.lock();
        if last.as_ref().is_some_and(|job| job.outcome.is_none()) {
            return false;
        }
        *last = Some(Job {
            work,
            by,
            began: words::now(),
            ended: None,
            taken: (0, 0),
            progress: Progress::default(),
            faults: Vec::new(),
            more_faults: 0,
            outcome: None,
        });
        true
    }

    fn change(&self, change: impl FnOnce(&mut Job)) {
        if let Some(job) = &mut *self.lock() {
            change(job);
        }
    }

    fn end(&self, ended: Result<(bool, String), StoreError>) {
        let outcome = ended.unwrap_or_else(|error| (false, format!("it stopped: {error}")));
        self.change(|job| {
            job.ended = Some(words::now());
            job.outcome = Some(outcome);
        });
    }
}

fn note(job: &mut Job, taken: &Taken) {
    job.taken.0 += 1;
    if let Taken::Blob { bytes, .. } | Taken::Upload { bytes, .. } = taken {
        job.taken.1 += bytes;
    }
}

fn watch(job: &mut Job, event: Event) {
    match event {
        Event::Progress(progress) => job.progress = progress,
        Event::Fault(fault, _) if job.faults.len() < FAULTS => job.faults.push(sentence(&fault)),
        Event::Fault(..) => job.more_faults += 1,
    }
}

fn told(checked: &Checked) -> String {
    let read = format!("{}, {} read", count(checked.blobs.count, "blob"), size(checked.blobs.bytes));
    match checked.faults {
        0 => format!("everything is well: {read}"),
        faults => format!(
            "{} found; {read}. On the machine of the registry, holdfast check --repair sets them aside, so that the \
             next push heals them",
            count(faults, "fault")
        ),
    }
}

fn sentence(fault: &Fault) -> String {
    match fault {
        Fault::Missing { digest } => format!("{digest} is not on the disk"),
        Fault::Length { digest, indexed, actual } => {
            format!("{digest} has {actual} bytes, and the index says {indexed}")
        }
        Fault::Rotten { digest, .. } => format!("{digest} has rotted on the disk"),
        Fault::Unreadable { digest, error } => format!("{digest} cannot be read: {error}"),
        Fault::NoManifest { repository, digest } => format!("{digest} of {repository} is no manifest"),
        Fault::Incomplete { repository, digest, missing } => {
            format!("{digest} of {repository} needs {missing}, which is not there")
        }
        Fault::Index => "rows of the index are missing or do not agree".to_owned(),
        Fault::Layout { problem } => format!("index.json: {problem}; it is written again from the index"),
        Fault::Dangling { repository, tag, digest } => {
            format!("{repository}:{tag} names {digest}, which is not there")
        }
        Fault::Miscounted { repository } => format!("{repository} is not as large as the index says"),
    }
}
