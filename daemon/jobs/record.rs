//! Records of jobs: what a later daemon has to know of earlier runs, and the port that stores it.

use std::collections::BTreeMap;
use std::pin::Pin;

use serde::{Deserialize, Serialize};

use super::time::Stamp;
#[cfg(test)]
use crate::base::Lock;

/// The end of a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum RunOutcome {
    /// The job did its work.
    Ok,
    /// The job met an error. It is repeated after a backoff.
    Failed,
    /// A user or the client that waited for it ended it. The job is due again at its next regular time.
    Cancelled,
    /// The daemon ended during the run: in good order, or by a crash or a power cut.
    Interrupted,
}

impl RunOutcome {
    /// Returns the word that lists and JSON show.
    pub fn word(self) -> &'static str {
        match self {
            RunOutcome::Ok => "ok",
            RunOutcome::Failed => "failed",
            RunOutcome::Cancelled => "cancelled",
            RunOutcome::Interrupted => "interrupted",
        }
    }
}

/// The state of a job that survives the daemon.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct JobRecord {
    /// The start of the last run.
    pub last_start: Option<Stamp>,
    /// The end of the last run; after a crash, the next start of the daemon. Without an outcome, the time at which the job was
    /// first scheduled.
    pub last_end: Option<Stamp>,
    /// The end of the last run that succeeded.
    pub last_success: Option<Stamp>,
    /// The outcome of the last run.
    pub outcome: Option<RunOutcome>,
    /// The outcome in one line.
    pub text: String,
    /// The failures in a row.
    pub failures: u32,
    /// The runs in a row that a crash ended.
    pub crashes: u32,
    /// True while the job runs: if a later daemon finds it, a crash ended the run.
    pub running: bool,
    /// True if the job is paused because of its crashes, until it is started by hand.
    pub paused: bool,
}

/// The future of an operation of [`JobRecords`].
pub type RecordsFuture<'a, T> = Pin<Box<dyn Future<Output = Result<T, String>> + Send + 'a>>;

/// Stores the records of jobs between daemons.
pub trait JobRecords: Send + Sync {
    /// Loads all records, by the names of their jobs. The error is a message for the log.
    fn load(&self) -> RecordsFuture<'_, BTreeMap<String, JobRecord>>;

    /// Saves the record of a job, durably. The error is a message for the log.
    fn save<'a>(&'a self, name: &'a str, record: JobRecord) -> RecordsFuture<'a, ()>;
}

/// Records in memory.
#[cfg(test)]
#[derive(Default)]
pub(super) struct MemoryRecords(Lock<BTreeMap<String, JobRecord>>);

#[cfg(test)]
impl JobRecords for MemoryRecords {
    fn load(&self) -> RecordsFuture<'_, BTreeMap<String, JobRecord>> {
        Box::pin(async { Ok(self.0.lock().clone()) })
    }

    fn save<'a>(&'a self, name: &'a str, record: JobRecord) -> RecordsFuture<'a, ()> {
        Box::pin(async move {
            self.0.lock().insert(name.to_owned(), record);
            Ok(())
        })
    }
}
