//! The manifests of a repository without a tag, for the admin page.

use std::collections::HashSet;

use super::entry::{ManifestEntry, entry};
use super::keys;
use super::parents::{LOOKUPS, References};
use super::port::{ReadTables, Table};
use super::rows::{ManifestRow, OrphanRow, digest_of};
use crate::oci::{Digest, RepositoryName};
use crate::store::clock::StoreTime;
use crate::store::error::StoreError;
use crate::store::work::Cancel;

/// A manifest without a tag.
pub(in crate::store) struct UntaggedManifest {
    pub(in crate::store) entry: ManifestEntry,
    /// The store time at which a collection began to count its age.
    pub(in crate::store) since: StoreTime,
    /// True if a delete orphaned it.
    pub(in crate::store) by_delete: bool,
    /// A manifest of the repository that references it.
    pub(in crate::store) parent: Option<Digest>,
}

/// Reads of manifests without a tag.
pub(in crate::store) trait UntaggedManifests: ReadTables {
    /// Returns `limit` manifests without a tag after the first `skip`, the newest first, and the number of all.
    fn untagged(
        &self,
        repository: &RepositoryName,
        (skip, limit): (usize, usize),
        cancel: &Cancel,
    ) -> Result<(Vec<UntaggedManifest>, usize), StoreError> {
        let prefix = keys::repository_prefix(repository);
        let mut tagged: HashSet<&[u8]> = HashSet::new();
        for row in self.prefix(Table::Tags, &prefix)? {
            cancel.check()?;
            tagged.insert(digest_of(self, row?.1)?);
        }
        let mut all: Vec<(StoreTime, u64, &[u8])> = Vec::new();
        for row in self.prefix(Table::Manifests, &prefix)? {
            cancel.check()?;
            let (key, value) = row?;
            if !tagged.contains(&key[prefix.len()..]) {
                let ManifestRow { since, order, .. } = self.decode(value)?;
                all.push((since, order, key));
            }
        }
        let total = all.len();
        all.sort_unstable_by(|one, other| other.cmp(one));
        let mut page = Vec::new();
        for (_, _, key) in all.into_iter().skip(skip).take(limit) {
            cancel.check()?;
            let Some(row) = self.row::<ManifestRow>(Table::Manifests, key)? else { continue };
            let entry = entry(self, &row)?;
            let orphan: Option<OrphanRow> = self.row(Table::Orphans, key)?;
            let parent = self.parent_in(repository, &entry.digest, &[], &mut LOOKUPS.clone())?;
            page.push(UntaggedManifest {
                since: orphan.as_ref().map_or(row.since, |orphan| orphan.since.max(row.since)),
                by_delete: orphan.is_some_and(|orphan| orphan.deleted),
                entry,
                parent,
            });
        }
        Ok((page, total))
    }
}

impl<T: ReadTables> UntaggedManifests for T {}
