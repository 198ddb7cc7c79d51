//! Renewals of leases.

use super::applier::Applier;
use super::apply::Apply;
use crate::oci::{Digest, RepositoryName};
use crate::store::clock::StoreTime;
use crate::store::error::StoreError;
use crate::store::index::tables::rows::{BlobRow, OrphanRow, RepositoryBlobRow};
use crate::store::index::tables::{Table, WriteTables, keys};

/// Renews the lease of a blob in a repository and in the store, as of now.
#[derive(Debug)]
pub(in crate::store) struct RenewBlobLease {
    pub(in crate::store) repository: RepositoryName,
    pub(in crate::store) digest: Digest,
}

impl Apply for RenewBlobLease {
    type Reply = ();

    fn apply<T: WriteTables>(&self, to: &mut Applier<'_, T>) -> Result<(), StoreError> {
        to.renew_lease(Some(&self.repository), &self.digest, to.now.store_time)
    }
}

/// Renews the lease of an orphan, or of an untagged manifest that a retention rule limits.
#[derive(Debug)]
pub(in crate::store) struct RenewManifestLease {
    pub(in crate::store) repository: RepositoryName,
    pub(in crate::store) digest: Digest,
}

impl Apply for RenewManifestLease {
    type Reply = ();

    fn apply<T: WriteTables>(&self, to: &mut Applier<'_, T>) -> Result<(), StoreError> {
        to.renew_manifest_lease(&self.repository, &self.digest)
    }
}

impl<T: WriteTables> Applier<'_, T> {
    /// Renews the lease of an orphan, or of an untagged manifest that a retention rule limits, by an orphan row as of
    /// now.
    pub(super) fn renew_manifest_lease(
        &mut self,
        repository: &RepositoryName,
        digest: &Digest,
    ) -> Result<(), StoreError> {
        let key = keys::content_key(repository, digest);
        let known: Option<OrphanRow> = self.tables.row(Table::Orphans, &key)?;
        if known.is_none() {
            self.tables.check_capacity()?;
        }
        self.mark_orphaned(repository, digest, self.now.store_time, known.is_some_and(|row| row.deleted))
    }

    /// Renews the lease of a blob as of `start`: in one repository, if that has it, and in the store.
    pub(super) fn renew_lease(
        &mut self,
        repository: Option<&RepositoryName>,
        digest: &Digest,
        start: StoreTime,
    ) -> Result<(), StoreError> {
        if let Some(repository) = repository {
            let key = keys::content_key(repository, digest);
            let row: Option<RepositoryBlobRow> = self.tables.row(Table::RepositoryBlobs, &key)?;
            if let Some(row) = row.filter(|row| row.leased_at < start) {
                let row = RepositoryBlobRow { leased_at: start, ..row };
                self.tables.put_row(Table::RepositoryBlobs, &key, &row)?;
            }
        }
        let key = keys::digest_key(digest);
        let row: Option<BlobRow> = self.tables.row(Table::Blobs, &key)?;
        if let Some(row) = row.filter(|row| row.leased_at < start) {
            let row = BlobRow { leased_at: start, ..row };
            self.tables.put_row(Table::Blobs, &key, &row)?;
        }
        Ok(())
    }
}
