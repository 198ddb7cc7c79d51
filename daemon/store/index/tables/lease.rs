//! Leases: how long a client may rely on unreferenced content because a HEAD or a push told it that the content
//! exists.
//!
//! A lease lasts for the grace period. A client that asks late in a lease renews it, so that its push has time to
//! finish before a collection takes the content.

use std::time::Duration;

use super::keys;
use super::parents::{LOOKUPS, References};
use super::port::{ReadTables, Table};
use super::rows::{ManifestRow, OrphanRow, RepositoryBlobRow};
use crate::oci::{Digest, RepositoryName};
use crate::store::clock::StoreTime;
use crate::store::error::StoreError;

/// The remaining lease of a blob or an untagged manifest: how long a client may skip the upload because HEAD returned
/// 200.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(in crate::store) enum Lease {
    /// Long enough: no renewal is needed.
    Valid,
    /// More than a quarter of the grace period: should be renewed soon.
    Renewable,
    /// Nearly over: must be renewed before the client is answered, since a collection may be about to take the
    /// content.
    Expiring,
}

impl Lease {
    /// Computes the remaining lease from its age and duration. Without a grace period there is no lease to renew.
    pub(in crate::store) fn of(age: Duration, duration: Duration) -> Self {
        match () {
            () if duration.is_zero() || age < duration / 2 => Lease::Valid,
            () if age < duration / 4 * 3 => Lease::Renewable,
            () => Lease::Expiring,
        }
    }
}

/// The leases of content.
pub(in crate::store) trait Leases: ReadTables {
    /// Returns the remaining lease of a blob: unlimited while a live manifest of the repository references it.
    fn blob_lease(
        &self,
        repository: &RepositoryName,
        digest: &Digest,
        link: &RepositoryBlobRow,
        (now, grace): (StoreTime, Duration),
    ) -> Result<Lease, StoreError> {
        let lease = Lease::of(link.leased_at.age(now), grace);
        if lease == Lease::Valid {
            return Ok(lease);
        }
        let mut budget = LOOKUPS;
        let is_live = self.is_live_in(repository, digest, &mut budget)?;
        Ok(if is_live { Lease::Valid } else { lease })
    }

    /// Returns the remaining lease of an untagged manifest. A collection takes it after `grace` if a delete orphaned
    /// it or all its parents, and after `untagged` by a retention rule; the shorter lease counts.
    fn manifest_lease(
        &self,
        repository: &RepositoryName,
        digest: &Digest,
        now: StoreTime,
        (grace, untagged): (Duration, Option<Duration>),
    ) -> Result<Lease, StoreError> {
        let key = keys::content_key(repository, digest);
        let orphan: Option<OrphanRow> = self.row(Table::Orphans, &key)?;
        let row: Option<ManifestRow> = self.row(Table::Manifests, &key)?;
        // A collection removed it after the lookup.
        let Some(row) = row else { return Ok(Lease::Expiring) };
        let orphaned_since = orphan.as_ref().map(|row| row.since);
        let newest = orphaned_since.map_or(row.since, |since| since.max(row.since));
        let by_age = untagged.map_or(Lease::Valid, |untagged| Lease::of(newest.age(now), untagged));
        let by_delete =
            if orphan.is_some_and(|row| row.deleted) || self.has_only_orphaned_parents(repository, digest)? {
                orphaned_since.map_or(Lease::Expiring, |since| Lease::of(since.age(now), grace))
            } else {
                Lease::Valid
            };
        Ok(by_delete.max(by_age))
    }

    /// Returns true if manifests reference this one and a delete orphaned all of them.
    fn has_only_orphaned_parents(
        &self,
        repository: &RepositoryName,
        digest: &Digest,
    ) -> Result<bool, StoreError> {
        if !self.has_orphans(repository)? {
            return Ok(false);
        }
        let (mut first, mut budget) = (LOOKUPS, LOOKUPS);
        let has_parent = self.parent_in(repository, digest, &[], &mut first)?.is_some() || first == 0;
        Ok(has_parent && !self.is_live_in(repository, digest, &mut budget)?)
    }
}

impl<T: ReadTables> Leases for T {}

#[cfg(test)]
mod tests;
