//! The open index and its life: created, opened, opened read-only, committed.

use std::sync::Arc;

use heed::{Env, RoTxn, RwTxn};

use super::preallocation::Preallocation;
use super::rows::RepositoryRow;
use super::schema::{self, Tables, VERSION};
use super::watches::{Watch, Watches};
use super::{commit, environment};
use crate::oci::{Digest, RepositoryName};
use crate::store::clock::Clock;
use crate::store::disk::Disk;
use crate::store::error::StoreError;

/// The open index.
pub(in crate::store) struct Index {
    pub(in crate::store) env: Env,
    pub(in crate::store) tables: Tables,
    pub(in crate::store) clock: Clock,
    pub(super) preallocation: Preallocation,
    /// The deletes that look for tags.
    pub(super) watches: Arc<Watches>,
    /// How large the index may get, as configured; LMDB's map is larger.
    pub(super) map_size: usize,
}

impl Index {
    /// Opens the index, and makes it where there is none.
    pub(in crate::store) fn open(disk: &Disk, map_size: usize) -> Result<Self, StoreError> {
        let env = environment::open(&disk.index_directory(), map_size, false)?;
        env.clear_stale_readers()?;
        let preallocation = Preallocation::new(&env)?;
        preallocation.keep_up(&env);
        match Self::begin(&env, &preallocation) {
            Ok((tables, clock)) => {
                Ok(Index { env, tables, clock, preallocation, watches: Arc::default(), map_size })
            }
            // Pulls go on all the same, and the first change that makes room keeps the clock.
            Err(full @ (StoreError::Full | StoreError::PagesHeld)) => {
                Self::look(env, map_size).map_err(|_| full)
            }
            Err(error) => Err(error),
        }
    }

    /// Makes what is missing, and keeps the clock at once, so that another process on the same index goes by the same.
    fn begin(env: &Env, preallocation: &Preallocation) -> Result<(Tables, Clock), StoreError> {
        let mut txn = env.write_txn()?;
        let tables = Tables::create(env, &mut txn)?;
        let found = tables.meta.get(&txn, b"version")?.map(schema::decode::<u32>).transpose()?;
        match found {
            None => schema::put_row(tables.meta, &mut txn, b"version", &VERSION)?,
            Some(VERSION) => {}
            Some(found) => return Err(StoreError::Format { found, known: VERSION }),
        }
        let clock = Clock::start(schema::row(tables.meta, &txn, schema::CLOCK)?.as_ref())?;
        schema::put_row(tables.meta, &mut txn, schema::CLOCK, &clock.row())?;
        commit::commit(env, preallocation, txn, &tables)?;
        Ok((tables, clock))
    }

    /// Opens the index to look at it: nothing is written, so that it works on a disk that takes no more writes.
    pub(in crate::store) fn open_to_look(disk: &Disk, map_size: usize) -> Result<Self, StoreError> {
        Self::look(environment::open(&disk.index_directory(), map_size, false)?, map_size)
    }

    fn look(env: Env, map_size: usize) -> Result<Self, StoreError> {
        let txn = env.read_txn()?;
        let tables = Tables::find(&env, &txn)?;
        let clock = Clock::start(schema::row(tables.meta, &txn, schema::CLOCK)?.as_ref())?;
        txn.commit()?;
        let preallocation = Preallocation::new(&env)?;
        Ok(Index { env, tables, clock, preallocation, watches: Arc::default(), map_size })
    }

    /// Returns how large the index may get, in bytes.
    pub(in crate::store) fn map_size(&self) -> usize {
        self.map_size
    }

    /// Returns the number of the last change of names.
    pub(in crate::store) fn change(&self) -> Result<u64, StoreError> {
        let txn = self.env.read_txn()?;
        self.tables.change(&txn)
    }

    /// Whether the index was filled to the end, when it was new or was made again.
    pub(in crate::store) fn is_complete(&self) -> Result<bool, StoreError> {
        let txn = self.env.read_txn()?;
        Ok(self.tables.meta.get(&txn, schema::COMPLETE)?.is_some())
    }

    /// Whether names were lost, so that only a person may collect.
    pub(in crate::store) fn collection_is_held(&self) -> Result<bool, StoreError> {
        let txn = self.env.read_txn()?;
        self.tables.collection_is_held(&txn)
    }

    /// How many manifests the repository has.
    pub(in crate::store) fn manifest_count(
        &self,
        txn: &RoTxn,
        repository: &RepositoryName,
    ) -> Result<u32, StoreError> {
        let row: Option<RepositoryRow> =
            schema::row(self.tables.repositories, txn, repository.as_str().as_bytes())?;
        Ok(row.unwrap_or_default().manifests)
    }

    /// Commits a transaction; once this says so, it survives a power cut.
    ///
    /// # Errors
    /// [`StoreError::Index`] when the disk fails. After [`StoreError::Full`] and [`StoreError::OutOfResources`] the change
    /// may be there or not, as after a power cut.
    pub(in crate::store) fn watch(self: &Arc<Self>, repository: &RepositoryName, digest: &Digest) -> Watch {
        Watch::new(&self.watches, repository, digest)
    }

    pub(in crate::store) fn commit(&self, txn: RwTxn) -> Result<(), StoreError> {
        commit::commit(&self.env, &self.preallocation, txn, &self.tables)
    }
}
