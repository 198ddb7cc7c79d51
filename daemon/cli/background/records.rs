//! The records of jobs, in the index of the store.

use std::collections::BTreeMap;

use crate::jobs::{JobRecord, JobRecords, RecordsFuture, RunOutcome, Stamp};
use crate::store::{JobMoment, JobOutcome, JobRow, Store};

/// Records in the index: they survive the daemon, and are lost with the index.
pub(super) struct StoredRecords(pub(super) Store);

impl JobRecords for StoredRecords {
    fn load(&self) -> RecordsFuture<'_, BTreeMap<String, JobRecord>> {
        Box::pin(async {
            let rows = self.0.job_records().await.map_err(|error| error.to_string())?;
            // Other records, such as the place of the check, have a slash in their names.
            let of_jobs = rows.into_iter().filter(|(name, _)| !name.contains('/'));
            Ok(of_jobs.map(|(name, row)| (name, record(row))).collect())
        })
    }

    fn save<'a>(&'a self, name: &'a str, record: JobRecord) -> RecordsFuture<'a, ()> {
        Box::pin(async move { self.0.note_job(name, row(record)).await.map_err(|error| error.to_string()) })
    }
}

fn record(row: JobRow) -> JobRecord {
    JobRecord {
        last_start: row.last_start.map(stamp),
        last_end: row.last_end.map(stamp),
        last_success: row.last_success.map(stamp),
        outcome: row.outcome.map(outcome),
        text: row.text,
        failures: row.failures,
        crashes: row.crashes,
        running: row.running,
        paused: row.paused,
    }
}

fn row(record: JobRecord) -> JobRow {
    JobRow {
        last_start: record.last_start.map(moment),
        last_end: record.last_end.map(moment),
        last_success: record.last_success.map(moment),
        outcome: record.outcome.map(stored_outcome),
        text: record.text,
        failures: record.failures,
        crashes: record.crashes,
        running: record.running,
        paused: record.paused,
    }
}

fn stamp(JobMoment { wall, machine }: JobMoment) -> Stamp {
    Stamp { wall, machine }
}

fn moment(Stamp { wall, machine }: Stamp) -> JobMoment {
    JobMoment { wall, machine }
}

fn outcome(outcome: JobOutcome) -> RunOutcome {
    match outcome {
        JobOutcome::Ok => RunOutcome::Ok,
        JobOutcome::Failed => RunOutcome::Failed,
        JobOutcome::Cancelled => RunOutcome::Cancelled,
        JobOutcome::Interrupted => RunOutcome::Interrupted,
    }
}

fn stored_outcome(outcome: RunOutcome) -> JobOutcome {
    match outcome {
        RunOutcome::Ok => JobOutcome::Ok,
        RunOutcome::Failed => JobOutcome::Failed,
        RunOutcome::Cancelled => JobOutcome::Cancelled,
        RunOutcome::Interrupted => JobOutcome::Interrupted,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_is_the_same_after_a_round_trip() {
        let at = |wall| Some(Stamp { wall, machine: wall * 1000 + 7 });
        for outcome in [RunOutcome::Ok, RunOutcome::Failed, RunOutcome::Cancelled, RunOutcome::Interrupted] {
            let given = JobRecord {
                last_start: at(1),
                last_end: at(2),
                last_success: None,
                outcome: Some(outcome),
                text: "freed 3 blobs".into(),
                failures: 4,
                crashes: 5,
                running: true,
                paused: false,
            };
            assert_eq!(record(row(given.clone())), given);
        }
    }
}
