//! The event feed: reads of the durable events, the events in memory, and notes.
//!
//! Events of names are written by the changes themselves, in their transactions. This file has the verbs for readers,
//! and for events that no change causes: pulls and failed log-ins, which stay in memory, and notes.

use tokio::sync::watch;

use super::error::StoreError;
use super::index::changes::feed::{FeedBounds, RecordNotes};
use super::index::event::{Event, EventKind, Note, Origin};
use super::index::feed::FailedLogin;
use super::index::tables::daily::DayCounts;
use super::index::tables::feed::{EventId, FeedReads};
use super::inner::Inner;
use super::work::{Cancel, Kind};
use super::{ManifestEntry, Store};
use crate::base::clock::unix_seconds;
use crate::oci::{Reference, RepositoryName};

/// The most rows that one read of the feed visits.
const ROWS_PER_READ: usize = 1000;

/// The durable events among which the recent ones are searched.
const RECENT: usize = 200;

/// An event with its position.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredEvent {
    /// The position.
    pub id: EventId,
    /// The event.
    pub event: Event,
}

/// A page of the feed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EventPage {
    /// The events, oldest first.
    pub events: Vec<StoredEvent>,
    /// The position after which the next page begins. It may have moved although no event matched.
    pub next: EventId,
    /// True if the feed had no further event.
    pub is_last: bool,
}

/// The answer to a read of the feed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum EventsRead {
    /// The events after the position.
    Page(EventPage),
    /// Events after the position are trimmed, or the position is of another index: the reader has missed events.
    Gone {
        /// The position before the oldest event.
        oldest: EventId,
        /// The position of the newest event.
        newest: EventId,
    },
}

/// A part of the activity: durable events and those in memory, newest first.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Activity {
    /// The events of the wanted part.
    pub events: Vec<Event>,
    /// The number of all matching events.
    pub total: usize,
}

impl Store {
    /// Returns the events after a position that `filter` accepts, at most `limit`. Without a position, begins with the
    /// oldest event.
    ///
    /// # Errors
    /// [`StoreError::Index`].
    pub async fn events(
        &self,
        after: Option<EventId>,
        filter: impl Fn(&Event) -> bool + Send + 'static,
        limit: usize,
    ) -> Result<EventsRead, StoreError> {
        let read = move |inner: &Inner, _: &Cancel| page(&inner.index.read()?, after, &filter, limit);
        self.list(Kind::List, read).await
    }

    /// Returns a receiver that is notified after each transaction with events.
    pub fn events_changed(&self) -> watch::Receiver<u64> {
        self.0.feed.subscribe()
    }

    /// Returns the events that `filter` accepts, newest first: `limit` of them after the first `skip`.
    ///
    /// # Errors
    /// [`StoreError::Index`].
    pub async fn activity(
        &self,
        filter: impl Fn(&Event) -> bool + Send + 'static,
        skip: usize,
        limit: usize,
    ) -> Result<Activity, StoreError> {
        let read = move |inner: &Inner, cancel: &Cancel| {
            let mut in_memory = inner.feed.in_memory();
            in_memory.retain(&filter);
            activity(|| inner.index.read(), &in_memory, &filter, (skip, limit), cancel)
        };
        self.list(Kind::List, read).await
    }

    /// Returns the newest events that `filter` accepts, newest first, of the last two hundred durable ones and those in
    /// memory.
    ///
    /// # Errors
    /// [`StoreError::Index`].
    pub async fn recent_events(
        &self,
        filter: impl Fn(&Event) -> bool + Send + 'static,
        limit: usize,
    ) -> Result<Vec<Event>, StoreError> {
        let read = move |inner: &Inner, _: &Cancel| {
            let tables = inner.index.read()?;
            let last = tables.feed_extent()?.next.saturating_sub(1);
            let mut events = inner.feed.in_memory();
            tables.visit_events(last.saturating_sub(RECENT as u64), RECENT, &mut |_, event| {
                events.push(event);
                true
            })?;
            events.retain(&filter);
            events.sort_by_key(|event| event.time);
            events.reverse();
            events.truncate(limit);
            Ok(events)
        };
        self.list(Kind::Page, read).await
    }

    /// Returns the number of events of each kind since the start of the process.
    pub fn event_counts(&self) -> Vec<(EventKind, u64)> {
        self.0.feed.counts()
    }

    /// Writes notes to the feed; durable on return.
    ///
    /// # Errors
    /// [`StoreError::ReadOnly`], [`StoreError::Closing`] or [`StoreError::Index`].
    pub async fn record(&self, notes: Vec<Note>) -> Result<(), StoreError> {
        self.writer()?.submit(RecordNotes(notes)).await
    }

    /// Records a pull of a manifest, in memory.
    pub fn record_pull(
        &self,
        repository: &RepositoryName,
        reference: &Reference,
        entry: &ManifestEntry,
        origin: &Origin,
    ) {
        let tag = match reference {
            Reference::Tag(tag) => Some(tag.clone()),
            Reference::Digest(_) => None,
        };
        self.0.feed.count(DayCounts { pulls: 1, ..DayCounts::default() });
        self.0.feed.remember(Event {
            repository: Some(repository.clone()),
            tag,
            digest: Some(entry.digest.clone()),
            media_type: Some(entry.media_type.to_string()),
            size: entry.size,
            ..Event::new(EventKind::Pull, unix_seconds(), origin)
        });
    }

    /// Counts a failed log-in. It is written to the feed together with others; see [`FailedLogin`].
    pub fn record_failed_login(&self, login: FailedLogin) {
        self.0.feed.note_failed_login(login, unix_seconds());
    }

    /// Replaces the bounds of the feed.
    pub fn set_feed_bounds(&self, bounds: FeedBounds) {
        self.0.feed.set_bounds(bounds);
    }
}

fn page(
    tables: &impl FeedReads,
    after: Option<EventId>,
    filter: &dyn Fn(&Event) -> bool,
    limit: usize,
) -> Result<EventsRead, StoreError> {
    let extent = tables.feed_extent()?;
    let id = |number| EventId { epoch: extent.epoch, number };
    if after.is_some_and(|after| !extent.continues(after)) {
        let (oldest, newest) = (id(extent.oldest - 1), id(extent.next - 1));
        return Ok(EventsRead::Gone { oldest, newest });
    }
    let mut last = after.map_or(extent.oldest - 1, |after| after.number);
    let mut events = Vec::new();
    tables.visit_events(last, ROWS_PER_READ, &mut |number, event| {
        last = number;
        if filter(&event) {
            events.push(StoredEvent { id: id(number), event });
        }
        events.len() < limit
    })?;
    Ok(EventsRead::Page(EventPage { events, next: id(last), is_last: last + 1 >= extent.next }))
}

/// Merges the durable events with those in memory, which are sorted by time and match. Only the times and numbers of the
/// durable ones are held, and each page of them is read in a snapshot of its own.
fn activity<T: FeedReads>(
    snapshot: impl Fn() -> Result<T, StoreError>,
    in_memory: &[Event],
    filter: &dyn Fn(&Event) -> bool,
    (skip, limit): (usize, usize),
    cancel: &Cancel,
) -> Result<Activity, StoreError> {
    let (mut durable, mut last) = (Vec::new(), 0);
    loop {
        cancel.check()?;
        let before = last;
        snapshot()?.visit_events(last, ROWS_PER_READ, &mut |number, event| {
            last = number;
            if filter(&event) {
                durable.push((event.time, number));
            }
            true
        })?;
        if last == before {
            break;
        }
    }
    let total = durable.len() + in_memory.len();
    let (mut durable, mut in_memory) =
        (durable.into_iter().rev().peekable(), in_memory.iter().rev().peekable());
    let (mut events, tables) = (Vec::new(), snapshot()?);
    for place in 0..total.min(skip.saturating_add(limit)) {
        // Each of the two keeps its own order, also if the wall clock was set back in between. In one second a pull
        // usually follows on a push.
        let is_durable = match (durable.peek(), in_memory.peek()) {
            (Some((time, _)), Some(event)) => *time > event.time,
            (first, _) => first.is_some(),
        };
        if is_durable {
            let Some((_, number)) = durable.next() else { break };
            if place >= skip {
                events.extend(tables.event(number)?);
            }
        } else {
            let Some(event) = in_memory.next() else { break };
            if place >= skip {
                events.push(event.clone());
            }
        }
    }
    Ok(Activity { events, total })
}

#[cfg(test)]
mod tests;
