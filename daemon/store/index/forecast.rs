//! A dry run of a collection: the changes that a real run would make, noted and not made.
//!
//! A collection finds what comes next in the index as it has left it: a manifest goes, and what it alone needed goes as
//! well. So the lookups of `garbage` read the index together with a forecast, which is empty in a real run. What is noted
//! here mirrors `discard` and `deletes`.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;

use heed::RoTxn;

use super::Index;
use super::deletes::AT_ONCE;
use super::discard::{CollectedManifest, WithSubject};
use super::garbage::TagAge;
use super::schema::{self, LeftRow, ManifestRow, Tables};
use crate::oci::{AttachedTo, Digest, RepositoryName, Tag};
use crate::store::clock::Moment;
use crate::store::error::StoreError;

/// Changes that are only noted. Its size is that of what the collection would take.
#[derive(Default)]
pub(in crate::store) struct Forecast {
    /// The keys of tags that would be gone.
    tags: BTreeSet<Vec<u8>>,
    /// Repository and digest of manifests that would be gone.
    manifests: BTreeSet<Vec<u8>>,
    /// The rows that would be in the table `left`.
    left: BTreeMap<Vec<u8>, (Moment, bool)>,
    /// When blobs would have been used last, by their digest.
    counted_on: BTreeMap<Vec<u8>, Moment>,
}

impl Forecast {
    /// Returns true if a tag would be gone.
    pub(super) fn lacks_tag(&self, key: &[u8]) -> bool {
        self.tags.contains(key)
    }

    /// Returns true if a manifest would be gone from a repository; `key` has both.
    pub(super) fn lacks_manifest(&self, key: &[u8]) -> bool {
        self.manifests.contains(key)
    }

    /// Returns true if a manifest would be gone from a repository.
    pub(in crate::store) fn lacks(&self, repository: &RepositoryName, digest: &Digest) -> bool {
        !self.manifests.is_empty() && self.lacks_manifest(&schema::content_key(repository, digest))
    }

    /// Returns when a blob would have been used last; `moment` is what its row says.
    pub(super) fn used(&self, key: &[u8], moment: Moment) -> Moment {
        self.counted_on.get(key).map_or(moment, |noted| moment.max(*noted))
    }

    /// Returns the row of the table `left` for a manifest.
    pub(super) fn left(
        &self,
        tables: &Tables,
        txn: &RoTxn,
        key: &[u8],
    ) -> Result<Option<LeftRow>, StoreError> {
        match self.left.get(key) {
            Some((since, deleted)) => Ok(Some(LeftRow { since: *since, deleted: *deleted })),
            None => schema::row(tables.left, txn, key),
        }
    }

    /// Returns the keys of rows that would be in the table `left`, after `after` and with the prefix.
    pub(super) fn left_after(&self, after: &[u8], prefix: &[u8], limit: usize) -> Vec<Vec<u8>> {
        let range = self.left.range::<[u8], _>((Bound::Excluded(after), Bound::Unbounded));
        let keys = range.map(|(key, _)| key.clone()).take_while(|key| key.starts_with(prefix));
        keys.take(limit).collect()
    }

    /// Notes that tags are retired.
    pub(in crate::store) fn retire_tags(
        &mut self,
        index: &Index,
        repository: &RepositoryName,
        tags: &[TagAge],
    ) -> Result<(), StoreError> {
        let (txn, now) = (index.env.read_txn()?, index.clock.now());
        for TagAge { tag, digest, .. } in tags {
            self.tags.insert(schema::tag_key(repository, tag));
            self.leave(&index.tables, &txn, repository, digest, (now, true))?;
        }
        Ok(())
    }

    /// Notes that manifests are collected, and with `attached` the tags that are attached to them. Returns what would go.
    pub(in crate::store) fn collect_manifests(
        &mut self,
        index: &Index,
        repository: &RepositoryName,
        manifests: Vec<WithSubject>,
        attached: bool,
    ) -> Result<Vec<CollectedManifest>, StoreError> {
        let (txn, now, tables) = (index.env.read_txn()?, index.clock.now(), &index.tables);
        let mut taken = Vec::new();
        for (one, subject) in manifests {
            let key = schema::content_key(repository, &one.digest);
            let left = self.left(tables, &txn, &key)?;
            let row: Option<ManifestRow> = schema::row(tables.manifests, &txn, &key)?;
            let newest = left.map(|row| row.since).max(row.map(|row| row.since));
            let has_subject = match &subject {
                Some(subject) => self.has_manifest(tables, &txn, repository, subject)?,
                None => false,
            };
            let is_as_it_was = newest.is_none_or(|newest| newest <= one.since);
            if is_as_it_was
                && !has_subject
                && tables.is_without_parent(&txn, repository, &one.digest, self)?
            {
                let since = if one.deleted { one.since } else { now };
                self.remove_manifest(tables, &txn, (repository, &one.digest), (since, now))?;
                let at = (repository, &one.digest);
                let tags = if attached { self.remove_attached(tables, &txn, at, now)? } else { Vec::new() };
                taken.push(CollectedManifest { digest: one.digest, tags });
            }
        }
        Ok(taken)
    }

    fn has_manifest(
        &self,
        tables: &Tables,
        txn: &RoTxn,
        repository: &RepositoryName,
        digest: &Digest,
    ) -> Result<bool, StoreError> {
        let key = schema::content_key(repository, digest);
        Ok(!self.lacks_manifest(&key) && tables.manifests.get(txn, &key)?.is_some())
    }

    /// Notes that a manifest is removed, and what that leaves behind.
    fn remove_manifest(
        &mut self,
        tables: &Tables,
        txn: &RoTxn,
        (repository, digest): (&RepositoryName, &Digest),
        (since, now): (Moment, Moment),
    ) -> Result<(), StoreError> {
        let key = schema::content_key(repository, digest);
        self.manifests.insert(key.clone());
        for child in tables.children_of(txn, digest)? {
            self.leave(tables, txn, repository, &child, (since, true))?;
            self.count_on(&child, since);
        }
        let prefix = schema::referrer_key(repository, digest, None);
        // A real run orphans the others when it is through with the repository.
        for row in tables.referrers.prefix_iter(txn, &prefix)?.take(AT_ONCE) {
            if let Some((referrer, _)) = schema::split_digest(&row?.0[prefix.len()..]) {
                self.leave(tables, txn, repository, &referrer, (now, true))?;
            }
        }
        self.left.remove(&key);
        self.count_on(digest, since);
        Ok(())
    }

    /// Notes that the tags are removed that are attached to a manifest, and returns them; see [`Batch::delete_attached`].
    ///
    /// [`Batch::delete_attached`]: super::writer::Batch
    fn remove_attached(
        &mut self,
        tables: &Tables,
        txn: &RoTxn,
        (repository, digest): (&RepositoryName, &Digest),
        now: Moment,
    ) -> Result<Vec<(Tag, Digest)>, StoreError> {
        let mut removed = Vec::new();
        for tag in AttachedTo::tags_of(digest) {
            let key = schema::tag_key(repository, &tag);
            let row: Option<ManifestRow> = schema::row(tables.tags, txn, &key)?;
            let Some(row) = row.filter(|_| !self.lacks_tag(&key)) else { continue };
            let prefix = schema::content_key_prefix(repository, digest.algorithm(), &digest.bytes()[..32]);
            let mut has_other = false;
            for other in tables.manifests.prefix_iter(txn, &prefix)? {
                has_other |= !self.lacks_manifest(other?.0);
            }
            if !has_other {
                self.tags.insert(key);
                self.leave(tables, txn, repository, &row.digest()?, (now, true))?;
                removed.push((tag, row.digest()?));
            }
        }
        Ok(removed)
    }

    fn leave(
        &mut self,
        tables: &Tables,
        txn: &RoTxn,
        repository: &RepositoryName,
        digest: &Digest,
        (since, deleted): (Moment, bool),
    ) -> Result<(), StoreError> {
        if !self.has_manifest(tables, txn, repository, digest)? {
            return Ok(());
        }
        let key = schema::content_key(repository, digest);
        let known = self.left(tables, txn, &key)?;
        let since = known.map_or(since, |row| row.since.max(since));
        self.left.insert(key, (since, deleted));
        Ok(())
    }

    fn count_on(&mut self, digest: &Digest, moment: Moment) {
        let noted = self.counted_on.entry(schema::digest_key(digest)).or_insert(moment);
        *noted = moment.max(*noted);
    }
}
