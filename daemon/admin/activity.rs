//! The recent pushes, pulls and deletes.

use askama::Template;

use super::error::AdminError;
use super::format::When;
use super::limits::{NAME, shorten};
use super::pager::{Pager, page_of, search_text};
use super::pages::{Frame, render};
use super::request::AdminRequest;
use super::response::OK;
use crate::access::{Action, Identity, Operation};
use crate::base::clock;
use crate::base::human::count;
use crate::wire::{Event, EventKind, Response};

/// The events on a page.
const ROWS: usize = 30;
/// The length to which a digest is cut: the algorithm and twelve digits.
const SHORT_DIGEST: usize = 19;

#[derive(Template)]
#[template(path = "activity.html")]
struct Page {
    frame: Frame,
    search: String,
    events: Vec<Row>,
    summary: String,
    /// The start of the daemon, which events are recorded from.
    since: When,
    pager: Pager,
}

struct Row {
    when: When,
    action: &'static str,
    user: String,
    client: String,
    repository: String,
    /// The name of the repository as far as it is shown.
    name: String,
    reference: String,
    /// The address of the image; none for a deleted one.
    link: Option<String>,
}

/// Shows the events that the user may see.
pub(super) fn show(request: &AdminRequest) -> Result<Response, AdminError> {
    // Anonymous readers do not see the names and addresses of other users.
    if request.identity == Identity::Anonymous && !request.may(&Operation::Maintenance) {
        return Err(AdminError::NeedsLogin);
    }
    let permit = request.permit()?;
    let search = search_text(&request.query);
    let page = Pager::wanted(&request.query);
    let events = request.admin.state.events.newest(|event: &Event| {
        let is_found = event.repository.as_str().contains(&search) || event.user == search;
        is_found && permit.may(Action::Pull, &event.repository)
    });
    let total = events.len();
    let since = clock::unix_seconds().saturating_sub(request.admin.state.started.elapsed().as_secs());
    let page = Page {
        frame: Frame::new(request, "activity"),
        events: page_of(events, page, ROWS).into_iter().map(row).collect(),
        summary: count(total, "event"),
        since: When::at(since),
        pager: Pager::new(page, ROWS, total, "/activity", &[("q", &search)]),
        search,
    };
    render(OK, &page)
}

fn row(event: Event) -> Row {
    let is_digest = event.reference.contains(':');
    let separator = if is_digest { '@' } else { ':' };
    let link = format!("/image/{}{separator}{}", event.repository, event.reference);
    let (action, link) = match event.kind {
        EventKind::Pushed => ("pushed", Some(link)),
        EventKind::Pulled => ("pulled", Some(link)),
        EventKind::Deleted => ("deleted", None),
    };
    Row {
        when: When::at(event.at),
        action,
        user: if event.user == "-" { "anonymous".into() } else { event.user },
        client: event.client.to_canonical().to_string(),
        name: shorten(event.repository.as_str(), NAME),
        repository: event.repository.to_string(),
        reference: if is_digest {
            event.reference.chars().take(SHORT_DIGEST).collect()
        } else {
            event.reference
        },
        link,
    }
}

#[cfg(test)]
mod tests {
    use super::super::worst_case;
    use super::*;

    #[test]
    fn largest_page_is_small() {
        for reference in [worst_case::tag(0).to_string(), worst_case::digest().to_string()] {
            let event = |number| Event {
                at: 0,
                kind: EventKind::Deleted,
                user: "u".repeat(64),
                client: "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff".parse().unwrap(),
                repository: worst_case::name(number),
                reference: reference.clone(),
            };
            let row = |number| row(Event { kind: EventKind::Pulled, ..event(number) });
            let search = "\"".repeat(128);
            worst_case::assert_small(&Page {
                frame: worst_case::frame(),
                events: (0..ROWS).map(row).collect(),
                summary: "1000 events".into(),
                since: When::at(0),
                pager: Pager::new(20, ROWS, 1000, "/activity", &[("q", &search)]),
                search,
            });
        }
    }
}
