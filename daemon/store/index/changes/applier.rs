//! The frame in which a change is applied: the tables, the moment, and what the change causes beside its rows.

use std::time::Duration;

use super::outcome::{FileActions, Now};
use crate::oci::{Digest, RepositoryName, Tag};
use crate::store::clock::ClockRow;
use crate::store::error::StoreError;
use crate::store::index::event::{Cause, Event, EventKind, Note, Origin};
use crate::store::index::tables::meta::{self, Meta};
use crate::store::index::tables::{Table, WriteTables};

/// The low bits of a sequence number, which number the names of one transaction: pushes set at most 256 times a hundred
/// names, and an import few more. Names beyond these bits share the last number.
const ORDER_BITS: u32 = 16;
/// The interval at which changes save the clock: a power cut loses at most this much store time.
pub(in crate::store) const CLOCK_SAVE_INTERVAL: Duration = Duration::from_mins(1);

/// Begins a transaction: saves the clock if its last save is [`CLOCK_SAVE_INTERVAL`] old.
pub(in crate::store) fn begin(tables: &mut impl WriteTables, now: &Now) -> Result<(), StoreError> {
    let saved: Option<ClockRow> = tables.row(Table::Meta, meta::CLOCK)?;
    let is_old = saved.is_none_or(|row| row.time().age(now.store_time) >= CLOCK_SAVE_INTERVAL);
    if is_old { save_clock(tables, now) } else { Ok(()) }
}

/// Ends a transaction that changed names: increments the change number, which tells whether `index.json` or a snapshot
/// is newer, and saves the clock. After a power cut, no name is younger than the saved clock, and names that are set
/// then are newer than all others.
pub(in crate::store) fn end_with_names(tables: &mut impl WriteTables, now: &Now) -> Result<(), StoreError> {
    let change = tables.change()?;
    advance_change(tables, change + 1)?;
    save_clock(tables, now)
}

/// Saves the clock: after a power cut store time continues from there.
pub(super) fn save_clock(tables: &mut impl WriteTables, now: &Now) -> Result<(), StoreError> {
    Ok(tables.put_row(Table::Meta, meta::CLOCK, &now.clock)?)
}

/// Raises the change number to at least `change`.
pub(super) fn advance_change(tables: &mut impl WriteTables, change: u64) -> Result<(), StoreError> {
    let change = change.max(tables.change()?);
    Ok(tables.put_row(Table::Meta, meta::CHANGE, &change)?)
}

/// A change that is being applied.
pub(in crate::store) struct Applier<'a, T> {
    pub(super) tables: &'a mut T,
    pub(super) now: &'a Now,
    origin: &'a Origin,
    pub(super) events: Vec<Event>,
    pub(super) files: FileActions,
    pub(super) names_set: u64,
    pub(super) trims_feed: bool,
    /// True if the change writes no events.
    is_muted: bool,
}

/// The object of an event.
pub(super) struct Object<'a> {
    pub(super) repository: &'a RepositoryName,
    pub(super) tag: Option<&'a Tag>,
    pub(super) digest: &'a Digest,
    pub(super) before: Option<Digest>,
    pub(super) media_type: Option<&'a str>,
    pub(super) size: u64,
}

impl<'a, T: WriteTables> Applier<'a, T> {
    pub(super) fn new(tables: &'a mut T, now: &'a Now, origin: &'a Origin) -> Self {
        let (events, files) = (Vec::new(), FileActions::default());
        Applier {
            tables,
            now,
            origin,
            events,
            files,
            names_set: now.names_set,
            trims_feed: false,
            is_muted: false,
        }
    }

    /// Has the file of a blob removed after the commit; its row is removed already.
    pub(super) fn unlink(&mut self, digest: &Digest) {
        self.files.unlink.push(digest.clone());
    }

    /// Marks `index.json` as out of date.
    pub(super) fn names_changed(&mut self) {
        self.files.names_changed = true;
    }

    /// Returns the sequence number of a name that is set now. It rises within the transaction, and from one
    /// transaction to the next with the change number.
    pub(super) fn next_sequence_number(&mut self) -> Result<u64, StoreError> {
        let change = self.tables.change()? + 1;
        let order = (change << ORDER_BITS) | self.names_set.min((1 << ORDER_BITS) - 1);
        self.names_set += 1;
        Ok(order)
    }

    /// Writes no events from here on: the change restores names that were set before.
    pub(super) fn mute(&mut self) {
        self.is_muted = true;
    }

    /// Writes an event with the origin of the change.
    pub(super) fn emit(&mut self, kind: EventKind, object: Object<'_>) {
        let cause = self.origin.cause.clone();
        self.emit_by(cause, kind, object);
    }

    /// Writes an event with another cause than that of the change.
    pub(super) fn emit_by(&mut self, cause: Cause, kind: EventKind, object: Object<'_>) {
        if self.is_muted {
            return;
        }
        let Object { repository, tag, digest, before, media_type, size } = object;
        let event = Event {
            repository: Some(repository.clone()),
            tag: tag.cloned(),
            digest: Some(digest.clone()),
            before,
            media_type: media_type.map(str::to_owned),
            size,
            cause,
            ..Event::new(kind, self.now.wall_time, self.origin)
        };
        self.events.push(event);
    }

    /// Writes an event about the content of all repositories.
    pub(super) fn emit_content(
        &mut self,
        kind: EventKind,
        repository: Option<&RepositoryName>,
        digest: &Digest,
    ) {
        let event = Event::new(kind, self.now.wall_time, self.origin);
        self.events.push(Event { repository: repository.cloned(), digest: Some(digest.clone()), ..event });
    }

    /// Has old events trimmed even if none is written.
    pub(super) fn trim_feed(&mut self) {
        self.trims_feed = true;
    }

    /// Writes the events of notes.
    pub(super) fn emit_notes(&mut self, notes: &[Note]) {
        let time = self.now.wall_time;
        self.events.extend(notes.iter().map(|note| note.event(time)));
    }
}
