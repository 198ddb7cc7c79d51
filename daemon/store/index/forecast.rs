//! A dry run of a collection: the changes that a real run would make, noted and not made.
//!
//! A collection finds what comes next in the index as it has left it: a manifest goes, and what it alone needed goes as
//! well. So the lookups of `garbage` read the index together with a forecast, which is empty in a real run. What is noted
//! here mirrors `discard` and `deletes`.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;

use heed::RoTxn;

use super::rows::OrphanRow;
use super::schema::Tables;
use super::{keys, schema};
use crate::oci::{Digest, RepositoryName};
use crate::store::clock::Moment;
use crate::store::error::StoreError;

/// Changes that are only noted. Its size is that of what the collection would take.
#[derive(Default)]
pub(in crate::store) struct Forecast {
    /// The keys of tags that would be gone.
    pub(super) tags: BTreeSet<Vec<u8>>,
    /// Repository and digest of manifests that would be gone.
    pub(super) manifests: BTreeSet<Vec<u8>>,
    /// The rows that would be in the table `left`.
    pub(super) orphans: BTreeMap<Vec<u8>, (Moment, bool)>,
    /// When blobs would have been used last, by their digest.
    counted_on: BTreeMap<Vec<u8>, Moment>,
}

impl Forecast {
    /// Returns true if a tag would be gone.
    pub(super) fn removes_tag(&self, key: &[u8]) -> bool {
        self.tags.contains(key)
    }

    /// Returns true if a manifest would be gone from a repository; `key` has both.
    pub(super) fn removes_manifest(&self, key: &[u8]) -> bool {
        self.manifests.contains(key)
    }

    /// Returns true if a manifest would be gone from a repository.
    pub(in crate::store) fn lacks(&self, repository: &RepositoryName, digest: &Digest) -> bool {
        !self.manifests.is_empty() && self.removes_manifest(&keys::content_key(repository, digest))
    }

    /// Returns when a blob would have been used last; `moment` is what its row says.
    pub(super) fn used(&self, key: &[u8], moment: Moment) -> Moment {
        self.counted_on.get(key).map_or(moment, |noted| moment.max(*noted))
    }

    /// Returns the row of the table `left` for a manifest.
    pub(super) fn orphan_row(
        &self,
        tables: &Tables,
        txn: &RoTxn,
        key: &[u8],
    ) -> Result<Option<OrphanRow>, StoreError> {
        match self.orphans.get(key) {
            Some((since, deleted)) => Ok(Some(OrphanRow { since: *since, deleted: *deleted })),
            None => schema::row(tables.orphans, txn, key),
        }
    }

    /// Returns the keys of rows that would be in the table `left`, after `after` and with the prefix.
    pub(super) fn orphan_keys_after(&self, after: &[u8], prefix: &[u8], limit: usize) -> Vec<Vec<u8>> {
        let range = self.orphans.range::<[u8], _>((Bound::Excluded(after), Bound::Unbounded));
        let keys = range.map(|(key, _)| key.clone()).take_while(|key| key.starts_with(prefix));
        keys.take(limit).collect()
    }

    pub(super) fn has_manifest(
        &self,
        tables: &Tables,
        txn: &RoTxn,
        repository: &RepositoryName,
        digest: &Digest,
    ) -> Result<bool, StoreError> {
        let key = keys::content_key(repository, digest);
        Ok(!self.removes_manifest(&key) && tables.manifests.get(txn, &key)?.is_some())
    }

    pub(super) fn mark_orphaned(
        &mut self,
        tables: &Tables,
        txn: &RoTxn,
        repository: &RepositoryName,
        digest: &Digest,
        (since, deleted): (Moment, bool),
    ) -> Result<(), StoreError> {
        if !self.has_manifest(tables, txn, repository, digest)? {
            return Ok(());
        }
        let key = keys::content_key(repository, digest);
        let known = self.orphan_row(tables, txn, &key)?;
        let since = known.map_or(since, |row| row.since.max(since));
        self.orphans.insert(key, (since, deleted));
        Ok(())
    }

    pub(super) fn count_on(&mut self, digest: &Digest, moment: Moment) {
        let noted = self.counted_on.entry(keys::digest_key(digest)).or_insert(moment);
        *noted = moment.max(*noted);
    }
}
