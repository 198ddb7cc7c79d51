//! `events`: the event feed, one event on each line, oldest first.
//!
//! ```text
//! {"id":"EPOCH.1042","time":"2026-11-25T20:31:07Z","kind":"tag","repository":"team/app","tag":"1.4","digest":"sha256:...",...}
//! ```
//!
//! `after=ID` continues after an event, `kind=K` and `repository=PATTERN` select events, and `follow=1` keeps the stream open.
//! A reader whose position is trimmed, or of another index, gets 410 with the positions before the oldest and of the newest
//! event: it has missed events, and lists the names again.

use bytes::Bytes;
use http::StatusCode;
use serde::Serialize;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;
use tokio::sync::mpsc;

use super::body::Body;
use super::error::ControlError;
use super::request::Request;
use crate::oci::{Actor, Pattern, RepositoryName, Tag};
use crate::store::{Event, EventId, EventKind, EventPage, EventsRead, Store, StoredEvent};

type Answer = Result<http::Response<Body>, ControlError>;

/// Events that one read of the store returns.
const PAGE: usize = 100;
/// Lines that wait for the peer.
const WAITING_LINES: usize = 64;
/// Maximum length of a pattern, in bytes: no name is longer.
const MAX_PATTERN: usize = 512;

/// An event as JSON.
#[derive(Serialize)]
struct Line<'a> {
    id: String,
    time: String,
    kind: EventKind,
    #[serde(skip_serializing_if = "Option::is_none")]
    repository: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    tag: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    digest: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    before: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    media_type: Option<&'a str>,
    #[serde(skip_serializing_if = "is_zero")]
    size: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    subject: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    text: Option<&'a str>,
    count: u32,
    actor: &'a Actor,
    #[serde(skip_serializing_if = "Option::is_none")]
    client: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    agent: Option<&'a str>,
    cause: String,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes a reference")]
fn is_zero(size: &u64) -> bool {
    *size == 0
}

/// The events that a request wants.
#[derive(Clone)]
struct Wanted {
    repository: Option<Pattern>,
    kind: Option<EventKind>,
}

impl Wanted {
    fn of(request: &Request) -> Result<Self, ControlError> {
        let pattern = request.query.get("repository");
        if pattern.is_some_and(|pattern| pattern.len() > MAX_PATTERN) {
            return Err(ControlError::malformed("the parameter repository is too long"));
        }
        let kind = request.query.get("kind").map(|name| {
            let kind = EventKind::ALL.into_iter().find(|kind| kind.name() == name);
            kind.ok_or_else(|| ControlError::malformed(format!("there is no kind of event {name:?}")))
        });
        Ok(Wanted { repository: pattern.map(|text| Pattern::from(text.to_owned())), kind: kind.transpose()? })
    }

    fn matches(&self, event: &Event) -> bool {
        let is_of_kind = self.kind.is_none_or(|kind| kind == event.kind);
        is_of_kind
            && match (&self.repository, &event.repository) {
                (None, _) => true,
                (Some(pattern), Some(name)) => pattern.matches(name.as_str()),
                (Some(_), None) => false,
            }
    }

    async fn read(&self, store: &Store, after: Option<EventId>) -> Result<EventsRead, ControlError> {
        let wanted = self.clone();
        Ok(store.events(after, move |event| wanted.matches(event), PAGE).await?)
    }
}

/// `GET events?after=ID&repository=PATTERN&kind=K&follow=1`
pub(super) async fn events(request: Request) -> Answer {
    let wanted = Wanted::of(&request)?;
    let after = request.query.get("after").map(str::parse::<EventId>).transpose();
    let after = after.map_err(|error| ControlError::malformed(format!("the parameter after: {error}")))?;
    let (store, follows) = (request.host.store().clone(), request.query.get("follow") == Some("1"));
    // Before the first read, so that no event between the two is missed.
    let mut changed = store.events_changed();
    let mut page = match wanted.read(&store, after).await? {
        EventsRead::Page(page) => page,
        EventsRead::Gone { oldest, newest } => return Err(gone(oldest, newest)),
    };
    let (lines, receiver) = mpsc::channel(WAITING_LINES);
    tokio::spawn(async move {
        loop {
            let EventPage { events, next, is_last } = page;
            for one in &events {
                if lines.send(line(one)).await.is_err() {
                    return;
                }
            }
            if is_last && !follows {
                return;
            }
            if is_last {
                let is_open = tokio::select! {
                    changed = changed.changed() => changed.is_ok(),
                    () = lines.closed() => false,
                };
                if !is_open {
                    return;
                }
            }
            // A reader that is slower than the trimming of the feed has missed events: its stream ends, and the next request
            // gets 410.
            page = match wanted.read(&store, Some(next)).await {
                Ok(EventsRead::Page(page)) => page,
                Ok(EventsRead::Gone { .. }) | Err(_) => return,
            };
        }
    });
    Ok(Body::lines(receiver))
}

fn gone(oldest: EventId, newest: EventId) -> ControlError {
    let message = format!("events after this position are not kept; oldest {oldest}, newest {newest}");
    ControlError::new(StatusCode::GONE, "gone", message)
        .with_hint("list the names again, then continue after the newest event")
}

fn line(StoredEvent { id, event }: &StoredEvent) -> Bytes {
    let seconds = i64::try_from(event.time).unwrap_or_default();
    let time = OffsetDateTime::from_unix_timestamp(seconds).unwrap_or(OffsetDateTime::UNIX_EPOCH);
    let line = Line {
        id: id.to_string(),
        time: time.format(&Rfc3339).unwrap_or_default(),
        kind: event.kind,
        repository: event.repository.as_ref().map(RepositoryName::as_str),
        tag: event.tag.as_ref().map(Tag::as_str),
        digest: event.digest.as_ref().map(ToString::to_string),
        before: event.before.as_ref().map(ToString::to_string),
        media_type: event.media_type.as_deref(),
        size: event.size,
        subject: event.subject.as_deref(),
        text: event.text.as_deref(),
        count: event.count,
        actor: &event.actor,
        client: event.client.as_deref(),
        agent: event.agent.as_deref(),
        cause: event.cause.to_string(),
    };
    let mut text = serde_json::to_vec(&line).unwrap_or_default();
    text.push(b'\n');
    text.into()
}
