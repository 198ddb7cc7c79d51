//! A dry run of a collection: records in a [`Forecast`] what `sweep` and `deletes` would change.

use super::candidates::{CandidateWithSubject, CollectedManifest, DatedTag, MAX_PER_TRANSACTION};
use super::forecast::Forecast;
use super::keys;
use super::mark::Mark;
use super::meta::Meta;
use super::port::{ReadTables, Table};
use super::rows::ManifestRow;
use crate::oci::{AttachmentTarget, Digest, RepositoryName, Tag};
use crate::store::clock::StoreTime;
use crate::store::error::StoreError;

impl Forecast {
    /// Records that tags are retired.
    pub(in crate::store) fn retire_tags(
        &mut self,
        tables: &impl ReadTables,
        now: StoreTime,
        repository: &RepositoryName,
        tags: &[DatedTag],
    ) -> Result<(), StoreError> {
        for DatedTag { tag, digest, .. } in tags {
            self.tags.insert(keys::tag_key(repository, tag));
            self.mark_orphaned(tables, repository, digest, (now, true))?;
        }
        Ok(())
    }

    /// Records that manifests are collected, and with `attached` the tags that are attached to them. Returns what
    /// would be removed.
    pub(in crate::store) fn sweep_manifests(
        &mut self,
        tables: &impl ReadTables,
        now: StoreTime,
        repository: &RepositoryName,
        manifests: Vec<CandidateWithSubject>,
        attached: bool,
    ) -> Result<Vec<CollectedManifest>, StoreError> {
        let mut taken = Vec::new();
        for (one, subject) in manifests {
            let key = keys::content_key(repository, &one.digest);
            let orphan = self.orphan_row(tables, &key)?;
            let row: Option<ManifestRow> = tables.row(Table::Manifests, &key)?;
            let newest = orphan.map(|row| row.since).max(row.map(|row| row.since));
            let has_subject = match &subject {
                Some(subject) => self.has_manifest(tables, repository, subject)?,
                None => false,
            };
            let is_as_it_was = newest.is_none_or(|newest| newest <= one.since);
            if is_as_it_was && !has_subject && tables.is_unreferenced(repository, &one.digest, self)? {
                let since = if one.by_delete { one.since } else { now };
                self.remove_manifest(tables, (repository, &one.digest), (since, now))?;
                let at = (repository, &one.digest);
                let tags = if attached { self.remove_attached(tables, at, now)? } else { Vec::new() };
                taken.push(CollectedManifest { digest: one.digest, tags });
            }
        }
        Ok(taken)
    }

    /// Records that a manifest is removed and its dependents are orphaned.
    fn remove_manifest(
        &mut self,
        tables: &impl ReadTables,
        (repository, digest): (&RepositoryName, &Digest),
        (since, now): (StoreTime, StoreTime),
    ) -> Result<(), StoreError> {
        let key = keys::content_key(repository, digest);
        self.manifests.insert(key.clone());
        for child in tables.children_of(digest)? {
            self.mark_orphaned(tables, repository, &child, (since, true))?;
            self.renew_lease(&child, since);
        }
        let prefix = keys::referrer_key(repository, digest, None);
        // A transaction of a real run orphans no more than this; `finish_deletes` orphans the others after the last page
        // of the repository, a step that a dry run does not have.
        for row in tables.prefix(Table::Referrers, &prefix)?.take(MAX_PER_TRANSACTION) {
            if let Some((referrer, _)) = keys::split_digest(&row?.0[prefix.len()..]) {
                self.mark_orphaned(tables, repository, &referrer, (now, true))?;
            }
        }
        self.orphans.remove(&key);
        self.renew_lease(digest, since);
        Ok(())
    }

    /// Records that the tags are removed that are attached to a manifest, and returns them; see
    /// `Batch::delete_attached`.
    fn remove_attached(
        &mut self,
        tables: &impl ReadTables,
        (repository, digest): (&RepositoryName, &Digest),
        now: StoreTime,
    ) -> Result<Vec<(Tag, Digest)>, StoreError> {
        let mut removed = Vec::new();
        for tag in AttachmentTarget::tags_of(digest) {
            let key = keys::tag_key(repository, &tag);
            let row: Option<ManifestRow> = tables.row(Table::Tags, &key)?;
            let Some(row) = row.filter(|_| !self.removes_tag(&key)) else { continue };
            let prefix = keys::content_key_prefix(repository, digest.algorithm(), &digest.bytes()[..32]);
            let mut has_other = false;
            for other in tables.prefix(Table::Manifests, &prefix)? {
                has_other |= !self.removes_manifest(other?.0);
            }
            if !has_other {
                self.tags.insert(key);
                let digest = row.digest(tables)?;
                self.mark_orphaned(tables, repository, &digest, (now, true))?;
                removed.push((tag, digest));
            }
        }
        Ok(removed)
    }
}
