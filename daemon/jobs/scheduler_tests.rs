//! The decisions of the scheduler: what is due, who waits, when a job is repeated or paused.

use std::time::Duration;

use proptest::prelude::*;
use serde_json::{Value, json};

use super::record::{JobRecord, RunOutcome};
use super::schedule::{Class, Schedule};
use super::scheduler::{Plan, Scheduler, StartError, Started, Step};
use super::state::JobState;
use super::time::Now;

const HOUR: Duration = Duration::from_hours(1);
const MINUTE: Duration = Duration::from_mins(1);

/// A scheduler and its clocks.
struct Bench {
    scheduler: Scheduler,
    now: Now,
}

fn plan(class: Class, interval: impl Into<Option<Duration>>) -> Plan {
    let schedule = Schedule { interval: interval.into(), first: None };
    Plan { class, schedule, is_routine: false, joins: |running, wanted| running == wanted }
}

impl Bench {
    fn new(jobs: &[(&str, Plan)]) -> Self {
        let now = Now { wall: 1_700_000_000, machine: Duration::from_secs(1000) };
        let mut scheduler = Scheduler::new("registry".to_owned());
        for (job, plan) in jobs {
            scheduler.register(job, *plan, JobRecord::default(), now);
        }
        Bench { scheduler, now }
    }

    /// Ends the daemon without notice and starts the next one with the records.
    fn crash(&mut self, jobs: &[(&str, Plan)]) {
        let records: Vec<_> =
            jobs.iter().map(|(job, _)| self.scheduler.get(job).unwrap().1.clone()).collect();
        self.scheduler = Scheduler::new("registry".to_owned());
        for ((job, plan), record) in jobs.iter().zip(records) {
            self.scheduler.register(job, *plan, record, self.now);
        }
    }

    fn pass(&mut self, time: Duration) {
        self.now.machine += time;
        self.now.wall += time.as_secs();
    }

    /// Returns the jobs that begin now.
    fn begin(&mut self) -> Vec<(String, u64)> {
        let begun = |step| match step {
            Step::Begin { job, run, .. } => Some((job, run)),
            Step::Create { .. } => None,
        };
        self.scheduler.tick(self.now).into_iter().filter_map(begun).collect()
    }

    fn begin_one(&mut self) -> (String, u64) {
        let mut begun = self.begin();
        assert_eq!(begun.len(), 1, "{begun:?}");
        begun.remove(0)
    }

    fn end(&mut self, (job, run): (String, u64), outcome: RunOutcome) {
        self.scheduler.end(&job, run, (outcome, "text"), self.now);
    }

    fn start(&mut self, job: &str, options: Value) -> Result<Started, StartError> {
        self.scheduler.start(job, options, false)
    }

    fn wait(&self, job: &str) -> Option<Duration> {
        self.scheduler.wait_of(job, self.now)
    }

    fn state(&self, job: &str) -> (JobState, String) {
        let state = self.scheduler.state(job).unwrap();
        (state.word, state.reason)
    }
}

#[test]
fn a_job_is_due_after_its_interval_and_again_after_its_end() {
    let mut bench = Bench::new(&[("gc", plan(Class::Disk, HOUR)), ("check", plan(Class::Disk, None))]);
    let first = bench.wait("gc").unwrap();
    assert!(first <= HOUR && first >= HOUR * 9 / 10, "{first:?}");
    assert_eq!((bench.wait("check"), bench.begin()), (None, Vec::new()));
    bench.pass(HOUR);
    let run = bench.begin_one();
    assert_eq!(run.0, "gc");
    bench.pass(HOUR);
    assert_eq!(bench.begin(), [], "it runs still");
    bench.end(run, RunOutcome::Ok);
    assert_eq!(bench.wait("gc"), Some(first));
}

#[test]
fn the_first_run_of_each_daemon_is_soon_if_the_schedule_says_so() {
    let gc =
        Plan { schedule: Schedule { interval: Some(HOUR), first: Some(MINUTE) }, ..plan(Class::Disk, HOUR) };
    let mut bench = Bench::new(&[("gc", gc)]);
    for _ in 0..2 {
        let first = bench.wait("gc").unwrap();
        assert!(first <= MINUTE && first >= MINUTE * 9 / 10, "{first:?}");
        bench.pass(MINUTE);
        let run = bench.begin_one();
        bench.end(run, RunOutcome::Ok);
        assert!(bench.wait("gc").unwrap() > 50 * MINUTE);
        bench.crash(&[("gc", gc)]);
    }
    // Not after a crash during the run: the backoff counts.
    bench.pass(MINUTE);
    bench.begin_one();
    bench.crash(&[("gc", gc)]);
    bench.pass(MINUTE / 2);
    assert_eq!(bench.begin(), []);
}

#[test]
fn a_wall_clock_that_jumps_forward_makes_a_job_due_once() {
    let mut bench = Bench::new(&[("gc", plan(Class::Disk, HOUR))]);
    bench.now.wall += 100_000_000;
    let run = bench.begin_one();
    bench.end(run, RunOutcome::Ok);
    assert_eq!(bench.begin(), []);
}

#[test]
fn a_wall_clock_that_is_behind_does_not_count() {
    let mut bench = Bench::new(&[("gc", plan(Class::Disk, HOUR))]);
    bench.pass(HOUR);
    let run = bench.begin_one();
    bench.end(run, RunOutcome::Ok);
    // The next boot is in 1970, and reaches a time server during the next run.
    bench.now.wall = 60;
    bench.pass(30 * MINUTE);
    assert_eq!(bench.begin(), []);
    bench.pass(30 * MINUTE);
    let run = bench.begin_one();
    bench.now.wall = 1_800_000_000;
    assert_eq!(bench.begin(), [], "it runs once at a time");
    bench.end(run, RunOutcome::Ok);
    assert_eq!(bench.begin(), []);
}

#[test]
fn a_second_start_joins_and_one_with_other_options_waits() {
    let mut bench = Bench::new(&[("gc", plan(Class::Disk, None))]);
    assert_eq!(bench.start("gc", json!(1)), Ok(Started::New(1)));
    assert_eq!(bench.start("gc", json!(1)), Ok(Started::Joined(1)), "while it waits");
    let run = bench.begin_one();
    assert_eq!(bench.start("gc", json!(1)), Ok(Started::Joined(1)), "while it runs");
    assert_eq!(bench.start("gc", json!(2)), Ok(Started::New(2)));
    assert_eq!(
        bench.scheduler.start("gc", json!(1), true),
        Ok(Started::New(3)),
        "a dry run joins none that is not"
    );
    assert_eq!(bench.begin(), []);
    bench.end(run, RunOutcome::Ok);
    assert_eq!(bench.begin_one().1, 2);
}

#[test]
fn starts_that_wait_are_bounded() {
    let mut bench = Bench::new(&[("gc", plan(Class::Disk, None))]);
    for number in 0..4 {
        assert!(bench.start("gc", json!(number)).is_ok());
    }
    assert_eq!(bench.start("gc", json!(4)), Err(StartError::Busy));
    assert_eq!(bench.start("none", json!(4)), Err(StartError::Unknown));
    assert_eq!(bench.scheduler.stop(), [1, 2, 3, 4]);
    assert_eq!(bench.start("gc", json!(5)), Err(StartError::Stopping));
}

#[test]
fn one_disk_job_and_two_network_jobs_run_at_once() {
    let jobs = [
        ("check", plan(Class::Disk, None)),
        ("gc", plan(Class::Disk, None)),
        ("sync:a", plan(Class::Network, None)),
        ("sync:b", plan(Class::Network, None)),
        ("sync:c", plan(Class::Network, None)),
    ];
    let mut bench = Bench::new(&jobs);
    for job in ["gc", "check", "sync:c", "sync:b", "sync:a"] {
        bench.start(job, Value::Null).unwrap();
    }
    let begun = bench.begin();
    let names: Vec<&str> = begun.iter().map(|(job, _)| job.as_str()).collect();
    assert_eq!(names, ["gc", "sync:c", "sync:b"], "in the order of the starts");
    assert_eq!(bench.state("check"), (JobState::Waiting, "waits for gc".to_owned()));
    assert_eq!(bench.state("sync:a").1, "waits for sync:b and sync:c");
    bench.end(begun[1].clone(), RunOutcome::Ok);
    assert_eq!(bench.begin_one().0, "sync:a");
    bench.end(begun[0].clone(), RunOutcome::Ok);
    assert_eq!(bench.begin_one().0, "check");
}

#[test]
fn failures_are_repeated_with_a_backoff_and_cancelled_runs_are_not() {
    let mut bench = Bench::new(&[("sync", plan(Class::Network, HOUR))]);
    bench.pass(HOUR);
    for minutes in [1, 2, 4, 8, 16, 32, 60, 60] {
        let run = bench.begin_one();
        bench.end(run, RunOutcome::Failed);
        let wait = bench.wait("sync").unwrap();
        assert!(wait >= minutes * MINUTE * 4 / 5 && wait <= minutes * MINUTE * 6 / 5, "{minutes}: {wait:?}");
        bench.pass(wait + Duration::from_secs(1));
    }
    assert_eq!(bench.scheduler.get("sync").unwrap().1.failures, 8);
    let run = bench.begin_one();
    bench.end(run, RunOutcome::Cancelled);
    assert!(bench.wait("sync").unwrap() > 50 * MINUTE);
    bench.pass(HOUR);
    let run = bench.begin_one();
    bench.end(run, RunOutcome::Ok);
    assert_eq!(bench.scheduler.get("sync").unwrap().1.failures, 0);
}

#[test]
fn a_job_that_is_off_is_not_repeated() {
    let mut bench = Bench::new(&[("check", plan(Class::Disk, None))]);
    bench.start("check", Value::Null).unwrap();
    let run = bench.begin_one();
    bench.end(run, RunOutcome::Failed);
    assert_eq!(bench.wait("check"), None);
}

#[test]
fn three_crashes_in_a_row_pause_a_job_until_it_is_started_by_hand() {
    let jobs = [("gc", plan(Class::Disk, HOUR))];
    let mut bench = Bench::new(&jobs);
    bench.pass(HOUR);
    for crashes in 1..=3 {
        bench.begin_one();
        bench.crash(&jobs);
        let record = bench.scheduler.get("gc").unwrap().1;
        assert_eq!((record.outcome, record.crashes), (Some(RunOutcome::Interrupted), crashes));
        if crashes < 3 {
            assert!(bench.wait("gc").unwrap() <= 3 * MINUTE);
        }
        bench.pass(10 * MINUTE);
    }
    let (state, reason) = bench.state("gc");
    assert!(state == JobState::Paused && reason.contains("3 runs in a row"), "{reason}");
    bench.pass(1000 * HOUR);
    assert_eq!((bench.begin(), bench.wait("gc")), (Vec::new(), None));
    bench.crash(&jobs);
    assert_eq!(bench.state("gc").0, JobState::Paused, "the pause survives the daemon");
    bench.start("gc", Value::Null).unwrap();
    let run = bench.begin_one();
    bench.end(run, RunOutcome::Ok);
    assert_eq!((bench.state("gc").0, bench.wait("gc").is_some()), (JobState::Idle, true));
}

#[test]
fn an_end_in_good_order_interrupts_and_is_no_crash() {
    let jobs = [("check", plan(Class::Disk, 100 * HOUR))];
    let mut bench = Bench::new(&jobs);
    bench.pass(100 * HOUR);
    for _ in 0..5 {
        let run = bench.begin_one();
        bench.end(run, RunOutcome::Interrupted);
        bench.crash(&jobs);
        assert!(bench.wait("check").unwrap() <= 2 * MINUTE, "it is repeated soon");
        bench.pass(2 * MINUTE);
    }
    assert_eq!(bench.scheduler.get("check").unwrap().1.crashes, 0);
}

#[test]
fn a_read_only_store_pauses_the_schedule_of_disk_jobs() {
    let jobs = [("gc", plan(Class::Disk, HOUR)), ("certificate", plan(Class::Network, HOUR))];
    let mut bench = Bench::new(&jobs);
    bench.scheduler.set_read_only(true);
    bench.pass(HOUR);
    assert_eq!(bench.begin_one().0, "certificate");
    assert_eq!(bench.state("gc"), (JobState::Paused, "the store is read-only".to_owned()));
    bench.scheduler.set_read_only(false);
    assert_eq!(bench.begin_one().0, "gc");
}

#[test]
fn a_dry_run_neither_counts_nor_delays() {
    let mut bench = Bench::new(&[("gc", plan(Class::Disk, HOUR))]);
    bench.pass(30 * MINUTE);
    let (before, record) = (bench.wait("gc"), bench.scheduler.get("gc").unwrap().1.clone());
    bench.scheduler.start("gc", Value::Null, true).unwrap();
    let run = bench.begin_one();
    bench.end(run, RunOutcome::Failed);
    assert_eq!((bench.wait("gc"), bench.scheduler.get("gc").unwrap().1), (before, &record));
}

#[test]
fn routine_jobs_have_no_record_to_save() {
    let routine = Plan { is_routine: true, ..plan(Class::Network, MINUTE) };
    let mut bench = Bench::new(&[("certificate", routine)]);
    bench.pass(MINUTE);
    let steps = bench.scheduler.tick(bench.now);
    let Some(Step::Begin { job, run, record: None }) = steps.last() else { panic!("{steps:?}") };
    assert_eq!(bench.scheduler.end(job, *run, (RunOutcome::Ok, ""), bench.now), None);
}

#[test]
fn an_interval_counts_over_daemons_that_end_before_the_first_run() {
    let jobs = [("check", plan(Class::Disk, HOUR)), ("import", plan(Class::Disk, None))];
    let mut bench = Bench::new(&jobs);
    for _ in 0..5 {
        bench.pass(11 * MINUTE);
        let before = bench.wait("check");
        bench.crash(&jobs);
        assert_eq!(bench.wait("check"), before);
    }
    bench.pass(6 * MINUTE);
    assert_eq!(bench.begin_one().0, "check");
    assert_eq!(bench.scheduler.get("import").unwrap().1, &JobRecord::default());
}

#[test]
fn a_later_daemon_is_needed_when_a_recorded_job_is_due() {
    let routine = Plan { is_routine: true, ..plan(Class::Network, MINUTE) };
    let first = Schedule { interval: Some(HOUR), first: Some(MINUTE) };
    let gc = Plan { schedule: first, ..plan(Class::Disk, HOUR) };
    let mut bench = Bench::new(&[("certificate", routine), ("check", plan(Class::Disk, None))]);
    assert_eq!(bench.scheduler.wait_for_next_daemon(bench.now, |_| true), None);
    // Its first run in each daemon is no reason to start one.
    bench.scheduler.register("gc", gc, JobRecord::default(), bench.now);
    assert!(bench.wait("gc").unwrap() <= MINUTE);
    assert!(bench.scheduler.wait_for_next_daemon(bench.now, |_| true).unwrap() > 50 * MINUTE);
    bench.pass(MINUTE);
    let begun = bench.begin();
    let gc = begun.into_iter().find(|(job, _)| job == "gc").unwrap();
    bench.end(gc, RunOutcome::Failed);
    assert!(bench.scheduler.wait_for_next_daemon(bench.now, |_| true).unwrap() <= 2 * MINUTE, "the backoff");
    assert_eq!(bench.scheduler.wait_for_next_daemon(bench.now, |job| job != "gc"), None);
    bench.scheduler.set_read_only(true);
    assert_eq!(bench.scheduler.wait_for_next_daemon(bench.now, |_| true), None);
}

#[test]
fn a_new_interval_counts_from_the_last_run() {
    let mut bench = Bench::new(&[("gc", plan(Class::Disk, None))]);
    bench.pass(HOUR);
    bench.scheduler.reschedule("gc", Schedule { interval: Some(HOUR), first: None }, bench.now);
    assert!(bench.wait("gc").unwrap() > 50 * MINUTE, "a job that has never run counts from the change");
    bench.pass(HOUR);
    let run = bench.begin_one();
    bench.end(run, RunOutcome::Ok);
    bench.pass(10 * MINUTE);
    bench.scheduler.reschedule("gc", Schedule { interval: Some(10 * MINUTE), first: None }, bench.now);
    assert_eq!(bench.begin_one().0, "gc");
}

/// A step of the model.
#[derive(Clone, Debug)]
enum Act {
    Pass(u32),
    Jump(u64),
    Start(usize, u8),
    End(usize, bool),
    Crash,
    ReadOnly(bool),
}

fn act() -> impl Strategy<Value = Act> {
    prop_oneof![
        (0_u32..20_000).prop_map(Act::Pass),
        (0_u64..4_000_000_000).prop_map(Act::Jump),
        (0_usize..5, 0_u8..3).prop_map(|(job, options)| Act::Start(job, options)),
        (0_usize..4, any::<bool>()).prop_map(|(run, good)| Act::End(run, good)),
        Just(Act::Crash),
        any::<bool>().prop_map(Act::ReadOnly),
    ]
}

proptest! {
    /// Whatever the clocks do: a job runs once at a time, the classes keep their limits, and a job whose interval has
    /// passed on the clock of the machine is not forgotten.
    #[test]
    fn limits_hold_whatever_happens(acts in proptest::collection::vec(act(), 1..80)) {
        let jobs = [
            ("a", plan(Class::Disk, HOUR)),
            ("b", plan(Class::Disk, MINUTE)),
            ("c", plan(Class::Network, HOUR)),
            ("d", plan(Class::Network, MINUTE)),
            ("e", plan(Class::Network, None)),
        ];
        let mut bench = Bench::new(&jobs);
        let mut running: Vec<(String, u64)> = Vec::new();
        let mut is_read_only = false;
        for act in acts {
            match act {
                Act::Pass(seconds) => bench.pass(Duration::from_secs(seconds.into())),
                Act::Jump(wall) => bench.now.wall = wall,
                Act::Start(job, options) => drop(bench.start(jobs[job].0, json!(options))),
                Act::End(run, good) if !running.is_empty() => {
                    let ended = running.remove(run % running.len());
                    bench.end(ended, if good { RunOutcome::Ok } else { RunOutcome::Failed });
                }
                Act::End(..) => {}
                Act::Crash => {
                    running.clear();
                    is_read_only = false;
                    bench.crash(&jobs);
                }
                Act::ReadOnly(wanted) => {
                    is_read_only = wanted;
                    bench.scheduler.set_read_only(wanted);
                }
            }
            running.extend(bench.begin());
            let of = |class| running.iter().filter(|(job, _)| {
                jobs.iter().any(|(name, plan)| name == job && plan.class == class)
            }).count();
            prop_assert!(of(Class::Disk) <= 1 && of(Class::Network) <= 2);
            let mut names: Vec<&String> = running.iter().map(|(job, _)| job).collect();
            names.sort_unstable();
            names.dedup();
            prop_assert_eq!(names.len(), running.len());
            for (job, plan) in &jobs {
                let (_, record) = bench.scheduler.get(job).unwrap();
                let has_wait = bench.wait(job).is_some();
                let is_paused = record.paused || (is_read_only && plan.class == Class::Disk);
                prop_assert_eq!(has_wait, plan.schedule.interval.is_some() && !is_paused);
                prop_assert!(bench.wait(job).is_none_or(|wait| wait <= HOUR * 2));
            }
        }
    }
}
