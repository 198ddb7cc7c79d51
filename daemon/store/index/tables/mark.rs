//! Mark: finds orphans in short reads beside the writer. `sweep` checks each again in its transaction.
//!
//! A file in `blobs/` is live while a manifest references it, or if it is a manifest itself. A blob of a repository
//! is live there while a manifest of that repository references it. A manifest is live while a tag, a manifest of its
//! repository or its subject holds it.

use std::collections::BTreeSet;
use std::ops::Bound;
use std::time::Duration;

use super::candidates::{BlobPage, DatedTag, OrphanCandidate};
use super::forecast::Forecast;
use super::keys;
use super::lists::Lists;
use super::parents::References;
use super::port::{ReadTables, Table};
use super::rows::{BlobRow, ManifestRow, RepositoryBlobRow};
use super::tag_index::TagIndex;
use crate::oci::{Digest, RepositoryName, Tag};
use crate::store::clock::StoreTime;
use crate::store::error::StoreError;

/// The maximum number of repositories from which a sweep transaction unlinks a blob. More links than that are removed
/// before.
pub(in crate::store) const MAX_REPOSITORIES: usize = 64;
/// The maximum number of stale links that one page returns.
const MAX_STALE_LINKS: usize = 10_000;

/// The maximum number of unfinished deletes of a repository that one collection continues.
const MAX_UNFINISHED_DELETES: usize = 1000;

/// The lookups of the mark phase.
pub(in crate::store) trait Mark: ReadTables {
    /// Returns true if a file in `blobs/` is a manifest of a repository, or a blob that a manifest references in a
    /// repository which has it. Manifests that the forecast removes do not count.
    fn is_referenced(&self, digest: &Digest, key: &[u8], forecast: &Forecast) -> Result<bool, StoreError> {
        for link in self.prefix(Table::ManifestRepositories, key)? {
            if !forecast.removes_manifest(&[&link?.0[key.len()..], &[0], key].concat()) {
                return Ok(true);
            }
        }
        for link in self.prefix(Table::BlobRepositories, key)? {
            let name = keys::text_after(link?.0, key.len()).and_then(|name| name.parse().ok());
            // An unreadable name means a corrupt row, and no content is removed on the evidence of corrupt rows.
            let Some(repository) = name else { return Ok(true) };
            if self.remains_referenced_in(&repository, digest, forecast)? {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Returns true if more repositories have a blob than one transaction unlinks.
    fn is_widely_linked(&self, key: &[u8]) -> Result<bool, StoreError> {
        Ok(self.prefix(Table::BlobRepositories, key)?.take(MAX_REPOSITORIES + 1).count() > MAX_REPOSITORIES)
    }

    /// Returns the names of the repositories in which a manifest references the digest.
    fn referencing_repositories(&self, key: &[u8]) -> Result<BTreeSet<Vec<u8>>, StoreError> {
        let mut names = BTreeSet::new();
        for row in self.prefix(Table::Parents, key)? {
            let parent = &row?.0[key.len()..];
            for link in self.prefix(Table::ManifestRepositories, parent)? {
                names.insert(link?.0[parent.len()..].to_vec());
            }
        }
        Ok(names)
    }

    /// Returns true if a repository has a manifest and none of its other manifests references it. Manifests that the
    /// forecast removes do not count.
    fn is_unreferenced(
        &self,
        repository: &RepositoryName,
        digest: &Digest,
        forecast: &Forecast,
    ) -> Result<bool, StoreError> {
        let key = keys::content_key(repository, digest);
        let is_here = !forecast.removes_manifest(&key) && self.get(Table::Manifests, &key)?.is_some();
        Ok(is_here && !self.remains_referenced_in(repository, digest, forecast)?)
    }

    /// Classifies the next page of the files in `blobs/`, after the key `after`.
    fn blob_page(
        &self,
        after: Option<&[u8]>,
        limit: usize,
        (now, grace): (StoreTime, Duration),
        forecast: &Forecast,
    ) -> Result<BlobPage, StoreError> {
        let start = after.map_or(Bound::Unbounded, Bound::Excluded);
        let mut page = BlobPage::default();
        for (number, row) in self.range(Table::Blobs, &(start, Bound::Unbounded))?.enumerate() {
            let (key, value) = row?;
            let (Some((digest, _)), row) = (keys::split_digest(key), self.decode::<BlobRow>(value)?) else {
                continue;
            };
            if self.is_referenced(&digest, key, forecast)? {
                page.live.add(row.size);
                self.find_stale_links(&digest, key, (now, grace), &mut page.stale_links)?;
            } else if let age = forecast.leased_at(key, row.leased_at).age(now)
                && age < grace
            {
                page.leased.add(row.size);
                page.remaining.add(grace.saturating_sub(age));
            } else if self.is_widely_linked(key)? {
                // Its links are removed first, some in each transaction.
                self.find_stale_links(&digest, key, (now, grace), &mut page.stale_links)?;
            } else {
                page.orphans.push((digest, row.size));
            }
            if number + 1 == limit || page.stale_links.len() >= MAX_STALE_LINKS {
                page.next = Some(key.to_vec());
                break;
            }
        }
        Ok(page)
    }

    /// Returns the number of files in `blobs/` that no manifest references.
    fn count_unreferenced_blobs(&self) -> Result<u64, StoreError> {
        let mut count = 0;
        for row in self.rows(Table::Blobs)? {
            let key = row?.0;
            let Some((digest, _)) = keys::split_digest(key) else { continue };
            count += u64::from(!self.is_referenced(&digest, key, &Forecast::default())?);
        }
        Ok(count)
    }

    /// Finds the repositories that have a blob without a manifest that references it, and whose lease is over.
    fn find_stale_links(
        &self,
        digest: &Digest,
        key: &[u8],
        (now, grace): (StoreTime, Duration),
        stale_links: &mut Vec<(Digest, RepositoryName)>,
    ) -> Result<(), StoreError> {
        let mut referencing_repositories = None;
        for row in self.prefix(Table::BlobRepositories, key)? {
            if stale_links.len() >= MAX_STALE_LINKS {
                // The next collection finds the rest.
                break;
            }
            let name = &row?.0[key.len()..];
            let Some(repository) = keys::text_after(name, 0).and_then(|name| name.parse().ok()) else {
                continue;
            };
            let link: Option<RepositoryBlobRow> =
                self.row(Table::RepositoryBlobs, &keys::content_key(&repository, digest))?;
            if link.is_some_and(|link| link.leased_at.age(now) < grace) {
                continue;
            }
            let referencing_repositories = match &mut referencing_repositories {
                Some(referencing_repositories) => referencing_repositories,
                none => none.insert(self.referencing_repositories(key)?),
            };
            if !referencing_repositories.contains(name) {
                stale_links.push((digest.clone(), repository));
            }
        }
        Ok(())
    }

    /// Returns a page of the tags of a repository after `after`, in byte order.
    fn tags_after(
        &self,
        repository: &RepositoryName,
        after: Option<&Tag>,
        limit: usize,
    ) -> Result<Vec<DatedTag>, StoreError> {
        let rows = self.tag_rows(repository, after.map_or(Bound::Unbounded, Bound::Excluded), limit)?;
        let dated = |(tag, row): (Tag, ManifestRow)| {
            Ok(DatedTag { digest: row.digest(self)?, tag, since: row.since, order: row.order })
        };
        rows.into_iter().map(dated).collect()
    }

    /// Returns a page of the candidates of a repository after `after`: manifests with an orphan row, and with `all`
    /// every manifest. Tagged ones may be among them.
    fn orphan_candidates(
        &self,
        repository: &RepositoryName,
        after: Option<&Digest>,
        limit: usize,
        all: bool,
        forecast: &Forecast,
    ) -> Result<Vec<OrphanCandidate>, StoreError> {
        let prefix = keys::repository_prefix(repository);
        let start = after.map_or_else(|| prefix.clone(), |after| keys::content_key(repository, after));
        let table = if all { Table::Manifests } else { Table::Orphans };
        let mut keys = BTreeSet::new();
        for row in self.range(table, &(Bound::Excluded(&start[..]), Bound::Unbounded))? {
            let (key, _) = row?;
            if !key.starts_with(&prefix) || keys.len() == limit {
                break;
            }
            if !forecast.removes_manifest(key) {
                keys.insert(key.to_vec());
            }
        }
        if !all {
            keys.extend(forecast.orphan_keys_after(&start, &prefix, limit));
        }
        let mut page = Vec::new();
        for key in keys.into_iter().take(limit) {
            let Some((digest, _)) = keys::split_digest(&key[prefix.len()..]) else { continue };
            let orphan = forecast.orphan_row(self, &key)?;
            let manifest: Option<ManifestRow> = self.row(Table::Manifests, &key)?;
            let (size, pushed) = manifest.map_or((0, StoreTime::default()), |row| (row.size, row.since));
            let since = orphan.as_ref().map_or(pushed, |row| row.since.max(pushed));
            page.push(OrphanCandidate {
                digest,
                size,
                since,
                by_delete: orphan.is_some_and(|row| row.deleted),
            });
        }
        Ok(page)
    }

    /// Keeps only those candidates that no tag names and no manifest of the repository references.
    fn retain_orphans(
        &self,
        repository: &RepositoryName,
        manifests: &mut Vec<OrphanCandidate>,
        forecast: &Forecast,
    ) -> Result<(), StoreError> {
        let mut unreferenced = Vec::new();
        for one in manifests.drain(..) {
            if self.is_unreferenced(repository, &one.digest, forecast)? {
                unreferenced.push(one);
            }
        }
        let digests: Vec<Digest> = unreferenced.iter().map(|one| one.digest.clone()).collect();
        let tagged = self.tagged_among(repository, digests.iter(), &|key| forecast.removes_tag(key))?;
        unreferenced.retain(|one| !tagged.contains(&one.digest));
        *manifests = unreferenced;
        Ok(())
    }

    /// Returns deleted manifests of a repository whose referrers are not all orphaned, because the process that
    /// deleted them ended before.
    fn unfinished_deletes(&self, repository: &RepositoryName) -> Result<Vec<Digest>, StoreError> {
        let prefix = keys::repository_prefix(repository);
        let mut unfinished = Vec::new();
        for row in self.prefix(Table::Orphans, &prefix)? {
            let (key, _) = row?;
            if self.get(Table::Manifests, key)?.is_none() && unfinished.len() < MAX_UNFINISHED_DELETES {
                unfinished.extend(keys::split_digest(&key[prefix.len()..]).map(|(digest, _)| digest));
            }
        }
        Ok(unfinished)
    }
}

impl<T: ReadTables> Mark for T {}

#[cfg(test)]
mod tests;
