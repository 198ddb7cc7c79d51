//! The durable event feed: events are written in the transaction of the change that they are about, and old ones are
//! trimmed there.
//!
//! A transaction trims a bounded number of events more than it writes, so that the feed shrinks after a lower limit is
//! configured, and a change stays short. While the index or the disk is nearly full, a transaction trims twice as many
//! as it writes, and writes at most [`TIGHT_BYTES`]: an event never takes the room that deletes need. Events beyond that
//! are lost, and a new epoch tells readers so.

use std::ops::Bound;
use std::time::Duration;

use super::applier::Applier;
use super::apply::Apply;
use super::outcome::Now;
use crate::store::error::StoreError;
use crate::store::index::event::{Event, EventKind, Note};
use crate::store::index::tables::daily::{Day, DayCounts};
use crate::store::index::tables::feed::{EventRow, FeedReads, event_key, event_number};
use crate::store::index::tables::{Table, WriteTables, meta};
use crate::store::index_error::IndexError;

/// The number of events that a transaction trims beyond those that it writes.
const TRIM: u64 = 256;
/// The most bytes of events in a transaction while the index is nearly full.
const TIGHT_BYTES: usize = 64 << 10;

/// The bounds of the feed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FeedBounds {
    /// The most events.
    pub keep: u64,
    /// The age after which an event is trimmed, in store time.
    pub age: Duration,
}

impl Default for FeedBounds {
    fn default() -> Self {
        FeedBounds { keep: 10_000, age: Duration::from_hours(30 * 24) }
    }
}

/// The part of the feed and of the daily totals in a transaction.
#[derive(Debug, Default)]
pub(in crate::store) struct FeedInput {
    /// The bounds.
    pub(in crate::store) bounds: FeedBounds,
    /// Events that wait in memory for the next transaction.
    pub(in crate::store) pending: Vec<Event>,
    /// Counts for the rows of their days.
    pub(in crate::store) days: Vec<(Day, DayCounts)>,
}

/// The events that a transaction wrote.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(in crate::store) struct Written {
    /// The number of events of each kind, in the order of `EventKind::ALL`.
    pub(in crate::store) counts: [u64; EventKind::ALL.len()],
    /// The number of the next event, if the feed has changed.
    pub(in crate::store) next: Option<u64>,
}

/// Writes the events of one transaction.
pub(in crate::store) struct FeedWriter<'a> {
    now: &'a Now,
    bounds: FeedBounds,
    /// The first number of the transaction, and the next one; `None` before the first event.
    numbers: Option<(u64, u64)>,
    bytes: usize,
    is_tight: bool,
    /// True if an event had no room.
    has_lost: bool,
    written: Written,
}

impl<'a> FeedWriter<'a> {
    /// Begins with a transaction.
    pub(in crate::store) fn new(now: &'a Now, bounds: FeedBounds) -> Self {
        let written = Written::default();
        FeedWriter { now, bounds, numbers: None, bytes: 0, is_tight: false, has_lost: false, written }
    }

    /// Writes events.
    pub(in crate::store) fn append(
        &mut self,
        tables: &mut impl WriteTables,
        events: &[Event],
    ) -> Result<(), StoreError> {
        for event in events {
            let (first, next) = match self.numbers {
                Some(numbers) => numbers,
                None => self.begin(tables)?,
            };
            let row = postcard::to_allocvec(&EventRow::new(event, self.now.store_time));
            let row = tables.noted(row.map_err(|error| IndexError::Row(error.to_string())))?;
            self.bytes += row.len();
            if self.is_tight && self.bytes > TIGHT_BYTES {
                self.has_lost = true;
                continue;
            }
            tables.put(Table::Events, &event_key(next), &row)?;
            self.numbers = Some((first, next + 1));
            self.written.counts[event.kind as usize] += 1;
        }
        Ok(())
    }

    fn begin(&mut self, tables: &impl WriteTables) -> Result<(u64, u64), StoreError> {
        let next = tables.feed_extent()?.next;
        self.is_tight = tables.is_nearly_full()?;
        self.numbers = Some((next, next));
        Ok((next, next))
    }

    /// Trims the feed and records its end. With `always`, also if no event was written.
    pub(in crate::store) fn finish(
        mut self,
        tables: &mut impl WriteTables,
        always: bool,
    ) -> Result<Written, StoreError> {
        if self.numbers.is_none() && !always {
            return Ok(self.written);
        }
        let (first, next) = match self.numbers {
            Some(numbers) => numbers,
            None => self.begin(tables)?,
        };
        self.trim(tables, first, next - first)?;
        if self.has_lost {
            let epoch: u64 = tables.row(Table::Meta, meta::EPOCH)?.unwrap_or_default();
            tables.put_row(Table::Meta, meta::EPOCH, &epoch.wrapping_add(1))?;
        }
        if next > first || self.has_lost {
            tables.put_row(Table::Meta, meta::NEXT_EVENT, &next)?;
            self.written.next = Some(next);
        }
        Ok(self.written)
    }

    /// Removes old events whose numbers are below `first`.
    fn trim(&self, tables: &mut impl WriteTables, first: u64, written: u64) -> Result<(), StoreError> {
        let mut excess = tables.len(Table::Events)?.saturating_sub(self.bounds.keep);
        if self.is_tight {
            excess = excess.max(2 * written + TRIM);
        }
        let most = if self.is_tight { 2 * written + TRIM } else { written + TRIM };
        let mut old: Vec<u64> = Vec::new();
        for row in tables.range(Table::Events, &(Bound::Unbounded, Bound::Excluded(&event_key(first)[..])))? {
            let (key, value) = row?;
            let count = old.len() as u64;
            if count >= most {
                break;
            }
            if count >= excess {
                let row: EventRow = tables.decode(value)?;
                if row.since.age(self.now.store_time) < self.bounds.age {
                    break;
                }
            }
            old.push(tables.noted(event_number(key))?);
        }
        for number in old {
            tables.delete(Table::Events, &event_key(number))?;
        }
        Ok(())
    }
}

/// Writes notes to the feed.
#[derive(Debug)]
pub(in crate::store) struct RecordNotes(pub(in crate::store) Vec<Note>);

impl Apply for RecordNotes {
    type Reply = ();

    fn apply<T: WriteTables>(&self, to: &mut Applier<'_, T>) -> Result<(), StoreError> {
        to.emit_notes(&self.0);
        Ok(())
    }
}

#[cfg(test)]
mod tests;
