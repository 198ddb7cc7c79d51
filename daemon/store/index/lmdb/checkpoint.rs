//! Commits: small transactions go to the write-ahead log, large ones to LMDB; and checkpoints, which write the rows of many
//! logged transactions to LMDB.
//!
//! A checkpoint works in steps of bounded size, between which the writer commits other changes. Its rows stay pending until its
//! last step is durable, so that readers see the same before, during and after it, and so that a power cut in between finds
//! them in the log. The last step writes the [`LogRow`]. The records before that are not needed any more, and the log
//! continues over them once its other segment is full.

use std::sync::Arc;

use heed::RwTxn;

use super::database::Index;
use super::deferred::Deferred;
use super::free_pages;
use super::transaction::Transaction;
use crate::store::error::StoreError;
use crate::store::index::changes::{self, Now};
use crate::store::index::metadata_store::{self, Applied, Failed, MetadataStore};
use crate::store::index::pending::{Pending, Version};
use crate::store::index::tables::meta::{self, Meta};
use crate::store::index::tables::{ReadTables, Table, WriteTables};
use crate::store::index::wal::{AppendError, LogRow};
use crate::store::index_error::IndexError;

/// The rows that one step of a checkpoint writes.
const ROWS_OF_STEP: usize = 256;
/// The tags of an index of an earlier release that one transaction indexes.
const TAGS_OF_STEP: usize = 256;

impl Index {
    /// Writes all pending rows to LMDB.
    pub(in crate::store) fn checkpoint(&self) -> Result<(), StoreError> {
        self.checkpoint_all(&mut self.deferred.lock())
    }

    /// Returns the number of pending rows.
    pub(in crate::store) fn pending_rows(&self) -> usize {
        self.pending.load().count()
    }

    /// Saves the store's clock.
    pub(super) fn save_clock(&self) -> Result<(), StoreError> {
        let mut tables = self.begin()?;
        tables.put_row(Table::Meta, meta::CLOCK, &self.clock.row())?;
        self.commit_rows(tables).map_err(Failed::into_error)
    }

    fn checkpoint_all(&self, deferred: &mut Deferred) -> Result<(), StoreError> {
        while self.step(deferred)? {}
        let pending = self.pending.load_full();
        if !pending.is_empty() {
            deferred.begin_checkpoint(pending);
        }
        while self.step(deferred)? {}
        Ok(())
    }

    /// Writes some rows of the running checkpoint. Returns true if it goes on.
    fn step(&self, deferred: &mut Deferred) -> Result<bool, StoreError> {
        let Some(checkpoint) = &deferred.checkpoint else { return Ok(false) };
        // Blocks for the next transaction are allocated while none is open.
        self.preallocation.refill(&self.env);
        let mut pending = Pending::clone(&self.pending.load());
        let mut txn = self.write_txn()?;
        let (mut count, mut last) = (0, None);
        for (table, key, version) in checkpoint.rows.after(checkpoint.position.as_ref()).take(ROWS_OF_STEP) {
            let existed = self.merge_row(&mut txn, table, key, version)?;
            pending.merged(table, version, existed);
            (count, last) = (count + 1, Some((table, Box::from(key))));
        }
        let is_last = count < ROWS_OF_STEP;
        if is_last {
            self.databases.put_row(&mut txn, Table::Meta, meta::LOG, &checkpoint.row)?;
        }
        free_pages::reserve_free_pages(&self.env, &self.databases, &mut txn, self.map_size as u64)?;
        self.commit_step(txn, &pending)?;
        if is_last {
            for (table, key, _) in checkpoint.rows.after(None) {
                pending.forget_until(table, key, checkpoint.row.applied);
            }
            pending.base = self.pending.load().base;
            self.pending.store(Arc::new(pending));
            deferred.checkpoint = None;
            self.preallocation.refill(&self.env);
        } else if let Some(checkpoint) = &mut deferred.checkpoint {
            checkpoint.position = last;
        }
        deferred.is_unsure = false;
        Ok(!is_last)
    }

    fn write_txn(&self) -> Result<RwTxn<'_>, StoreError> {
        Ok(self.databases.noted(self.env.write_txn().map_err(IndexError::from))?)
    }

    /// Writes the state of one row to LMDB. Returns true if LMDB had the row before.
    fn merge_row(
        &self,
        txn: &mut RwTxn,
        table: Table,
        key: &[u8],
        version: &Version,
    ) -> Result<bool, StoreError> {
        let existed = self.databases.has_row(txn, table, key)?;
        match &version.value {
            Some(value) => self.databases.put(txn, table, key, value)?,
            None if existed => drop(self.databases.delete(txn, table, key)?),
            None => {}
        }
        Ok(existed)
    }

    /// Commits a transaction of LMDB; tells an error that closes LMDB's environment from one that passes.
    fn commit_step(&self, txn: RwTxn, pending: &Pending) -> Result<(), StoreError> {
        self.commit_txn(txn, pending).map_err(|error| {
            // A failed write of the meta page closes LMDB's environment for writes until it is opened again, whatever
            // the error was; a failed sync of that page does not. Opening a transaction tells which it was.
            let may_pass = error.is_lack_of_resources() || error.is_lack_of_space();
            let refused = if may_pass { self.write_txn().err() } else { None };
            refused.unwrap_or(error)
        })
    }

    /// Commits a transaction. Once this returns `Ok`, it survives a power cut.
    pub(super) fn commit_rows(&self, tables: Transaction<'_>) -> Result<(), Failed> {
        let rows = tables.rows().map_err(StoreError::from)?;
        let mut changed = tables.into_pending();
        if rows.is_empty() {
            return Ok(());
        }
        let deferred = &mut *self.deferred.lock();
        if deferred.is_unsure {
            self.commit_unchanged()?;
            deferred.is_unsure = false;
            // Those of the commit that was unsure, and of the segment that is overwritten next.
            deferred.change_before = self.read()?.change()?;
            self.save_names_until(deferred.change_before);
            changed = self.rebase(&changed)?;
        }
        if !deferred.log.takes(&rows) || deferred.lacks_row {
            return self.commit_to_lmdb(deferred, &changed);
        }
        let mut appended = deferred.log.append(&rows);
        if matches!(appended, Err(AppendError::NoRoom)) && !deferred.log.has_failed_record {
            self.switch(deferred)?;
            changed = self.rebase(&changed)?;
            appended = deferred.log.append(&rows);
        }
        match appended {
            Ok(()) => {
                self.pending.store(Arc::new(changed));
                Ok(())
            }
            Err(AppendError::NoRoom) => self.commit_to_lmdb(deferred, &changed),
            Err(AppendError::Aborted(error)) => Err(Failed::Aborted(error)),
            Err(AppendError::Unknown(error)) => Err(Failed::Unknown(error)),
        }
    }

    /// Returns the pending rows with those of the last transaction of `changed`, after a checkpoint has changed them.
    fn rebase(&self, changed: &Pending) -> Result<Pending, StoreError> {
        let snapshot = self.read()?;
        let mut pending = Pending::clone(snapshot.pending());
        pending.sequence = changed.sequence;
        for (table, key, version) in changed.of_last() {
            let existed = snapshot.get(table, key)?.is_some();
            pending.set(table, key, version.value.as_deref(), existed);
        }
        Ok(pending)
    }

    /// Continues the log in its other segment, and begins to write the rows of the full one to LMDB.
    fn switch(&self, deferred: &mut Deferred) -> Result<(), StoreError> {
        // The records of the other segment are overwritten.
        while self.step(deferred)? {}
        self.save_names_until(deferred.change_before);
        deferred.change_before = self.read()?.change()?;
        let pending = self.pending.load_full();
        deferred.log.switch(pending.sequence + 1);
        deferred.begin_checkpoint(pending);
        Ok(())
    }

    /// Has all names up to this change number written to `index.json` or its journal, before the log loses them.
    fn save_names_until(&self, change: u64) {
        if self.changed_names.saved() < change
            && let Some(save) = self.save_names.get()
        {
            save();
        }
    }

    /// Commits the rows of one large transaction to LMDB, or of any if the log has no room on the disk.
    fn commit_to_lmdb(&self, deferred: &mut Deferred, changed: &Pending) -> Result<(), Failed> {
        self.checkpoint_all(deferred)?;
        let sequence = changed.sequence;
        let row = LogRow { id: deferred.log.id, applied: sequence, next: deferred.log.end.other() };
        self.preallocation.refill(&self.env);
        let mut txn = self.write_txn()?;
        for (table, key, version) in changed.of_last() {
            self.merge_row(&mut txn, table, key, version)?;
        }
        self.databases.put_row(&mut txn, Table::Meta, meta::LOG, &row).map_err(StoreError::from)?;
        self.databases
            .put_row(&mut txn, Table::Meta, meta::FORMAT, &self.databases.version)
            .map_err(StoreError::from)?;
        free_pages::reserve_free_pages(&self.env, &self.databases, &mut txn, self.map_size as u64)?;
        let mut pending = Pending::clone(&self.pending.load());
        pending.sequence = sequence;
        let committed = self.commit_step(txn, &pending);
        // After a failed sync LMDB may have the transaction all the same: the next record has to come after it.
        if self.sequence() == sequence {
            deferred.log.switch(sequence + 1);
            deferred.is_unsure = committed.is_err();
            deferred.lacks_row &= committed.is_err();
        }
        committed.map_err(Failed::Unknown)?;
        // The log does not have its names, and is about to lose those of the other segment.
        deferred.change_before = self.read()?.change()?;
        self.save_names_until(deferred.change_before);
        Ok(())
    }

    /// Commits LMDB without a change of rows: the pages that the previous commit freed can be used by the next, and
    /// everything before is durable.
    fn commit_unchanged(&self) -> Result<(), StoreError> {
        self.preallocation.refill(&self.env);
        let mut txn = self.write_txn()?;
        // Any row makes LMDB write pages; this one stays as it is.
        self.databases.put_row(&mut txn, Table::Meta, meta::FORMAT, &self.databases.version)?;
        let pending = self.pending.load_full();
        self.commit_step(txn, &pending)
    }

    /// Indexes some tags of an index of an earlier release. Returns true if that goes on.
    fn index_more_tags(&self) -> Result<bool, StoreError> {
        if self.read()?.get(Table::Meta, meta::TAGS_INDEXED)?.is_none() {
            return Ok(false);
        }
        let mut tables = self.begin()?;
        changes::index_more_tags(&mut tables, TAGS_OF_STEP)?;
        let is_last = tables.get(Table::Meta, meta::TAGS_INDEXED)?.is_none();
        self.commit_rows(tables).map_err(Failed::into_error)?;
        if is_last {
            log::info!("the tags of an earlier release are indexed by their digests and times");
        }
        Ok(!is_last)
    }

    /// Applies changes in a transaction and commits it.
    fn try_commit(&self, changes: &mut metadata_store::Transaction<'_>) -> Result<Applied, Failed> {
        let mut tables = self.begin()?;
        let now = Now {
            wall_time: changes.wall_time,
            store_time: self.clock.now(),
            clock: self.clock.row(),
            names_set: 0,
        };
        let applied = metadata_store::apply_all(&mut tables, changes, now);
        changes.grows = tables.grows;
        let applied = applied?;
        if tables.grows {
            // A single push may be large.
            tables.check_usage().map_err(StoreError::from)?;
        }
        // Before the commit, so that no snapshot has a change whose names are not noted.
        let names = std::mem::take(&mut tables.changed);
        self.changed_names.add(names, tables.has_unknown_names, tables.change()?);
        self.commit_rows(tables)?;
        Ok(applied)
    }
}

impl MetadataStore for Index {
    type Snapshot<'a> = super::table::Snapshot<'a>;

    fn snapshot(&self) -> Result<Self::Snapshot<'_>, StoreError> {
        self.read()
    }

    fn commit(&self, changes: &mut metadata_store::Transaction<'_>) -> Result<Applied, Failed> {
        match self.try_commit(changes) {
            // The pending rows are counted with more than they need: a checkpoint may make room.
            Err(Failed::Aborted(StoreError::IndexFull)) if self.pending_rows() > 0 => {
                self.checkpoint()?;
                self.try_commit(changes)
            }
            committed => committed,
        }
    }

    fn check_capacity(&self) -> Result<(), StoreError> {
        self.preallocation.check(&self.env)?;
        let is_full = || self.usage().map(|(used, limit)| used > limit);
        if !is_full()? {
            return Ok(());
        }
        if self.pending_rows() > 0 {
            self.checkpoint()?;
        }
        if is_full()? { Err(StoreError::IndexFull) } else { Ok(()) }
    }

    fn work_deferred(&self) -> Result<bool, StoreError> {
        let goes_on = self.step(&mut self.deferred.lock())?;
        Ok(goes_on || self.index_more_tags()?)
    }

    fn release_freed_space(&self) -> Result<(), StoreError> {
        self.commit_unchanged()
    }

    fn release_dead_readers(&self) {
        // The next attempt of the change reports an error.
        let _ = self.env.clear_stale_readers();
    }
}

#[cfg(test)]
mod tests;
