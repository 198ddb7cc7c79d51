//! The statistics of each repository: manifests, tags and bytes are kept in its row, so that no list has to add them
//! up.
//!
//! Every change updates them in its own transaction. A repository has no row before its first manifest; until then
//! the total length of its blobs is kept in the table `blob_totals`, so that the first manifest does not make the
//! writer add them up.

use super::applier::Applier;
use crate::oci::{Digest, RepositoryName};
use crate::store::error::StoreError;
use crate::store::index::tables::rows::{NameTimestamps, RepositoryBlobRow, RepositoryRow};
use crate::store::index::tables::stats::Stats;
use crate::store::index::tables::{Table, WriteTables, keys};

impl<T: WriteTables> Applier<'_, T> {
    /// Changes the statistics of a repository. The row is removed with the last manifest; without a row only the
    /// total length of the blobs is kept.
    pub(super) fn update_stats(
        &mut self,
        repository: &RepositoryName,
        change: impl FnOnce(&mut RepositoryRow),
    ) -> Result<(), StoreError> {
        let key = repository.as_str().as_bytes();
        let Some(mut row) = self.tables.row::<RepositoryRow>(Table::Repositories, key)? else {
            let bytes = self.tables.blob_total(key)?;
            let mut row = RepositoryRow { bytes, ..RepositoryRow::default() };
            change(&mut row);
            return if row.bytes == bytes { Ok(()) } else { self.set_blob_total(key, row.bytes) };
        };
        change(&mut row);
        if row.manifests == 0 {
            self.tables.delete(Table::Repositories, key)?;
            return self.set_blob_total(key, row.bytes);
        }
        Ok(self.tables.put_row(Table::Repositories, key, &row)?)
    }

    fn set_blob_total(&mut self, key: &[u8], bytes: u64) -> Result<(), StoreError> {
        if bytes > 0 {
            return Ok(self.tables.put_row(Table::BlobTotals, key, &bytes)?);
        }
        self.tables.delete(Table::BlobTotals, key)?;
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
        let key = repository.as_str().as_bytes();
        let row: Option<RepositoryRow> = self.tables.row(Table::Repositories, key)?;
        let is_first = row.is_none();
        let mut row = row.unwrap_or_default();
        if is_first {
            row.bytes = self.tables.blob_total(key)?;
            self.set_blob_total(key, 0)?;
        }
        if let Some(size) = new {
            row.manifests = row.manifests.saturating_add(1);
            row.bytes = row.bytes.saturating_add(size);
        }
        row.pushed = timestamps.map_or(self.now.wall_time, |timestamps| timestamps.pushed.max(row.pushed));
        Ok(self.tables.put_row(Table::Repositories, key, &row)?)
    }

    /// Removes a blob from a repository; returns its length, or `None` if the repository does not have it.
    pub(super) fn unlink_blob(
        &mut self,
        repository: &RepositoryName,
        digest: &Digest,
    ) -> Result<Option<u64>, StoreError> {
        let key = keys::content_key(repository, digest);
        let Some(row) = self.tables.row::<RepositoryBlobRow>(Table::RepositoryBlobs, &key)? else {
            return Ok(None);
        };
        self.tables.delete(Table::RepositoryBlobs, &key)?;
        self.tables.delete(Table::BlobRepositories, &keys::repository_key(digest, repository))?;
        self.update_stats(repository, |counted| counted.bytes = counted.bytes.saturating_sub(row.size))?;
        self.forget_candidate(Some(repository), digest)?;
        self.note_if_in_no_repository(digest)?;
        Ok(Some(row.size))
    }

    /// Returns the repositories that have a blob.
    pub(super) fn repositories_of(&self, digest: &Digest) -> Result<Vec<RepositoryName>, StoreError> {
        let key = keys::digest_key(digest);
        let mut repositories = Vec::new();
        for row in self.tables.prefix(Table::BlobRepositories, &key)? {
            repositories.extend(keys::text_after(row?.0, key.len()).and_then(|name| name.parse().ok()));
        }
        Ok(repositories)
    }
}
