//! Finds the manifests of a repository that reference content, at a cost that other repositories do not influence.

use heed::RoTxn;

use super::forecast::Forecast;
use super::rows::OrphanRow;
use super::schema::Tables;
use super::{keys, schema};
use crate::oci::{Digest, RepositoryName};
use crate::store::error::StoreError;

/// The row budget of a lookup on behalf of a request.
pub(super) const LOOKUPS: u32 = 200;

/// The row budget of a lookup inside the writer's transaction, which other changes wait for.
const WRITER_LOOKUPS: u32 = 1000;

impl Tables {
    /// Returns true if a manifest of the repository references this digest.
    pub(super) fn is_referenced_in(
        &self,
        txn: &RoTxn,
        repository: &RepositoryName,
        digest: &Digest,
    ) -> Result<bool, StoreError> {
        Ok(self.parent_in(txn, repository, digest, &[], &mut u32::MAX.clone())?.is_some())
    }

    /// Returns true if a manifest of the repository references this digest, or if that is unknown because very many
    /// manifests would have to be read. False is certain.
    pub(super) fn may_be_referenced_in(
        &self,
        txn: &RoTxn,
        repository: &RepositoryName,
        digest: &Digest,
    ) -> Result<bool, StoreError> {
        let mut budget = WRITER_LOOKUPS;
        Ok(self.parent_in(txn, repository, digest, &[], &mut budget)?.is_some() || budget == 0)
    }

    /// As [`Tables::is_referenced_in`]; manifests that the forecast removes do not count.
    pub(super) fn remains_referenced_in(
        &self,
        txn: &RoTxn,
        repository: &RepositoryName,
        digest: &Digest,
        forecast: &Forecast,
    ) -> Result<bool, StoreError> {
        let (mut from, mut budget) = (Vec::new(), u32::MAX);
        while let Some(parent) = self.parent_in(txn, repository, digest, &from, &mut budget)? {
            if !forecast.removes(repository, &parent) {
                return Ok(true);
            }
            // The next key: no digest is a prefix of another.
            from = keys::digest_key(&parent);
            from.push(0);
        }
        Ok(false)
    }

    /// Returns the first manifest of the repository that references `digest` and whose key is not smaller than
    /// `from`.
    ///
    /// The parents of a digest and the manifests of a repository are both sorted by digest, so that each list tells
    /// where to continue in the other: the cost is that of the shorter one, however often other repositories
    /// reference the digest. Gives up when the `budget` is used up.
    pub(super) fn parent_in(
        &self,
        txn: &RoTxn,
        repository: &RepositoryName,
        digest: &Digest,
        from: &[u8],
        budget: &mut u32,
    ) -> Result<Option<Digest>, StoreError> {
        let (child, repository_prefix) = (keys::digest_key(digest), keys::repository_prefix(repository));
        let mut from = from.to_vec();
        while *budget > 0 {
            *budget -= 1;
            let edge = self.parents.at_or_after(txn, &[&child[..], &from].concat())?;
            let Some(parent) = edge.and_then(|(key, _)| key.strip_prefix(&child[..])) else {
                return Ok(None);
            };
            let manifest = self.manifests.at_or_after(txn, &[&repository_prefix[..], parent].concat())?;
            let Some(found) = manifest.and_then(|(key, _)| key.strip_prefix(&repository_prefix[..])) else {
                return Ok(None);
            };
            if found == parent {
                return Ok(keys::split_digest(parent).map(|(parent, _)| parent));
            }
            from = found.to_vec();
        }
        Ok(None)
    }

    /// Returns true if a live manifest in the repository references this digest. A manifest is live unless a delete
    /// orphaned it or all of its parents. For content that very many manifests share, the budget may turn a yes into
    /// a no.
    pub(super) fn is_live_in(
        &self,
        txn: &RoTxn,
        repository: &RepositoryName,
        digest: &Digest,
        budget: &mut u32,
    ) -> Result<bool, StoreError> {
        let mut from = Vec::new();
        while let Some(parent) = self.parent_in(txn, repository, digest, &from, budget)? {
            // The next key: no digest is a prefix of another.
            from = keys::digest_key(&parent);
            from.push(0);
            let orphan: Option<OrphanRow> =
                schema::row(self.orphans, txn, &keys::content_key(repository, &parent))?;
            if orphan.is_some_and(|row| row.deleted) {
                continue;
            }
            let is_top = self.parent_in(txn, repository, &parent, &[], budget)?.is_none() && *budget > 0;
            if is_top || self.is_live_in(txn, repository, &parent, budget)? {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Returns true if a delete has orphaned a manifest of the repository. Among very many orphan rows that no delete
    /// caused, the answer may be yes where it should be no.
    pub(super) fn has_orphans(&self, txn: &RoTxn, repository: &RepositoryName) -> Result<bool, StoreError> {
        let rows = self.orphans.prefix_iter(txn, &keys::repository_prefix(repository))?;
        for (number, row) in (0..).zip(rows) {
            if number >= LOOKUPS || self.orphans.decode::<OrphanRow>(row?.1)?.deleted {
                return Ok(true);
            }
        }
        Ok(false)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::oci::{Algorithm, Hasher};
    use crate::store::disk::Disk;
    use crate::store::index::database::Index;

    fn digest(number: usize) -> Digest {
        Hasher::digest(Algorithm::Sha256, &number.to_be_bytes())
    }

    #[test]
    fn parents_in_other_repositories_do_not_raise_the_cost() {
        let directory = tempfile::tempdir().unwrap();
        let index = Index::open(&Disk::open(directory.path(), |_| ()).unwrap(), 4 << 20).unwrap();
        let (own, other, child) = ("own".parse().unwrap(), "other".parse().unwrap(), digest(0));
        let tables = index.tables;
        let mut txn = index.env.write_txn().unwrap();
        let put = |txn: &mut heed::RwTxn, repository: &RepositoryName, number: usize, is_parent: bool| {
            tables.manifests.put(txn, &keys::content_key(repository, &digest(number)), &[]).unwrap();
            if is_parent {
                tables.parents.put(txn, &keys::edge_key(&child, &digest(number)), &[]).unwrap();
            }
        };
        (1..=3000).for_each(|number| put(&mut txn, &other, number, true));
        (4000..4005).for_each(|number| put(&mut txn, &own, number, false));
        let search = |txn: &heed::RwTxn| {
            let mut budget = u32::MAX;
            let found = tables.parent_in(txn, &own, &child, &[], &mut budget).unwrap();
            (found, u32::MAX - budget)
        };
        let (found, budget) = search(&txn);
        assert!(found.is_none() && budget <= 6, "{budget} lookups");
        assert!(tables.is_referenced_in(&txn, &other, &child).unwrap());
        put(&mut txn, &own, 5000, true);
        let (found, budget) = search(&txn);
        assert!(found == Some(digest(5000)) && budget <= 7, "{budget} lookups");
        // All parents, page by page.
        let (mut from, mut parents, mut budget) = (Vec::new(), 0, u32::MAX);
        while let Some(parent) = tables.parent_in(&txn, &other, &child, &from, &mut budget).unwrap() {
            from = keys::digest_key(&parent);
            from.push(0);
            parents += 1;
        }
        assert_eq!(parents, 3000);
        assert!(tables.may_be_referenced_in(&txn, &other, &child).unwrap());
        assert!(!tables.may_be_referenced_in(&txn, &"none".parse().unwrap(), &child).unwrap());
        // A repository with as many manifests and no parent: the writer's budget does not find that out.
        let (unrelated, far) = ("unrelated".parse().unwrap(), 10_000..13_000);
        far.for_each(|number| put(&mut txn, &unrelated, number, false));
        assert!(tables.may_be_referenced_in(&txn, &unrelated, &child).unwrap());
        assert!(!tables.is_referenced_in(&txn, &unrelated, &child).unwrap());
        let mut few = 2;
        assert_eq!(tables.parent_in(&txn, &own, &child, &[0xff], &mut few).unwrap(), None);
    }
}
