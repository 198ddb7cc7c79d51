//! The page that starts collections and checks and shows their progress.

use askama::Template;

use super::error::AdminError;
use super::format::{When, freed};
use super::jobs::{Job, Work};
use super::limits::{SENTENCE, shorten};
use super::pager::{Pager, page_of};
use super::pages::{Frame, render};
use super::request::AdminRequest;
use super::response::{OK, see_other};
use crate::access::{Identity, Operation};
use crate::base::human::duration;
use crate::wire::Response;

/// The faults on a page.
const ROWS: usize = 40;
/// The interval at which a browser without script reloads the page while a job runs, in seconds.
const REFRESH: u32 = 2;
/// The rate of a check that runs gently, in bytes per second.
const GENTLE_RATE: u64 = 5 << 20;
const PATH: &str = "/maintenance";

#[derive(Template)]
#[template(path = "maintenance.html")]
struct Page {
    frame: Frame,
    job: Option<JobView>,
    is_running: bool,
    grace_period: String,
    collected: Option<(When, String)>,
}

/// A job as it is shown.
struct JobView {
    name: &'static str,
    user: String,
    started: When,
    finished: Option<When>,
    progress: String,
    percent: Option<u64>,
    outcome: Option<(bool, String)>,
    faults: Vec<String>,
    /// The number of faults that are not on this page.
    more: usize,
    pager: Pager,
}

/// Shows the current or last job, and the forms that start one.
pub(super) async fn show(request: &AdminRequest<'_>) -> Result<Response, AdminError> {
    check_may(request)?;
    let job = request.admin.state.jobs.last();
    let is_running = job.as_ref().is_some_and(|job| job.outcome.is_none());
    let store = request.admin.store.overview().await?;
    let frame = Frame { refresh: is_running.then_some(REFRESH), ..Frame::new(request, "maintenance") };
    let page = Page {
        frame,
        job: job.map(|job| job_view(job, Pager::wanted(&request.query))),
        is_running,
        grace_period: duration(request.admin.settings.policy.grace),
        collected: store.collected.map(|last| (When::at(last.at), freed(&last.report))),
    };
    render(OK, &page)
}

/// Starts a collection.
pub(super) fn collect(request: &AdminRequest) -> Result<Response, AdminError> {
    check_may(request)?;
    let (store, policy) = (request.admin.store.clone(), request.admin.settings.policy.clone());
    let is_started = request.admin.state.jobs.collect(store, policy, user(request));
    Ok(finish(request, is_started, "collection"))
}

/// Starts a check.
pub(super) fn check(request: &AdminRequest) -> Result<Response, AdminError> {
    check_may(request)?;
    let rate = (request.field("gently") == "on").then_some(GENTLE_RATE);
    let is_started = request.admin.state.jobs.check(request.admin.store.clone(), rate, user(request));
    Ok(finish(request, is_started, "check"))
}

fn user(request: &AdminRequest) -> String {
    match &request.identity {
        Identity::User(name) => name.to_string(),
        Identity::Anonymous => "an anonymous user".into(),
    }
}

fn finish(request: &AdminRequest, is_started: bool, job: &str) -> Response {
    if is_started {
        let (client, user) = (request.context.client, &request.identity);
        log::info!(client:% = client, user:% = user; "{job} started from the admin page");
    }
    see_other(&format!("{PATH}?done={}", if is_started { "started" } else { "busy" }))
}

fn check_may(request: &AdminRequest) -> Result<(), AdminError> {
    match request.identity {
        _ if request.may(&Operation::Maintenance) => Ok(()),
        Identity::Anonymous => Err(AdminError::NeedsLogin),
        Identity::User(_) => Err(AdminError::Denied("Maintenance requires full rights.")),
    }
}

fn job_view(job: Job, page: usize) -> JobView {
    let kept = job.faults.len();
    let progress = job.describe_progress();
    let percent = job.percent();
    let faults = page_of(job.faults, page, ROWS);
    JobView {
        name: match job.work {
            Work::Collection => "Collection",
            Work::Check => "Check",
        },
        user: job.user,
        started: When::at(job.started),
        finished: job.finished.map(When::at),
        progress,
        percent,
        outcome: job.outcome.map(|(succeeded, text)| (succeeded, shorten(&text, SENTENCE))),
        more: kept - faults.len() + job.more_faults,
        faults: faults.iter().map(|fault| shorten(fault, SENTENCE)).collect(),
        pager: Pager::new(page, ROWS, kept, PATH, &[]),
    }
}

#[cfg(test)]
mod tests {
    use super::super::worst_case;
    use super::*;

    #[test]
    fn largest_page_is_small() {
        for text in worst_case::texts() {
            let mut job = Job::new(Work::Check, "u".repeat(64));
            job.faults = vec![text.clone(); 100];
            job.more_faults = 1_000_000;
            job.finished = Some(0);
            job.outcome = Some((false, text));
            worst_case::assert_small(&Page {
                frame: worst_case::frame(),
                job: Some(job_view(job, 2)),
                is_running: true,
                grace_period: "11 months".into(),
                collected: Some((When::at(0), "f".repeat(160))),
            });
        }
    }
}
