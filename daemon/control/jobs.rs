//! `jobs`: lists, starts, follows and cancels background jobs. `wake`: runs those that are due.
//!
//! A start and a follow answer with a stream of events ([`super::events`]); a second start of a running job joins it. The
//! events of progress have `items_done`, `items_all`, `bytes_done`, `bytes_all` and `line`, or `waits_for` while the run
//! waits for other jobs. The last event of a run that succeeded has `text`, `needs_attention` and `report`, that of a cancelled one
//! `text` and `report`.

use std::sync::Arc;

use http::StatusCode;
use serde_json::{Map, Value, json};

use super::body::Body;
use super::error::ControlError;
use super::events::{End, Reporter, respond};
use super::request::Request;
use crate::jobs::{Follower, JobEnd, Request as Start, RunEvent, RunOutcome, StartError};

type Answer = Result<http::Response<Body>, ControlError>;

/// The maximum length of the options of a job, in bytes.
const MAX_OPTIONS: usize = 64 << 10;

/// `GET jobs`: `{"jobs":[...]}`.
pub(super) fn list(request: &Request) -> http::Response<Body> {
    Body::json(&json!({ "jobs": request.host.jobs().list() }))
}

/// `GET jobs/NAME`: the job; with `?follow=1` the events of the run that runs or waits.
pub(super) fn follow(request: &Request, name: &str) -> Answer {
    let jobs = request.host.jobs();
    let job = jobs.get(name).ok_or_else(|| unknown(name))?;
    if request.query.get("follow") != Some("1") {
        return Ok(Body::json(&job));
    }
    let Some(follower) = jobs.follow(name) else {
        return Err(ControlError::refused("idle", format!("the job {name} neither runs nor waits")));
    };
    Ok(stream(follower, false))
}

/// `POST jobs/NAME`, with its options as JSON: starts a job, or joins a run that does the same work. The option `dry_run`,
/// for all jobs, makes a run that changes nothing. With `?detach=1` the run does not end with the connection, and with
/// `?detach=1&follow=0` the answer is immediate: `{"joined":false}`.
pub(super) async fn start(mut request: Request, name: String) -> Answer {
    let (options, is_dry) = options(&mut request).await?;
    let (is_detached, user) = (request.is_detached(), request.actor.label());
    let wanted = Start { options, user: Some(user.clone()), is_dry, is_detached };
    let started = request.host.jobs().start(&name, wanted);
    let (follower, joined) = started.map_err(|error| refusal(error, &name))?;
    if !joined {
        log::info!(user:% = user; "job {name} started through the control socket");
    }
    if is_detached && request.query.get("follow") == Some("0") {
        return Ok(Body::json(&json!({ "joined": joined })));
    }
    Ok(stream(follower, is_detached))
}

/// `DELETE jobs/NAME`: cancels a job: `{"cancelled":true}`, or `false` if it neither runs nor waits.
pub(super) fn cancel(request: &Request, name: &str) -> Answer {
    let cancelled = request.host.jobs().cancel(name).map_err(|error| refusal(error, name))?;
    if cancelled {
        log::info!(user:% = request.actor.label(); "job {name} cancelled through the control socket");
    }
    Ok(Body::json(&json!({ "cancelled": cancelled })))
}

/// `POST wake`: runs the jobs that are due, and ends when no job runs or waits. The last event has the outcomes, `jobs`.
pub(super) fn wake(request: &Request) -> http::Response<Body> {
    let jobs = Arc::clone(request.host.jobs());
    respond(true, |_| async move {
        let outcomes = jobs.run_due().await;
        let outcomes =
            outcomes.into_iter().map(|(name, outcome)| json!({ "name": name, "outcome": outcome }));
        Ok(End::Ok(json!({ "jobs": outcomes.collect::<Vec<_>>() })))
    })
}

/// Reads the options of a start. No body has no options.
async fn options(request: &mut Request) -> Result<(Value, bool), ControlError> {
    let bytes = request.body.collect(MAX_OPTIONS).await?;
    let mut options: Map<String, Value> = if bytes.is_empty() {
        Map::new()
    } else {
        serde_json::from_slice(&bytes)
            .map_err(|error| ControlError::malformed(format!("the options are not a JSON object: {error}")))?
    };
    let is_dry = match options.remove("dry_run") {
        None => false,
        Some(Value::Bool(is_dry)) => is_dry,
        Some(_) => return Err(ControlError::malformed("dry_run is not true or false")),
    };
    Ok((Value::Object(options), is_dry))
}

/// Answers with the events of a run.
fn stream(mut follower: Follower, is_detached: bool) -> http::Response<Body> {
    respond(is_detached, |reporter| async move {
        loop {
            let event = tokio::select! {
                event = follower.next() => event,
                // The end of the follower cancels the run, unless others wait for it or it was started detached.
                () = reporter.cancelled() => return Ok(End::Cancelled),
            };
            match event {
                Some(RunEvent::Done(end)) => return conclude(end),
                Some(event) => report(&reporter, event).await,
                None => return Ok(End::Cancelled),
            }
        }
    })
}

async fn report(reporter: &Reporter, event: RunEvent) {
    match event {
        RunEvent::Waiting(jobs) => reporter.progress(&json!({ "waits_for": jobs })),
        RunEvent::Progress(progress) => reporter.progress(&progress),
        RunEvent::Item(item) => {
            let item: Value = serde_json::from_str(&item).unwrap_or_default();
            reporter.item(&item).await;
        }
        RunEvent::Missed(number) => reporter.item(&json!({ "missed": number })).await,
        // `stream` ends with it.
        RunEvent::Done(_) => {}
    }
}

fn conclude(end: JobEnd) -> Result<End, ControlError> {
    match end.outcome {
        RunOutcome::Ok => {
            let JobEnd { text, needs_attention, report, .. } = end;
            Ok(End::Ok(json!({ "text": text, "needs_attention": needs_attention, "report": report })))
        }
        RunOutcome::Cancelled => Ok(End::Stopped(json!({ "text": end.text, "report": end.report }))),
        RunOutcome::Failed | RunOutcome::Interrupted => {
            let code = end.report["code"].as_str().unwrap_or(end.outcome.word());
            let message = end.report["error"].as_str().unwrap_or(&end.text);
            Err(ControlError::new(StatusCode::INTERNAL_SERVER_ERROR, code, message))
        }
    }
}

fn unknown(name: &str) -> ControlError {
    ControlError::not_found(format!("no job has the name {name}")).with_hint("`holdfast jobs` lists all jobs")
}

fn refusal(error: StartError, name: &str) -> ControlError {
    match error {
        StartError::Unknown => unknown(name),
        StartError::Options(message) => ControlError::malformed(message),
        StartError::Busy => ControlError::refused("busy", error.to_string()),
        StartError::Stopping => {
            ControlError::new(StatusCode::SERVICE_UNAVAILABLE, "unavailable", error.to_string())
        }
    }
}
