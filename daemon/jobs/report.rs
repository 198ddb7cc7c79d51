//! Reports of a job about its run: progress and end.

use serde::Serialize;
use serde_json::Value;

use super::record::RunOutcome;

/// The progress of a run. Totals are unknown if they are `None`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Progress {
    /// Items that are done.
    pub items_done: u64,
    /// All items.
    pub items_all: Option<u64>,
    /// Bytes that are done.
    pub bytes_done: u64,
    /// All bytes.
    pub bytes_all: Option<u64>,
    /// The progress in one line.
    pub line: String,
}

/// The end of a run.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct JobEnd {
    /// The outcome.
    pub outcome: RunOutcome,
    /// The outcome in one line.
    pub text: String,
    /// True if the job did its work, and found a state that the operator has to act on.
    pub needs_attention: bool,
    /// The report for programs; `null` without one.
    pub report: Value,
}

impl Progress {
    /// Returns the progress in percent, by bytes if their total is known, else by items.
    pub fn percent(&self) -> Option<u64> {
        let of = |done: u64, all: Option<u64>| {
            let all = all.filter(|all| *all > 0)?;
            Some(u64::try_from(u128::from(done) * 100 / u128::from(all)).unwrap_or(100).min(100))
        };
        of(self.bytes_done, self.bytes_all).or_else(|| of(self.items_done, self.items_all))
    }
}

impl JobEnd {
    fn new(outcome: RunOutcome, text: impl Into<String>) -> Self {
        JobEnd { outcome, text: text.into(), needs_attention: false, report: Value::Null }
    }

    /// Returns the end of a job that did its work.
    pub fn ok(text: impl Into<String>) -> Self {
        JobEnd::new(RunOutcome::Ok, text)
    }

    /// Returns the end of a job that met an error, and is repeated after a backoff.
    pub fn failed(text: impl Into<String>) -> Self {
        JobEnd { needs_attention: true, ..JobEnd::new(RunOutcome::Failed, text) }
    }

    /// Returns the end of a job that was cancelled.
    pub fn cancelled() -> Self {
        JobEnd::new(RunOutcome::Cancelled, "Cancelled.")
    }

    /// Returns the end of a run that the end of the daemon cancelled.
    pub(super) fn interrupted() -> Self {
        JobEnd::new(
            RunOutcome::Interrupted,
            "The daemon stopped during the run; it is repeated soon after the next start.",
        )
    }

    /// Adds the report for programs.
    #[must_use]
    pub fn with_report(self, report: Value) -> Self {
        JobEnd { report, ..self }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percent_counts_bytes_before_items() {
        let items = Progress { items_done: 1, items_all: Some(3), ..Progress::default() };
        assert_eq!(items.percent(), Some(33));
        assert_eq!(Progress { bytes_done: 1, bytes_all: Some(2), ..items.clone() }.percent(), Some(50));
        assert_eq!(Progress { bytes_done: 9, bytes_all: Some(2), ..items.clone() }.percent(), Some(100));
        assert_eq!(Progress { bytes_all: Some(0), ..items }.percent(), Some(33));
        assert_eq!(Progress { items_done: 7, ..Progress::default() }.percent(), None);
    }
}
