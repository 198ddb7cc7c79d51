//! A job as lists, pages and the control API show it.

use serde::Serialize;

use super::record::RunOutcome;
use super::run::RunView;
use super::schedule::Class;
use super::state::JobState;

/// A job. Times are seconds since 1970.
#[derive(Clone, Debug, Serialize)]
pub struct JobView {
    /// The name.
    pub name: String,
    /// The class.
    pub class: Class,
    /// The state.
    pub state: JobState,
    /// The reason of the state: why the job is paused, or for which jobs it waits.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub reason: String,
    /// The configured interval, in seconds; none if the job does not run by itself.
    pub interval: Option<u64>,
    /// The time at which the job is due; none if it does not run by itself.
    pub next_due: Option<u64>,
    /// The start of the last run.
    pub last_start: Option<u64>,
    /// The end of the last run.
    pub last_end: Option<u64>,
    /// The end of the last run that succeeded.
    pub last_success: Option<u64>,
    /// The outcome of the last run.
    pub last_outcome: Option<RunOutcome>,
    /// That outcome in one line.
    pub last_text: String,
    /// The failures in a row.
    pub failures: u32,
    /// True for a job that is repeated all the time and leaves no record, such as a look at a file.
    pub routine: bool,
    /// The run that runs or waits, else the last one of this process.
    pub run: Option<RunView>,
}
