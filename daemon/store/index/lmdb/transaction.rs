//! The write transaction.

use heed::{Env, RoTxn, RwTxn};

use super::preallocation::Preallocation;
use super::table::{Databases, Parts};
use crate::store::index::tables::{Table, WriteTables};
use crate::store::index_error::IndexError;

/// The write transaction, and the parts of the index that it needs.
pub(super) struct Transaction<'index> {
    pub(super) txn: RwTxn<'index>,
    pub(super) env: &'index Env,
    pub(super) databases: &'index Databases,
    pub(super) preallocation: &'index Preallocation,
    /// The configured size limit of the index, and the part of it that pushes may use, in bytes.
    pub(super) limits: (u64, u64),
    /// True once a change makes the index larger.
    pub(super) grows: bool,
}

impl Parts for Transaction<'_> {
    fn parts(&self) -> (&RoTxn<'_>, &Databases) {
        (&self.txn, self.databases)
    }
}

impl WriteTables for Transaction<'_> {
    fn put(&mut self, table: Table, key: &[u8], value: &[u8]) -> Result<(), IndexError> {
        self.databases.put(&mut self.txn, table, key, value)
    }

    fn delete(&mut self, table: Table, key: &[u8]) -> Result<bool, IndexError> {
        self.databases.delete(&mut self.txn, table, key)
    }

    fn check_capacity(&mut self) -> Result<(), IndexError> {
        self.grows = true;
        self.preallocation.check(self.env)?;
        self.check_usage()
    }

    fn has_table(&self, table: Table) -> bool {
        self.databases.has(table)
    }

    fn is_nearly_full(&self) -> Result<bool, IndexError> {
        let (_, limit) = self.limits;
        let nearly = limit - limit / 8;
        Ok(self.databases.used(&self.txn)? > nearly || self.preallocation.check(self.env).is_err())
    }
}
