//! The page that starts collections and checks, shows their progress, and lists all background jobs.

use askama::Template;
use serde_json::{Value, json};

use super::error::AdminError;
use super::format::{When, freed};
use super::jobs::{CHECK, COLLECTION, ScheduledJob, ShownRun, schedule, shown_run};
use super::pager::Pager;
use super::pages::{Frame, render};
use super::request::AdminRequest;
use super::response::OK;
use crate::access::{Identity, Operation};
use crate::base::human::duration;
use crate::jobs::{Request, StartError};
use crate::wire::Response;

/// The interval at which a browser without script reloads the page while a job runs, in seconds.
const REFRESH: u32 = 2;
/// The rate of a check that runs gently, in bytes per second.
const GENTLE_RATE: &str = "5MiB";
const PATH: &str = "/maintenance";

#[derive(Template)]
#[template(path = "maintenance.html")]
struct Page {
    frame: Frame,
    job: Option<ShownRun>,
    is_running: bool,
    grace_period: String,
    /// True if the last collection left content that waits for its grace period.
    is_waiting: bool,
    collected: Option<(When, String)>,
    jobs: Vec<ScheduledJob>,
}

/// Shows the current or last run, the forms that start one, and the schedule.
pub(super) async fn show(request: &AdminRequest<'_>) -> Result<Response, AdminError> {
    check_may(request)?;
    let jobs = request.admin.state.jobs.list();
    let job = shown_run(&jobs, Pager::wanted(&request.query), PATH);
    let is_running = job.as_ref().is_some_and(|job| job.outcome.is_none());
    let store = request.admin.store.overview().await?;
    let frame = Frame { refresh: is_running.then_some(REFRESH), ..Frame::new(request, "maintenance") };
    let page = Page {
        frame,
        job,
        is_running,
        grace_period: duration(request.admin.settings.policy.grace),
        is_waiting: store.collected.is_some_and(|last| !last.report.waiting.is_empty()),
        collected: store.collected.map(|last| (When::at(last.at), freed(&last.report))),
        jobs: schedule(&jobs),
    };
    render(OK, &page)
}

/// Starts a collection, or joins the one that a user has started.
pub(super) fn collect(request: &AdminRequest) -> Result<Response, AdminError> {
    check_may(request)?;
    start(request, COLLECTION, json!({}), "collection")
}

/// Starts a collection without a grace period.
pub(super) fn free(request: &AdminRequest) -> Result<Response, AdminError> {
    check_may(request)?;
    start(request, COLLECTION, json!({ "grace": "0s" }), "collection without a grace period")
}

/// Starts a check, or joins the running one.
pub(super) fn check(request: &AdminRequest) -> Result<Response, AdminError> {
    check_may(request)?;
    let options = if request.field("gently") == "on" { json!({ "rate": GENTLE_RATE }) } else { json!({}) };
    start(request, CHECK, options, "check")
}

/// Cancels a job.
pub(super) fn cancel(request: &AdminRequest) -> Result<Response, AdminError> {
    check_may(request)?;
    let job = request.field("job");
    let Ok(is_cancelled) = request.admin.state.jobs.cancel(job) else {
        return Err(AdminError::NotFound("There is no such job.".into()));
    };
    if is_cancelled {
        let (client, user) = (request.context.client, &request.identity);
        log::info!(client:% = client, user:% = user; "{job} cancelled from the admin page");
    }
    Ok(request.see_result(PATH, if is_cancelled { "cancelled" } else { "ended" }))
}

fn start(request: &AdminRequest, job: &str, options: Value, noun: &str) -> Result<Response, AdminError> {
    let wanted = Request { options, user: Some(user(request)), is_dry: false, is_detached: true };
    let done = match request.admin.state.jobs.start(job, wanted) {
        Ok((_, true)) => "joined",
        Ok((_, false)) => {
            let (client, user) = (request.context.client, &request.identity);
            log::info!(client:% = client, user:% = user; "{noun} started from the admin page");
            "started"
        }
        Err(StartError::Busy) => "busy",
        Err(error @ (StartError::Unknown | StartError::Options(_) | StartError::Stopping)) => {
            return Err(AdminError::Internal(format!("cannot start the job {job}: {error}")));
        }
    };
    Ok(request.see_result(PATH, done))
}

fn user(request: &AdminRequest) -> String {
    match &request.identity {
        Identity::User(name) => name.to_string(),
        Identity::Anonymous | Identity::Local(_) => "an anonymous user".into(),
    }
}

fn check_may(request: &AdminRequest) -> Result<(), AdminError> {
    match request.identity {
        _ if request.may(&Operation::Maintenance) => Ok(()),
        Identity::Anonymous | Identity::Local(_) => Err(AdminError::NeedsLogin),
        Identity::User(_) => Err(AdminError::Denied("Maintenance requires full rights.")),
    }
}

#[cfg(test)]
mod tests {
    use super::super::jobs::testing;
    use super::super::worst_case;
    use super::*;
    use crate::jobs::JobView;

    #[test]
    fn largest_page_is_small() {
        for text in worst_case::texts() {
            let jobs: Vec<_> =
                (0..100).map(|number| testing::job(&format!("sync:{number}{text}"), &text)).collect();
            // The longest outcomes are those of routine jobs.
            let jobs: Vec<_> =
                jobs.into_iter().enumerate().map(|(at, job)| JobView { routine: at < 10, ..job }).collect();
            worst_case::assert_small(&Page {
                frame: worst_case::frame(),
                job: shown_run(&jobs, 2, PATH),
                is_running: true,
                grace_period: "11 months".into(),
                is_waiting: true,
                collected: Some((When::at(0), "f".repeat(160))),
                jobs: schedule(&jobs),
            });
        }
    }
}
