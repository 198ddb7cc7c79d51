//! Leases: how long a client may rely on content that no manifest needs.

use std::time::Duration;

use heed::RoTxn;

use super::database::Index;
use super::parents::LOOKUPS;
use super::rows::{ManifestRow, OrphanRow, RepositoryBlobRow, digest_of};
use super::{keys, schema};
use crate::oci::{Digest, RepositoryName};
use crate::store::error::StoreError;

/// How long a push that hears of a blob or a manifest may count on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(in crate::store) enum Reliance {
    /// For long enough.
    Kept,
    /// For a while; another grace time should begin soon.
    Renewable,
    /// A collection may be about to take it: another grace time has to begin first.
    Ending,
}

impl Reliance {
    /// For something that nobody has needed for so long, and that goes after this time; after none at all nothing can be
    /// counted on.
    fn of(age: Duration, lasts: Duration) -> Self {
        match () {
            () if lasts.is_zero() || age < lasts / 2 => Reliance::Kept,
            () if age < lasts / 4 * 3 => Reliance::Renewable,
            () => Reliance::Ending,
        }
    }
}

impl Index {
    /// How long a push that hears of a blob may count on it: it is kept by a manifest of the repository, or it has not
    /// been there without one for half the grace time, or for three quarters, or for longer.
    pub(in crate::store) fn blob_reliance(
        &self,
        repository: &RepositoryName,
        digest: &Digest,
        link: &RepositoryBlobRow,
        grace: Duration,
    ) -> Result<Reliance, StoreError> {
        let reliance = Reliance::of(link.counted_on.age(self.clock.now()), grace);
        if reliance == Reliance::Kept {
            return Ok(reliance);
        }
        let txn = self.env.read_txn()?;
        let mut looks = LOOKUPS;
        let kept = self.tables.is_live_in(&txn, repository, digest, &mut looks)?;
        Ok(if kept { Reliance::Kept } else { reliance })
    }

    /// How long a push that hears of a manifest by its digest may count on it, if no tag names it: a delete left it behind,
    /// or all that point at it, or manifests without a tag are taken after a while; not for half that time, or for three
    /// quarters, or for longer.
    pub(in crate::store) fn manifest_reliance(
        &self,
        repository: &RepositoryName,
        digest: &Digest,
        grace: Duration,
        untagged: Option<Duration>,
    ) -> Result<Reliance, StoreError> {
        let (txn, key, now) = (self.env.read_txn()?, keys::content_key(repository, digest), self.clock.now());
        let left: Option<OrphanRow> = schema::row(self.tables.orphans, &txn, &key)?;
        let row: Option<ManifestRow> = schema::row(self.tables.manifests, &txn, &key)?;
        // A collection was quicker than the question.
        let Some(row) = row else { return Ok(Reliance::Ending) };
        let left_since = left.as_ref().map(|row| row.since);
        let newest = left_since.map_or(row.since, |since| since.max(row.since));
        let by_age = untagged.map_or(Reliance::Kept, |untagged| Reliance::of(newest.age(now), untagged));
        let by_delete = if left.is_some_and(|row| row.deleted)
            || self.has_only_orphaned_parents(&txn, repository, digest)?
        {
            left_since.map_or(Reliance::Ending, |since| Reliance::of(since.age(now), grace))
        } else {
            Reliance::Kept
        };
        Ok(by_delete.max(by_age))
    }

    /// Whether manifests point at one, and a delete has left all of them behind.
    fn has_only_orphaned_parents(
        &self,
        txn: &RoTxn,
        repository: &RepositoryName,
        digest: &Digest,
    ) -> Result<bool, StoreError> {
        if !self.tables.has_orphans(txn, repository)? {
            return Ok(false);
        }
        let (mut first, mut looks) = (LOOKUPS, LOOKUPS);
        let needed = self.tables.parent_in(txn, repository, digest, &[], &mut first)?.is_some() || first == 0;
        Ok(needed && !self.tables.is_live_in(txn, repository, digest, &mut looks)?)
    }

    /// Returns true if one of the first `limit` tags of the repository names a manifest.
    pub(in crate::store) fn is_tagged(
        &self,
        repository: &RepositoryName,
        digest: &Digest,
        limit: usize,
    ) -> Result<bool, StoreError> {
        let (txn, wanted) = (self.env.read_txn()?, keys::digest_key(digest));
        let tags = self.tables.tags.prefix_iter(&txn, &keys::repository_prefix(repository))?;
        for row in tags.take(limit) {
            if digest_of(row?.1)? == wanted {
                return Ok(true);
            }
        }
        Ok(false)
    }
}
