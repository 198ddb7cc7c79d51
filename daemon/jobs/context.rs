//! A run as its job sees it: options, progress, results and cancellation.

use std::sync::Arc;

use serde::Serialize;
use serde_json::Value;

use super::report::Progress;
use super::run::Run;

/// A run ended because it was cancelled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cancelled;

/// A run as its job sees it.
pub struct JobContext {
    run: Arc<Run>,
}

impl JobContext {
    pub(super) fn new(run: Arc<Run>) -> Self {
        JobContext { run }
    }

    /// Returns the options of the start; `null` for a run by the schedule.
    pub fn options(&self) -> &Value {
        &self.run.options
    }

    /// Returns the user who started the run; `None` for the schedule.
    pub fn user(&self) -> Option<&str> {
        self.run.user.as_deref()
    }

    /// Returns true if the run must change nothing.
    pub fn is_dry(&self) -> bool {
        self.run.is_dry
    }

    /// Replaces the progress.
    pub fn progress(&self, progress: Progress) {
        self.run.set_progress(progress);
    }

    /// Reports a result to the followers. A follower that reads too slowly gets the number of the results that it missed.
    pub fn item(&self, item: &impl Serialize) {
        // A value that has no JSON form would be an error in the job's own types.
        if let Ok(text) = serde_json::to_string(item) {
            self.run.add_item(text.into());
        }
    }

    /// Keeps a sentence about a result with the run, for pages and lists. The first hundred are kept, the rest is counted.
    pub fn note(&self, sentence: String) {
        self.run.add_note(sentence);
    }

    /// Returns true once the run is cancelled.
    pub fn is_cancelled(&self) -> bool {
        self.run.is_cancelled()
    }

    /// Waits until the run is cancelled.
    pub async fn cancelled(&self) {
        self.run.cancelled().await;
    }

    /// Runs `work` until it ends or the run is cancelled. Work that is cancelled is dropped at the point where it waits.
    ///
    /// # Errors
    /// [`Cancelled`] if the run was cancelled first.
    pub async fn until_cancelled<T>(&self, work: impl Future<Output = T>) -> Result<T, Cancelled> {
        tokio::select! {
            biased;
            done = work => Ok(done),
            () = self.cancelled() => Err(Cancelled),
        }
    }
}
