//! The open index: creation, read-only opening, and reads.
//!
//! Opening creates missing tables, takes the transactions from the write-ahead log that LMDB lacks, and saves the store's
//! clock. On a full disk the index opens read-only, so that pulls continue; an index of another format version is
//! refused.

use std::path::Path;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use arc_swap::ArcSwap;
use heed::RwTxn;

use super::deferred::Deferred;
use super::mapping::Env;
use super::preallocation::Preallocation;
use super::table::{Databases, Parts, Snapshot};
use super::transaction::Transaction;
use super::{commit, environment, free_pages, mapping};
use crate::base::Lock;
use crate::store::clock::{ClockRow, StoreClock};
use crate::store::disk::Disk;
use crate::store::error::StoreError;
use crate::store::index::changed_names::ChangedNames;
use crate::store::index::pending::Pending;
use crate::store::index::tables::meta::{self, Meta, VERSION};
use crate::store::index::tables::{ReadTables, Table};
use crate::store::index::wal::{self, Limits, Log, LogRow, Position, Replayed};
use crate::store::index_error::IndexError;
use crate::store::random::random_bytes;

/// The attempts to read pending rows together with the snapshot of LMDB that they belong to: the first without a pause.
const QUICK_ATTEMPTS: u32 = 1000;
const MAX_ATTEMPTS: u32 = QUICK_ATTEMPTS + 200;
const ATTEMPT_PAUSE: Duration = Duration::from_millis(10);

/// The open index. Reads take their own transactions; only the writer thread writes.
pub(in crate::store) struct Index {
    pub(super) env: Env,
    pub(super) databases: Databases,
    pub(in crate::store) clock: StoreClock,
    pub(super) preallocation: Preallocation,
    /// The configured size limit in bytes (`storage.index_map_size`); LMDB's map is larger.
    pub(super) map_size: usize,
    /// The names that changed since `index.json` or its journal was written.
    pub(in crate::store) changed_names: ChangedNames,
    /// The rows that only the log has.
    pub(super) pending: ArcSwap<Pending>,
    /// The log, and the checkpoint that writes its rows to LMDB. Only the thread that writes locks it.
    pub(super) deferred: Lock<Deferred>,
    /// Called before the log loses names that `index.json` and its journal may lack.
    pub(super) save_names: OnceLock<Box<dyn Fn() + Send + Sync>>,
}

/// The parts of an index whose tables are known.
struct Found {
    databases: Databases,
    row: LogRow,
    /// True if LMDB does not have the row, for lack of room.
    is_new: bool,
}

impl Index {
    /// Opens the index, and creates it if it is missing.
    ///
    /// # Errors
    /// [`StoreError::Format`] for another format version, [`StoreError::Index`] for a corrupt index.
    pub(in crate::store) fn open(disk: &Disk, map_size: usize) -> Result<Self, StoreError> {
        Self::open_after(disk, map_size, 0)
    }

    /// As [`Index::open`], for an index that was closed after the transaction with this sequence number.
    ///
    /// # Errors
    /// As [`Index::open`]; [`StoreError::Index`] also if transactions are missing. Nothing is written then.
    pub(in crate::store) fn open_after(disk: &Disk, map_size: usize, last: u64) -> Result<Self, StoreError> {
        let env = environment::open(&disk.index_directory(), map_size, false).map_err(IndexError::from)?;
        env.clear_stale_readers().map_err(IndexError::from)?;
        let preallocation = Preallocation::new(&env).map_err(IndexError::from)?;
        preallocation.refill(&env);
        let found = match Self::initialize(&env, &preallocation) {
            // Pulls work without a write.
            Err(full @ (StoreError::Full | StoreError::PagesHeld)) => {
                Self::find(&env).map_err(|_| full).map(|found| (found, false))
            }
            initialized => initialized.map(|found| (found, true)),
        };
        let (found, has_room) = found?;
        let index = Self::with_log(disk, env, (preallocation, map_size), found, last)?;
        if has_room {
            // The first change that finds room saves the clock.
            match index.save_clock() {
                Err(StoreError::Full | StoreError::PagesHeld | StoreError::IndexFull) | Ok(()) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(index)
    }

    /// Creates missing tables and the row of the log, and takes over an index of an earlier release.
    fn initialize(env: &Env, preallocation: &Preallocation) -> Result<Found, StoreError> {
        let mut txn = env.write_txn().map_err(IndexError::from)?;
        let databases = Databases::create(env, &mut txn).map_err(IndexError::from)?;
        match Databases::meta_row(env, &txn, meta::FORMAT)? {
            Some(VERSION) => {}
            None => databases.put_row(&mut txn, Table::Meta, meta::FORMAT, &VERSION)?,
            Some(earlier) if meta::is_readable(earlier) => {
                // Its tags are indexed later, beside other changes.
                databases.put(&mut txn, Table::Meta, meta::TAGS_INDEXED, b"")?;
                databases.put_row(&mut txn, Table::Meta, meta::FORMAT, &VERSION)?;
            }
            Some(found) => return Err(StoreError::Format { found, known: VERSION }),
        }
        let row = if let Some(row) = Databases::meta_row(env, &txn, meta::LOG)? {
            row
        } else {
            let row = new_log()?;
            databases.put_row(&mut txn, Table::Meta, meta::LOG, &row)?;
            row
        };
        commit::commit(env, preallocation, txn, &databases, &|| ())?;
        Ok(Found { databases, row, is_new: false })
    }

    /// Finds the tables without a write.
    fn find(env: &Env) -> Result<Found, StoreError> {
        let txn = env.read_txn().map_err(IndexError::from)?;
        let databases = Databases::find(env, &txn).map_err(IndexError::from)?;
        let found: Option<LogRow> = Databases::meta_row(env, &txn, meta::LOG)?;
        txn.commit().map_err(IndexError::from)?;
        Ok(Found { databases, row: found.map_or_else(new_log, Ok)?, is_new: found.is_none() })
    }

    /// Returns the index with the transactions that only the log has.
    fn with_log(
        disk: &Disk,
        env: Env,
        (preallocation, map_size): (Preallocation, usize),
        Found { databases, row, is_new }: Found,
        least: u64,
    ) -> Result<Self, StoreError> {
        let (replayed, pending, saved, change) = {
            let snapshot = Snapshot::new(env.read_txn().map_err(IndexError::from)?, &databases);
            let (replayed, pending) = replay(&disk.index_directory(), &snapshot, &row)?;
            let snapshot = snapshot.over(&pending);
            let saved: Option<ClockRow> = snapshot.row(Table::Meta, meta::CLOCK)?;
            (replayed, pending, saved, snapshot.change()?)
        };
        let Replayed { end, last } = replayed;
        if last < least {
            return Err(
                IndexError::Corrupt("the log of its last changes is damaged or missing".into()).into()
            );
        }
        let log = Log::new(&disk.path(""), row.id, Limits::of(map_size), (end, last + 1), pending.count());
        let spans_both = end.segment != row.next.segment;
        Ok(Index {
            clock: StoreClock::start(saved.as_ref())?,
            deferred: Lock::new(Deferred {
                lacks_row: is_new,
                ..Deferred::new(log, change, &pending, spans_both)
            }),
            pending: ArcSwap::from_pointee(pending),
            save_names: OnceLock::new(),
            env,
            databases,
            preallocation,
            map_size,
            changed_names: ChangedNames::default(),
        })
    }

    /// Begins a read. A thread has one at a time, and an old one keeps freed pages from being reused.
    pub(in crate::store) fn read(&self) -> Result<Snapshot<'_>, StoreError> {
        let mut attempts = 0;
        loop {
            let pending = self.pending.load_full();
            let txn = self.databases.noted(self.env.read_txn().map_err(IndexError::from))?;
            let base = txn.id();
            if base == pending.base && Arc::ptr_eq(&pending, &self.pending.load()) {
                return Ok(Snapshot::with(txn, &self.databases, pending));
            }
            drop(txn);
            self.wait_for_pending(&mut attempts, &pending, base);
        }
    }

    /// Waits for the pending rows that belong to a snapshot of LMDB: they are published right after its commit. If none come,
    /// another program has changed LMDB, and the present ones are taken.
    fn wait_for_pending(&self, attempts: &mut u32, pending: &Arc<Pending>, base: usize) {
        *attempts += 1;
        match *attempts {
            0..QUICK_ATTEMPTS => std::thread::yield_now(),
            QUICK_ATTEMPTS..MAX_ATTEMPTS => std::thread::sleep(ATTEMPT_PAUSE),
            _ => {
                *attempts = 0;
                log::warn!("another program has changed the index while it is open");
                self.pending.compare_and_swap(pending, Arc::new(pending.over(base)));
            }
        }
    }

    /// Sets what is called, on the thread that writes the index, before the log loses names that `index.json` and its journal
    /// lack. Only the first call counts.
    pub(in crate::store) fn save_names_by(&self, save: impl Fn() + Send + Sync + 'static) {
        let _ = self.save_names.set(Box::new(save));
    }

    /// Returns the sequence number of the last transaction.
    pub(in crate::store) fn sequence(&self) -> u64 {
        self.pending.load().sequence
    }

    /// Returns the number of rows of LMDB that were read of each table.
    #[cfg(test)]
    pub(in crate::store) fn rows_read(&self) -> Vec<(Table, u64)> {
        self.databases.rows_read()
    }

    /// Releases the reader slots of processes that were killed, which keep LMDB from reusing freed pages.
    pub(in crate::store) fn clear_stale_readers(&self) -> Result<(), StoreError> {
        self.databases.noted(self.env.clear_stale_readers().map_err(IndexError::from))?;
        Ok(())
    }

    /// Returns true if an operation on this index met an error that may come from corruption.
    pub(in crate::store) fn has_failed(&self) -> bool {
        self.databases.have_failed()
    }

    /// Records an error that may come from corruption.
    pub(in crate::store) fn note(&self, error: &IndexError) {
        self.databases.note(error);
    }

    /// Returns the configured size limit of the index, in bytes.
    pub(in crate::store) fn map_size(&self) -> usize {
        self.map_size
    }

    fn push_limit(&self) -> u64 {
        free_pages::push_limit(self.map_size as u64)
    }

    /// Returns the bytes of the index in use, and the bytes that pushes may use.
    pub(in crate::store) fn usage(&self) -> Result<(u64, u64), StoreError> {
        Ok((self.read()?.used()?, self.push_limit()))
    }

    /// Stores a row in a transaction of its own, or removes it, for tests. LMDB has it then.
    #[cfg(test)]
    pub(in crate::store) fn set_row(&self, table: Table, key: &[u8], value: Option<&[u8]>) {
        self.set_rows(table, std::iter::once((key, value)));
    }

    /// As [`Index::set_row`], for several rows in one transaction.
    #[cfg(test)]
    pub(in crate::store) fn set_rows<'a>(
        &self,
        table: Table,
        rows: impl Iterator<Item = (&'a [u8], Option<&'a [u8]>)>,
    ) {
        use crate::store::index::tables::WriteTables;
        let mut tables = self.begin().unwrap();
        for (key, value) in rows {
            match value {
                Some(value) => tables.put(table, key, value).unwrap(),
                None => assert!(tables.delete(table, key).unwrap()),
            }
        }
        self.commit_rows(tables).unwrap();
        self.checkpoint().unwrap();
    }

    /// Commits a transaction of LMDB, and publishes pending rows with it: those of `pending`, over its snapshot.
    pub(super) fn commit_txn(&self, txn: RwTxn, pending: &Pending) -> Result<(), StoreError> {
        let committed = txn.id();
        let publish = || {
            let base = self.env.info().last_txn_id;
            // A commit that failed may have changed nothing.
            if base >= committed {
                self.pending.store(Arc::new(pending.over(base)));
            }
        };
        commit::commit(&self.env, &self.preallocation, txn, &self.databases, &publish)
    }

    /// Begins a transaction after all others. Only the writer thread does.
    pub(super) fn begin(&self) -> Result<Transaction<'_>, StoreError> {
        Ok(Transaction::new(self.read()?, &self.env, &self.preallocation, self.push_limit()))
    }
}

/// Returns the row of an empty log.
fn new_log() -> Result<LogRow, StoreError> {
    Ok(LogRow { id: random_bytes()?, applied: 0, next: Position::default() })
}

/// Returns the pending rows of a log over a snapshot of LMDB.
pub(super) fn replay(
    directory: &Path,
    snapshot: &Snapshot<'_>,
    row: &LogRow,
) -> Result<(Replayed, Pending), StoreError> {
    let mut pending = Pending::empty(snapshot.base(), row.applied);
    let replayed = wal::replay(directory, row, &mut |sequence, table, key, value| {
        let existed = match pending.get(table, key) {
            Some(version) => version.value.is_some(),
            None => snapshot.has_row(table, key)?,
        };
        pending.sequence = sequence;
        pending.set(table, key, value, existed);
        Ok(())
    })?;
    pending.sequence = replayed.last;
    Ok((replayed, pending))
}

/// Creates an index in a file, which stays empty: a test whether the disk and the address space have room for one.
pub(in crate::store) fn try_to_create(file: &Path, map_size: usize) -> Result<(), StoreError> {
    mapping::open_environment_file(file, map_size).map_err(IndexError::from)?;
    Ok(())
}

#[cfg(test)]
mod tests;
