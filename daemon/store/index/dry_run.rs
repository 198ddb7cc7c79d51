//! A dry run of a collection: records in a [`Forecast`] what `sweep` and `deletes` would change.

use heed::RoTxn;

use super::candidates::{CandidateWithSubject, CollectedManifest, DatedTag};
use super::database::Index;
use super::deletes::MAX_PER_TRANSACTION;
use super::forecast::Forecast;
use super::rows::ManifestRow;
use super::schema::Tables;
use super::{keys, schema};
use crate::oci::{AttachmentTarget, Digest, RepositoryName, Tag};
use crate::store::clock::StoreTime;
use crate::store::error::StoreError;

impl Forecast {
    /// Records that tags are retired.
    pub(in crate::store) fn retire_tags(
        &mut self,
        index: &Index,
        repository: &RepositoryName,
        tags: &[DatedTag],
    ) -> Result<(), StoreError> {
        let (txn, now) = (index.read_txn()?, index.clock.now());
        for DatedTag { tag, digest, .. } in tags {
            self.tags.insert(keys::tag_key(repository, tag));
            self.mark_orphaned(&index.tables, &txn, repository, digest, (now, true))?;
        }
        Ok(())
    }

    /// Records that manifests are collected, and with `attached` the tags that are attached to them. Returns what
    /// would be removed.
    pub(in crate::store) fn sweep_manifests(
        &mut self,
        index: &Index,
        repository: &RepositoryName,
        manifests: Vec<CandidateWithSubject>,
        attached: bool,
    ) -> Result<Vec<CollectedManifest>, StoreError> {
        let (txn, now, tables) = (index.read_txn()?, index.clock.now(), &index.tables);
        let mut taken = Vec::new();
        for (one, subject) in manifests {
            let key = keys::content_key(repository, &one.digest);
            let orphan = self.orphan_row(tables, &txn, &key)?;
            let row: Option<ManifestRow> = schema::row(tables.manifests, &txn, &key)?;
            let newest = orphan.map(|row| row.since).max(row.map(|row| row.since));
            let has_subject = match &subject {
                Some(subject) => self.has_manifest(tables, &txn, repository, subject)?,
                None => false,
            };
            let is_as_it_was = newest.is_none_or(|newest| newest <= one.since);
            if is_as_it_was && !has_subject && tables.is_unreferenced(&txn, repository, &one.digest, self)? {
                let since = if one.by_delete { one.since } else { now };
                self.remove_manifest(tables, &txn, (repository, &one.digest), (since, now))?;
                let at = (repository, &one.digest);
                let tags = if attached { self.remove_attached(tables, &txn, at, now)? } else { Vec::new() };
                taken.push(CollectedManifest { digest: one.digest, tags });
            }
        }
        Ok(taken)
    }

    /// Records that a manifest is removed and its dependents are orphaned.
    fn remove_manifest(
        &mut self,
        tables: &Tables,
        txn: &RoTxn,
        (repository, digest): (&RepositoryName, &Digest),
        (since, now): (StoreTime, StoreTime),
    ) -> Result<(), StoreError> {
        let key = keys::content_key(repository, digest);
        self.manifests.insert(key.clone());
        for child in tables.children_of(txn, digest)? {
            self.mark_orphaned(tables, txn, repository, &child, (since, true))?;
            self.renew_lease(&child, since);
        }
        let prefix = keys::referrer_key(repository, digest, None);
        // A transaction of a real run orphans no more than this; `finish_deletes` orphans the others after the last page
        // of the repository, a step that a dry run does not have.
        for row in tables.referrers.prefix_iter(txn, &prefix)?.take(MAX_PER_TRANSACTION) {
            if let Some((referrer, _)) = keys::split_digest(&row?.0[prefix.len()..]) {
                self.mark_orphaned(tables, txn, repository, &referrer, (now, true))?;
            }
        }
        self.orphans.remove(&key);
        self.renew_lease(digest, since);
        Ok(())
    }

    /// Records that the tags are removed that are attached to a manifest, and returns them; see
    /// [`Batch::delete_attached`].
    ///
    /// [`Batch::delete_attached`]: super::batch::Batch
    fn remove_attached(
        &mut self,
        tables: &Tables,
        txn: &RoTxn,
        (repository, digest): (&RepositoryName, &Digest),
        now: StoreTime,
    ) -> Result<Vec<(Tag, Digest)>, StoreError> {
        let mut removed = Vec::new();
        for tag in AttachmentTarget::tags_of(digest) {
            let key = keys::tag_key(repository, &tag);
            let row: Option<ManifestRow> = schema::row(tables.tags, txn, &key)?;
            let Some(row) = row.filter(|_| !self.removes_tag(&key)) else { continue };
            let prefix = keys::content_key_prefix(repository, digest.algorithm(), &digest.bytes()[..32]);
            let mut has_other = false;
            for other in tables.manifests.prefix_iter(txn, &prefix)? {
                has_other |= !self.removes_manifest(other?.0);
            }
            if !has_other {
                self.tags.insert(key);
                let digest = row.digest(tables.tags)?;
                self.mark_orphaned(tables, txn, repository, &digest, (now, true))?;
                removed.push((tag, digest));
            }
        }
        Ok(removed)
    }
}
