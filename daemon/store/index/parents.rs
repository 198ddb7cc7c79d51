//! Which manifests of a repository reference content, found at a cost that other repositories do not decide.

use heed::RoTxn;

use super::forecast::Forecast;
use super::rows::OrphanRow;
use super::schema::Tables;
use super::{keys, schema};
use crate::oci::{Digest, RepositoryName};
use crate::store::error::StoreError;

/// The number of rows that a lookup of a request reads to see whether a manifest keeps content.
pub(super) const LOOKUPS: u32 = 200;

/// The same for the change of a request, which others wait for.
const WRITER_LOOKUPS: u32 = 1000;

impl Tables {
    /// Whether a manifest of the repository points at this.
    pub(super) fn is_referenced_in(
        &self,
        txn: &RoTxn,
        repository: &RepositoryName,
        digest: &Digest,
    ) -> Result<bool, StoreError> {
        Ok(self.parent_in(txn, repository, digest, &[], &mut u32::MAX.clone())?.is_some())
    }

    /// Whether a manifest of the repository may point at this: a no is certain, and a yes is given where very many manifests
    /// would have to be looked at.
    pub(super) fn may_be_referenced_in(
        &self,
        txn: &RoTxn,
        repository: &RepositoryName,
        digest: &Digest,
    ) -> Result<bool, StoreError> {
        let mut looks = WRITER_LOOKUPS;
        Ok(self.parent_in(txn, repository, digest, &[], &mut looks)?.is_some() || looks == 0)
    }

    /// As [`Tables::is_referenced_in`], where the manifests of a forecast are gone.
    pub(super) fn remains_referenced_in(
        &self,
        txn: &RoTxn,
        repository: &RepositoryName,
        digest: &Digest,
        forecast: &Forecast,
    ) -> Result<bool, StoreError> {
        let (mut from, mut looks) = (Vec::new(), u32::MAX);
        while let Some(parent) = self.parent_in(txn, repository, digest, &from, &mut looks)? {
            if !forecast.lacks(repository, &parent) {
                return Ok(true);
            }
            // The next key: no digest is the beginning of another.
            from = keys::digest_key(&parent);
            from.push(0);
        }
        Ok(false)
    }

    /// Returns the first manifest of the repository that references `digest` and whose key is not smaller than `from`.
    ///
    /// Both the parents of a digest and the manifests of a repository are in the order of their digests, so that each
    /// list says where to look next in the other: the cost is that of the shorter one, and other repositories that
    /// reference the digest many times do not make it dear. Gives up when there are no `looks` left.
    pub(super) fn parent_in(
        &self,
        txn: &RoTxn,
        repository: &RepositoryName,
        digest: &Digest,
        from: &[u8],
        looks: &mut u32,
    ) -> Result<Option<Digest>, StoreError> {
        let (child, home) = (keys::digest_key(digest), keys::repository_prefix(repository));
        let mut from = from.to_vec();
        while *looks > 0 {
            *looks -= 1;
            let edge = self.parents.at_or_after(txn, &[&child[..], &from].concat())?;
            let Some(parent) = edge.and_then(|(key, _)| key.strip_prefix(&child[..])) else {
                return Ok(None);
            };
            let manifest = self.manifests.at_or_after(txn, &[&home[..], parent].concat())?;
            let Some(found) = manifest.and_then(|(key, _)| key.strip_prefix(&home[..])) else {
                return Ok(None);
            };
            if found == parent {
                return Ok(keys::split_digest(parent).map(|(parent, _)| parent));
            }
            from = found.to_vec();
        }
        Ok(None)
    }

    /// Whether a manifest of the repository points at this that no delete has left behind, nor all that point at it. Of content that very many manifests share the answer may be no where it should be yes.
    pub(super) fn is_live_in(
        &self,
        txn: &RoTxn,
        repository: &RepositoryName,
        digest: &Digest,
        looks: &mut u32,
    ) -> Result<bool, StoreError> {
        let mut from = Vec::new();
        while let Some(parent) = self.parent_in(txn, repository, digest, &from, looks)? {
            // The next key: no digest is the beginning of another.
            from = keys::digest_key(&parent);
            from.push(0);
            let left: Option<OrphanRow> =
                schema::row(self.orphans, txn, &keys::content_key(repository, &parent))?;
            if left.is_some_and(|row| row.deleted) {
                continue;
            }
            let is_top = self.parent_in(txn, repository, &parent, &[], looks)?.is_none() && *looks > 0;
            if is_top || self.is_live_in(txn, repository, &parent, looks)? {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Whether a delete has left a manifest of the repository behind. Where very many rows say that they are not, the
    /// answer may be yes where it should be no.
    pub(super) fn has_orphans(&self, txn: &RoTxn, repository: &RepositoryName) -> Result<bool, StoreError> {
        let rows = self.orphans.prefix_iter(txn, &keys::repository_prefix(repository))?;
        for (number, row) in (0..).zip(rows) {
            if number >= LOOKUPS || schema::decode::<OrphanRow>(row?.1)?.deleted {
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
    fn parents_in_other_repositories_do_not_make_a_lookup_dear() {
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
        let looks_for = |txn: &heed::RwTxn| {
            let mut looks = u32::MAX;
            let found = tables.parent_in(txn, &own, &child, &[], &mut looks).unwrap();
            (found, u32::MAX - looks)
        };
        let (found, looks) = looks_for(&txn);
        assert!(found.is_none() && looks <= 6, "{looks} looks");
        assert!(tables.is_referenced_in(&txn, &other, &child).unwrap());
        put(&mut txn, &own, 5000, true);
        let (found, looks) = looks_for(&txn);
        assert!(found == Some(digest(5000)) && looks <= 7, "{looks} looks");
        // All parents, one after the other.
        let (mut from, mut parents, mut looks) = (Vec::new(), 0, u32::MAX);
        while let Some(parent) = tables.parent_in(&txn, &other, &child, &from, &mut looks).unwrap() {
            from = keys::digest_key(&parent);
            from.push(0);
            parents += 1;
        }
        assert_eq!(parents, 3000);
        assert!(tables.may_be_referenced_in(&txn, &other, &child).unwrap());
        assert!(!tables.may_be_referenced_in(&txn, &"none".parse().unwrap(), &child).unwrap());
        // None of a repository with as many manifests: that is not found out in a change.
        let (stranger, far) = ("stranger".parse().unwrap(), 10_000..13_000);
        far.for_each(|number| put(&mut txn, &stranger, number, false));
        assert!(tables.may_be_referenced_in(&txn, &stranger, &child).unwrap());
        assert!(!tables.is_referenced_in(&txn, &stranger, &child).unwrap());
        let mut few = 2;
        assert_eq!(tables.parent_in(&txn, &own, &child, &[0xff], &mut few).unwrap(), None);
    }
}
