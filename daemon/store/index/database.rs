//! The open index: creation, read-only opening, and commits.
//!
//! Opening creates missing tables and saves the store's clock. On a full disk the index opens read-only, so that
//! pulls continue; an index of another format version is refused.

use std::sync::Arc;

use heed::{Env, RoTxn, RwTxn, WithTls};

use super::preallocation::Preallocation;
use super::rows::RepositoryRow;
use super::schema::{self, Tables, VERSION};
use super::watches::{Watch, Watches};
use super::{commit, environment};
use crate::oci::{Digest, RepositoryName};
use crate::store::clock::StoreClock;
use crate::store::disk::Disk;
use crate::store::error::StoreError;

/// The open index. Reads take their own transactions; only the writer thread writes.
pub(in crate::store) struct Index {
    pub(in crate::store) env: Env,
    pub(in crate::store) tables: Tables,
    pub(in crate::store) clock: StoreClock,
    pub(super) preallocation: Preallocation,
    /// Deletes in progress that search for tags outside of the writer's transaction.
    pub(super) watches: Arc<Watches>,
    /// The configured size limit in bytes (`storage.index_map_size`); LMDB's map is larger.
    pub(super) map_size: usize,
}

impl Index {
    /// Opens the index, and creates it if it is missing.
    ///
    /// # Errors
    /// [`StoreError::Format`] for another format version, [`StoreError::Index`] for a corrupt index.
    pub(in crate::store) fn open(disk: &Disk, map_size: usize) -> Result<Self, StoreError> {
        let env = environment::open(&disk.index_directory(), map_size, false)?;
        env.clear_stale_readers()?;
        let preallocation = Preallocation::new(&env)?;
        preallocation.refill(&env);
        match Self::initialize(&env, &preallocation) {
            Ok((tables, clock)) => {
                Ok(Index { env, tables, clock, preallocation, watches: Arc::default(), map_size })
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
    fn initialize(env: &Env, preallocation: &Preallocation) -> Result<(Tables, StoreClock), StoreError> {
        let mut txn = env.write_txn()?;
        let tables = Tables::create(env, &mut txn)?;
        let found: Option<u32> = schema::row(tables.meta, &txn, b"version")?;
        match found {
            None => schema::put_row(tables.meta, &mut txn, b"version", &VERSION)?,
            Some(VERSION) => {}
            Some(found) => return Err(StoreError::Format { found, known: VERSION }),
        }
        let clock = StoreClock::start(schema::row(tables.meta, &txn, schema::CLOCK)?.as_ref())?;
        schema::put_row(tables.meta, &mut txn, schema::CLOCK, &clock.row())?;
        commit::commit(env, preallocation, txn, &tables)?;
        Ok((tables, clock))
    }

    /// Opens the index read-only: nothing is written, so that this works on a full or read-only disk.
    pub(in crate::store) fn open_read_only(disk: &Disk, map_size: usize) -> Result<Self, StoreError> {
        Self::open_found(environment::open(&disk.index_directory(), map_size, false)?, map_size)
    }

    fn open_found(env: Env, map_size: usize) -> Result<Self, StoreError> {
        let txn = env.read_txn()?;
        let tables = Tables::find(&env, &txn)?;
        let clock = StoreClock::start(schema::row(tables.meta, &txn, schema::CLOCK)?.as_ref())?;
        txn.commit()?;
        let preallocation = Preallocation::new(&env)?;
        Ok(Index { env, tables, clock, preallocation, watches: Arc::default(), map_size })
    }

    /// Begins a read transaction.
    pub(in crate::store) fn read_txn(&self) -> Result<RoTxn<'_, WithTls>, StoreError> {
        Ok(self.tables.noted(self.env.read_txn())?)
    }

    /// Begins the write transaction; waits for that of another thread or process.
    pub(in crate::store) fn write_txn(&self) -> Result<RwTxn<'_>, StoreError> {
        Ok(self.tables.noted(self.env.write_txn())?)
    }

    /// Releases the reader slots of processes that were killed, which keep LMDB from reusing freed pages.
    pub(in crate::store) fn clear_stale_readers(&self) -> Result<(), StoreError> {
        self.tables.noted(self.env.clear_stale_readers())?;
        Ok(())
    }

    /// Returns true if an operation on this index met an error that may come from corruption.
    pub(in crate::store) fn has_failed(&self) -> bool {
        self.tables.meta.has_failed()
    }

    /// Returns the configured size limit of the index, in bytes.
    pub(in crate::store) fn map_size(&self) -> usize {
        self.map_size
    }

    /// Returns the change number: it rises with each transaction that changes a name.
    pub(in crate::store) fn change(&self) -> Result<u64, StoreError> {
        let txn = self.read_txn()?;
        self.tables.change(&txn)
    }

    /// Returns true if the index is complete: it has been filled after its creation, or a rebuild has finished.
    pub(in crate::store) fn is_complete(&self) -> Result<bool, StoreError> {
        let txn = self.read_txn()?;
        Ok(self.tables.meta.get(&txn, schema::COMPLETE)?.is_some())
    }

    /// Returns true while the collection hold is set: names may be lost, so that only the operator starts a
    /// collection.
    pub(in crate::store) fn collection_is_held(&self) -> Result<bool, StoreError> {
        let txn = self.read_txn()?;
        self.tables.collection_is_held(&txn)
    }

    /// Returns the number of manifests in a repository.
    pub(in crate::store) fn manifest_count(
        &self,
        txn: &RoTxn,
        repository: &RepositoryName,
    ) -> Result<u32, StoreError> {
        let row: Option<RepositoryRow> =
            schema::row(self.tables.repositories, txn, repository.as_str().as_bytes())?;
        Ok(row.unwrap_or_default().manifests)
    }

    /// Watches a manifest from the next transaction of the writer on; see [`Watch`].
    pub(in crate::store) fn watch(self: &Arc<Self>, repository: &RepositoryName, digest: &Digest) -> Watch {
        Watch::new(&self.watches, repository, digest)
    }

    /// Commits a transaction. Once this returns `Ok`, the change survives a power cut.
    ///
    /// # Errors
    /// [`StoreError::Index`] when the disk fails. After [`StoreError::Full`] and [`StoreError::OutOfResources`] the
    /// change may be durable or not, as after a power cut.
    pub(in crate::store) fn commit(&self, txn: RwTxn) -> Result<(), StoreError> {
        commit::commit(&self.env, &self.preallocation, txn, &self.tables)
    }
}
