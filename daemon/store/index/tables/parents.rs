//! Finds the manifests of a repository that reference content, at a cost that other repositories do not influence.

use super::forecast::Forecast;
use super::keys;
use super::port::{ReadTables, Table};
use super::rows::OrphanRow;
use crate::oci::{Digest, RepositoryName};
use crate::store::error::StoreError;

/// The row budget of a lookup on behalf of a request.
pub(in crate::store) const LOOKUPS: u32 = 200;

/// The row budget of a lookup inside the writer's transaction, which other changes wait for.
pub(in crate::store) const WRITER_LOOKUPS: u32 = 1000;

/// Lookups along the references of manifests.
pub(in crate::store) trait References: ReadTables {
    /// Returns true if a manifest of the repository references this digest.
    fn is_referenced_in(&self, repository: &RepositoryName, digest: &Digest) -> Result<bool, StoreError> {
        Ok(self.parent_in(repository, digest, &[], &mut u32::MAX.clone())?.is_some())
    }

    /// Returns true if a manifest of the repository references this digest, or if that is unknown because very many
    /// manifests would have to be read. False is certain.
    fn may_be_referenced_in(&self, repository: &RepositoryName, digest: &Digest) -> Result<bool, StoreError> {
        let mut budget = WRITER_LOOKUPS;
        Ok(self.parent_in(repository, digest, &[], &mut budget)?.is_some() || budget == 0)
    }

    /// Returns manifests that reference this digest, each with a repository that has it, at most `limit`; those of one manifest
    /// come one after the other.
    fn referencing_manifests(
        &self,
        digest: &Digest,
        limit: usize,
    ) -> Result<Vec<(RepositoryName, Digest)>, StoreError> {
        let (key, mut found) = (keys::digest_key(digest), Vec::new());
        for row in self.prefix(Table::Parents, &key)? {
            let parent = &row?.0[key.len()..];
            let Some((manifest, _)) = keys::split_digest(parent) else { continue };
            for link in self.prefix(Table::ManifestRepositories, parent)? {
                if found.len() == limit {
                    return Ok(found);
                }
                let name = keys::text_after(link?.0, parent.len()).and_then(|name| name.parse().ok());
                found.extend(name.map(|repository| (repository, manifest.clone())));
            }
        }
        Ok(found)
    }

    /// As [`References::is_referenced_in`]; manifests that the forecast removes do not count.
    fn remains_referenced_in(
        &self,
        repository: &RepositoryName,
        digest: &Digest,
        forecast: &Forecast,
    ) -> Result<bool, StoreError> {
        let (mut from, mut budget) = (Vec::new(), u32::MAX);
        while let Some(parent) = self.parent_in(repository, digest, &from, &mut budget)? {
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
    fn parent_in(
        &self,
        repository: &RepositoryName,
        digest: &Digest,
        from: &[u8],
        budget: &mut u32,
    ) -> Result<Option<Digest>, StoreError> {
        self.parent_among(Table::Manifests, repository, digest, from, budget)
    }

    /// As [`References::parent_in`], among the manifests of a table with the keys of `manifests`.
    fn parent_among(
        &self,
        table: Table,
        repository: &RepositoryName,
        digest: &Digest,
        from: &[u8],
        budget: &mut u32,
    ) -> Result<Option<Digest>, StoreError> {
        let (child, repository_prefix) = (keys::digest_key(digest), keys::repository_prefix(repository));
        let mut from = from.to_vec();
        while *budget > 0 {
            *budget -= 1;
            let edge = self.at_or_after(Table::Parents, &[&child[..], &from].concat())?;
            let Some(parent) = edge.and_then(|(key, _)| key.strip_prefix(&child[..])) else {
                return Ok(None);
            };
            let manifest = self.at_or_after(table, &[&repository_prefix[..], parent].concat())?;
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
    fn is_live_in(
        &self,
        repository: &RepositoryName,
        digest: &Digest,
        budget: &mut u32,
    ) -> Result<bool, StoreError> {
        let mut from = Vec::new();
        while let Some(parent) = self.parent_in(repository, digest, &from, budget)? {
            // The next key: no digest is a prefix of another.
            from = keys::digest_key(&parent);
            from.push(0);
            let orphan: Option<OrphanRow> =
                self.row(Table::Orphans, &keys::content_key(repository, &parent))?;
            if orphan.is_some_and(|row| row.deleted) {
                continue;
            }
            let is_top = self.parent_in(repository, &parent, &[], budget)?.is_none() && *budget > 0;
            if is_top || self.is_live_in(repository, &parent, budget)? {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Returns true if a delete has orphaned a manifest of the repository. Among very many orphan rows that no delete
    /// caused, the answer may be yes where it should be no.
    fn has_orphans(&self, repository: &RepositoryName) -> Result<bool, StoreError> {
        let rows = self.prefix(Table::Orphans, &keys::repository_prefix(repository))?;
        for (number, row) in (0..).zip(rows) {
            if number >= LOOKUPS || self.decode::<OrphanRow>(row?.1)?.deleted {
                return Ok(true);
            }
        }
        Ok(false)
    }
}

impl<T: ReadTables> References for T {}

#[cfg(test)]
mod tests {
    use super::super::memory::Memory;
    use super::super::port::WriteTables;
    use super::*;
    use crate::oci::{Algorithm, Hasher};

    fn digest(number: usize) -> Digest {
        Hasher::digest(Algorithm::Sha256, &number.to_be_bytes())
    }

    #[test]
    fn parents_in_other_repositories_do_not_raise_the_cost() {
        let (own, other, child) = ("own".parse().unwrap(), "other".parse().unwrap(), digest(0));
        let mut txn = Memory::default();
        let put = |txn: &mut Memory, repository: &RepositoryName, number: usize, is_parent: bool| {
            txn.put(Table::Manifests, &keys::content_key(repository, &digest(number)), &[]).unwrap();
            if is_parent {
                txn.put(Table::Parents, &keys::edge_key(&child, &digest(number)), &[]).unwrap();
            }
        };
        (1..=3000).for_each(|number| put(&mut txn, &other, number, true));
        (4000..4005).for_each(|number| put(&mut txn, &own, number, false));
        let search = |txn: &Memory| {
            let mut budget = u32::MAX;
            let found = txn.parent_in(&own, &child, &[], &mut budget).unwrap();
            (found, u32::MAX - budget)
        };
        let (found, budget) = search(&txn);
        assert!(found.is_none() && budget <= 6, "{budget} lookups");
        assert!(txn.is_referenced_in(&other, &child).unwrap());
        put(&mut txn, &own, 5000, true);
        let (found, budget) = search(&txn);
        assert!(found == Some(digest(5000)) && budget <= 7, "{budget} lookups");
        // All parents, page by page.
        let (mut from, mut parents, mut budget) = (Vec::new(), 0, u32::MAX);
        while let Some(parent) = txn.parent_in(&other, &child, &from, &mut budget).unwrap() {
            from = keys::digest_key(&parent);
            from.push(0);
            parents += 1;
        }
        assert_eq!(parents, 3000);
        assert!(txn.may_be_referenced_in(&other, &child).unwrap());
        assert!(!txn.may_be_referenced_in(&"none".parse().unwrap(), &child).unwrap());
        // A repository with as many manifests and no parent: the writer's budget does not find that out.
        let (unrelated, far) = ("unrelated".parse().unwrap(), 10_000..13_000);
        far.for_each(|number| put(&mut txn, &unrelated, number, false));
        assert!(txn.may_be_referenced_in(&unrelated, &child).unwrap());
        assert!(!txn.is_referenced_in(&unrelated, &child).unwrap());
        let mut few = 2;
        assert_eq!(txn.parent_in(&own, &child, &[0xff], &mut few).unwrap(), None);
    }
}
