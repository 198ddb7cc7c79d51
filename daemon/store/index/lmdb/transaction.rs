//! The write transaction.

use heed::{Env, RoTxn, RwTxn};

use super::preallocation::Preallocation;
use super::table::{Databases, Parts};
use crate::store::index::changed_names::ChangedKey;
use crate::store::index::tables::{ReadTables, Table, WriteTables};
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
    /// The names and link exceptions that the transaction changes.
    pub(super) changed: Vec<ChangedKey>,
    /// True if a row that changes cannot be read, so that `changed` lacks names.
    pub(super) has_unknown_names: bool,
}

impl Transaction<'_> {
    /// Notes the names that depend on a row which is about to change: its own, and for a tag also the manifests that it
    /// names before and after, of which the last without a tag is a name by itself.
    fn note_names(&mut self, table: Table, key: &[u8], value: Option<&[u8]>) -> Result<(), IndexError> {
        match table {
            Table::Tags => {
                let before = self.get(table, key)?.map(<[u8]>::to_vec);
                let repository = key.iter().position(|byte| *byte == 0).map_or(key, |end| &key[..=end]);
                for row in before.as_deref().into_iter().chain(value) {
                    match postcard::take_from_bytes::<&[u8]>(row) {
                        Ok((digest, _)) => {
                            self.changed.push((Table::Manifests, [repository, digest].concat()));
                        }
                        Err(_) => self.has_unknown_names = true,
                    }
                }
                self.changed.push((table, key.to_vec()));
            }
            Table::LinkExceptions => self.changed.push((table, key.to_vec())),
            Table::Manifests | Table::Sparse | Table::Orphans => {
                self.changed.push((Table::Manifests, key.to_vec()));
            }
            Table::Meta
            | Table::Repositories
            | Table::ManifestRepositories
            | Table::Children
            | Table::Parents
            | Table::RepositoryBlobs
            | Table::BlobRepositories
            | Table::BlobTotals
            | Table::Blobs
            | Table::Referrers
            | Table::Uploads
            | Table::Uses
            | Table::Events
            | Table::Jobs
            | Table::Daily
            | Table::Synced => {}
        }
        Ok(())
    }
}

impl Parts for Transaction<'_> {
    fn parts(&self) -> (&RoTxn<'_>, &Databases) {
        (&self.txn, self.databases)
    }
}

impl WriteTables for Transaction<'_> {
    fn put(&mut self, table: Table, key: &[u8], value: &[u8]) -> Result<(), IndexError> {
        self.note_names(table, key, Some(value))?;
        self.databases.put(&mut self.txn, table, key, value)
    }

    fn delete(&mut self, table: Table, key: &[u8]) -> Result<bool, IndexError> {
        self.note_names(table, key, None)?;
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
