//! The stream of events of a run, for a connection that waits for it.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::Instant;

use super::report::{JobEnd, Progress};
use super::run::Run;

/// The shortest time between two events of progress.
const PROGRESS_INTERVAL: Duration = Duration::from_secs(1);

/// An event of a run.
#[derive(Clone, Debug, PartialEq)]
pub enum RunEvent {
    /// The run waits for these jobs.
    Waiting(Vec<String>),
    /// The progress, once a second at most.
    Progress(Progress),
    /// A result, as JSON.
    Item(Arc<str>),
    /// The number of results that were dropped, because this follower read too slowly or came too late.
    Missed(u64),
    /// The end; the last event.
    Done(JobEnd),
}

/// Follows a run from its beginning, as far as its results are kept.
pub struct Follower {
    run: Arc<Run>,
    changed: watch::Receiver<()>,
    next_item: u64,
    progress_seen: u64,
    progress_at: Option<Instant>,
    waits_seen: Vec<String>,
    is_done: bool,
    /// True if the run is cancelled once no such follower is left.
    is_attached: bool,
}

impl Follower {
    pub(super) fn new(run: Arc<Run>, is_attached: bool) -> Self {
        if is_attached {
            run.attach();
        }
        Follower {
            changed: run.changes(),
            run,
            next_item: 0,
            progress_seen: 0,
            progress_at: None,
            waits_seen: Vec::new(),
            is_done: false,
            is_attached,
        }
    }

    /// Waits for the next event; `None` after the last one. May be cancelled without losing an event.
    pub async fn next(&mut self) -> Option<RunEvent> {
        while !self.is_done {
            self.changed.mark_unchanged();
            let (event, again) = self.take();
            if event.is_some() {
                return event;
            }
            let pause = async {
                match again {
                    Some(at) => tokio::time::sleep_until(at).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                // The sender lives as long as the run, which this follower holds.
                _ = self.changed.changed() => {}
                () = pause => {}
            }
        }
        None
    }

    /// Waits for the end of the run.
    pub async fn end(&mut self) -> Option<JobEnd> {
        while let Some(event) = self.next().await {
            if let RunEvent::Done(end) = event {
                return Some(end);
            }
        }
        None
    }

    /// Takes the next event, or returns when the progress may be reported again.
    fn take(&mut self) -> (Option<RunEvent>, Option<Instant>) {
        let run = Arc::clone(&self.run);
        run.read(|body| {
            if self.waits_seen != body.waits_for {
                self.waits_seen.clone_from(&body.waits_for);
                if !body.waits_for.is_empty() {
                    return (Some(RunEvent::Waiting(body.waits_for.clone())), None);
                }
            }
            match body.items.get(self.next_item) {
                Some(Ok(item)) => {
                    self.next_item += 1;
                    return (Some(RunEvent::Item(item)), None);
                }
                Some(Err(first)) => {
                    let missed = first - self.next_item;
                    self.next_item = first;
                    return (Some(RunEvent::Missed(missed)), None);
                }
                None => {}
            }
            if let Some(end) = &body.end {
                self.is_done = true;
                return (Some(RunEvent::Done(end.clone())), None);
            }
            if self.progress_seen == body.progress_version {
                return (None, None);
            }
            let again = self.progress_at.map(|at| at + PROGRESS_INTERVAL);
            if again.is_some_and(|again| again > Instant::now()) {
                return (None, again);
            }
            self.progress_seen = body.progress_version;
            self.progress_at = Some(Instant::now());
            (Some(RunEvent::Progress(body.progress.clone())), None)
        })
    }
}

impl Drop for Follower {
    fn drop(&mut self) {
        if self.is_attached {
            self.run.release();
        }
    }
}
