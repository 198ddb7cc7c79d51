//! Runs with their followers, over a clock that the test moves.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use serde_json::{Value, json};
use tokio::sync::Semaphore;

use super::context::JobContext;
use super::follower::{Follower, RunEvent};
use super::record::{JobRecord, JobRecords, MemoryRecords, RunOutcome};
use super::report::{JobEnd, Progress};
use super::runner::{JobSpec, Jobs, Request, Setup};
use super::schedule::{Class, Schedule};
use super::scheduler::StartError;
use super::state::JobState;
use crate::base::Clock;

const HOUR: Duration = Duration::from_hours(1);

/// Jobs whose runs end when the test says so.
struct Bench {
    jobs: Arc<Jobs>,
    clock: Clock,
    records: Arc<MemoryRecords>,
    /// Each permit ends a run.
    gate: Arc<Semaphore>,
    begun: Arc<AtomicUsize>,
}

impl Bench {
    async fn new() -> Self {
        Self::with_records(Arc::default()).await
    }

    async fn with_records(records: Arc<MemoryRecords>) -> Self {
        let clock = Clock::manual(1_700_000_000);
        let setup = Setup {
            registry: "test".to_owned(),
            clock: clock.clone(),
            machine_time: Duration::ZERO,
            records: Arc::clone(&records) as Arc<dyn JobRecords>,
            is_read_only: Box::new(|| false),
        };
        let jobs = Jobs::open(setup).await;
        tokio::spawn(Arc::clone(&jobs).run());
        Bench { jobs, clock, records, gate: Arc::new(Semaphore::new(0)), begun: Arc::default() }
    }

    /// Registers a job that waits for the gate or for its cancellation.
    async fn register(&self, name: &str, interval: Option<Duration>) {
        let (gate, begun) = (Arc::clone(&self.gate), Arc::clone(&self.begun));
        let schedule = Schedule { interval, first: None };
        let spec = JobSpec {
            name: name.to_owned(),
            class: Class::Disk,
            schedule,
            is_routine: false,
            joins: |running, wanted| running == wanted,
            validate: |options| if options.is_string() { Err("no text".to_owned()) } else { Ok(()) },
        };
        let work = move |context: JobContext| {
            let (gate, begun) = (Arc::clone(&gate), Arc::clone(&begun));
            async move {
                begun.fetch_add(1, Ordering::Relaxed);
                context.progress(Progress { line: "half".to_owned(), ..Progress::default() });
                context.item(&json!({"kind": "blob"}));
                context.note("one blob".to_owned());
                match context.until_cancelled(gate.acquire()).await {
                    Ok(permit) => permit.unwrap().forget(),
                    Err(_) => return JobEnd::cancelled(),
                }
                JobEnd::ok("done").with_report(context.options().clone())
            }
        };
        self.jobs.register(spec, work).await;
    }

    fn start(&self, name: &str, options: Value) -> (Follower, bool) {
        self.jobs.start(name, Request { options, ..Request::default() }).unwrap()
    }
}

/// Returns the next event that is no progress.
async fn next(follower: &mut Follower) -> Option<RunEvent> {
    loop {
        match follower.next().await {
            Some(RunEvent::Progress(progress)) => assert_eq!(progress.line, "half"),
            event => return event,
        }
    }
}

fn is_end(event: Option<RunEvent>, outcome: RunOutcome) -> bool {
    matches!(event, Some(RunEvent::Done(end)) if end.outcome == outcome)
}

#[tokio::test]
async fn a_run_is_followed_to_its_end_and_recorded() {
    let bench = Bench::new().await;
    bench.register("gc", None).await;
    let refused = bench.jobs.start("gc", Request { options: json!("x"), ..Request::default() });
    assert_eq!(refused.err(), Some(StartError::Options("no text".to_owned())));
    let (mut first, joined) = bench.start("gc", json!({"grace": "0s"}));
    assert!(!joined);
    assert_eq!(next(&mut first).await, Some(RunEvent::Item("{\"kind\":\"blob\"}".into())));
    let (mut second, joined) = bench.start("gc", json!({"grace": "0s"}));
    assert!(joined);
    assert!(matches!(next(&mut second).await, Some(RunEvent::Item(_))), "the results from the beginning");
    assert!(bench.records.load().await.unwrap()["gc"].running, "the start is noted");
    assert_eq!(bench.jobs.get("gc").unwrap().state, JobState::Running);
    bench.gate.add_permits(1);
    for follower in [&mut first, &mut second] {
        let Some(RunEvent::Done(end)) = next(follower).await else { panic!("no end") };
        assert_eq!((end.outcome, end.report), (RunOutcome::Ok, json!({"grace": "0s"})));
        assert_eq!(follower.next().await, None);
    }
    assert_eq!(bench.begun.load(Ordering::Relaxed), 1);
    let view = bench.jobs.get("gc").unwrap();
    assert_eq!((view.last_outcome, view.last_text.as_str()), (Some(RunOutcome::Ok), "done"));
    assert_eq!(view.run.unwrap().notes, ["one blob"]);
    let record = &bench.records.load().await.unwrap()["gc"];
    assert!(!record.running && record.last_success.is_some());
}

#[tokio::test]
async fn a_due_job_runs_by_itself() {
    let bench = Bench::new().await;
    bench.register("gc", Some(HOUR)).await;
    assert!(!bench.jobs.is_busy());
    bench.clock.advance(HOUR);
    bench.gate.add_permits(1);
    assert_eq!(bench.jobs.run_due().await, [("gc".to_owned(), RunOutcome::Ok)]);
    assert_eq!(bench.jobs.run_due().await, []);
    let next_due = bench.jobs.get("gc").unwrap().next_due.unwrap();
    let now = bench.clock.unix_seconds();
    assert!(next_due > now + 3000 && next_due <= now + 3600);
}

#[tokio::test]
async fn runs_of_the_same_class_wait_visibly_and_can_be_cancelled_meanwhile() {
    let bench = Bench::new().await;
    bench.register("check", None).await;
    bench.register("gc", None).await;
    let (mut check, _) = bench.start("check", Value::Null);
    next(&mut check).await;
    let (mut gc, _) = bench.start("gc", Value::Null);
    assert_eq!(next(&mut gc).await, Some(RunEvent::Waiting(vec!["check".to_owned()])));
    assert_eq!(bench.jobs.get("gc").unwrap().reason, "waits for check");
    assert_eq!(bench.jobs.cancel("gc"), Ok(true));
    assert!(is_end(next(&mut gc).await, RunOutcome::Cancelled));
    assert_eq!(bench.begun.load(Ordering::Relaxed), 1);
    assert_eq!(bench.jobs.cancel("check"), Ok(true));
    assert!(is_end(next(&mut check).await, RunOutcome::Cancelled));
    assert_eq!((bench.jobs.cancel("check"), bench.jobs.cancel("x")), (Ok(false), Err(StartError::Unknown)));
}

#[tokio::test]
async fn a_run_ends_with_its_last_connection_unless_it_is_detached() {
    let bench = Bench::new().await;
    bench.register("gc", None).await;
    let (mut first, _) = bench.start("gc", Value::Null);
    let (second, _) = bench.start("gc", Value::Null);
    next(&mut first).await;
    let mut observer = bench.jobs.follow("gc").unwrap();
    drop(second);
    assert!(bench.jobs.is_busy());
    drop(first);
    while !is_end(next(&mut observer).await, RunOutcome::Cancelled) {}
    let detached = Request { is_detached: true, ..Request::default() };
    let (follower, _) = bench.jobs.start("gc", detached).unwrap();
    drop(follower);
    let mut observer = bench.jobs.follow("gc").unwrap();
    // A connection that joins and leaves does not end it either.
    drop(bench.start("gc", Value::Null));
    bench.gate.add_permits(1);
    while !is_end(next(&mut observer).await, RunOutcome::Ok) {}
}

#[tokio::test]
async fn the_end_of_the_daemon_interrupts_runs_in_good_order() {
    let bench = Bench::new().await;
    bench.register("check", Some(100 * HOUR)).await;
    bench.register("gc", None).await;
    let (mut check, _) = bench.start("check", Value::Null);
    next(&mut check).await;
    let (mut gc, _) = bench.start("gc", Value::Null);
    bench.jobs.stop(Duration::from_secs(20)).await;
    assert!(is_end(next(&mut check).await, RunOutcome::Interrupted));
    while !is_end(next(&mut gc).await, RunOutcome::Interrupted) {}
    assert!(!bench.jobs.is_busy());
    assert!(matches!(bench.jobs.start("gc", Request::default()), Err(StartError::Stopping)));
    let record = &bench.records.load().await.unwrap()["check"];
    assert_eq!((record.running, record.crashes, record.outcome), (false, 0, Some(RunOutcome::Interrupted)));
}

#[tokio::test]
async fn a_crash_is_found_at_the_next_start() {
    let records = Arc::new(MemoryRecords::default());
    let running = JobRecord { running: true, crashes: 2, ..JobRecord::default() };
    records.save("gc", running).await.unwrap();
    let bench = Bench::with_records(Arc::clone(&records)).await;
    bench.register("gc", Some(HOUR)).await;
    let view = bench.jobs.get("gc").unwrap();
    assert_eq!(
        (view.state, view.next_due, view.last_outcome),
        (JobState::Paused, None, Some(RunOutcome::Interrupted))
    );
    assert!(records.load().await.unwrap()["gc"].paused);
    let (mut run, _) = bench.start("gc", Value::Null);
    bench.gate.add_permits(1);
    while !is_end(next(&mut run).await, RunOutcome::Ok) {}
    assert_eq!(bench.jobs.get("gc").unwrap().state, JobState::Idle);
}

#[tokio::test]
async fn a_panic_is_a_failure_of_the_job() {
    let bench = Bench::new().await;
    let spec = JobSpec {
        name: "bad".to_owned(),
        class: Class::Network,
        schedule: Schedule::default(),
        is_routine: false,
        joins: |_, _| true,
        validate: |_| Ok(()),
    };
    bench.jobs.register(spec, |_| async { panic!("the job panics") }).await;
    let (mut run, _) = bench.start("bad", Value::Null);
    assert!(is_end(next(&mut run).await, RunOutcome::Failed));
    assert_eq!(bench.jobs.get("bad").unwrap().failures, 1);
}
