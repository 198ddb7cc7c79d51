//! What happened lately.

use askama::Template;

use super::OK;
use super::error::AdminError;
use super::pages::{Frame, Pager, render};
use super::visit::Visit;
use super::words::{When, count};
use crate::access::{Action, Identity, Wanted};
use crate::wire::{Deed, Event, Response};

/// How many events are on a page.
const PAGE: usize = 60;

#[derive(Template)]
#[template(path = "activity.html")]
struct Page {
    frame: Frame,
    search: String,
    events: Vec<Row>,
    summary: String,
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
    let search = visit.query.get("q").unwrap_or_default().trim().to_owned();
    let page = Pager::wanted(&visit.query);
    let wanted = |event: &Event| {
        let found = event.repository.as_str().contains(&search) || event.user == search;
        found && permit.may(Action::Pull, &event.repository)
    };
    let (events, total) = visit.admin.desk.events.newest((page - 1) * PAGE, PAGE, wanted);
    let page = Page {
        frame: Frame::new(visit, "activity"),
        events: events.into_iter().map(row).collect(),
        summary: count(total as u64, "event"),
        pager: Pager::new(page, PAGE, total, "/activity", &[("q", &search)]),
        search,
    };
    render(OK, &page)
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
