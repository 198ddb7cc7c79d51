//! Metadata in memory, for tests: a committed state, and transactions that work on a copy of it.

use super::{Applied, Failed, MetadataStore, Transaction, apply_all};
use crate::base::Lock;
use crate::store::clock::{ClockRow, StoreTime};
use crate::store::error::StoreError;
use crate::store::index::changes::Now;
use crate::store::index::tables::memory::Memory;

/// The errors that the next commits meet.
#[derive(Clone, Copy, Debug)]
pub(in crate::store) enum Fault {
    /// The transaction is aborted.
    Abort(fn() -> StoreError),
    /// The commit fails; nothing is changed.
    Lost(fn() -> StoreError),
    /// The commit fails, but the change is durable.
    Kept(fn() -> StoreError),
}

/// Metadata in memory.
#[derive(Default)]
pub(in crate::store) struct MemoryMetadata {
    committed: Lock<Memory>,
    faults: Lock<Vec<Fault>>,
}

impl MemoryMetadata {
    /// Lets the next commits fail in this order.
    pub(in crate::store) fn fail(&self, faults: &[Fault]) {
        *self.faults.lock() = faults.iter().rev().copied().collect();
    }

    /// Returns the committed tables.
    pub(in crate::store) fn tables(&self) -> Memory {
        self.committed.lock().clone()
    }

    /// Changes the committed tables.
    pub(in crate::store) fn change(&self, change: impl FnOnce(&mut Memory)) {
        change(&mut self.committed.lock());
    }
}

impl MetadataStore for MemoryMetadata {
    type Snapshot<'a> = Memory;

    fn snapshot(&self) -> Result<Memory, StoreError> {
        Ok(self.tables())
    }

    fn commit(&self, transaction: &mut Transaction<'_>) -> Result<Applied, Failed> {
        let mut tables = self.tables();
        let store_time = StoreTime::default();
        let clock = ClockRow::at(store_time);
        let now = Now { wall_time: transaction.wall_time, store_time, clock, names_set: 0 };
        let applied = apply_all(&mut tables, transaction, now)?;
        match self.faults.lock().pop() {
            None => {}
            Some(Fault::Abort(error)) => return Err(Failed::Aborted(error())),
            Some(Fault::Lost(error)) => return Err(Failed::Unknown(error())),
            Some(Fault::Kept(error)) => {
                *self.committed.lock() = tables;
                return Err(Failed::Unknown(error()));
            }
        }
        *self.committed.lock() = tables;
        Ok(applied)
    }

    fn check_capacity(&self) -> Result<(), StoreError> {
        use crate::store::index::tables::WriteTables;
        Ok(self.tables().check_capacity()?)
    }

    fn work_deferred(&self) -> Result<bool, StoreError> {
        Ok(false)
    }

    fn release_freed_space(&self) -> Result<(), StoreError> {
        Ok(())
    }

    fn release_dead_readers(&self) {}
}
