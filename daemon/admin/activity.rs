//! What happened lately.

use askama::Template;

use super::OK;
use super::error::AdminError;
use super::pages::{Frame, Pager, render, searched};
use super::visit::Visit;
use super::words::{self, When, count};
use crate::access::{Action, Identity, Wanted};
use crate::wire::{Deed, Event, Response};

/// How many events are on a page.
const PAGE: usize = 60;
/// How many bytes of HTML there are for them, and how many of a row are no names.
const ROOM: usize = 34_000;
const ROW: usize = 390;

#[derive(Template)]
#[template(path = "activity.html")]
struct Page {
    frame: Frame,
    search: String,
    events: Vec<Row>,
    summary: String,
    /// Since when events are kept.
    since: When,
    pager: Pager,
}

struct Row {
    when: When,
    deed: &'static str,
    user: String,
    client: String,
    name: String,
    reference: String,
    /// Where that is shown, if it may be there still.
    link: Option<String>,
}

pub(super) fn show(visit: &Visit) -> Result<Response, AdminError> {
    // Names and addresses of others are not for passers-by.
    if visit.identity == Identity::Anonymous && !visit.may(&Wanted::Upkeep) {
        return Err(AdminError::NeedsLogin);
    }
    let permit = visit.permit()?;
    let search = searched(&visit.query);
    let page = Pager::wanted(&visit.query);
    let wanted = |event: &Event| {
        let found = event.repository.as_str().contains(&search) || event.user == search;
        found && permit.may(Action::Pull, &event.repository)
    };
    let events = visit.admin.desk.events.newest(wanted);
    let (total, size) = (events.len(), fitting(&events));
    let since = words::now().saturating_sub(visit.admin.desk.began.elapsed().as_secs());
    let page = Page {
        frame: Frame::new(visit, "activity"),
        events: events.into_iter().skip((page - 1) * size).take(size).map(row).collect(),
        summary: count(total as u64, "event"),
        since: When::at(since),
        pager: Pager::new(page, size, total, "/activity", &[("q", &search)]),
        search,
    };
    render(OK, &page)
}

/// How many of these events a page has: fewer where names are long.
fn fitting(events: &[Event]) -> usize {
    // The repository stands there three times and in a link, what was pushed and pulled of it twice.
    let names =
        |event: &Event| 3 * event.repository.as_str().len() + 2 * event.reference.len() + event.user.len();
    let longest = events.iter().map(names).max().unwrap_or(0);
    (ROOM / (ROW + longest)).clamp(1, PAGE)
}

fn row(event: Event) -> Row {
    let is_digest = event.reference.contains(':');
    let between = if is_digest { '@' } else { ':' };
    let link = format!("/image/{}{between}{}", event.repository, event.reference);
    Row {
        when: When::at(event.at),
        deed: match event.deed {
            Deed::Pushed => "pushed",
            Deed::Pulled => "pulled",
            Deed::Deleted => "deleted",
        },
        user: if event.user == "-" { "nobody in particular".into() } else { event.user },
        client: event.client.to_canonical().to_string(),
        name: event.repository.to_string(),
        reference: if is_digest { event.reference.chars().take(19).collect() } else { event.reference },
        link: (event.deed != Deed::Deleted).then_some(link),
    }
}
