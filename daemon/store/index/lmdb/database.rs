//! The open index: creation, read-only opening, and commits.
//!
//! Opening creates missing tables and saves the store's clock. On a full disk the index opens read-only, so that
//! pulls continue; an index of another format version is refused.

use std::path::Path;

use heed::{Env, RwTxn};

use super::preallocation::Preallocation;
use super::table::{Databases, Snapshot};
use super::transaction::Transaction;
use super::{commit, environment, free_pages, mapping};
use crate::store::clock::{ClockRow, StoreClock};
use crate::store::disk::Disk;
use crate::store::error::StoreError;
use crate::store::index::changed_names::ChangedNames;
use crate::store::index::changes::Now;
use crate::store::index::metadata_store::{self, Applied, Failed, MetadataStore};
use crate::store::index::tables::meta::{self, Meta, VERSION};
use crate::store::index::tables::{ReadTables, Table, WriteTables};
use crate::store::index_error::IndexError;

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
}

impl Index {
    /// Opens the index, and creates it if it is missing.
    ///
    /// # Errors
    /// [`StoreError::Format`] for another format version, [`StoreError::Index`] for a corrupt index.
    pub(in crate::store) fn open(disk: &Disk, map_size: usize) -> Result<Self, StoreError> {
        let env = environment::open(&disk.index_directory(), map_size, false).map_err(IndexError::from)?;
        env.clear_stale_readers().map_err(IndexError::from)?;
        let preallocation = Preallocation::new(&env).map_err(IndexError::from)?;
        preallocation.refill(&env);
        match Self::initialize(&env, &preallocation) {
            Ok((databases, clock)) => {
                let changed_names = ChangedNames::default();
                Ok(Index { env, databases, clock, preallocation, map_size, changed_names })
            }
            // Pulls work without a write; the first change that finds room saves the clock.
            Err(full @ (StoreError::Full | StoreError::PagesHeld)) => {
                Self::open_found(env, map_size).map_err(|_| full)
            }
            Err(error) => Err(error),
        }
    }

    /// Creates missing tables and saves the clock at once, so that another process on the same index shares the same
    /// time.
    fn initialize(env: &Env, preallocation: &Preallocation) -> Result<(Databases, StoreClock), StoreError> {
        let mut txn = env.write_txn().map_err(IndexError::from)?;
        let databases = Databases::create(env, &mut txn).map_err(IndexError::from)?;
        match Databases::meta_row(env, &txn, meta::FORMAT)? {
            None => databases.put_row(&mut txn, Table::Meta, meta::FORMAT, &VERSION)?,
            Some(VERSION) => {}
            Some(found) => return Err(StoreError::Format { found, known: VERSION }),
        }
        let saved: Option<ClockRow> = Databases::meta_row(env, &txn, meta::CLOCK)?;
        let clock = StoreClock::start(saved.as_ref())?;
        databases.put_row(&mut txn, Table::Meta, meta::CLOCK, &clock.row())?;
        commit::commit(env, preallocation, txn, &databases)?;
        Ok((databases, clock))
    }

    fn open_found(env: Env, map_size: usize) -> Result<Self, StoreError> {
        let databases = {
            let txn = env.read_txn().map_err(IndexError::from)?;
            let databases = Databases::find(&env, &txn).map_err(IndexError::from)?;
            txn.commit().map_err(IndexError::from)?;
            databases
        };
        let saved: Option<ClockRow> = {
            let snapshot = Snapshot::new(env.read_txn().map_err(IndexError::from)?, &databases);
            snapshot.row(Table::Meta, meta::CLOCK)?
        };
        let clock = StoreClock::start(saved.as_ref())?;
        let preallocation = Preallocation::new(&env).map_err(IndexError::from)?;
        let changed_names = ChangedNames::default();
        Ok(Index { env, databases, clock, preallocation, map_size, changed_names })
    }

    /// Begins a read. A thread has one at a time, and an old one keeps freed pages from being reused.
    pub(in crate::store) fn read(&self) -> Result<Snapshot<'_>, StoreError> {
        let txn = self.databases.noted(self.env.read_txn().map_err(IndexError::from))?;
        Ok(Snapshot::new(txn, &self.databases))
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

    /// Commits a transaction of its own tables. Once this returns `Ok`, the change survives a power cut.
    ///
    /// # Errors
    /// [`StoreError::Index`] when the disk fails. After [`StoreError::Full`] and [`StoreError::OutOfResources`] the
    /// change may be durable or not, as after a power cut.
    /// Stores a row in a transaction of its own, or removes it, for tests.
    #[cfg(test)]
    pub(in crate::store) fn set_row(&self, table: Table, key: &[u8], value: Option<&[u8]>) {
        let mut tables = self.begin().unwrap();
        match value {
            Some(value) => tables.put(table, key, value).unwrap(),
            None => assert!(tables.delete(table, key).unwrap()),
        }
        self.commit_txn(tables.txn).unwrap();
    }

    pub(super) fn commit_txn(&self, txn: RwTxn) -> Result<(), StoreError> {
        commit::commit(&self.env, &self.preallocation, txn, &self.databases)
    }

    /// Begins the write transaction; waits for that of another process.
    pub(super) fn begin(&self) -> Result<Transaction<'_>, StoreError> {
        let txn = self.databases.noted(self.env.write_txn().map_err(IndexError::from))?;
        Ok(Transaction {
            txn,
            env: &self.env,
            databases: &self.databases,
            preallocation: &self.preallocation,
            limits: (self.map_size as u64, self.push_limit()),
            grows: false,
            changed: Vec::new(),
            has_unknown_names: false,
        })
    }
}

impl MetadataStore for Index {
    type Snapshot<'a> = Snapshot<'a>;

    fn snapshot(&self) -> Result<Snapshot<'_>, StoreError> {
        self.read()
    }

    fn commit(&self, changes: &mut metadata_store::Transaction<'_>) -> Result<Applied, Failed> {
        // Blocks for the next transaction are allocated while none is open.
        self.preallocation.refill(&self.env);
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
        tables.reserve_free_pages()?;
        // Before the commit, so that no snapshot has a change whose names are not noted.
        let names = std::mem::take(&mut tables.changed);
        self.changed_names.add(names, tables.has_unknown_names, tables.change()?);
        self.commit_txn(tables.txn).map_err(|error| {
            // A failed write of the meta page closes LMDB's environment for writes until it is opened again, whatever
            // the error was; a failed sync of that page does not. Opening a transaction tells which it was.
            let may_pass = error.is_lack_of_resources() || error.is_lack_of_space();
            let refused = if may_pass { self.begin().err() } else { None };
            Failed::Unknown(refused.unwrap_or(error))
        })?;
        Ok(applied)
    }

    fn check_capacity(&self) -> Result<(), StoreError> {
        self.preallocation.check(&self.env)?;
        let (used, limit) = self.usage()?;
        if used > limit { Err(StoreError::IndexFull) } else { Ok(()) }
    }

    fn release_freed_space(&self) -> Result<(), StoreError> {
        let mut transaction = self.begin()?;
        transaction.put_row(Table::Meta, meta::CLOCK, &self.clock.row())?;
        self.commit_txn(transaction.txn)
    }

    fn release_dead_readers(&self) {
        // The next attempt of the change reports an error.
        let _ = self.env.clear_stale_readers();
    }
}

/// Creates an index in a file, which stays empty: a test whether the disk and the address space have room for one.
pub(in crate::store) fn try_to_create(file: &Path, map_size: usize) -> Result<(), StoreError> {
    mapping::open_environment_file(file, map_size).map_err(IndexError::from)?;
    Ok(())
}
