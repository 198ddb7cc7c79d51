//! The statistics of each repository, as its row has them and as its other rows add up to.

use super::port::{ReadTables, Table};
use super::rows::{ManifestRow, RepositoryBlobRow, RepositoryRow};
use crate::oci::RepositoryName;
use crate::store::error::StoreError;

/// Statistics that are added up from rows.
pub(in crate::store) trait Stats: ReadTables {
    /// Computes the statistics of a repository from its other rows, without the time of the last push.
    fn sum_stats(&self, repository: &[u8]) -> Result<RepositoryRow, StoreError> {
        let prefix = [repository, &[0]].concat();
        let mut sum = RepositoryRow::default();
        for row in self.prefix(Table::Manifests, &prefix)? {
            sum.manifests = sum.manifests.saturating_add(1);
            sum.bytes = sum.bytes.saturating_add(self.decode::<ManifestRow>(row?.1)?.size);
        }
        for row in self.prefix(Table::RepositoryBlobs, &prefix)? {
            sum.bytes = sum.bytes.saturating_add(self.decode::<RepositoryBlobRow>(row?.1)?.size);
        }
        for row in self.prefix(Table::Tags, &prefix)? {
            row?;
            sum.tags = sum.tags.saturating_add(1);
        }
        Ok(sum)
    }

    /// Returns the total length of the blobs of a repository that has no manifest.
    fn blob_total(&self, repository: &[u8]) -> Result<u64, StoreError> {
        Ok(self.row(Table::BlobTotals, repository)?.unwrap_or_default())
    }

    /// Returns true if the row of a repository agrees with its other rows.
    fn stats_match(&self, repository: &[u8], row: &RepositoryRow) -> Result<bool, StoreError> {
        let sum = self.sum_stats(repository)?;
        Ok((sum.manifests, sum.tags, sum.bytes) == (row.manifests, row.tags, row.bytes))
    }

    /// Returns true if the statistics of a repository agree with its other rows; a repository without a row has none.
    fn repository_stats_match(&self, repository: &RepositoryName) -> Result<bool, StoreError> {
        let name = repository.as_str().as_bytes();
        let row: Option<RepositoryRow> = self.row(Table::Repositories, name)?;
        row.map_or(Ok(true), |row| self.stats_match(name, &row))
    }
}

impl<T: ReadTables> Stats for T {}
