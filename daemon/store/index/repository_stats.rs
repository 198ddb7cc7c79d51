//! What is counted of each repository: manifests, tags and bytes stand in its row, so that no list has to add them up.
//!
//! Every change that makes more or less of them says so in the same transaction. A repository has no row before its
//! first manifest; until then the length of its blobs stands in a table of its own, so that the first manifest does not
//! make the writer add them up.

use heed::RoTxn;

use super::batch::Batch;
use super::database::Index;
use super::rows::{ManifestRow, NameTimestamps, RepositoryBlobRow, RepositoryRow};
use super::schema::Tables;
use super::{keys, schema};
use crate::oci::{Digest, RepositoryName};
use crate::store::error::StoreError;

impl Tables {
    /// Adds up what a repository has, by its other rows; when it was pushed to last is not among it.
    pub(super) fn sum_stats(&self, txn: &RoTxn, repository: &[u8]) -> Result<RepositoryRow, StoreError> {
        let prefix = [repository, &[0]].concat();
        let mut sum = RepositoryRow::default();
        for row in self.manifests.prefix_iter(txn, &prefix)? {
            sum.manifests = sum.manifests.saturating_add(1);
            sum.bytes = sum.bytes.saturating_add(schema::decode::<ManifestRow>(row?.1)?.size);
        }
        for row in self.repository_blobs.prefix_iter(txn, &prefix)? {
            sum.bytes = sum.bytes.saturating_add(schema::decode::<RepositoryBlobRow>(row?.1)?.size);
        }
        for row in self.tags.prefix_iter(txn, &prefix)? {
            row?;
            sum.tags = sum.tags.saturating_add(1);
        }
        Ok(sum)
    }

    /// Returns the length of the blobs of a repository without a manifest.
    fn blob_total(&self, txn: &RoTxn, repository: &[u8]) -> Result<u64, StoreError> {
        Ok(schema::row(self.blob_totals, txn, repository)?.unwrap_or_default())
    }

    /// Whether the row of a repository says what its other rows do.
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
    /// Whether what is counted of a repository is as many as it says; one that is not there has nothing.
    pub(in crate::store) fn repository_adds_up(
        &self,
        repository: &RepositoryName,
    ) -> Result<bool, StoreError> {
        let (txn, name) = (self.env.read_txn()?, repository.as_str().as_bytes());
        let row: Option<RepositoryRow> = schema::row(self.tables.repositories, &txn, name)?;
        row.map_or(Ok(true), |row| self.tables.stats_match(&txn, name, &row))
    }
}

impl Batch<'_> {
    /// Changes what is counted of a repository. Its row goes with the last manifest; of a repository without a row only the
    /// length of its blobs is kept.
    pub(super) fn count(
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

    /// Counts a manifest that was pushed, before its tags: its length, if it is new to the repository. One that comes back
    /// from `index.json` was pushed when that says.
    pub(super) fn record_push(
        &mut self,
        repository: &RepositoryName,
        new: Option<u64>,
        given: Option<NameTimestamps>,
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
        row.pushed = given.map_or(self.now, |given| given.pushed.max(row.pushed));
        schema::put_row(tables.repositories, &mut self.txn, key, &row)
    }

    /// Takes a blob out of a repository; whether it had it.
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
        self.count(repository, |counted| counted.bytes = counted.bytes.saturating_sub(row.size))?;
        Ok(true)
    }

    /// The repositories that have a blob.
    pub(super) fn repositories_of(&self, digest: &Digest) -> Result<Vec<RepositoryName>, StoreError> {
        let key = keys::digest_key(digest);
        let mut homes = Vec::new();
        for row in self.index.tables.blob_repositories.prefix_iter(&self.txn, &key)? {
            homes.extend(keys::text_behind(row?.0, key.len()).and_then(|name| name.parse().ok()));
        }
        Ok(homes)
    }
}
