//! The event feed: rows of the table `events`, whose keys are numbers that rise without gaps within an epoch.

use std::fmt;
use std::ops::Bound;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::keys;
use super::meta;
use super::port::{ReadTables, Table};
use crate::oci::{Actor, ActorKind, Digest};
use crate::store::clock::StoreTime;
use crate::store::error::StoreError;
use crate::store::index::event::{Cause, Event, EventKind, cleaned};
use crate::store::index_error::IndexError;

/// The longest text in a row, in bytes; all texts have other limits already.
const MAX_TEXT: usize = 256;

/// The position of an event in the feed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct EventId {
    /// The epoch: a random number of the index.
    pub epoch: u64,
    /// The number within the epoch.
    pub number: u64,
}

impl fmt::Display for EventId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}.{}", self.epoch, self.number)
    }
}

/// The text is not the position of an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the id of an event is 16 hexadecimal digits, a dot and a number")]
pub struct ParseEventIdError;

impl FromStr for EventId {
    type Err = ParseEventIdError;

    fn from_str(text: &str) -> Result<Self, ParseEventIdError> {
        let (epoch, number) = text.split_once('.').ok_or(ParseEventIdError)?;
        let is_plain = epoch.len() == 16 && !number.is_empty() && number.bytes().all(|b| b.is_ascii_digit());
        if !is_plain || !epoch.bytes().all(|b| b.is_ascii_hexdigit()) {
            return Err(ParseEventIdError);
        }
        let epoch = u64::from_str_radix(epoch, 16).map_err(|_| ParseEventIdError)?;
        Ok(EventId { epoch, number: number.parse().map_err(|_| ParseEventIdError)? })
    }
}

/// The extent of the feed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::store) struct FeedExtent {
    /// The epoch.
    pub(in crate::store) epoch: u64,
    /// The number of the oldest event; that of the next one if the feed is empty.
    pub(in crate::store) oldest: u64,
    /// The number of the next event.
    pub(in crate::store) next: u64,
}

impl FeedExtent {
    /// Returns true if every event after this position is in the feed.
    pub(in crate::store) fn continues(&self, after: EventId) -> bool {
        after.epoch == self.epoch && after.number < self.next && after.number + 1 >= self.oldest
    }
}

/// A row of the feed. Digests are as in keys.
#[derive(Debug, Serialize, Deserialize)]
pub(in crate::store) struct EventRow {
    /// Store time, by which old events are trimmed.
    pub(in crate::store) since: StoreTime,
    time: u64,
    kind: EventKind,
    repository: Option<String>,
    tag: Option<String>,
    digest: Option<Vec<u8>>,
    before: Option<Vec<u8>>,
    media_type: Option<String>,
    size: u64,
    subject: Option<String>,
    text: Option<String>,
    count: u32,
    cause: Cause,
    actor: (String, ActorKind),
    client: Option<String>,
    agent: Option<String>,
}

impl EventRow {
    /// Returns the row of an event. Its length is bounded: texts are cut.
    pub(in crate::store) fn new(event: &Event, since: StoreTime) -> Self {
        let cut = |text: &Option<String>| text.as_deref().map(|text| cleaned(text, MAX_TEXT));
        EventRow {
            since,
            time: event.time,
            kind: event.kind,
            repository: event.repository.as_ref().map(ToString::to_string),
            tag: event.tag.as_ref().map(ToString::to_string),
            digest: event.digest.as_ref().map(keys::digest_key),
            before: event.before.as_ref().map(keys::digest_key),
            media_type: cut(&event.media_type),
            size: event.size,
            subject: cut(&event.subject),
            text: cut(&event.text),
            count: event.count,
            cause: event.cause.clone(),
            actor: (cleaned(&event.actor.name, MAX_TEXT), event.actor.kind),
            client: cut(&event.client),
            agent: cut(&event.agent),
        }
    }

    /// Returns the event; `None` if the row has an invalid name or digest.
    fn event(self) -> Option<Event> {
        let digest = |key: Option<Vec<u8>>| -> Option<Option<Digest>> {
            let Some(key) = key else { return Some(None) };
            keys::split_digest(&key).map(|(digest, _)| Some(digest))
        };
        let (name, kind) = self.actor;
        Some(Event {
            time: self.time,
            kind: self.kind,
            repository: self.repository.map(|name| name.parse()).transpose().ok()?,
            tag: self.tag.map(|tag| tag.parse()).transpose().ok()?,
            digest: digest(self.digest)?,
            before: digest(self.before)?,
            media_type: self.media_type,
            size: self.size,
            subject: self.subject,
            text: self.text,
            count: self.count,
            cause: self.cause,
            actor: Actor { name, kind },
            client: self.client,
            agent: self.agent,
        })
    }
}

/// Returns the key of an event.
pub(in crate::store) fn event_key(number: u64) -> [u8; 8] {
    number.to_be_bytes()
}

/// Returns the number of the event of a key.
pub(in crate::store) fn event_number(key: &[u8]) -> Result<u64, IndexError> {
    let number = key.try_into().map(u64::from_be_bytes);
    number.map_err(|_| IndexError::Row("a key of the table events is not a number".into()))
}

/// Reads of the feed.
pub(in crate::store) trait FeedReads: ReadTables {
    /// Returns the extent of the feed.
    fn feed_extent(&self) -> Result<FeedExtent, StoreError> {
        let epoch = self.row(Table::Meta, meta::EPOCH)?.unwrap_or_default();
        let next = self.row(Table::Meta, meta::NEXT_EVENT)?.unwrap_or(1);
        let oldest = match self.at_or_after(Table::Events, &event_key(0))? {
            Some((key, _)) => self.noted(event_number(key))?,
            None => next,
        };
        Ok(FeedExtent { epoch, oldest, next })
    }

    /// Calls `visit` with the events whose numbers are greater than `after`, oldest first, until it returns false. At most
    /// `limit` rows are read.
    fn visit_events(
        &self,
        after: u64,
        limit: usize,
        visit: &mut dyn FnMut(u64, Event) -> bool,
    ) -> Result<(), StoreError> {
        let start = event_key(after);
        let range = (Bound::Excluded(&start[..]), Bound::Unbounded);
        for row in self.range(Table::Events, &range)?.take(limit) {
            let (key, value) = row?;
            let number = self.noted(event_number(key))?;
            if !visit(number, self.decode_event(value)?) {
                break;
            }
        }
        Ok(())
    }

    /// Returns an event.
    fn event(&self, number: u64) -> Result<Option<Event>, StoreError> {
        let value = self.get(Table::Events, &event_key(number))?;
        Ok(value.map(|value| self.decode_event(value)).transpose()?)
    }

    /// Decodes the row of an event.
    fn decode_event(&self, value: &[u8]) -> Result<Event, IndexError> {
        let row: EventRow = self.decode(value)?;
        let invalid = || IndexError::Row("an event has an invalid name or digest".into());
        self.noted(row.event().ok_or_else(invalid))
    }
}

impl<T: ReadTables> FeedReads for T {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_parsed_as_they_are_written() {
        let id = EventId { epoch: 0xab, number: 1042 };
        assert_eq!(id.to_string(), "00000000000000ab.1042");
        assert_eq!(id.to_string().parse(), Ok(id));
        for invalid in
            ["", ".", "ab.1", "00000000000000ab.", "00000000000000ab.+1", "+0000000000000ab.1", "x"]
        {
            assert_eq!(invalid.parse::<EventId>(), Err(ParseEventIdError), "{invalid}");
        }
        assert!("00000000000000ab.99999999999999999999".parse::<EventId>().is_err());
    }

    #[test]
    fn a_position_continues_if_no_event_after_it_is_trimmed() {
        let extent = FeedExtent { epoch: 7, oldest: 10, next: 20 };
        let continues = |epoch, number| extent.continues(EventId { epoch, number });
        assert!(continues(7, 9) && continues(7, 10) && continues(7, 19));
        assert!(!continues(7, 8) && !continues(7, 20) && !continues(6, 15));
        let empty = FeedExtent { epoch: 7, oldest: 1, next: 1 };
        assert!(empty.continues(EventId { epoch: 7, number: 0 }));
    }
}
