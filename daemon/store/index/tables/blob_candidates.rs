//! Candidates among the blobs: those that a collection looks at, so that it takes as long as there is to collect.
//!
//! A row with a repository says that the repository may have the blob, or a link exception for it, without a manifest that
//! references it there. A row without one says that no repository may have the file, neither as a blob nor as a manifest.
//! Changes add rows wherever that can become true. They may add one too many: a collection looks at each and removes it.
//! So the rows are complete once a full collection has looked at all blobs of an index, which it notes in `meta`.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::time::Duration;

use super::candidates::BlobCandidate;
use super::forecast::Forecast;
use super::keys;
use super::meta;
use super::parents::References;
use super::port::{ReadTables, Table};
use crate::oci::Digest;
use crate::store::clock::StoreTime;
use crate::store::error::StoreError;

/// The interval between full collections, in store time.
const FULL_INTERVAL: Duration = Duration::from_hours(7 * 24);

/// The maximum number of repositories of one blob that a page returns.
pub(in crate::store) const MAX_PER_BLOB: usize = 10_000;

/// Returns the key of a row.
pub(in crate::store) fn row_key(candidate: &BlobCandidate) -> Vec<u8> {
    match &candidate.repository {
        Some(repository) => keys::repository_key(&candidate.digest, repository),
        None => keys::digest_key(&candidate.digest),
    }
}

/// The candidates of a page by the keys of their digests.
pub(in crate::store) type CandidatePage = BTreeMap<Vec<u8>, Vec<BlobCandidate>>;

/// Lookups of candidates.
pub(in crate::store) trait BlobCandidates: ReadTables {
    /// Returns the time of the last full collection, from which on the rows are complete; `None` before the first one.
    fn last_full_collection(&self) -> Result<Option<StoreTime>, StoreError> {
        Ok(self.row(Table::Meta, meta::FULL_COLLECTION)?)
    }

    /// Returns true if a full collection is due.
    fn needs_full_collection(&self, now: StoreTime) -> Result<bool, StoreError> {
        Ok(self.last_full_collection()?.is_none_or(|last| last.age(now) >= FULL_INTERVAL))
    }

    /// Returns true if a row is true: a collection has to look at the blob.
    fn is_candidate(&self, candidate: &BlobCandidate) -> Result<bool, StoreError> {
        let BlobCandidate { digest, repository } = candidate;
        match repository {
            Some(repository) => {
                let key = keys::content_key(repository, digest);
                Ok(self.get(Table::RepositoryBlobs, &key)?.is_some()
                    && !self.is_referenced_in(repository, digest)?)
            }
            None => self.is_in_no_repository(&keys::digest_key(digest)),
        }
    }

    /// Returns true if the file of a blob exists and no repository has it, neither as a blob nor as a manifest.
    fn is_in_no_repository(&self, key: &[u8]) -> Result<bool, StoreError> {
        Ok(self.get(Table::Blobs, key)?.is_some()
            && self.prefix(Table::BlobRepositories, key)?.next().is_none()
            && self.prefix(Table::ManifestRepositories, key)?.next().is_none())
    }

    /// Returns the rows that a blob gets which no manifest references: one for each of its first repositories, or one without.
    fn candidates_of(&self, digest: &Digest) -> Result<Vec<BlobCandidate>, StoreError> {
        let key = keys::digest_key(digest);
        let mut found = Vec::new();
        for link in self.prefix(Table::BlobRepositories, &key)?.take(MAX_PER_BLOB) {
            let name = keys::text_after(link?.0, key.len()).and_then(|name| name.parse().ok());
            found.extend(name.map(|name| BlobCandidate { digest: digest.clone(), repository: Some(name) }));
        }
        if found.is_empty() {
            found.push(BlobCandidate { digest: digest.clone(), repository: None });
        }
        Ok(found)
    }

    /// Returns the candidates of the next blobs after the key `after` of a digest, about `limit` rows, and the key after which
    /// the next page begins. The blobs that the forecast touches are among them.
    fn candidates_after(
        &self,
        after: Option<&[u8]>,
        limit: usize,
        forecast: &Forecast,
    ) -> Result<(CandidatePage, Option<Vec<u8>>), StoreError> {
        let start = after.map(key_after);
        let start = start.as_deref().map_or(Bound::Unbounded, Bound::Included);
        let (mut page, mut rows, mut end): (CandidatePage, _, Option<Vec<u8>>) = (BTreeMap::new(), 0, None);
        for row in self.range(Table::BlobCandidates, &(start, Bound::Unbounded))? {
            let (key, _) = row?;
            let Some((digest, name)) = keys::split_digest(key) else { continue };
            let blob = &key[..key.len() - name.len()];
            let known = page.get(blob).map(Vec::len);
            if known.map_or(rows >= limit, |known| known >= MAX_PER_BLOB) {
                end = page.last_key_value().map(|(last, _)| last.clone());
                break;
            }
            rows += 1;
            let repository = std::str::from_utf8(name).ok().filter(|name| !name.is_empty());
            let repository = repository.and_then(|name| name.parse().ok());
            page.entry(blob.to_vec()).or_default().push(BlobCandidate { digest, repository });
        }
        for key in forecast.touched_blobs(after, end.as_deref(), limit + 1) {
            page.entry(key).or_default();
        }
        if let Some(behind) = page.keys().nth(limit).cloned() {
            drop(page.split_off(&behind));
            end = page.last_key_value().map(|(last, _)| last.clone());
        }
        Ok((page, end))
    }
}

impl<T: ReadTables> BlobCandidates for T {}

/// Returns the first key behind all keys that begin with the key of a digest.
fn key_after(digest: &[u8]) -> Vec<u8> {
    let mut key = digest.to_vec();
    // The byte of the algorithm never overflows.
    for byte in key.iter_mut().rev() {
        *byte = byte.wrapping_add(1);
        if *byte != 0 {
            break;
        }
    }
    key
}

#[cfg(test)]
mod tests;
