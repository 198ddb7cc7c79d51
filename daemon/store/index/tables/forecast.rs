//! The forecast of a dry run: the changes that a collection would make, recorded instead of made.
//!
//! Each step of a collection depends on the ones before: a manifest is removed, and then the content that
//! only it referenced. So the lookups of `mark` read the index together with a forecast, which is empty in a real run.
//! `dry_run` fills it.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;

use super::keys;
use super::port::{ReadTables, Table};
use super::rows::OrphanRow;
use crate::oci::{Digest, RepositoryName};
use crate::store::clock::StoreTime;
use crate::store::error::StoreError;

/// Changes that are recorded only. Its size is that of what the collection would remove.
#[derive(Default)]
pub(in crate::store) struct Forecast {
    /// The keys of removed tags.
    pub(in crate::store) tags: BTreeSet<Vec<u8>>,
    /// The keys of manifests that are removed from a repository.
    pub(in crate::store) manifests: BTreeSet<Vec<u8>>,
    /// Added orphan rows: since when, and whether by a delete.
    pub(in crate::store) orphans: BTreeMap<Vec<u8>, (StoreTime, bool)>,
    /// Renewed leases of blobs, by digest.
    leased_at: BTreeMap<Vec<u8>, StoreTime>,
}

impl Forecast {
    /// Returns true if the tag with this key is removed.
    pub(in crate::store) fn removes_tag(&self, key: &[u8]) -> bool {
        self.tags.contains(key)
    }

    /// Returns true if the manifest with this key is removed.
    pub(in crate::store) fn removes_manifest(&self, key: &[u8]) -> bool {
        self.manifests.contains(key)
    }

    /// Returns true if a manifest is removed from a repository.
    pub(in crate::store) fn removes(&self, repository: &RepositoryName, digest: &Digest) -> bool {
        !self.manifests.is_empty() && self.removes_manifest(&keys::content_key(repository, digest))
    }

    /// Returns the start of a blob's lease; `start` is that of its row.
    pub(in crate::store) fn leased_at(&self, key: &[u8], start: StoreTime) -> StoreTime {
        self.leased_at.get(key).map_or(start, |lease| start.max(*lease))
    }

    /// Returns the keys of the first blobs that removed manifests referenced or were, after `after` and up to `end`.
    pub(in crate::store) fn touched_blobs(
        &self,
        after: Option<&[u8]>,
        end: Option<&[u8]>,
        limit: usize,
    ) -> Vec<Vec<u8>> {
        let start = after.map_or(Bound::Unbounded, Bound::Excluded);
        let blobs = self.leased_at.range::<[u8], _>((start, Bound::Unbounded)).map(|(key, _)| key);
        let until_end = blobs.take_while(|key| end.is_none_or(|end| key.as_slice() <= end));
        until_end.take(limit).cloned().collect()
    }

    /// Returns the orphan row of a manifest.
    pub(in crate::store) fn orphan_row(
        &self,
        tables: &impl ReadTables,
        key: &[u8],
    ) -> Result<Option<OrphanRow>, StoreError> {
        match self.orphans.get(key) {
            Some((since, deleted)) => Ok(Some(OrphanRow { since: *since, deleted: *deleted })),
            None => Ok(tables.row(Table::Orphans, key)?),
        }
    }

    /// Returns the keys of added orphan rows after `after` that have the prefix.
    pub(in crate::store) fn orphan_keys_after(
        &self,
        after: &[u8],
        prefix: &[u8],
        limit: usize,
    ) -> Vec<Vec<u8>> {
        let range = self.orphans.range::<[u8], _>((Bound::Excluded(after), Bound::Unbounded));
        let keys = range.map(|(key, _)| key.clone()).take_while(|key| key.starts_with(prefix));
        keys.take(limit).collect()
    }

    /// Returns true if a repository still has a manifest.
    pub(in crate::store) fn has_manifest(
        &self,
        tables: &impl ReadTables,
        repository: &RepositoryName,
        digest: &Digest,
    ) -> Result<bool, StoreError> {
        let key = keys::content_key(repository, digest);
        Ok(!self.removes_manifest(&key) && tables.get(Table::Manifests, &key)?.is_some())
    }

    /// Records that a manifest becomes an orphan, if the repository still has it.
    pub(in crate::store) fn mark_orphaned(
        &mut self,
        tables: &impl ReadTables,
        repository: &RepositoryName,
        digest: &Digest,
        (since, deleted): (StoreTime, bool),
    ) -> Result<(), StoreError> {
        if !self.has_manifest(tables, repository, digest)? {
            return Ok(());
        }
        let key = keys::content_key(repository, digest);
        let known = self.orphan_row(tables, &key)?;
        let since = known.map_or(since, |row| row.since.max(since));
        self.orphans.insert(key, (since, deleted));
        Ok(())
    }

    /// Records a renewed lease.
    pub(in crate::store) fn renew_lease(&mut self, digest: &Digest, start: StoreTime) {
        let lease = self.leased_at.entry(keys::digest_key(digest)).or_insert(start);
        *lease = start.max(*lease);
    }
}
