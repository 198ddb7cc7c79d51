//! The activity: the events of the feed, and the pulls in memory.

use askama::Template;

use super::error::AdminError;
use super::format::When;
use super::limits::{NAME, shorten};
use super::pager::{Pager, search_text};
use super::pages::{Frame, render};
use super::request::AdminRequest;
use super::response::OK;
use crate::access::{Action, Identity, Operation, Permit};
use crate::base::clock;
use crate::base::human::count;
use crate::oci::{Actor, ActorKind};
#[cfg(test)]
use crate::store::Origin;
use crate::store::{Activity, Cause, Event, EventKind};
use crate::wire::Response;

/// The events on a page.
const ROWS: usize = 30;
/// The length to which a digest is cut: the algorithm and twelve digits.
const SHORT_DIGEST: usize = 19;
/// The longest name of an actor, and the longest address.
const SHORT: usize = 64;

/// The choices of the filter by kind: value and name.
const KINDS: [(&str, &str); 6] = [
    ("", "All events"),
    ("push", "Pushes"),
    ("pull", "Pulls"),
    ("delete", "Deletions"),
    ("user", "Users and log-ins"),
    ("maintenance", "Maintenance"),
];
/// The choices of the filter by time: value, name and seconds.
const PERIODS: [(&str, &str, Option<u64>); 5] = [
    ("", "Any time", None),
    ("1h", "Last hour", Some(3600)),
    ("1d", "Last 24 hours", Some(86400)),
    ("7d", "Last 7 days", Some(7 * 86400)),
    ("30d", "Last 30 days", Some(30 * 86400)),
];

#[derive(Template)]
#[template(path = "activity.html")]
struct Page {
    frame: Frame,
    search: String,
    /// The choices of both filters: value, name, and whether it is chosen.
    kinds: Vec<(&'static str, &'static str, bool)>,
    periods: Vec<(&'static str, &'static str, bool)>,
    events: Vec<Row>,
    summary: String,
    /// The start of the daemon, which pulls are recorded from.
    since: When,
    pager: Pager,
}

/// An event as a row of a list.
pub(super) struct Row {
    pub(super) when: When,
    pub(super) action: String,
    pub(super) user: String,
    client: String,
    /// The repository; `None` for an event about none.
    pub(super) repository: Option<String>,
    /// The name of the repository, or the subject, as far as it is shown.
    pub(super) name: String,
    /// The tag or the digest, or what happened to the subject.
    pub(super) reference: String,
    /// The address of the image; none for a deleted one.
    pub(super) link: Option<String>,
}

/// Shows the events that the user may see.
pub(super) async fn show(request: &AdminRequest<'_>) -> Result<Response, AdminError> {
    let sees_all = request.may(&Operation::Maintenance);
    // Anonymous readers do not see the names and addresses of other users.
    if request.identity == Identity::Anonymous && !sees_all {
        return Err(AdminError::NeedsLogin);
    }
    let permit = request.permit()?;
    let (search, number) = (search_text(&request.query), Pager::wanted(&request.query));
    let chosen = |name, choices: &[&'static str]| {
        let wanted = request.query.get(name);
        choices.iter().find(|choice| Some(**choice) == wanted).copied().unwrap_or_default()
    };
    let (kind, period) =
        (chosen("kind", &KINDS.map(|kind| kind.0)), chosen("since", &PERIODS.map(|one| one.0)));
    let oldest = oldest(period, clock::unix_seconds());
    let wanted = {
        let search = search.clone();
        move |event: &Event| {
            event.time >= oldest
                && is_of_kind(event.kind, kind)
                && is_found(event, &search)
                && may_see(event, &permit, sees_all)
        }
    };
    let Activity { events, total } = request.admin.store.activity(wanted, (number - 1) * ROWS, ROWS).await?;
    let since = clock::unix_seconds().saturating_sub(request.admin.state.started.elapsed().as_secs());
    let page = Page {
        frame: Frame::new(request, "activity"),
        events: events.into_iter().map(row).collect(),
        summary: count(total, "event"),
        since: When::at(since),
        pager: Pager::new(
            number,
            ROWS,
            total,
            "/activity",
            &[("q", &search), ("kind", kind), ("since", period)],
        ),
        kinds: KINDS.map(|(value, name)| (value, name, value == kind)).into(),
        periods: PERIODS.map(|(value, name, _)| (value, name, value == period)).into(),
        search,
    };
    page.pager.check_page(number)?;
    render(OK, &page)
}

/// Returns the time from which on a period shows events.
fn oldest(period: &str, now: u64) -> u64 {
    let chosen = PERIODS.iter().find(|(value, _, _)| *value == period);
    chosen.and_then(|(_, _, seconds)| *seconds).map_or(0, |seconds| now.saturating_sub(seconds))
}

/// Returns true if the filter shows events of a kind.
fn is_of_kind(kind: EventKind, filter: &str) -> bool {
    let value = match kind {
        EventKind::Push | EventKind::Tag => "push",
        EventKind::Pull => "pull",
        EventKind::Untag | EventKind::Delete | EventKind::Evict | EventKind::Expire => "delete",
        EventKind::User | EventKind::Login => "user",
        EventKind::Repair | EventKind::Job | EventKind::State => "maintenance",
    };
    filter.is_empty() || filter == value
}

/// Returns true if a reader may see an event: one about a repository that the reader may pull from, or, with the right to
/// maintenance, one about users, log-ins, jobs and the state of the registry.
pub(super) fn may_see(event: &Event, permit: &Permit, sees_all: bool) -> bool {
    match &event.repository {
        Some(repository) => permit.may(Action::Pull, repository),
        None => sees_all,
    }
}

/// Returns true if an event is about this text: a part of the repository's name, or a user.
fn is_found(event: &Event, search: &str) -> bool {
    let in_repository = event.repository.as_ref().is_some_and(|name| name.as_str().contains(search));
    let actor = if event.actor.kind == ActorKind::Anonymous { "-" } else { &event.actor.name };
    search.is_empty() || in_repository || actor == search || event.subject.as_deref() == Some(search)
}

/// Returns the row of an event.
pub(super) fn row(event: Event) -> Row {
    let (action, is_there) = action(&event);
    let digest = event.digest.as_ref().map(ToString::to_string);
    let reference = match (&event.tag, &digest) {
        (Some(tag), _) => Some((':', tag.to_string())),
        (None, Some(digest)) => Some(('@', digest.clone())),
        (None, None) => None,
    };
    let link = match (&event.repository, &reference) {
        (Some(repository), Some((separator, reference))) if is_there => {
            Some(format!("/image/{repository}{separator}{reference}"))
        }
        _ => None,
    };
    let shown = match (reference, event.text) {
        (Some(('@', digest)), _) => digest.chars().take(SHORT_DIGEST).collect(),
        (Some((_, tag)), _) => tag,
        (None, text) => shorten(&text.unwrap_or_default(), NAME),
    };
    let repository = event.repository.map(|name| name.to_string());
    let name = shorten(repository.as_deref().or(event.subject.as_deref()).unwrap_or_default(), NAME);
    // The text about a job or a log-in is a sentence of its own.
    let has_sentence = matches!(event.kind, EventKind::Job | EventKind::Login) && !shown.is_empty();
    Row {
        when: When::at(event.time),
        action,
        user: user(&event.actor),
        client: event.client.map_or_else(|| by(&event.cause), |client| shorten(&client, SHORT)),
        name: if has_sentence { format!("{name}:") } else { name },
        reference: shown,
        link,
        repository,
    }
}

/// Returns what happened, and whether the image is still likely to be there.
fn action(event: &Event) -> (String, bool) {
    let text = match event.kind {
        EventKind::Push => ("pushed", true),
        EventKind::Tag if event.before.is_some() => ("moved tag", true),
        EventKind::Tag => ("tagged", true),
        EventKind::Pull => ("pulled", true),
        EventKind::Untag => ("deleted tag", false),
        EventKind::Delete => ("deleted", false),
        EventKind::Evict => ("evicted", false),
        EventKind::Expire if event.tag.is_some() => ("expired tag", false),
        EventKind::Expire => ("expired", false),
        EventKind::Repair => ("repaired", false),
        EventKind::User => ("changed user", false),
        EventKind::Login => {
            let times = usize::try_from(event.count).unwrap_or(usize::MAX);
            return (format!("{} failed", count(times, "log-in")), false);
        }
        EventKind::Job => ("ended job", false),
        EventKind::State => ("changed state", false),
    };
    (text.0.to_owned(), text.1)
}

fn user(actor: &Actor) -> String {
    let name = shorten(&actor.name, SHORT);
    match actor.kind {
        ActorKind::User | ActorKind::Robot => name,
        ActorKind::Anonymous => "anonymous".into(),
        ActorKind::Local => format!("{name} (local)"),
        ActorKind::System => "the registry".into(),
    }
}

/// Returns the cause of an event without a client.
fn by(cause: &Cause) -> String {
    match cause {
        Cause::Retention => "by retention".into(),
        Cause::Gc => "by collection".into(),
        Cause::Import => "by import".into(),
        Cause::Sync(rule) => shorten(&format!("by sync {rule}"), SHORT),
        Cause::Mirror(name) => shorten(&format!("by mirror {name}"), SHORT),
        Cause::Control => "by the command line".into(),
        Cause::Htpasswd => "in the htpasswd file".into(),
        Cause::Api | Cause::Admin | Cause::System => String::new(),
    }
}

#[cfg(test)]
pub(super) mod testing {
    use super::super::worst_case;
    use super::*;

    /// Returns a row whose texts are the longest.
    pub(crate) fn largest_row(number: usize) -> Row {
        let actor = Actor { name: "u".repeat(64), kind: ActorKind::Local };
        let client = Some("ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff".into());
        let origin = Origin { cause: Cause::Api, actor, client, agent: None };
        row(Event {
            repository: Some(worst_case::name(number)),
            tag: Some(worst_case::tag(number)),
            ..Event::new(EventKind::Pull, 0, &origin)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::super::worst_case;
    use super::*;
    use crate::oci::Digest;

    fn event(kind: EventKind) -> Event {
        let actor = Actor { name: "u".repeat(64), kind: ActorKind::Local };
        let client = Some("ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff".into());
        Event::new(kind, 0, &Origin { cause: Cause::Api, actor, client, agent: None })
    }

    #[test]
    fn largest_page_is_small() {
        let with_tag = |number| Event {
            repository: Some(worst_case::name(number)),
            tag: Some(worst_case::tag(number)),
            ..event(EventKind::Pull)
        };
        let with_digest = |number| Event {
            repository: Some(worst_case::name(number)),
            digest: Some(worst_case::digest()),
            ..event(EventKind::Push)
        };
        let about_state = |_| Event {
            subject: Some("\"".repeat(256)),
            text: Some("\"".repeat(256)),
            count: u32::MAX,
            cause: Cause::Mirror("\"".repeat(256)),
            actor: Actor { name: "\"".repeat(256), kind: ActorKind::Local },
            client: None,
            ..event(EventKind::Login)
        };
        let worst: [&dyn Fn(usize) -> Event; 3] = [&with_tag, &with_digest, &about_state];
        for worst in worst {
            let search = "\"".repeat(128);
            worst_case::assert_small(&Page {
                frame: worst_case::frame(),
                kinds: KINDS.map(|(value, name)| (value, name, true)).into(),
                periods: PERIODS.map(|(value, name, _)| (value, name, true)).into(),
                events: (0..ROWS).map(|number| row(worst(number))).collect(),
                summary: "100000 events".into(),
                since: When::at(0),
                pager: Pager::new(20, ROWS, 100_000, "/activity", &[("q", &search)]),
                search,
            });
        }
    }

    #[test]
    fn only_images_that_are_there_have_a_link() {
        let digest: Digest = worst_case::digest();
        for kind in EventKind::ALL {
            let tag = Some("1".parse().unwrap());
            let name = Some("a".parse().unwrap());
            let row = row(Event { repository: name, tag, digest: Some(digest.clone()), ..event(kind) });
            let is_there = matches!(kind, EventKind::Push | EventKind::Tag | EventKind::Pull);
            assert_eq!(row.link.is_some(), is_there, "{kind:?}");
        }
    }

    #[test]
    fn filters_select_by_kind_and_time() {
        for kind in EventKind::ALL {
            let filters = KINDS.iter().filter(|(value, _)| is_of_kind(kind, value)).count();
            assert_eq!(filters, 2, "{kind:?} has all events and one filter");
        }
        assert_eq!((oldest("", 100), oldest("1h", 5000), oldest("7d", 100)), (0, 1400, 0));
    }

    #[test]
    fn events_are_found_by_repository_and_user() {
        let by_alice = Event {
            repository: Some("team/app".parse().unwrap()),
            actor: Actor { name: "alice".into(), kind: ActorKind::User },
            ..event(EventKind::Push)
        };
        assert!(["", "am/ap", "alice"].iter().all(|search| is_found(&by_alice, search)));
        assert!(["ali", "-", "bob"].iter().all(|search| !is_found(&by_alice, search)));
        let about_bob = Event { subject: Some("bob".into()), ..event(EventKind::User) };
        assert!(is_found(&about_bob, "bob") && is_found(&about_bob, "") && !is_found(&about_bob, "b"));
        let anonymous = Actor { name: String::new(), kind: ActorKind::Anonymous };
        assert!(is_found(&Event { actor: anonymous, ..event(EventKind::Pull) }, "-"));
    }
}
