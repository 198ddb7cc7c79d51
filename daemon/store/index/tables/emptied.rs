//! Repositories without tags whose manifests only wait for a collection, and the time at which the last name was removed.

use std::collections::HashSet;

use super::keys;
use super::parents::{LOOKUPS, References};
use super::port::{ReadTables, Table};
use super::rows::OrphanRow;
use crate::oci::RepositoryName;
use crate::store::clock::StoreTime;
use crate::store::error::StoreError;
use crate::store::work::Cancel;

/// The lookup of the time at which a repository became empty.
pub(in crate::store) trait Emptied: ReadTables {
    /// Returns the time at which a delete orphaned the last manifest of a repository without tags. Returns `None` if a
    /// tag or a manifest remains that no delete orphaned, other than a part of another manifest or an attachment. Subtracts
    /// the rows that it reads from `rows`, and returns `None` when they are used up.
    fn emptied_since(
        &self,
        repository: &RepositoryName,
        rows: &mut usize,
        cancel: &Cancel,
    ) -> Result<Option<StoreTime>, StoreError> {
        let prefix = keys::repository_prefix(repository);
        // The cheap answer for a repository that no delete emptied.
        if self.prefix(Table::Tags, &prefix)?.next().is_some()
            || self.prefix(Table::Orphans, &prefix)?.next().is_none()
        {
            return Ok(None);
        }
        let mut attached: HashSet<&[u8]> = HashSet::new();
        for row in self.prefix(Table::Referrers, &prefix)? {
            cancel.check()?;
            let Some(left) = rows.checked_sub(1) else { return Ok(None) };
            *rows = left;
            let key = &row?.0[prefix.len()..];
            // The referrer of a manifest that is gone counts by itself.
            let Some((subject, referrer)) = keys::split_digest(key) else { continue };
            if self.get(Table::Manifests, &keys::content_key(repository, &subject))?.is_some() {
                attached.insert(referrer);
            }
        }
        let mut last = None;
        for row in self.prefix(Table::Manifests, &prefix)? {
            cancel.check()?;
            let Some(left) = rows.checked_sub(1) else { return Ok(None) };
            *rows = left;
            let key = row?.0;
            let orphan: Option<OrphanRow> = self.row(Table::Orphans, key)?;
            if let Some(orphan) = orphan.filter(|orphan| orphan.deleted) {
                last = last.max(Some(orphan.since));
                continue;
            }
            let key = &key[prefix.len()..];
            let Some((digest, _)) = keys::split_digest(key) else { continue };
            let is_dependent = attached.contains(key)
                || self.parent_in(repository, &digest, &[], &mut LOOKUPS.clone())?.is_some();
            if !is_dependent {
                return Ok(None);
            }
        }
        Ok(last)
    }
}

impl<T: ReadTables> Emptied for T {}

#[cfg(test)]
mod tests {
    use super::super::memory::Memory;
    use super::super::port::WriteTables;
    use super::*;
    use crate::oci::{Algorithm, Digest, Hasher};
    use crate::store::work::Cancel;

    fn digest(number: usize) -> Digest {
        Hasher::digest(Algorithm::Sha256, &number.to_be_bytes())
    }

    #[test]
    fn time_is_known_only_if_every_manifest_waits_for_a_collection() {
        let (mut tables, repository): (_, RepositoryName) = (Memory::default(), "a".parse().unwrap());
        let found = |tables: &Memory, mut rows| {
            tables.emptied_since(&repository, &mut rows, &Cancel::default()).unwrap().map(StoreTime::seconds)
        };
        let put = |tables: &mut Memory, table, key: &[u8]| tables.put(table, key, &[]).unwrap();
        let orphan = |tables: &mut Memory, number: usize, since, deleted| {
            let row = OrphanRow { since: StoreTime::from_seconds(since), deleted };
            tables.put_row(Table::Orphans, &keys::content_key(&repository, &digest(number)), &row).unwrap();
        };
        assert_eq!(found(&tables, 9), None);
        for number in [1, 2] {
            put(&mut tables, Table::Manifests, &keys::content_key(&repository, &digest(number)));
            orphan(&mut tables, number, 10 * number as u64, true);
        }
        assert_eq!(found(&tables, 9), Some(20));
        assert_eq!(found(&tables, 1), None, "too many rows");
        // A part, and an attachment.
        put(&mut tables, Table::Manifests, &keys::content_key(&repository, &digest(3)));
        put(&mut tables, Table::Parents, &keys::edge_key(&digest(3), &digest(1)));
        put(&mut tables, Table::Manifests, &keys::content_key(&repository, &digest(4)));
        put(&mut tables, Table::Referrers, &keys::referrer_key(&repository, &digest(1), Some(&digest(4))));
        assert_eq!(found(&tables, 9), Some(20));
        // A manifest that lost its tag to another push, and one that was pushed by its digest.
        put(&mut tables, Table::Manifests, &keys::content_key(&repository, &digest(5)));
        orphan(&mut tables, 5, 30, false);
        assert_eq!(found(&tables, 9), None);
        orphan(&mut tables, 5, 30, true);
        assert_eq!(found(&tables, 9), Some(30));
        let tag = "1".parse().unwrap();
        put(&mut tables, Table::Tags, &keys::tag_key(&repository, &tag));
        assert_eq!(found(&tables, 9), None);
    }
}
