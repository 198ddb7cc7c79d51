//! The transaction in which changes are applied: the tables of a snapshot, with the rows that it changes.

use std::collections::BTreeSet;

use heed::RoTxn;

use super::mapping::Env;
use super::preallocation::Preallocation;
use super::table::{Databases, Parts, Snapshot};
use crate::store::index::changed_names::{self, ChangedKey};
use crate::store::index::pending::Pending;
use crate::store::index::tables::{ReadTables, Table, WriteTables};
use crate::store::index::wal::RecordRows;
use crate::store::index_error::IndexError;

/// The transaction, and the parts of the index that it needs. LMDB's own transaction only reads.
pub(super) struct Transaction<'index> {
    snapshot: Snapshot<'index>,
    /// The pending rows of the snapshot, with those of this transaction.
    pending: Pending,
    /// The rows that this transaction has changed.
    touched: BTreeSet<(Table, Box<[u8]>)>,
    pub(super) env: &'index Env,
    pub(super) preallocation: &'index Preallocation,
    /// The part of the size limit of the index that pushes may use, in bytes.
    pub(super) push_limit: u64,
    /// True once a change makes the index larger.
    pub(super) grows: bool,
    /// The names and link exceptions that the transaction changes.
    pub(super) changed: Vec<ChangedKey>,
    /// True if a row that changes cannot be read, so that `changed` lacks names.
    pub(super) has_unknown_names: bool,
}

impl<'index> Transaction<'index> {
    /// Begins the transaction after those of the snapshot.
    pub(super) fn new(
        snapshot: Snapshot<'index>,
        env: &'index Env,
        preallocation: &'index Preallocation,
        push_limit: u64,
    ) -> Self {
        let mut pending = Pending::clone(snapshot.pending());
        pending.sequence += 1;
        Transaction {
            snapshot,
            pending,
            touched: BTreeSet::new(),
            env,
            preallocation,
            push_limit,
            grows: false,
            changed: Vec::new(),
            has_unknown_names: false,
        }
    }

    /// Ends the read of LMDB; returns the pending rows.
    pub(super) fn into_pending(self) -> Pending {
        self.pending
    }

    /// Refuses a change that would use the reserve for deletes.
    pub(super) fn check_usage(&self) -> Result<(), IndexError> {
        if self.used()? > self.push_limit { Err(IndexError::Full) } else { Ok(()) }
    }

    /// Sets the state of a row; returns false if it did not exist until now.
    fn set(&mut self, table: Table, key: &[u8], value: Option<&[u8]>) -> Result<bool, IndexError> {
        if !self.has_table(table) {
            return Err(IndexError::Full);
        }
        let mut changed = std::mem::take(&mut self.changed);
        let before = self.get(table, key)?;
        let is_known = changed_names::note_row(&mut changed, table, key, [before, value]);
        let existed = before.is_some();
        if before != value {
            self.pending.set(table, key, value, existed);
            self.touched.insert((table, key.into()));
        }
        self.changed = changed;
        self.has_unknown_names |= !is_known;
        Ok(existed)
    }

    /// Returns the rows of the transaction for the log.
    pub(super) fn rows(&self) -> Result<RecordRows, IndexError> {
        let mut rows = RecordRows::default();
        for (table, key) in &self.touched {
            let value = self.pending.get(*table, key).and_then(|version| version.value.as_deref());
            rows.add(*table, key, value).map_err(|error| IndexError::Row(error.to_string()))?;
        }
        Ok(rows)
    }
}

impl Parts for Transaction<'_> {
    fn parts(&self) -> (&RoTxn<'_>, &Databases, &Pending) {
        let (txn, databases, _) = self.snapshot.parts();
        (txn, databases, &self.pending)
    }
}

impl WriteTables for Transaction<'_> {
    fn put(&mut self, table: Table, key: &[u8], value: &[u8]) -> Result<(), IndexError> {
        self.set(table, key, Some(value)).map(drop)
    }

    fn delete(&mut self, table: Table, key: &[u8]) -> Result<bool, IndexError> {
        self.set(table, key, None)
    }

    fn check_capacity(&mut self) -> Result<(), IndexError> {
        self.grows = true;
        self.preallocation.check(self.env)?;
        self.check_usage()
    }

    fn has_table(&self, table: Table) -> bool {
        self.parts().1.has(table)
    }

    fn is_nearly_full(&self) -> Result<bool, IndexError> {
        let nearly = self.push_limit - self.push_limit / 8;
        Ok(self.used()? > nearly || self.preallocation.check(self.env).is_err())
    }
}
