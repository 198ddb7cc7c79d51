//! What nobody needs, found in short reads. What is found is taken in `discard`, which checks it again.
//!
//! A file in `blobs/` is needed by the manifests that point at it, and by itself if it is a manifest. A blob that
//! a repository has is needed there by a manifest of that repository. A manifest is needed by a tag, by a
//! manifest of its repository that points at it, and by its subject.

use std::collections::BTreeSet;
use std::ops::Bound;
use std::time::Duration;

use heed::RoTxn;

use super::forecast::Forecast;
use super::parents::LOOKS;
use super::schema::{self, BlobRow, LeftRow, LinkRow, ManifestRow, Tables, UploadRow};
use super::{Index, text_behind};
use crate::oci::{Digest, RepositoryName, Tag};
use crate::store::clock::Moment;
use crate::store::error::StoreError;

/// Files, and their length together.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub struct Amount {
    /// How many.
    pub count: u64,
    /// Their length in bytes.
    pub bytes: u64,
}

impl Amount {
    /// One more.
    pub(in crate::store) fn add(&mut self, bytes: u64) {
        self.count += 1;
        self.bytes += bytes;
    }

    /// All of another amount more.
    pub(in crate::store) fn add_all(&mut self, other: Amount) {
        self.count += other.count;
        self.bytes += other.bytes;
    }
}

/// One page of the files in `blobs/`, sorted by what is to become of them.
#[derive(Default)]
pub(in crate::store) struct BlobPage {
    /// Those that a manifest needs.
    pub needed: Amount,
    /// Those that a push may be counting on.
    pub young: Amount,
    /// Those that nobody needs, and their length.
    pub garbage: Vec<(Digest, u64)>,
    /// Blobs that are needed, but not by this repository, which has them.
    pub strays: Vec<(Digest, RepositoryName)>,
    /// Where the next page begins; none after the last one.
    pub next: Option<Vec<u8>>,
}

/// How long a push that hears of a blob or a manifest may count on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(in crate::store) enum Reliance {
    /// For long enough.
    Kept,
    /// For a while; another grace time should begin soon.
    Renewable,
    /// A collection may be about to take it: another grace time has to begin first.
    Ending,
}

impl Reliance {
    /// For something that nobody has needed for so long, and that goes after this time; after none at all nothing can be
    /// counted on.
    fn of(age: Duration, lasts: Duration) -> Self {
        match () {
            () if lasts.is_zero() || age < lasts / 2 => Reliance::Kept,
            () if age < lasts / 4 * 3 => Reliance::Renewable,
            () => Reliance::Ending,
        }
    }
}

/// The most repositories that forget a blob in the transaction that takes it. Where more have it, they forget it before.
pub(super) const HOMES: usize = 64;
/// The most links to blobs that one page asks repositories to forget.
const STRAYS: usize = 10_000;

/// The most deletes that one collection goes on with in a repository.
const UNFINISHED: usize = 1000;

/// A tag as retention sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::store) struct TagAge {
    pub tag: Tag,
    pub digest: Digest,
    pub since: Moment,
    /// Its place among the tags that were set in the same second.
    pub order: u64,
}

/// A manifest that may be needed by nobody, and since when.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::store) struct Unneeded {
    pub digest: Digest,
    pub size: u64,
    pub since: Moment,
    /// Whether a delete left it behind.
    pub deleted: bool,
}

impl Tables {
    /// Returns true if a file in `blobs/` is a manifest of a repository, or a repository has it as a blob and a manifest
    /// of the same repository names it. The manifests of a forecast count as gone.
    pub(super) fn is_needed(
        &self,
        txn: &RoTxn,
        digest: &Digest,
        key: &[u8],
        forecast: &Forecast,
    ) -> Result<bool, StoreError> {
        for home in self.manifest_homes.prefix_iter(txn, key)? {
            if !forecast.lacks_manifest(&[&home?.0[key.len()..], &[0], key].concat()) {
                return Ok(true);
            }
        }
        for home in self.blob_homes.prefix_iter(txn, key)? {
            let name = text_behind(home?.0, key.len()).and_then(|name| name.parse().ok());
            // A name that cannot be read is a damaged row, which no content is taken for.
            let Some(repository) = name else { return Ok(true) };
            if self.would_be_needed_in(txn, &repository, digest, forecast)? {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Returns true if more repositories have a blob than are made to forget it in one transaction.
    pub(super) fn has_many_homes(&self, txn: &RoTxn, key: &[u8]) -> Result<bool, StoreError> {
        Ok(self.blob_homes.prefix_iter(txn, key)?.take(HOMES + 1).count() > HOMES)
    }

    /// The repositories in which a manifest points at this.
    fn needing(&self, txn: &RoTxn, key: &[u8]) -> Result<BTreeSet<Vec<u8>>, StoreError> {
        let mut names = BTreeSet::new();
        for row in self.needed_by.prefix_iter(txn, key)? {
            let parent = &row?.0[key.len()..];
            for home in self.manifest_homes.prefix_iter(txn, parent)? {
                names.insert(home?.0[parent.len()..].to_vec());
            }
        }
        Ok(names)
    }
}

impl Tables {
    /// Returns true if a manifest is in a repository and none of the repository points at it. The manifests of a forecast
    /// count as gone.
    pub(super) fn is_without_parent(
        &self,
        txn: &RoTxn,
        repository: &RepositoryName,
        digest: &Digest,
        forecast: &Forecast,
    ) -> Result<bool, StoreError> {
        let key = schema::content_key(repository, digest);
        let is_here = !forecast.lacks_manifest(&key) && self.manifests.get(txn, &key)?.is_some();
        Ok(is_here && !self.would_be_needed_in(txn, repository, digest, forecast)?)
    }

    /// Removes those of some manifests that a tag names. Looks at all tags of the repository; those of a forecast count as
    /// gone.
    pub(super) fn leave_out_tagged(
        &self,
        txn: &RoTxn,
        repository: &RepositoryName,
        manifests: &mut BTreeSet<Digest>,
        forecast: &Forecast,
    ) -> Result<(), StoreError> {
        if manifests.is_empty() {
            return Ok(());
        }
        let keys: BTreeSet<Vec<u8>> = manifests.iter().map(schema::digest_key).collect();
        for row in self.tags.prefix_iter(txn, &schema::repository_prefix(repository))? {
            let (key, row) = row?;
            let digest = schema::digest_of(row)?;
            if keys.contains(digest) && !forecast.lacks_tag(key) {
                manifests.retain(|one| schema::digest_key(one) != digest);
            }
        }
        Ok(())
    }
}

impl Index {
    /// The next page of the files in `blobs/`, after the key `after`; young is what is younger than `grace`.
    pub(in crate::store) fn blob_page(
        &self,
        after: Option<&[u8]>,
        limit: usize,
        grace: Duration,
        forecast: &Forecast,
    ) -> Result<BlobPage, StoreError> {
        let (txn, now, tables) = (self.env.read_txn()?, self.clock.now(), self.tables);
        let start = after.map_or(Bound::Unbounded, Bound::Excluded);
        let mut page = BlobPage::default();
        for (number, row) in tables.blobs.range(&txn, &(start, Bound::Unbounded))?.enumerate() {
            let (key, value) = row?;
            let (Some((digest, _)), row) = (schema::split_digest(key), schema::decode::<BlobRow>(value)?)
            else {
                continue;
            };
            if tables.is_needed(&txn, &digest, key, forecast)? {
                page.needed.add(row.size);
                self.find_strays(&txn, &digest, key, (now, grace), &mut page.strays)?;
            } else if forecast.used(key, row.counted_on).age(now) < grace {
                page.young.add(row.size);
            } else if tables.has_many_homes(&txn, key)? {
                // They forget it first, a few in each transaction.
                self.find_strays(&txn, &digest, key, (now, grace), &mut page.strays)?;
            } else {
                page.garbage.push((digest, row.size));
            }
            if number + 1 == limit || page.strays.len() >= STRAYS {
                page.next = Some(key.to_vec());
                break;
            }
        }
        Ok(page)
    }

    /// How many files in `blobs/` no manifest needs.
    pub(in crate::store) fn blobs_nobody_needs(&self) -> Result<u64, StoreError> {
        let txn = self.env.read_txn()?;
        let mut count = 0;
        for row in self.tables.blobs.rows(&txn)? {
            let key = row?.0;
            let Some((digest, _)) = schema::split_digest(key) else { continue };
            count += u64::from(!self.tables.is_needed(&txn, &digest, key, &Forecast::default())?);
        }
        Ok(count)
    }

    fn find_strays(
        &self,
        txn: &RoTxn,
        digest: &Digest,
        key: &[u8],
        (now, grace): (Moment, Duration),
        strays: &mut Vec<(Digest, RepositoryName)>,
    ) -> Result<(), StoreError> {
        let mut needing = None;
        for row in self.tables.blob_homes.prefix_iter(txn, key)? {
            if strays.len() >= STRAYS {
                // The next collection finds the others.
                break;
            }
            let name = &row?.0[key.len()..];
            let Some(repository) = text_behind(name, 0).and_then(|name| name.parse().ok()) else { continue };
            let link: Option<LinkRow> =
                schema::row(self.tables.links, txn, &schema::content_key(&repository, digest))?;
            if link.is_some_and(|link| link.counted_on.age(now) < grace) {
                continue;
            }
            let needing = match &mut needing {
                Some(needing) => needing,
                none => none.insert(self.tables.needing(txn, key)?),
            };
            if !needing.contains(name) {
                strays.push((digest.clone(), repository));
            }
        }
        Ok(())
    }

    /// How long a push that hears of a blob may count on it: it is kept by a manifest of the repository, or it has not
    /// been there without one for half the grace time, or for three quarters, or for longer.
    pub(in crate::store) fn blob_reliance(
        &self,
        repository: &RepositoryName,
        digest: &Digest,
        link: &LinkRow,
        grace: Duration,
    ) -> Result<Reliance, StoreError> {
        let reliance = Reliance::of(link.counted_on.age(self.clock.now()), grace);
        if reliance == Reliance::Kept {
            return Ok(reliance);
        }
        let txn = self.env.read_txn()?;
        let mut looks = LOOKS;
        let kept = self.tables.is_kept_in(&txn, repository, digest, &mut looks)?;
        Ok(if kept { Reliance::Kept } else { reliance })
    }

    /// How long a push that hears of a manifest by its digest may count on it, if no tag names it: a delete left it behind,
    /// or all that point at it, or manifests without a tag are taken after a while; not for half that time, or for three
    /// quarters, or for longer.
    pub(in crate::store) fn manifest_reliance(
        &self,
        repository: &RepositoryName,
        digest: &Digest,
        grace: Duration,
        untagged: Option<Duration>,
    ) -> Result<Reliance, StoreError> {
        let (txn, key, now) =
            (self.env.read_txn()?, schema::content_key(repository, digest), self.clock.now());
        let left: Option<LeftRow> = schema::row(self.tables.left, &txn, &key)?;
        let row: Option<ManifestRow> = schema::row(self.tables.manifests, &txn, &key)?;
        // A collection was quicker than the question.
        let Some(row) = row else { return Ok(Reliance::Ending) };
        let left_since = left.as_ref().map(|row| row.since);
        let newest = left_since.map_or(row.since, |since| since.max(row.since));
        let by_age = untagged.map_or(Reliance::Kept, |untagged| Reliance::of(newest.age(now), untagged));
        let by_delete =
            if left.is_some_and(|row| row.deleted) || self.hangs_by_left(&txn, repository, digest)? {
                left_since.map_or(Reliance::Ending, |since| Reliance::of(since.age(now), grace))
            } else {
                Reliance::Kept
            };
        Ok(by_delete.max(by_age))
    }

    /// Whether manifests point at one, and a delete has left all of them behind.
    fn hangs_by_left(
        &self,
        txn: &RoTxn,
        repository: &RepositoryName,
        digest: &Digest,
    ) -> Result<bool, StoreError> {
        if !self.tables.has_orphans(txn, repository)? {
            return Ok(false);
        }
        let (mut first, mut looks) = (LOOKS, LOOKS);
        let needed = self.tables.parent_in(txn, repository, digest, &[], &mut first)?.is_some() || first == 0;
        Ok(needed && !self.tables.is_kept_in(txn, repository, digest, &mut looks)?)
    }

    /// Returns true if one of the first `limit` tags of the repository names a manifest.
    pub(in crate::store) fn is_tagged(
        &self,
        repository: &RepositoryName,
        digest: &Digest,
        limit: usize,
    ) -> Result<bool, StoreError> {
        let (txn, wanted) = (self.env.read_txn()?, schema::digest_key(digest));
        let tags = self.tables.tags.prefix_iter(&txn, &schema::repository_prefix(repository))?;
        for row in tags.take(limit) {
            if schema::digest_of(row?.1)? == wanted {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Returns a page of the tags of a repository, in the order of their bytes, after the tag `after`.
    pub(in crate::store) fn tags_after(
        &self,
        repository: &RepositoryName,
        after: Option<&Tag>,
        limit: usize,
    ) -> Result<Vec<TagAge>, StoreError> {
        let (txn, prefix) = (self.env.read_txn()?, schema::repository_prefix(repository));
        let start = after.map_or_else(|| prefix.clone(), |after| schema::tag_key(repository, after));
        let range = (Bound::Excluded(&start[..]), Bound::Unbounded);
        let mut page = Vec::new();
        for row in self.tables.tags.range(&txn, &range)? {
            let (key, value) = row?;
            if !key.starts_with(&prefix) || page.len() == limit {
                break;
            }
            let Some(tag) = text_behind(key, prefix.len()).and_then(|tag| tag.parse().ok()) else { continue };
            let row: ManifestRow = schema::decode(value)?;
            page.push(TagAge { tag, digest: row.digest()?, since: row.since, order: row.order });
        }
        Ok(page)
    }

    /// A page of the manifests of a repository that lost a tag or what pointed at them, after the digest `after`;
    /// with `all`, of those too that never had either. Tagged ones may be among them.
    pub(in crate::store) fn unneeded_page(
        &self,
        repository: &RepositoryName,
        after: Option<&Digest>,
        limit: usize,
        all: bool,
        forecast: &Forecast,
    ) -> Result<Vec<Unneeded>, StoreError> {
        let (txn, tables) = (self.env.read_txn()?, self.tables);
        let prefix = schema::repository_prefix(repository);
        let start = after.map_or_else(|| prefix.clone(), |after| schema::content_key(repository, after));
        let table = if all { tables.manifests } else { tables.left };
        let mut keys = BTreeSet::new();
        for row in table.range(&txn, &(Bound::Excluded(&start[..]), Bound::Unbounded))? {
            let (key, _) = row?;
            if !key.starts_with(&prefix) || keys.len() == limit {
                break;
            }
            if !forecast.lacks_manifest(key) {
                keys.insert(key.to_vec());
            }
        }
        if !all {
            keys.extend(forecast.left_after(&start, &prefix, limit));
        }
        let mut page = Vec::new();
        for key in keys.into_iter().take(limit) {
            let Some((digest, _)) = schema::split_digest(&key[prefix.len()..]) else { continue };
            let left = forecast.left(&tables, &txn, &key)?;
            let manifest: Option<ManifestRow> = schema::row(tables.manifests, &txn, &key)?;
            let (size, pushed) = manifest.map_or((0, Moment::default()), |row| (row.size, row.since));
            let since = left.as_ref().map_or(pushed, |row| row.since.max(pushed));
            page.push(Unneeded { digest, size, since, deleted: left.is_some_and(|row| row.deleted) });
        }
        Ok(page)
    }

    /// Leaves of these manifests only those that no tag names and no manifest of the repository points at.
    pub(in crate::store) fn retain_unneeded(
        &self,
        repository: &RepositoryName,
        manifests: &mut Vec<Unneeded>,
        forecast: &Forecast,
    ) -> Result<(), StoreError> {
        let txn = self.env.read_txn()?;
        let mut unneeded = BTreeSet::new();
        for Unneeded { digest, .. } in manifests.iter() {
            if self.tables.is_without_parent(&txn, repository, digest, forecast)? {
                unneeded.insert(digest.clone());
            }
        }
        self.tables.leave_out_tagged(&txn, repository, &mut unneeded, forecast)?;
        manifests.retain(|one| unneeded.contains(&one.digest));
        Ok(())
    }

    /// Returns manifests of a repository that a delete has removed and whose referrers are not all orphaned: the process that
    /// removed them ended before.
    pub(in crate::store) fn unfinished_deletes(
        &self,
        repository: &RepositoryName,
    ) -> Result<Vec<Digest>, StoreError> {
        let (txn, tables) = (self.env.read_txn()?, self.tables);
        let prefix = schema::repository_prefix(repository);
        let mut unfinished = Vec::new();
        for row in tables.left.prefix_iter(&txn, &prefix)? {
            let (key, _) = row?;
            if tables.manifests.get(&txn, key)?.is_none() && unfinished.len() < UNFINISHED {
                unfinished.extend(schema::split_digest(&key[prefix.len()..]).map(|(digest, _)| digest));
            }
        }
        Ok(unfinished)
    }

    /// Whether the index knows the file of a blob.
    pub(in crate::store) fn knows_blob(&self, digest: &Digest) -> Result<bool, StoreError> {
        let txn = self.env.read_txn()?;
        Ok(self.tables.blobs.get(&txn, &schema::digest_key(digest))?.is_some())
    }

    /// Returns the keys of the uploads that a collection has seen and that are not among these.
    pub(in crate::store) fn uploads_gone(&self, there: &[(String, u64)]) -> Result<Vec<Vec<u8>>, StoreError> {
        let there: BTreeSet<&[u8]> = there.iter().map(|(name, _)| name.as_bytes()).collect();
        let txn = self.env.read_txn()?;
        let mut gone = Vec::new();
        for row in self.tables.uploads.rows(&txn)? {
            let (name, _) = row?;
            if !there.contains(name) {
                gone.push(name.to_vec());
            }
        }
        Ok(gone)
    }

    /// What the last collection saw of an upload.
    pub(in crate::store) fn upload(&self, name: &str) -> Result<Option<UploadRow>, StoreError> {
        let txn = self.env.read_txn()?;
        schema::row(self.tables.uploads, &txn, name.as_bytes())
    }
}
