//! The records of background jobs, which a later daemon continues from.

use serde::{Deserialize, Serialize};

use super::keys;
use super::port::{ReadTables, Table};
use crate::store::error::StoreError;

/// A moment by both clocks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct JobMoment {
    /// The wall clock, in seconds since 1970.
    pub wall: u64,
    /// The milliseconds that the machine was on since the store was created.
    pub machine: u64,
}

/// The end of the last run of a job.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum JobOutcome {
    /// It did its work.
    Ok,
    /// It met an error.
    Failed,
    /// A user ended it.
    Cancelled,
    /// The daemon ended during the run.
    Interrupted,
}

/// The record of a background job.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct JobRow {
    /// The start of the last run.
    pub last_start: Option<JobMoment>,
    /// The end of the last run.
    pub last_end: Option<JobMoment>,
    /// The end of the last run that succeeded.
    pub last_success: Option<JobMoment>,
    /// The outcome of the last run.
    pub outcome: Option<JobOutcome>,
    /// The outcome in one line.
    pub text: String,
    /// The failures in a row.
    pub failures: u32,
    /// The runs in a row that a crash ended.
    pub crashes: u32,
    /// True while the job runs.
    pub running: bool,
    /// True if the job does not run by itself because of its crashes.
    pub paused: bool,
}

/// Lookups of the records of jobs.
pub(in crate::store) trait JobRows: ReadTables {
    /// Returns the records of all jobs, by name.
    fn job_rows(&self) -> Result<Vec<(String, JobRow)>, StoreError> {
        let mut records = Vec::new();
        for row in self.rows(Table::Jobs)? {
            let (key, value) = row?;
            let Some(name) = keys::text_after(key, 0) else { continue };
            records.push((name.to_owned(), self.decode(value)?));
        }
        Ok(records)
    }
}

impl<T: ReadTables> JobRows for T {}
