//! Streams of progress: a response whose lines are the events of work that takes time.
//!
//! ```text
//! {"event":"progress",...}                                     once a second at most; a slow reader misses some
//! {"event":"item",...}                                         one for each result
//! {"event":"done","outcome":"ok",...}                          the last line, exactly once
//! {"event":"done","outcome":"failed","code":...,"message":...}
//! {"event":"done","outcome":"cancelled",...}
//! ```
//!
//! A stream without `done` is a failure. Work runs in a task of its own, so that a peer that disconnects cancels it at its next
//! safe point and not in the middle of a step; with `?detach=1` it runs to its end.

use std::time::{Duration, Instant};

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use tokio::sync::mpsc;

use super::body::Body;
use super::error::ControlError;
use crate::base::Lock;

/// Lines that wait for the peer; work that sends more waits for it.
const WAITING_LINES: usize = 64;
/// Minimum interval between two progress events.
const PROGRESS_INTERVAL: Duration = Duration::from_secs(1);

/// Kind of an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum EventKind {
    /// The progress of the work.
    Progress,
    /// One result.
    Item,
    /// The end of the work, with its [`StreamOutcome`].
    Done,
}

/// Outcome of work, in the last event of its stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum StreamOutcome {
    /// It succeeded.
    Ok,
    /// It failed; the event has the fields of an error.
    Failed,
    /// The peer disconnected, or another request cancelled it.
    Cancelled,
}

/// The end of work that did not fail.
#[derive(Clone, Debug)]
pub(super) enum End {
    /// It succeeded; the members of this object become fields of the last event.
    Ok(Value),
    /// It was cancelled.
    Cancelled,
    /// It was cancelled after a part of it; the members of this object become fields of the last event.
    Stopped(Value),
}

/// The sender of the events of one request.
pub(super) struct Reporter {
    lines: mpsc::Sender<Bytes>,
    detached: bool,
    last_progress: Lock<Option<Instant>>,
}

impl Reporter {
    /// Sends a result, and waits while the peer does not read.
    pub(super) async fn item(&self, fields: &impl Serialize) {
        // Without a peer the results of detached work are lost.
        let _ = self.lines.send(line(EventKind::Item, None, fields)).await;
    }

    /// Sends progress, unless the last one was sent within a second or the peer does not read.
    pub(super) fn progress(&self, fields: &impl Serialize) {
        let mut last = self.last_progress.lock();
        if last.is_none_or(|last| last.elapsed() >= PROGRESS_INTERVAL)
            && self.lines.try_send(line(EventKind::Progress, None, fields)).is_ok()
        {
            *last = Some(Instant::now());
        }
    }

    /// Returns true once the work is to stop at its next safe point.
    pub(super) fn is_cancelled(&self) -> bool {
        !self.detached && self.lines.is_closed()
    }

    /// Waits until the work is to stop; never returns for detached work.
    pub(super) async fn cancelled(&self) {
        if self.detached {
            std::future::pending::<()>().await;
        }
        self.lines.closed().await;
    }
}

/// Starts work in a task of its own and returns the response with its events. The reporter is in an [`std::sync::Arc`], so that
/// observers of the store can have it, too.
pub(super) fn respond<F>(
    detached: bool,
    work: impl FnOnce(std::sync::Arc<Reporter>) -> F,
) -> http::Response<Body>
where
    F: Future<Output = Result<End, ControlError>> + Send + 'static,
{
    let (lines, receiver) = mpsc::channel(WAITING_LINES);
    let reporter = Reporter { lines: lines.clone(), detached, last_progress: Lock::default() };
    let running = work(std::sync::Arc::new(reporter));
    tokio::spawn(async move {
        let last = match running.await {
            Ok(End::Ok(fields)) => line(EventKind::Done, Some(StreamOutcome::Ok), &fields),
            Ok(End::Cancelled) => line(EventKind::Done, Some(StreamOutcome::Cancelled), &Value::Null),
            Ok(End::Stopped(fields)) => line(EventKind::Done, Some(StreamOutcome::Cancelled), &fields),
            Err(error) => line(EventKind::Done, Some(StreamOutcome::Failed), error.detail()),
        };
        // The peer may be gone.
        let _ = lines.send(last).await;
    });
    Body::lines(receiver)
}

/// Formats an event; fields that are not an object are left out.
fn line(kind: EventKind, outcome: Option<StreamOutcome>, fields: &impl Serialize) -> Bytes {
    let mut object = Map::new();
    let mut set = |name: &str, value: Result<Value, _>| {
        object.insert(name.into(), value.unwrap_or_default());
    };
    set("event", serde_json::to_value(kind));
    if let Some(outcome) = outcome {
        set("outcome", serde_json::to_value(outcome));
    }
    if let Ok(Value::Object(fields)) = serde_json::to_value(fields) {
        for (name, value) in fields {
            object.entry(name).or_insert(value);
        }
    }
    let mut text = Value::Object(object).to_string();
    text.push('\n');
    text.into()
}

#[cfg(test)]
mod tests {
    use http_body_util::BodyExt;
    use serde_json::json;

    use super::*;

    async fn lines(response: http::Response<Body>) -> Vec<Value> {
        let bytes = response.into_body().collect().await.unwrap().to_bytes();
        bytes
            .split(|byte| *byte == b'\n')
            .filter(|line| !line.is_empty())
            .map(|line| serde_json::from_slice(line).unwrap())
            .collect()
    }

    #[tokio::test]
    async fn stream_has_items_and_one_done_with_its_fields() {
        let response = respond(false, |reporter| async move {
            reporter.progress(&json!({ "done": 1 }));
            reporter.progress(&json!({ "done": 2 }));
            reporter.item(&json!({ "tag": "a", "event": "forged" })).await;
            Ok(End::Ok(json!({ "count": 1 })))
        });
        let expected = vec![
            json!({ "event": "progress", "done": 1 }),
            json!({ "event": "item", "tag": "a" }),
            json!({ "event": "done", "outcome": "ok", "count": 1 }),
        ];
        assert_eq!(lines(response).await, expected);
    }

    #[tokio::test]
    async fn failure_is_the_last_event() {
        let response =
            respond(false, |_| async { Err(ControlError::not_found("no such thing").with_hint("look")) });
        let expected = json!({ "event": "done", "outcome": "failed", "code": "not_found", "message": "no such thing", "hint": "look" });
        assert_eq!(lines(response).await, vec![expected]);
    }

    #[tokio::test]
    async fn dropped_response_cancels_attached_work_only() {
        for detached in [false, true] {
            let (ended, end) = tokio::sync::oneshot::channel();
            let response = respond(detached, |reporter| async move {
                let limit = Duration::from_millis(if detached { 50 } else { 20_000 });
                let cancelled = tokio::time::timeout(limit, reporter.cancelled()).await.is_ok();
                let _ = ended.send((cancelled, reporter.is_cancelled()));
                Ok(End::Cancelled)
            });
            drop(response);
            assert_eq!(end.await.unwrap(), (!detached, !detached));
        }
    }
}
