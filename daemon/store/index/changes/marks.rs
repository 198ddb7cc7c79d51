//! Changes of single values: marks, the clock and the change number.

use super::applier::{self, Applier};
use super::apply::Apply;
use crate::store::error::StoreError;
use crate::store::index::tables::{Table, WriteTables, meta};

/// Sets or clears the collection hold: while it is set, only the operator starts a collection.
#[derive(Debug)]
pub(in crate::store) struct HoldCollection(pub(in crate::store) bool);

impl Apply for HoldCollection {
    type Reply = ();

    fn apply<T: WriteTables>(&self, to: &mut Applier<'_, T>) -> Result<(), StoreError> {
        if self.0 {
            to.tables.put(Table::Meta, meta::HOLD, &[])?;
        } else {
            to.tables.delete(Table::Meta, meta::HOLD)?;
        }
        // `index.json` carries the hold to a rebuilt index.
        to.names_changed();
        Ok(())
    }
}

/// Marks the index as complete. An index without the mark is rebuilt when it is opened.
#[derive(Debug)]
pub(in crate::store) struct MarkComplete;

impl Apply for MarkComplete {
    type Reply = ();

    fn apply<T: WriteTables>(&self, to: &mut Applier<'_, T>) -> Result<(), StoreError> {
        Ok(to.tables.put(Table::Meta, meta::COMPLETE, &[])?)
    }
}

/// Saves the clock, and trims the event feed: a collection and the end of the process begin with this change.
#[derive(Debug)]
pub(in crate::store) struct SaveClock;

impl Apply for SaveClock {
    type Reply = ();

    fn apply<T: WriteTables>(&self, to: &mut Applier<'_, T>) -> Result<(), StoreError> {
        to.trim_feed();
        applier::save_clock(to.tables, to.now)
    }
}

/// Raises the change number of a new index to that of `index.json`, and saves the clock, which was set before.
#[derive(Debug)]
pub(in crate::store) struct StartRebuild {
    pub(in crate::store) change: u64,
}

impl Apply for StartRebuild {
    type Reply = ();

    fn apply<T: WriteTables>(&self, to: &mut Applier<'_, T>) -> Result<(), StoreError> {
        applier::advance_change(to.tables, self.change)?;
        applier::save_clock(to.tables, to.now)
    }
}
