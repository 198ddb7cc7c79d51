//! The state of a job, and the numbers of its runs.

use serde::Serialize;

/// The number of a run, in the order of the starts.
pub(super) type RunId = u64;

/// The state of a job.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum JobState {
    /// Neither runs nor waits.
    Idle,
    /// Started, and waits for another job.
    Waiting,
    /// Runs.
    Running,
    /// Does not run by itself; `text` of the view says why.
    Paused,
}

impl JobState {
    /// Returns the word that lists and JSON show.
    pub fn word(self) -> &'static str {
        match self {
            JobState::Idle => "idle",
            JobState::Waiting => "waiting",
            JobState::Running => "running",
            JobState::Paused => "paused",
        }
    }
}
