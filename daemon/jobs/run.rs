//! One run of a job, shared by the job, its followers and the runner.

use std::collections::VecDeque;
use std::sync::Arc;

use serde::Serialize;
use serde_json::Value;
use tokio::sync::{Notify, watch};

use super::record::RunOutcome;
use super::report::{JobEnd, Progress};
use super::state::RunId;
use crate::base::Lock;

/// The sentences that are kept of a run.
const NOTES: usize = 100;
/// The bytes of results that are kept for followers that are behind.
const ITEM_BYTES: usize = 4 << 20;

/// A run.
pub(super) struct Run {
    pub(super) id: RunId,
    pub(super) job: String,
    pub(super) options: Value,
    /// The user who started it; `None` for the schedule.
    pub(super) user: Option<String>,
    pub(super) is_dry: bool,
    body: Lock<Body>,
    /// Wakes the followers.
    changed: watch::Sender<()>,
    cancelled: watch::Sender<bool>,
    /// Wakes the runner, which removes a cancelled run that waits.
    runner: Arc<Notify>,
}

/// The part that changes.
#[derive(Default)]
pub(super) struct Body {
    started: Option<u64>,
    finished: Option<u64>,
    pub(super) waits_for: Vec<String>,
    pub(super) progress: Progress,
    /// Counts the changes of the progress.
    pub(super) progress_version: u64,
    pub(super) items: Items,
    notes: Vec<String>,
    more_notes: usize,
    pub(super) end: Option<JobEnd>,
    /// The connections that wait for the run.
    attached: usize,
    /// True if the run goes on without them.
    is_detached: bool,
}

/// The last results, as JSON.
#[derive(Default)]
pub(super) struct Items {
    /// The number of results that were dropped.
    dropped: u64,
    kept: VecDeque<Arc<str>>,
    bytes: usize,
}

/// A run as pages and lists show it. Times are seconds since 1970.
#[derive(Clone, Debug, Default, Serialize)]
pub struct RunView {
    /// The number of the run, in the order of the starts in this process.
    pub number: u64,
    /// The user who started it; none for the schedule.
    pub user: Option<String>,
    /// The start; none while the run waits.
    pub started: Option<u64>,
    /// The end; none while the run waits or runs.
    pub finished: Option<u64>,
    /// The progress.
    pub progress: Progress,
    /// Sentences about results.
    pub notes: Vec<String>,
    /// The number of sentences that were not kept.
    pub more_notes: usize,
    /// The outcome; none while the run waits or runs.
    pub outcome: Option<RunOutcome>,
    /// The outcome in one line.
    pub text: String,
    /// True if the operator has to act on the outcome.
    pub needs_attention: bool,
    /// True if the run changes nothing.
    pub dry: bool,
}

impl Items {
    fn add(&mut self, item: Arc<str>) {
        self.bytes += item.len();
        self.kept.push_back(item);
        while self.bytes > ITEM_BYTES {
            let Some(first) = self.kept.pop_front() else { break };
            self.bytes -= first.len();
            self.dropped += 1;
        }
    }

    /// Returns result number `number`, or else the number of the first one that is kept; `None` if it does not exist yet.
    pub(super) fn get(&self, number: u64) -> Option<Result<Arc<str>, u64>> {
        let Some(index) = number.checked_sub(self.dropped) else { return Some(Err(self.dropped)) };
        self.kept.get(usize::try_from(index).ok()?).cloned().map(Ok)
    }
}

impl Run {
    pub(super) fn new(
        (id, job): (RunId, &str),
        options: Value,
        user: Option<String>,
        (is_dry, is_detached): (bool, bool),
        runner: Arc<Notify>,
    ) -> Self {
        Run {
            id,
            job: job.to_owned(),
            options,
            user,
            is_dry,
            body: Lock::new(Body { is_detached, ..Body::default() }),
            changed: watch::Sender::new(()),
            cancelled: watch::Sender::new(false),
            runner,
        }
    }

    /// Reads the part that changes.
    pub(super) fn read<T>(&self, read: impl FnOnce(&Body) -> T) -> T {
        read(&self.body.lock())
    }

    fn change(&self, change: impl FnOnce(&mut Body)) {
        change(&mut self.body.lock());
        self.changed.send_replace(());
    }

    pub(super) fn changes(&self) -> watch::Receiver<()> {
        self.changed.subscribe()
    }

    pub(super) fn set_progress(&self, progress: Progress) {
        self.change(|body| {
            body.progress = progress;
            body.progress_version += 1;
        });
    }

    pub(super) fn add_item(&self, item: Arc<str>) {
        self.change(|body| body.items.add(item));
    }

    pub(super) fn add_note(&self, sentence: String) {
        self.change(|body| {
            if body.notes.len() < NOTES {
                body.notes.push(sentence);
            } else {
                body.more_notes += 1;
            }
        });
    }

    pub(super) fn set_waits_for(&self, jobs: Vec<String>) {
        if self.read(|body| body.waits_for != jobs) {
            self.change(|body| body.waits_for = jobs);
        }
    }

    pub(super) fn begin(&self, at: u64) {
        self.change(|body| {
            body.started = Some(at);
            body.waits_for.clear();
        });
    }

    pub(super) fn has_begun(&self) -> bool {
        self.read(|body| body.started.is_some())
    }

    pub(super) fn finish(&self, end: JobEnd, at: u64) {
        self.change(|body| {
            body.finished = Some(at);
            body.waits_for.clear();
            body.end = Some(end);
        });
    }

    pub(super) fn cancel(&self) {
        self.cancelled.send_replace(true);
        self.runner.notify_one();
    }

    pub(super) fn is_cancelled(&self) -> bool {
        *self.cancelled.borrow()
    }

    pub(super) async fn cancelled(&self) {
        // The sender lives as long as this run.
        let _ = self.cancelled.subscribe().wait_for(|cancelled| *cancelled).await;
    }

    /// Adds a connection that waits for the run.
    pub(super) fn attach(&self) {
        self.body.lock().attached += 1;
    }

    /// Removes a connection that waited for the run. Without any other one, a run that is not detached is cancelled.
    pub(super) fn release(&self) {
        let is_abandoned = {
            let mut body = self.body.lock();
            body.attached -= 1;
            body.attached == 0 && !body.is_detached && body.end.is_none()
        };
        if is_abandoned {
            self.cancel();
        }
    }

    /// Lets the run go on without a connection.
    pub(super) fn detach(&self) {
        self.body.lock().is_detached = true;
    }

    pub(super) fn view(&self) -> RunView {
        self.read(|body| RunView {
            number: self.id,
            user: self.user.clone(),
            started: body.started,
            finished: body.finished,
            progress: body.progress.clone(),
            notes: body.notes.clone(),
            more_notes: body.more_notes,
            outcome: body.end.as_ref().map(|end| end.outcome),
            text: body.end.as_ref().map(|end| end.text.clone()).unwrap_or_default(),
            needs_attention: body.end.as_ref().is_some_and(|end| end.needs_attention),
            dry: self.is_dry,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn results_are_bounded_and_missed_ones_are_counted() {
        let mut items = Items::default();
        let text: Arc<str> = "x".repeat(1 << 20).into();
        for _ in 0..6 {
            items.add(Arc::clone(&text));
        }
        assert_eq!(items.get(0), Some(Err(2)));
        assert_eq!((items.get(2), items.get(5)), (Some(Ok(Arc::clone(&text))), Some(Ok(text))));
        assert_eq!(items.get(6), None);
    }
}
