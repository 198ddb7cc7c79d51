//! Background jobs: schedule, queue, progress, cancellation and records of runs. The room knows no job by name: `cli/`
//! registers each job with an async closure.
//!
//! Guarantees:
//! - A job runs once at a time. A start that asks for the work that already runs or waits joins it.
//! - One disk job and two network jobs run at once. Others wait in the order of their starts, and say for which job.
//! - A job is due once its interval has passed by the wall clock or by the time that the machine was on, whichever comes
//!   first. A failed run is repeated with a backoff.
//! - The start of a run is noted before its work begins. After three runs in a row that a crash ended, the job is paused
//!   until it is started by hand.
//! - A cancelled run ends at its next safe point. A run without a connection that waits for it goes on only if it was
//!   started detached or by the schedule.
//!
//! `scheduler` decides, and is pure; `runner` executes its decisions; `run` is one run as its followers see it; `record` is
//! the state that survives the daemon, behind the port [`JobRecords`].

mod context;
mod follower;
mod record;
mod report;
mod run;
mod runner;
#[cfg(test)]
mod runner_tests;
mod schedule;
mod scheduler;
#[cfg(test)]
mod scheduler_tests;
mod state;
mod time;
mod view;

pub use self::context::{Cancelled, JobContext};
pub use self::follower::{Follower, RunEvent};
pub use self::record::{JobRecord, JobRecords, RecordsFuture, RunOutcome};
pub use self::report::{JobEnd, Progress};
pub use self::run::RunView;
pub use self::runner::{JobSpec, Jobs, Request, Setup, Work};
pub use self::schedule::{Class, Schedule};
pub use self::scheduler::StartError;
pub use self::state::JobState;
pub use self::time::Stamp;
pub use self::view::JobView;
