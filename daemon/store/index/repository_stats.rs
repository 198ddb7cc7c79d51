//! The statistics of each repository: manifests, tags and bytes are kept in its row, so that no list has to add them
//! up.
//!
//! Every change updates them in its own transaction. A repository has no row before its first manifest; until then
//! the total length of its blobs is kept in the table `blob_totals`, so that the first manifest does not make the
//! writer add them up.

use heed::RoTxn;

use super::batch::Batch;
use super::database::Index;
use super::rows::{ManifestRow, NameTimestamps, RepositoryBlobRow, RepositoryRow};
use super::schema::Tables;
use super::{keys, schema};
use crate::oci::{Digest, RepositoryName};
use crate::store::error::StoreError;

impl Tables {
    /// Computes the statistics of a repository from its other rows, without the time of the last push.
    pub(super) fn sum_stats(&self, txn: &RoTxn, repository: &[u8]) -> Result<RepositoryRow, StoreError> {
        let prefix = [repository, &[0]].concat();
        let mut sum = RepositoryRow::default();
        for row in self.manifests.prefix_iter(txn, &prefix)? {
            sum.manifests = sum.manifests.saturating_add(1);
            sum.bytes = sum.bytes.saturating_add(self.manifests.decode::<ManifestRow>(row?.1)?.size);
        }
        for row in self.repository_blobs.prefix_iter(txn, &prefix)? {
            sum.bytes =
                sum.bytes.saturating_add(self.repository_blobs.decode::<RepositoryBlobRow>(row?.1)?.size);
        }
        for row in self.tags.prefix_iter(txn, &prefix)? {
            row?;
            sum.tags = sum.tags.saturating_add(1);
        }
        Ok(sum)
    }

    /// Returns the total length of the blobs of a repository that has no manifest.
    fn blob_total(&self, txn: &RoTxn, repository: &[u8]) -> Result<u64, StoreError> {
        Ok(schema::row(self.blob_totals, txn, repository)?.unwrap_or_default())
    }

    /// Returns true if the row of a repository agrees with its other rows.
    pub(super) fn stats_match(
        &self,
        txn: &RoTxn,
        repository: &[u8],
        row: &RepositoryRow,
    ) -> Result<bool, StoreError> {
        let sum = self.sum_stats(txn, repository)?;
        Ok((sum.manifests, sum.tags, sum.bytes) == (row.manifests, row.tags, row.bytes))
    }
}

impl Index {
    /// Returns true if the statistics of a repository agree with its other rows; a repository without a row has none.
    pub(in crate::store) fn repository_stats_match(
        &self,
        repository: &RepositoryName,
    ) -> Result<bool, StoreError> {
        let (txn, name) = (self.read_txn()?, repository.as_str().as_bytes());
        let row: Option<RepositoryRow> = schema::row(self.tables.repositories, &txn, name)?;
        row.map_or(Ok(true), |row| self.tables.stats_match(&txn, name, &row))
    }
}

impl Batch<'_> {
    /// Changes the statistics of a repository. The row is removed with the last manifest; without a row only the
    /// total length of the blobs is kept.
    pub(super) fn update_stats(
        &mut self,
        repository: &RepositoryName,
        change: impl FnOnce(&mut RepositoryRow),
    ) -> Result<(), StoreError> {
        let (table, key) = (self.index.tables.repositories, repository.as_str().as_bytes());
        let Some(mut row) = schema::row::<RepositoryRow>(table, &self.txn, key)? else {
            let bytes = self.index.tables.blob_total(&self.txn, key)?;
            let mut row = RepositoryRow { bytes, ..RepositoryRow::default() };
            change(&mut row);
            return if row.bytes == bytes { Ok(()) } else { self.set_blob_total(key, row.bytes) };
        };
        change(&mut row);
        if row.manifests == 0 {
            table.delete(&mut self.txn, key)?;
            return self.set_blob_total(key, row.bytes);
        }
        schema::put_row(table, &mut self.txn, key, &row)
    }

    fn set_blob_total(&mut self, key: &[u8], bytes: u64) -> Result<(), StoreError> {
        let table = self.index.tables.blob_totals;
        if bytes > 0 {
            return schema::put_row(table, &mut self.txn, key, &bytes);
        }
        table.delete(&mut self.txn, key)?;
        Ok(())
    }

    /// Records the push of a manifest, before its tags: `new` is its length if it is new to the repository. A
    /// restored manifest keeps the push time that `index.json` has.
    pub(super) fn record_push(
        &mut self,
        repository: &RepositoryName,
        new: Option<u64>,
        timestamps: Option<NameTimestamps>,
    ) -> Result<(), StoreError> {
        let (tables, key) = (self.index.tables, repository.as_str().as_bytes());
        let row: Option<RepositoryRow> = schema::row(tables.repositories, &self.txn, key)?;
        let is_first = row.is_none();
        let mut row = row.unwrap_or_default();
        if is_first {
            row.bytes = tables.blob_total(&self.txn, key)?;
            self.set_blob_total(key, 0)?;
        }
        if let Some(size) = new {
            row.manifests = row.manifests.saturating_add(1);
            row.bytes = row.bytes.saturating_add(size);
        }
        row.pushed = timestamps.map_or(self.wall_time, |timestamps| timestamps.pushed.max(row.pushed));
        schema::put_row(tables.repositories, &mut self.txn, key, &row)
    }

    /// Removes a blob from a repository; returns false if the repository does not have it.
    pub(super) fn unlink_blob(
        &mut self,
        repository: &RepositoryName,
        digest: &Digest,
    ) -> Result<bool, StoreError> {
        let (tables, key) = (self.index.tables, keys::content_key(repository, digest));
        let Some(row) = schema::row::<RepositoryBlobRow>(tables.repository_blobs, &self.txn, &key)? else {
            return Ok(false);
        };
        tables.repository_blobs.delete(&mut self.txn, &key)?;
        tables.blob_repositories.delete(&mut self.txn, &keys::repository_key(digest, repository))?;
        self.update_stats(repository, |counted| counted.bytes = counted.bytes.saturating_sub(row.size))?;
        Ok(true)
    }

    /// Returns the repositories that have a blob.
    pub(super) fn repositories_of(&self, digest: &Digest) -> Result<Vec<RepositoryName>, StoreError> {
        let key = keys::digest_key(digest);
        let mut repositories = Vec::new();
        for row in self.index.tables.blob_repositories.prefix_iter(&self.txn, &key)? {
            repositories.extend(keys::text_after(row?.0, key.len()).and_then(|name| name.parse().ok()));
        }
        Ok(repositories)
    }
}
