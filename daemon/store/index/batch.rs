//! A batch: the changes of one transaction, and the state that they share.

use std::collections::BTreeSet;
use std::time::Duration;

use heed::RwTxn;

use super::database::Index;
use super::schema;
use crate::oci::{Algorithm, Digest};
use crate::store::clock::{ClockRow, Moment};
use crate::store::disk::Disk;
use crate::store::error::StoreError;

/// The bits of an order that count within a transaction: one has at most [`QUEUE`] changes with a hundred names each.
const ORDER_BITS: u32 = 16;
/// How much of the clock's time a power cut may take back while changes go on.
pub(super) const CLOCK_SAVE_INTERVAL: Duration = Duration::from_mins(1);

/// What a change works on: the transaction of its batch.
pub(in crate::store) struct Batch<'a> {
    pub(in crate::store) index: &'a Index,
    pub(in crate::store) disk: &'a Disk,
    pub(in crate::store) txn: RwTxn<'a>,
    /// Seconds since 1970.
    pub(in crate::store) now: u64,
    /// Now, in the time that ages are measured in.
    pub(in crate::store) moment: Moment,
    /// The directories of blobs whose names are not yet on the medium.
    pub(super) unsynced: BTreeSet<Algorithm>,
    /// Whether a name that `index.json` has is another now.
    pub(super) names_changed: bool,
    /// How many names were given in this transaction.
    pub(super) given: u64,
    pub(super) attempt: &'a mut Attempt,
}

/// What a batch has done outside its transaction, and what is to be done when it is committed.
#[derive(Default)]
pub(super) struct Attempt {
    /// Blobs that were moved to the trash.
    pub(super) discarded: Vec<Digest>,
    /// Blobs that the trash had no room for: they are removed after the commit.
    pub(super) unlink: Vec<Digest>,
    /// Whether a change makes the index larger.
    pub(super) grows: bool,
}

impl Batch<'_> {
    /// Notes that a blob of this algorithm got its name and is durable only after a sync of its directory.
    pub(in crate::store) fn renamed(&mut self, algorithm: Algorithm) {
        self.unsynced.insert(algorithm);
    }

    /// Moves a blob to the trash, for good once this is committed. A full disk may have no block for another name in
    /// the trash; the blob stays where it is until the commit then.
    pub(in crate::store) fn discard(&mut self, digest: &Digest) -> Result<(), StoreError> {
        match self.disk.discard(digest) {
            Err(StoreError::Full) => self.attempt.unlink.push(digest.clone()),
            moved => {
                self.attempt.discarded.push(digest.clone());
                moved?;
            }
        }
        Ok(())
    }

    /// Notes that `index.json` has to be written again.
    pub(in crate::store) fn names_changed(&mut self) {
        self.names_changed = true;
    }

    /// Returns the place of a name that is given now among all names: it rises within the transaction, and from one
    /// transaction to the next with the number of the change.
    pub(super) fn next_sequence_number(&mut self) -> Result<u64, StoreError> {
        let change = self.index.tables.change(&self.txn)? + 1;
        let order = (change << ORDER_BITS) | self.given.min((1 << ORDER_BITS) - 1);
        self.given += 1;
        Ok(order)
    }

    /// Keeps the clock: after a power cut it goes on from there.
    pub(in crate::store) fn keep_clock(&mut self) -> Result<(), StoreError> {
        let meta = self.index.tables.meta;
        schema::put_row(meta, &mut self.txn, schema::CLOCK, &self.index.clock.row())
    }

    pub(super) fn save_clock_if_due(&mut self) -> Result<(), StoreError> {
        let kept: Option<ClockRow> = schema::row(self.index.tables.meta, &self.txn, schema::CLOCK)?;
        let old = kept.is_none_or(|row| row.moment().age(self.moment) >= CLOCK_SAVE_INTERVAL);
        if old { self.keep_clock() } else { Ok(()) }
    }

    /// Counts a change of names, so that of `index.json` and a snapshot it can be said which is newer.
    pub(super) fn increment_change(&mut self) -> Result<(), StoreError> {
        let change = self.index.tables.change(&self.txn)?;
        self.advance_change(change + 1)
    }

    /// Lets the changes of names be counted from a number on.
    pub(in crate::store) fn advance_change(&mut self, change: u64) -> Result<(), StoreError> {
        let change = change.max(self.index.tables.change(&self.txn)?);
        schema::put_row(self.index.tables.meta, &mut self.txn, schema::CHANGE, &change)
    }
}
