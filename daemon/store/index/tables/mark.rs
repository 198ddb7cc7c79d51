//! Mark: finds orphans in short reads beside the writer. `sweep` checks each again in its transaction.
//!
//! A file in `blobs/` is live while a manifest references it, or if it is a manifest itself. A blob of a repository
//! is live there while a manifest of that repository references it. A manifest is live while a tag, a manifest of its
//! repository or its subject holds it.

use std::collections::BTreeSet;
use std::ops::Bound;
use std::time::Duration;

use super::blob_candidates::{self, BlobCandidates};
use super::candidates::{BlobCandidate, BlobPage, DatedTag, OrphanCandidate};
use super::forecast::Forecast;
use super::keys;
use super::lists::Lists;
use super::parents::References;
use super::port::{ReadTables, Table};
use super::rows::{BlobRow, ManifestRow, OrphanRow, RepositoryBlobRow};
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

/// The state of a file in `blobs/`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::store) enum BlobState {
    /// A manifest of a repository, or a blob that one references.
    Live,
    /// Unreferenced, within its grace period.
    Leased,
    /// Unreferenced; more repositories have it than one transaction unlinks.
    WidelyLinked,
    /// To be removed.
    Orphan,
}

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
            match self.classify_blob((&digest, key), &row, (now, grace), forecast, &mut page)? {
                BlobState::Live | BlobState::WidelyLinked => {
                    self.find_stale_links(&digest, key, (now, grace), &mut page)?;
                }
                BlobState::Leased => {
                    let mut rows = self.candidates_of(&digest)?;
                    page.is_partial |= rows.len() == blob_candidates::MAX_PER_BLOB;
                    page.waiting.append(&mut rows);
                }
                BlobState::Orphan => {}
            }
            let found = page.stale_links.len().max(page.waiting.len());
            if number + 1 == limit || found >= MAX_STALE_LINKS {
                page.next = Some(key.to_vec());
                break;
            }
        }
        Ok(page)
    }

    /// Classifies the next blobs among the candidates, after the key `after`: a page that costs the same however many blobs
    /// there are.
    fn candidate_page(
        &self,
        after: Option<&[u8]>,
        limit: usize,
        (now, grace): (StoreTime, Duration),
        forecast: &Forecast,
    ) -> Result<BlobPage, StoreError> {
        let (candidates, next) = self.candidates_after(after, limit, forecast)?;
        let mut page = BlobPage { next, ..BlobPage::default() };
        for (key, rows) in candidates {
            let Some((digest, _)) = keys::split_digest(&key) else { continue };
            let Some(row) = self.row::<BlobRow>(Table::Blobs, &key)? else {
                page.settled.extend(rows);
                continue;
            };
            let state = self.classify_blob((&digest, &key), &row, (now, grace), forecast, &mut page)?;
            let has_stale_links = matches!(state, BlobState::Live | BlobState::WidelyLinked);
            for row in rows {
                match &row.repository {
                    _ if !self.is_candidate(&row)? => page.settled.push(row),
                    Some(name) if has_stale_links && self.is_stale(name, &digest, (now, grace))? => {
                        page.stale_links.push((digest.clone(), name.clone()));
                    }
                    _ => {}
                }
            }
        }
        Ok(page)
    }

    /// Finds the state of a file in `blobs/`, and adds it to the page as far as that is decided by it.
    fn classify_blob(
        &self,
        (digest, key): (&Digest, &[u8]),
        row: &BlobRow,
        (now, grace): (StoreTime, Duration),
        forecast: &Forecast,
        page: &mut BlobPage,
    ) -> Result<BlobState, StoreError> {
        if self.is_referenced(digest, key, forecast)? {
            return Ok(BlobState::Live);
        }
        let age = forecast.leased_at(key, row.leased_at).age(now);
        if age < grace {
            page.leased.add(row.size);
            page.remaining.add(grace.saturating_sub(age));
            return Ok(BlobState::Leased);
        }
        // Its links are removed first, some in each transaction.
        if self.is_widely_linked(key)? {
            return Ok(BlobState::WidelyLinked);
        }
        page.orphans.push((digest.clone(), row.size));
        Ok(BlobState::Orphan)
    }

    /// Returns true if the lease of a blob in a repository is over.
    fn is_stale(
        &self,
        repository: &RepositoryName,
        digest: &Digest,
        (now, grace): (StoreTime, Duration),
    ) -> Result<bool, StoreError> {
        let link: Option<RepositoryBlobRow> =
            self.row(Table::RepositoryBlobs, &keys::content_key(repository, digest))?;
        Ok(link.is_none_or(|link| link.leased_at.age(now) >= grace))
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

    /// Finds the repositories that have a blob without a manifest that references it: those whose lease is over, and the
    /// others.
    fn find_stale_links(
        &self,
        digest: &Digest,
        key: &[u8],
        (now, grace): (StoreTime, Duration),
        page: &mut BlobPage,
    ) -> Result<(), StoreError> {
        let mut referencing_repositories = None;
        for row in self.prefix(Table::BlobRepositories, key)? {
            if page.stale_links.len().max(page.waiting.len()) >= MAX_STALE_LINKS {
                // The next collection finds the rest.
                page.is_partial = true;
                break;
            }
            let name = &row?.0[key.len()..];
            let Some(repository) = keys::text_after(name, 0).and_then(|name| name.parse().ok()) else {
                continue;
            };
            let referencing_repositories = match &mut referencing_repositories {
                Some(referencing_repositories) => referencing_repositories,
                none => none.insert(self.referencing_repositories(key)?),
            };
            if referencing_repositories.contains(name) {
                continue;
            }
            if self.is_stale(&repository, digest, (now, grace))? {
                page.stale_links.push((digest.clone(), repository));
            } else {
                page.waiting.push(BlobCandidate { digest: digest.clone(), repository: Some(repository) });
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

    /// Returns the repositories with manifests that a delete orphaned, among the next `rows` rows after the key `after`, and
    /// the key after which the next part begins if there may be more.
    fn repositories_with_orphans(
        &self,
        after: Option<&[u8]>,
        rows: usize,
    ) -> Result<(Vec<RepositoryName>, Option<Vec<u8>>), StoreError> {
        let (mut found, mut start, mut left) = (Vec::new(), after.map(<[u8]>::to_vec), rows);
        loop {
            let bound = start.as_deref().map_or(Bound::Unbounded, Bound::Excluded);
            let mut orphaned = None;
            for row in self.range(Table::Orphans, &(bound, Bound::Unbounded))? {
                let (key, value) = row?;
                if left == 0 {
                    return Ok((found, start));
                }
                left -= 1;
                if self.decode::<OrphanRow>(value)?.deleted {
                    orphaned = keys::split_content(key).map(|(repository, _)| repository);
                }
                start = Some(key.to_vec());
                if orphaned.is_some() {
                    break;
                }
            }
            let Some(repository) = orphaned else { return Ok((found, None)) };
            // Its other rows are skipped.
            start = Some(keys::repository_end(&repository));
            found.push(repository);
        }
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
