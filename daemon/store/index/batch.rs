//! A batch: the changes of one transaction (group commit), and the state that they share.

use std::collections::BTreeSet;
use std::time::Duration;

use heed::RwTxn;

use super::database::Index;
use super::schema;
use crate::oci::{Algorithm, Digest};
use crate::store::clock::{ClockRow, StoreTime};
use crate::store::disk::Disk;
use crate::store::error::StoreError;

/// The low bits of a sequence number, which number the names of one transaction: it has at most 256 changes of a
/// hundred names each.
const ORDER_BITS: u32 = 16;
/// The interval at which changes save the clock: a power cut loses at most this much store time.
pub(super) const CLOCK_SAVE_INTERVAL: Duration = Duration::from_mins(1);

/// The transaction that changes are applied to.
pub(in crate::store) struct Batch<'a> {
    pub(in crate::store) index: &'a Index,
    pub(in crate::store) disk: &'a Disk,
    pub(in crate::store) txn: RwTxn<'a>,
    /// Wall-clock time, in seconds since 1970.
    pub(in crate::store) wall_time: u64,
    /// Store time.
    pub(in crate::store) store_time: StoreTime,
    /// The blob directories with renames that are not durable yet.
    pub(super) unsynced: BTreeSet<Algorithm>,
    /// True once a change touched a name or link exception, so that `index.json` is out of date.
    pub(super) names_changed: bool,
    /// The number of names that were set in this transaction.
    pub(super) names_set: u64,
    pub(super) attempt: &'a mut Attempt,
}

/// The side effects of a batch outside of its transaction.
#[derive(Default)]
pub(super) struct Attempt {
    /// Blobs that were moved to the trash, and go back if the commit fails.
    pub(super) trashed: Vec<Digest>,
    /// Blobs that the trash had no room for; they are removed after the commit.
    pub(super) unlink: Vec<Digest>,
    /// True once a change makes the index larger.
    pub(super) grows: bool,
}

impl Batch<'_> {
    /// Records a rename in the directory of this algorithm, which is synced before the commit.
    pub(in crate::store) fn renamed(&mut self, algorithm: Algorithm) {
        self.unsynced.insert(algorithm);
    }

    /// Moves a blob to the trash; it is removed for good after the commit. A full disk may have no block for another
    /// directory entry there: then the blob stays in place until the commit.
    pub(in crate::store) fn discard(&mut self, digest: &Digest) -> Result<(), StoreError> {
        match self.disk.move_to_trash(digest) {
            Err(StoreError::Full) => self.attempt.unlink.push(digest.clone()),
            moved => {
                self.attempt.trashed.push(digest.clone());
                moved?;
            }
        }
        Ok(())
    }

    /// Marks `index.json` as out of date.
    pub(in crate::store) fn names_changed(&mut self) {
        self.names_changed = true;
    }

    /// Returns the sequence number of a name that is set now. It rises within the transaction, and from one
    /// transaction to the next with the change number.
    pub(super) fn next_sequence_number(&mut self) -> Result<u64, StoreError> {
        let change = self.index.tables.change(&self.txn)? + 1;
        let order = (change << ORDER_BITS) | self.names_set.min((1 << ORDER_BITS) - 1);
        self.names_set += 1;
        Ok(order)
    }

    /// Saves the clock: after a power cut store time continues from there.
    pub(in crate::store) fn save_clock(&mut self) -> Result<(), StoreError> {
        let meta = self.index.tables.meta;
        schema::put_row(meta, &mut self.txn, schema::CLOCK, &self.index.clock.row())
    }

    /// Saves the clock if its last save is [`CLOCK_SAVE_INTERVAL`] old.
    pub(super) fn save_clock_if_due(&mut self) -> Result<(), StoreError> {
        let kept: Option<ClockRow> = schema::row(self.index.tables.meta, &self.txn, schema::CLOCK)?;
        let old = kept.is_none_or(|row| row.time().age(self.store_time) >= CLOCK_SAVE_INTERVAL);
        if old { self.save_clock() } else { Ok(()) }
    }

    /// Increments the change number, which tells whether `index.json` or a snapshot is newer.
    pub(super) fn increment_change(&mut self) -> Result<(), StoreError> {
        let change = self.index.tables.change(&self.txn)?;
        self.advance_change(change + 1)
    }

    /// Raises the change number to at least `change`.
    pub(in crate::store) fn advance_change(&mut self, change: u64) -> Result<(), StoreError> {
        let change = change.max(self.index.tables.change(&self.txn)?);
        schema::put_row(self.index.tables.meta, &mut self.txn, schema::CHANGE, &change)
    }
}
