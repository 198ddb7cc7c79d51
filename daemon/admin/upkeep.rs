//! Collections and checks, begun and watched.

use askama::Template;

use super::OK;
use super::budget::{Budget, Row, Section};
use super::error::AdminError;
use super::jobs::{Job, Work};
use super::overview::freed;
use super::pages::{Frame, render};
use super::visit::{Visit, see_other};
use super::words::{When, duration};
use crate::access::{Identity, Wanted};
use crate::wire::Response;

/// After how many seconds the page is loaded again while something goes on, where there is no script.
const AGAIN: u32 = 2;
/// How much a gentle check reads in a second, in bytes.
const GENTLE: u64 = 5 << 20;
/// How many bytes of HTML there are for faults.
const FAULTS: usize = 24_000;

#[derive(Template)]
#[template(path = "upkeep.html")]
struct Page {
    frame: Frame,
    job: Option<Shown>,
    is_running: bool,
    grace: String,
    collected: Option<(When, String)>,
}

struct Shown {
    name: &'static str,
    by: String,
    began: When,
    ended: Option<When>,
    state: String,
    percent: Option<u64>,
    outcome: Option<(bool, String)>,
    faults: Section<Line>,
}

/// A fault in words.
struct Line(String);

impl Row for Line {
    fn fixed(&self) -> usize {
        "<li>".len() + super::budget::length(&self.0)
    }

    fn texts(&mut self) -> Vec<&mut String> {
        Vec::new()
    }
}

pub(super) async fn show(visit: &Visit<'_>) -> Result<Response, AdminError> {
    check_may(visit)?;
    let last = visit.admin.desk.jobs.last();
    let is_running = last.as_ref().is_some_and(|job| job.outcome.is_none());
    let store = visit.admin.store.overview().await?;
    let frame = Frame { refresh: is_running.then_some(AGAIN), ..Frame::new(visit, "upkeep") };
    let page = Page {
        frame,
        job: last.map(shown),
        is_running,
        grace: duration(visit.admin.settings.policy.grace),
        collected: store.collected.map(|one| (When::at(one.at), freed(&one.report))),
    };
    render(OK, &page)
}

pub(super) fn collect(visit: &Visit) -> Result<Response, AdminError> {
    check_may(visit)?;
    let policy = visit.admin.settings.policy.clone();
    let begins = visit.admin.desk.jobs.collect(visit.admin.store.clone(), policy, visit.identity.to_string());
    Ok(begun(visit, begins, "collection"))
}

pub(super) fn check(visit: &Visit) -> Result<Response, AdminError> {
    check_may(visit)?;
    let rate = (visit.field("gently") == "on").then_some(GENTLE);
    let begins = visit.admin.desk.jobs.check(visit.admin.store.clone(), rate, visit.identity.to_string());
    Ok(begun(visit, begins, "check"))
}

fn begun(visit: &Visit, begins: bool, what: &str) -> Response {
    if begins {
        log::info!(client:% = visit.surroundings.client, user:% = visit.identity; "a {what} begins, asked for on the admin page");
    }
    see_other(if begins { "/upkeep?done=started" } else { "/upkeep?done=busy" })
}

fn check_may(visit: &Visit) -> Result<(), AdminError> {
    match visit.identity {
        _ if visit.may(&Wanted::Upkeep) => Ok(()),
        Identity::Anonymous => Err(AdminError::NeedsLogin),
        Identity::User(_) => Err(AdminError::Denied("Upkeep is for users who may do everything.")),
    }
}

fn shown(job: Job) -> Shown {
    Shown {
        name: match job.work {
            Work::Collection => "Collection",
            Work::Check => "Check",
        },
        began: When::at(job.began),
        ended: job.ended.map(When::at),
        state: job.state(),
        percent: job.percent(),
        by: job.by,
        outcome: job.outcome,
        faults: Budget::default().show(FAULTS, job.faults.into_iter().map(Line).collect(), job.more_faults),
    }
}
