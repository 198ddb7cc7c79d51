//! Decides which job runs when. A pure state machine: time is a parameter, and it starts nothing itself.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use serde_json::Value;

use super::record::{JobRecord, RunOutcome};
use super::schedule::{Class, Schedule, backoff, seed, shifted};
use super::state::{JobState, RunId};
use super::time::{Now, Stamp};

/// The runs of a job that may wait at once.
const WAITING: usize = 4;
/// The crashes in a row after which a job is paused.
const CRASHES: u32 = 3;

/// The properties of a job that the decisions need.
#[derive(Clone, Copy, Debug)]
pub(super) struct Plan {
    pub(super) class: Class,
    pub(super) schedule: Schedule,
    /// True for a job that is repeated all the time: its record is not saved.
    pub(super) is_routine: bool,
    /// Returns true if a start with the second options may join a run with the first.
    pub(super) joins: fn(&Value, &Value) -> bool,
}

/// A run that waits or runs.
#[derive(Clone, Debug)]
struct Queued {
    run: RunId,
    options: Value,
    /// True for a run that changes nothing and is not recorded.
    is_dry: bool,
}

#[derive(Debug)]
struct Entry {
    plan: Plan,
    record: JobRecord,
    /// When the job was registered, or its schedule changed.
    since: Stamp,
    /// True once a run has ended in this process.
    has_run: bool,
    running: Option<Queued>,
    waiting: VecDeque<Queued>,
}

impl Entry {
    /// Counts the interval of a job that has never run from now, in its record: on a machine whose daemons are short-lived
    /// it would never be due otherwise. Returns true if the record has changed.
    fn count_from(&mut self, now: Now) -> bool {
        let counts = self.plan.schedule.interval.is_some() && !self.plan.is_routine;
        let changes = counts && self.record.outcome.is_none();
        if changes {
            self.record.last_end = Some(now.stamp());
        }
        changes
    }
}

/// The reason why a job cannot be started.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StartError {
    /// There is no such job.
    #[error("there is no such job")]
    Unknown,
    /// The job does not understand the options.
    #[error("{0}")]
    Options(String),
    /// Too many runs with other options wait.
    #[error("several runs of this job are waiting already; try again when they have ended")]
    Busy,
    /// The daemon ends.
    #[error("the registry is shutting down; try again later")]
    Stopping,
}

/// The answer to a start.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Started {
    /// A run with this number, which waits.
    New(RunId),
    /// A run that ran or waited before.
    Joined(RunId),
}

/// A step that the runner executes, in the order given.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Step {
    /// A run by the schedule, which waits.
    Create { job: String, run: RunId },
    /// A run begins. The record is saved before, unless it is `None`.
    Begin { job: String, run: RunId, record: Option<JobRecord> },
}

/// The state and the reason of it.
pub(super) struct State {
    pub(super) word: JobState,
    pub(super) reason: String,
    /// The run that runs, else the one that waits longest.
    pub(super) run: Option<RunId>,
}

/// All jobs.
#[derive(Debug, Default)]
pub(super) struct Scheduler {
    registry: String,
    jobs: BTreeMap<String, Entry>,
    last_run: RunId,
    /// The latest wall clock that was seen: while the clock is behind it, it does not count.
    wall_seen: u64,
    is_read_only: bool,
    is_stopping: bool,
}

impl Scheduler {
    /// Returns a scheduler without jobs. `registry` identifies the registry among others, for the offsets.
    pub(super) fn new(registry: String) -> Self {
        Scheduler { registry, ..Scheduler::default() }
    }

    /// Adds a job with the record of earlier daemons. Returns the record if it has changed: if the last run was
    /// interrupted, or the job has a schedule for the first time.
    pub(super) fn register(
        &mut self,
        job: &str,
        plan: Plan,
        record: JobRecord,
        now: Now,
    ) -> Option<JobRecord> {
        let mut record = record;
        let is_interrupted = std::mem::take(&mut record.running);
        if is_interrupted {
            record.outcome = Some(RunOutcome::Interrupted);
            record.crashes += 1;
            "The daemon ended unexpectedly during the run.".clone_into(&mut record.text);
            record.last_end = Some(now.stamp());
            record.paused |= record.crashes >= CRASHES;
        }
        let seen = [record.last_start, record.last_end].into_iter().flatten().map(|stamp| stamp.wall);
        self.wall_seen = seen.fold(self.wall_seen, u64::max);
        let mut entry = Entry {
            plan,
            record,
            since: now.stamp(),
            has_run: false,
            running: None,
            waiting: VecDeque::new(),
        };
        let is_first = entry.record.last_end.is_none() && entry.count_from(now);
        let changed = (is_interrupted || is_first).then(|| entry.record.clone());
        self.jobs.insert(job.to_owned(), entry);
        changed
    }

    /// Changes the schedule of a job. A job that has never run counts its interval from now. Returns the record if it has
    /// changed.
    pub(super) fn reschedule(&mut self, job: &str, schedule: Schedule, now: Now) -> Option<JobRecord> {
        let entry = self.jobs.get_mut(job).filter(|entry| entry.plan.schedule != schedule)?;
        entry.plan.schedule = schedule;
        entry.since = now.stamp();
        entry.count_from(now).then(|| entry.record.clone())
    }

    /// Pauses the schedules of all disk jobs, or ends that pause.
    pub(super) fn set_read_only(&mut self, is_read_only: bool) {
        self.is_read_only = is_read_only;
    }

    /// Refuses all further starts and drops the runs that wait. Returns their numbers.
    pub(super) fn stop(&mut self) -> Vec<RunId> {
        self.is_stopping = true;
        self.jobs.values_mut().flat_map(|entry| entry.waiting.drain(..)).map(|queued| queued.run).collect()
    }

    /// Starts a job by hand, or joins a run that does the same work.
    pub(super) fn start(&mut self, job: &str, options: Value, is_dry: bool) -> Result<Started, StartError> {
        let is_stopping = self.is_stopping;
        let entry = self.jobs.get_mut(job).ok_or(StartError::Unknown)?;
        if is_stopping {
            return Err(StartError::Stopping);
        }
        // A start by hand ends the pause after crashes.
        entry.record.paused &= is_dry;
        let joins =
            |queued: &&Queued| queued.is_dry == is_dry && (entry.plan.joins)(&queued.options, &options);
        if let Some(queued) = entry.running.iter().chain(&entry.waiting).find(joins) {
            return Ok(Started::Joined(queued.run));
        }
        if entry.waiting.len() >= WAITING {
            return Err(StartError::Busy);
        }
        self.last_run += 1;
        entry.waiting.push_back(Queued { run: self.last_run, options, is_dry });
        Ok(Started::New(self.last_run))
    }

    /// Queues the jobs that are due, and begins runs for which there is a place.
    pub(super) fn tick(&mut self, now: Now) -> Vec<Step> {
        let mut steps = Vec::new();
        for job in self.due(now) {
            let Some(entry) = self.jobs.get_mut(&job) else { continue };
            self.last_run += 1;
            entry.waiting.push_back(Queued { run: self.last_run, options: Value::Null, is_dry: false });
            steps.push(Step::Create { job, run: self.last_run });
        }
        self.wall_seen = self.wall_seen.max(now.wall);
        while let Some(job) = self.next_to_begin() {
            let Some(entry) = self.jobs.get_mut(&job) else { break };
            let Some(queued) = entry.waiting.pop_front() else { break };
            let run = queued.run;
            let mut record = None;
            if !queued.is_dry {
                entry.record.running = true;
                entry.record.last_start = Some(now.stamp());
                record = (!entry.plan.is_routine).then(|| entry.record.clone());
            }
            entry.running = Some(queued);
            steps.push(Step::Begin { job, run, record });
        }
        steps
    }

    /// Returns the jobs that are due now and neither run nor wait.
    pub(super) fn due(&self, now: Now) -> Vec<String> {
        let is_due = |(job, entry): (&String, &Entry)| {
            let is_active = entry.running.is_some() || !entry.waiting.is_empty();
            (!is_active && !self.is_stopping && self.wait_of(job, now) == Some(Duration::ZERO))
                .then(|| job.clone())
        };
        self.jobs.iter().filter_map(is_due).collect()
    }

    /// Returns the job whose first waiting run begins next: the oldest run whose job and class have a place.
    fn next_to_begin(&self) -> Option<String> {
        let has_place = |(_, entry): &(&String, &Entry)| {
            entry.running.is_none() && self.running_in(entry.plan.class).count() < entry.plan.class.places()
        };
        let waiting = self.jobs.iter().filter(has_place);
        let oldest = waiting.filter_map(|(job, entry)| Some((entry.waiting.front()?.run, job))).min()?;
        Some(oldest.1.clone())
    }

    fn running_in(&self, class: Class) -> impl Iterator<Item = &String> {
        let runs = move |(_, entry): &(&String, &Entry)| entry.plan.class == class && entry.running.is_some();
        self.jobs.iter().filter(runs).map(|(job, _)| job)
    }

    /// Returns how long it takes until a job is due; `None` if it does not run by itself.
    pub(super) fn wait_of(&self, job: &str, now: Now) -> Option<Duration> {
        let entry = self.jobs.get(job)?;
        let by_record = self.wait_by_record(job, now)?;
        let is_after_crash = entry.record.outcome == Some(RunOutcome::Interrupted);
        match entry.plan.schedule {
            Schedule { interval: Some(interval), first: Some(first) }
                if !entry.has_run && !is_after_crash =>
            {
                let first = shifted(first.min(interval), seed(&self.registry, job, 0));
                Some(by_record.min(entry.since.wait(first, now, now.wall >= self.wall_seen)))
            }
            Schedule { interval: _, first: _ } => Some(by_record),
        }
    }

    /// Returns how long it takes until a job is due in any daemon, this one or a later one; `None` if it does not run by
    /// itself.
    fn wait_by_record(&self, job: &str, now: Now) -> Option<Duration> {
        let Entry { plan, record, since, .. } = self.jobs.get(job)?;
        let interval = plan.schedule.interval.filter(|_| !record.paused)?;
        if self.is_read_only && plan.class == Class::Disk {
            return None;
        }
        let wall_counts = now.wall >= self.wall_seen;
        let wait = |since: Stamp, length| since.wait(length, now, wall_counts);
        let seed = |failures| seed(&self.registry, job, failures);
        let regular = shifted(interval, seed(0));
        let pause = |times: u32| backoff(times, interval, seed(times));
        Some(match (record.last_end, record.outcome) {
            (Some(end), Some(RunOutcome::Interrupted)) => wait(end, pause(record.crashes.max(1))),
            (Some(end), Some(RunOutcome::Failed)) => wait(end, pause(record.failures.max(1))),
            (Some(end), Some(RunOutcome::Ok | RunOutcome::Cancelled) | None) => wait(end, regular),
            (None, Some(_) | None) => wait(*since, regular),
        })
    }

    /// Returns how long it takes until a daemon has to run for a job: until the first one is due that leaves a record and
    /// `has_work`.
    pub(super) fn wait_for_next_daemon(&self, now: Now, has_work: impl Fn(&str) -> bool) -> Option<Duration> {
        let counts = |(job, entry): &(&String, &Entry)| !entry.plan.is_routine && has_work(job);
        self.jobs.iter().filter(counts).filter_map(|(job, _)| self.wait_by_record(job, now)).min()
    }

    /// Returns how long it takes until the next job is due that neither runs nor waits.
    pub(super) fn wait(&self, now: Now) -> Option<Duration> {
        let is_inactive =
            |(_, entry): &(&String, &Entry)| entry.running.is_none() && entry.waiting.is_empty();
        self.jobs.iter().filter(is_inactive).filter_map(|(job, _)| self.wait_of(job, now)).min()
    }

    /// Ends a run. Returns the record to save.
    pub(super) fn end(
        &mut self,
        job: &str,
        run: RunId,
        (outcome, text): (RunOutcome, &str),
        now: Now,
    ) -> Option<JobRecord> {
        let entry = self.jobs.get_mut(job)?;
        let ended = entry.running.take_if(|queued| queued.run == run)?;
        if ended.is_dry {
            return None;
        }
        entry.has_run = true;
        let record = &mut entry.record;
        record.running = false;
        record.last_end = Some(now.stamp());
        record.outcome = Some(outcome);
        text.clone_into(&mut record.text);
        match outcome {
            RunOutcome::Ok => {
                record.last_success = Some(now.stamp());
                (record.failures, record.crashes) = (0, 0);
            }
            RunOutcome::Failed => (record.failures, record.crashes) = (record.failures.saturating_add(1), 0),
            RunOutcome::Cancelled => record.crashes = 0,
            // An end in good order is no crash.
            RunOutcome::Interrupted => {}
        }
        (!entry.plan.is_routine).then(|| record.clone())
    }

    /// Removes a run that waits; returns true if it did.
    pub(super) fn drop_waiting(&mut self, job: &str, run: RunId) -> bool {
        let Some(entry) = self.jobs.get_mut(job) else { return false };
        let before = entry.waiting.len();
        entry.waiting.retain(|queued| queued.run != run);
        entry.waiting.len() < before
    }

    /// Returns the runs of a job, the running one first; `None` if there is no such job.
    pub(super) fn runs(&self, job: &str) -> Option<Vec<RunId>> {
        let entry = self.jobs.get(job)?;
        Some(entry.running.iter().chain(&entry.waiting).map(|queued| queued.run).collect())
    }

    /// Returns the jobs for which the waiting runs of a job wait.
    pub(super) fn blocked_by(&self, job: &str) -> Vec<String> {
        let Some(entry) = self.jobs.get(job) else { return Vec::new() };
        if entry.running.is_some() {
            return vec![job.to_owned()];
        }
        self.running_in(entry.plan.class).cloned().collect()
    }

    /// Returns the names of all jobs.
    pub(super) fn names(&self) -> impl Iterator<Item = &String> {
        self.jobs.keys()
    }

    /// Returns the plan and the record of a job.
    pub(super) fn get(&self, job: &str) -> Option<(&Plan, &JobRecord)> {
        self.jobs.get(job).map(|entry| (&entry.plan, &entry.record))
    }

    /// Returns the state of a job.
    pub(super) fn state(&self, job: &str) -> Option<State> {
        let entry = self.jobs.get(job)?;
        let run = entry.running.iter().chain(&entry.waiting).map(|queued| queued.run).next();
        let of = |word, reason: String| Some(State { word, reason, run });
        if entry.running.is_some() {
            return of(JobState::Running, String::new());
        }
        if run.is_some() {
            return of(JobState::Waiting, format!("waits for {}", self.blocked_by(job).join(" and ")));
        }
        if entry.record.paused {
            return of(
                JobState::Paused,
                format!(
                    "the daemon ended unexpectedly during {} runs in a row; start the job by hand to try again",
                    entry.record.crashes
                ),
            );
        }
        if self.is_read_only && entry.plan.class == Class::Disk && entry.plan.schedule.interval.is_some() {
            return of(JobState::Paused, "the store is read-only".to_owned());
        }
        of(JobState::Idle, String::new())
    }
}
