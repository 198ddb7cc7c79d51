//! Executes the decisions of the scheduler: starts the work of due jobs, and records their ends.

use std::collections::{BTreeMap, HashMap};
use std::pin::Pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::Value;
use tokio::sync::{Notify, watch};

use super::context::JobContext;
use super::follower::Follower;
use super::record::{JobRecord, JobRecords, RunOutcome};
use super::report::JobEnd;
use super::run::{Run, RunView};
use super::schedule::{Class, Schedule};
use super::scheduler::{Plan, Scheduler, StartError, Started, Step};
use super::state::RunId;
use super::time::{Now, Stamp};
use super::view::JobView;
use crate::base::{Clock, Lock};

/// The longest pause between two looks at the schedule: the wall clock may jump.
const LONGEST_PAUSE: Duration = Duration::from_secs(30);
/// The shortest pause, for intervals that are shorter.
const SHORTEST_PAUSE: Duration = Duration::from_millis(1);

/// The work of a job.
pub type Work = Arc<dyn Fn(JobContext) -> Pin<Box<dyn Future<Output = JobEnd> + Send>> + Send + Sync>;

/// Refuses options with a message.
type Validate = fn(&Value) -> Result<(), String>;

/// The definition of a job.
#[derive(Clone, Debug)]
pub struct JobSpec {
    /// The name.
    pub name: String,
    /// The class.
    pub class: Class,
    /// When the job runs by itself.
    pub schedule: Schedule,
    /// True for a job that is repeated all the time, such as a look at a file: nothing is written about its runs.
    pub is_routine: bool,
    /// Returns true if a start with the second options may join a run with the first.
    pub joins: fn(&Value, &Value) -> bool,
    /// Refuses options that the job does not understand, with a message for the user.
    pub validate: fn(&Value) -> Result<(), String>,
}

/// The surroundings of the jobs.
pub struct Setup {
    /// Identifies the registry among others: machines with the same configuration run their jobs at different times.
    pub registry: String,
    /// The clocks.
    pub clock: Clock,
    /// The time that the machine was on since the store was created.
    pub machine_time: Duration,
    /// The records between daemons.
    pub records: Arc<dyn JobRecords>,
    /// Returns true while the store is read-only.
    pub is_read_only: Box<dyn Fn() -> bool + Send + Sync>,
}

/// A start by hand.
#[derive(Clone, Debug, Default)]
pub struct Request {
    /// The options for the job.
    pub options: Value,
    /// The user who starts it.
    pub user: Option<String>,
    /// True for a run that changes nothing: it is neither recorded, nor does it delay the schedule.
    pub is_dry: bool,
    /// True if the run goes on when no connection waits for it.
    pub is_detached: bool,
}

/// All background jobs of the daemon.
pub struct Jobs {
    inner: Lock<Inner>,
    wake: Arc<Notify>,
    /// Changes with the end of each run.
    ended: watch::Sender<()>,
    clock: Clock,
    /// The clock, and the time of the machine, at the start.
    began: (Instant, Duration),
    records: Arc<dyn JobRecords>,
    is_read_only: Box<dyn Fn() -> bool + Send + Sync>,
}

struct Inner {
    scheduler: Scheduler,
    /// The records of earlier daemons, until their jobs are registered.
    loaded: BTreeMap<String, JobRecord>,
    work: HashMap<String, (Work, Validate)>,
    /// The runs that run or wait.
    runs: HashMap<RunId, Arc<Run>>,
    /// The last run of each job that ended in this process.
    last: HashMap<String, RunView>,
    is_stopping: bool,
}

impl Jobs {
    /// Loads the records. Without them, after an error, jobs begin anew.
    pub async fn open(setup: Setup) -> Arc<Self> {
        let loaded = setup.records.load().await.unwrap_or_else(|error| {
            log::warn!("cannot load the records of background jobs: {error}");
            BTreeMap::new()
        });
        let inner = Inner {
            scheduler: Scheduler::new(setup.registry),
            loaded,
            work: HashMap::new(),
            runs: HashMap::new(),
            last: HashMap::new(),
            is_stopping: false,
        };
        Arc::new(Jobs {
            inner: Lock::new(inner),
            wake: Arc::default(),
            ended: watch::Sender::new(()),
            began: (setup.clock.now(), setup.machine_time),
            clock: setup.clock,
            records: setup.records,
            is_read_only: setup.is_read_only,
        })
    }

    /// Registers a job.
    pub async fn register<F>(&self, spec: JobSpec, work: impl Fn(JobContext) -> F + Send + Sync + 'static)
    where
        F: Future<Output = JobEnd> + Send + 'static,
    {
        let JobSpec { name, class, schedule, is_routine, joins, validate } = spec;
        let changed = {
            let now = self.now();
            let mut inner = self.inner.lock();
            let record = inner.loaded.remove(&name).unwrap_or_default();
            inner.work.insert(name.clone(), (Arc::new(move |context| Box::pin(work(context))), validate));
            inner.scheduler.register(&name, Plan { class, schedule, is_routine, joins }, record, now)
        };
        let is_interrupted = |record: &&JobRecord| record.outcome == Some(RunOutcome::Interrupted);
        if let Some(record) = changed.as_ref().filter(is_interrupted) {
            if record.paused {
                log::error!(
                    "job {name} is paused: the daemon ended unexpectedly during {} runs in a row; start it by hand to try again",
                    record.crashes
                );
            } else {
                log::warn!("job {name} was interrupted: the daemon ended unexpectedly during its last run");
            }
        }
        if let Some(record) = changed {
            self.save(&name, record).await;
        }
        self.wake.notify_one();
    }

    /// Changes the schedule of a job.
    pub async fn reschedule(&self, job: &str, schedule: Schedule) {
        let now = self.now();
        let changed = self.inner.lock().scheduler.reschedule(job, schedule, now);
        self.wake.notify_one();
        if let Some(record) = changed {
            self.save(job, record).await;
        }
    }

    /// Returns how long it takes until a daemon has to run for a job that `has_work`; `None` if no such job runs by itself. A
    /// job that leaves no record does not count.
    pub fn next_due(&self, has_work: impl Fn(&str) -> bool) -> Option<Duration> {
        let now = self.now();
        self.inner.lock().scheduler.wait_for_next_daemon(now, has_work)
    }

    /// Runs the jobs that are due, and those that are started, for as long as the daemon runs.
    pub async fn run(self: Arc<Self>) {
        loop {
            let pause = self.step().clamp(SHORTEST_PAUSE, LONGEST_PAUSE);
            tokio::select! {
                () = self.wake.notified() => {}
                () = tokio::time::sleep(pause) => {}
            }
        }
    }

    /// Starts a job, or joins a run that does the same work; returns its follower, and true if it joined. The run ends
    /// with the last follower that is not detached.
    ///
    /// # Errors
    /// [`StartError`] if the job is unknown, does not understand the options, too many runs wait, or the daemon ends.
    pub fn start(&self, job: &str, request: Request) -> Result<(Follower, bool), StartError> {
        let Request { options, user, is_dry, is_detached } = request;
        let mut inner = self.inner.lock();
        let (_, validate) = inner.work.get(job).ok_or(StartError::Unknown)?;
        validate(&options).map_err(StartError::Options)?;
        let (run, joined) = match inner.scheduler.start(job, options.clone(), is_dry)? {
            Started::Joined(id) => (Arc::clone(inner.runs.get(&id).ok_or(StartError::Unknown)?), true),
            Started::New(id) => {
                let run = Run::new((id, job), options, user, (is_dry, is_detached), Arc::clone(&self.wake));
                let run = Arc::new(run);
                inner.runs.insert(id, Arc::clone(&run));
                (run, false)
            }
        };
        if is_detached {
            run.detach();
        }
        let follower = Follower::new(run, !is_detached);
        drop(inner);
        self.wake.notify_one();
        Ok((follower, joined))
    }

    /// Follows the run of a job that runs, else the one that waits longest; `None` without one.
    pub fn follow(&self, job: &str) -> Option<Follower> {
        let inner = self.inner.lock();
        let run = inner.scheduler.state(job)?.run?;
        inner.runs.get(&run).map(|run| Follower::new(Arc::clone(run), false))
    }

    /// Cancels all runs of a job; returns true if there were any. The running one ends at its next safe point.
    ///
    /// # Errors
    /// [`StartError::Unknown`] if there is no such job.
    pub fn cancel(&self, job: &str) -> Result<bool, StartError> {
        let inner = self.inner.lock();
        let runs = inner.scheduler.runs(job).ok_or(StartError::Unknown)?;
        runs.iter().filter_map(|run| inner.runs.get(run)).for_each(|run| run.cancel());
        Ok(!runs.is_empty())
    }

    /// Returns true while a job runs or waits.
    pub fn is_busy(&self) -> bool {
        !self.inner.lock().runs.is_empty()
    }

    /// Returns all jobs, by name.
    pub fn list(&self) -> Vec<JobView> {
        let (now, inner) = (self.now(), self.inner.lock());
        inner.scheduler.names().filter_map(|job| inner.view(job, now)).collect()
    }

    /// Returns a job; `None` if there is no such job.
    pub fn get(&self, job: &str) -> Option<JobView> {
        let now = self.now();
        self.inner.lock().view(job, now)
    }

    /// Starts the jobs that are due, and waits for the end of all that run or wait. Returns their names and outcomes.
    pub async fn run_due(self: &Arc<Self>) -> Vec<(String, RunOutcome)> {
        self.step();
        let mut runs: Vec<Arc<Run>> = self.inner.lock().runs.values().cloned().collect();
        runs.sort_unstable_by_key(|run| run.id);
        let mut outcomes = Vec::new();
        for run in runs {
            let end = Follower::new(Arc::clone(&run), false).end().await;
            outcomes.extend(end.map(|end| (run.job.clone(), end.outcome)));
        }
        outcomes
    }

    /// Refuses further starts, cancels all runs, and waits until they have ended, for at most `within`.
    pub async fn stop(&self, within: Duration) {
        let mut ended = self.ended.subscribe();
        let at = self.clock.unix_seconds();
        {
            let mut inner = self.inner.lock();
            inner.is_stopping = true;
            for run in inner.scheduler.stop() {
                inner.runs.remove(&run).into_iter().for_each(|run| run.finish(JobEnd::interrupted(), at));
            }
            inner.runs.values().for_each(|run| run.cancel());
        }
        // A job that does not end in time counts as crashed at the next start.
        let _ = tokio::time::timeout(within, ended.wait_for(|()| !self.is_busy())).await;
    }

    fn now(&self) -> Now {
        let (instant, machine) = self.began;
        let passed = self.clock.now().saturating_duration_since(instant);
        Now { wall: self.clock.unix_seconds(), machine: machine.saturating_add(passed) }
    }

    /// Begins the runs that may begin; returns the time until the next job is due.
    fn step(self: &Arc<Self>) -> Duration {
        let (now, is_read_only) = (self.now(), (self.is_read_only)());
        let mut inner = self.inner.lock();
        inner.scheduler.set_read_only(is_read_only);
        inner.drop_cancelled(now);
        for step in inner.scheduler.tick(now) {
            match step {
                Step::Create { job, run: id } => {
                    let wake = Arc::clone(&self.wake);
                    let run = Run::new((id, &job), Value::Null, None, (false, true), wake);
                    inner.runs.insert(id, Arc::new(run));
                }
                Step::Begin { job, run, record } => {
                    if let (Some(run), Some((work, _))) = (inner.runs.get(&run), inner.work.get(&job)) {
                        run.begin(now.wall);
                        tokio::spawn(Arc::clone(self).execute(Arc::clone(run), Arc::clone(work), record));
                    }
                }
            }
        }
        inner.tell_waiting();
        inner.scheduler.wait(now).unwrap_or(LONGEST_PAUSE)
    }

    async fn execute(self: Arc<Self>, run: Arc<Run>, work: Work, record: Option<JobRecord>) {
        if let Some(record) = record {
            self.save(&run.job, record).await;
        }
        // A task of its own, so that a panic is a failure of this job only.
        let ended = tokio::spawn(work(JobContext::new(Arc::clone(&run)))).await;
        let end = ended.unwrap_or_else(|error| JobEnd::failed(format!("Stopped: {error}.")));
        let (now, record, end) = {
            let now = self.now();
            let mut inner = self.inner.lock();
            let is_interrupted = inner.is_stopping && end.outcome == RunOutcome::Cancelled;
            let end = if is_interrupted { JobEnd::interrupted() } else { end };
            let record = inner.scheduler.end(&run.job, run.id, (end.outcome, &end.text), now);
            (now, record, end)
        };
        if let Some(record) = record {
            self.save(&run.job, record).await;
        }
        run.finish(end, now.wall);
        {
            let mut inner = self.inner.lock();
            inner.runs.remove(&run.id);
            inner.last.insert(run.job.clone(), run.view());
        }
        self.wake.notify_one();
        self.ended.send_replace(());
    }

    async fn save(&self, job: &str, record: JobRecord) {
        if let Err(error) = self.records.save(job, record).await {
            log::warn!("cannot save the record of job {job}: {error}");
        }
    }
}

impl Inner {
    /// Ends the waiting runs that were cancelled.
    fn drop_cancelled(&mut self, now: Now) {
        let cancelled: Vec<Arc<Run>> = self.runs.values().filter(|run| run.is_cancelled()).cloned().collect();
        for run in cancelled {
            if self.scheduler.drop_waiting(&run.job, run.id) {
                self.runs.remove(&run.id);
                run.finish(JobEnd::cancelled(), now.wall);
                self.last.insert(run.job.clone(), run.view());
            }
        }
    }

    /// Tells the waiting runs for which jobs they wait.
    fn tell_waiting(&self) {
        for run in self.runs.values() {
            if !run.has_begun() {
                run.set_waits_for(self.scheduler.blocked_by(&run.job));
            }
        }
    }

    fn view(&self, job: &str, now: Now) -> Option<JobView> {
        let (plan, record) = self.scheduler.get(job)?;
        let state = self.scheduler.state(job)?;
        // A run whose record is being saved has left the scheduler.
        let ending = || self.runs.values().filter(|run| run.job == job).max_by_key(|run| run.id);
        let run = state.run.and_then(|run| self.runs.get(&run)).or_else(ending).map(|run| run.view());
        let due = |wait: Duration| now.wall.saturating_add(wait.as_secs());
        let at = |stamp: Option<Stamp>| stamp.map(|stamp| stamp.wall);
        Some(JobView {
            name: job.to_owned(),
            class: plan.class,
            state: state.word,
            reason: state.reason,
            interval: plan.schedule.interval.map(|interval| interval.as_secs()),
            next_due: self.scheduler.wait_of(job, now).map(due),
            last_start: at(record.last_start),
            last_end: at(record.last_end.filter(|_| record.outcome.is_some())),
            last_success: at(record.last_success),
            last_outcome: record.outcome,
            last_text: record.text.clone(),
            failures: record.failures,
            routine: plan.is_routine,
            run: run.or_else(|| self.last.get(job).cloned()),
        })
    }
}
