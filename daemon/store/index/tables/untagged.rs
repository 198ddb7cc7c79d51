//! The manifests of a repository without a tag, for the admin page.

use super::entry::{ManifestEntry, entry};
use super::keys;
use super::parents::{LOOKUPS, References};
use super::port::{ReadTables, Row, Table};
use super::ranked::ranked;
use super::rows::{ManifestRow, OrphanRow};
use super::tag_index::TagIndex;
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
    fn untagged<'a>(
        &'a self,
        repository: &RepositoryName,
        (skip, limit): (usize, usize),
        cancel: &Cancel,
    ) -> Result<(Vec<UntaggedManifest>, usize), StoreError> {
        let mut total = 0;
        self.visit_untagged(repository, cancel, &mut |_| {
            total += 1;
            Ok(())
        })?;
        let all = |visit: &mut dyn FnMut((StoreTime, u64, &'a [u8]))| {
            self.visit_untagged(repository, cancel, &mut |(key, value)| {
                let ManifestRow { since, order, .. } = self.decode(value)?;
                visit((since, order, key));
                Ok(())
            })
        };
        let mut page = Vec::new();
        for (_, _, key) in ranked(all, (skip, limit), |one, other| other.cmp(one))? {
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

    /// Calls `visit` with the row of each manifest without a tag. Manifests and tagged digests are in the same order.
    fn visit_untagged<'a>(
        &'a self,
        repository: &RepositoryName,
        cancel: &Cancel,
        visit: &mut dyn FnMut(Row<'a>) -> Result<(), StoreError>,
    ) -> Result<(), StoreError> {
        let prefix = keys::repository_prefix(repository);
        let mut tagged = self.tagged_digests(repository)?;
        let mut next = tagged.next().transpose()?;
        for row in self.prefix(Table::Manifests, &prefix)? {
            cancel.check()?;
            let row = row?;
            let digest = &row.0[prefix.len()..];
            while next.as_deref().is_some_and(|next| next < digest) {
                cancel.check()?;
                next = tagged.next().transpose()?;
            }
            if next.as_deref() != Some(digest) {
                visit(row)?;
            }
        }
        Ok(())
    }
}

impl<T: ReadTables> UntaggedManifests for T {}
