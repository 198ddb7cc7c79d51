//! Content beside a manifest, for the admin page: its referrers, and its total size.

use std::collections::BTreeSet;

use super::entry::ManifestEntry;
use super::keys;
use super::lookups::Lookups;
use super::meta::Meta;
use super::port::{ReadTables, Table};
use super::rows::{ManifestRow, RepositoryBlobRow};
use crate::oci::{self, Digest, Reference, RepositoryName};
use crate::store::error::StoreError;
use crate::store::index_error::IndexError;
use crate::store::listing::TotalSize;
use crate::store::work::Cancel;

/// The length of a descriptor, in bytes, above which it is not read for the badges of a list.
const LONG_DESCRIPTOR: usize = 64 << 10;

/// Reads of the page of an image.
pub(in crate::store) trait Overviews: ReadTables {
    /// Returns at most `limit` referrers of a manifest, and how many more there are.
    fn referrers_overview(
        &self,
        repository: &RepositoryName,
        subject: &Digest,
        limit: usize,
        cancel: &Cancel,
    ) -> Result<(Vec<oci::DescriptorView>, usize), StoreError> {
        let prefix = keys::referrer_key(repository, subject, None);
        let (mut found, mut more) = (Vec::new(), 0);
        for row in self.prefix(Table::Referrers, &prefix)? {
            cancel.check()?;
            let (_, value) = row?;
            if found.len() < limit {
                let part = serde_json::from_slice(value).map_err(|error| IndexError::Row(error.to_string()));
                found.push(self.noted(part)?);
            } else {
                more += 1;
            }
        }
        Ok((found, more))
    }

    /// Returns the first referrers of a manifest, without those of long descriptors.
    fn first_referrers(
        &self,
        repository: &RepositoryName,
        subject: &Digest,
        limit: usize,
        cancel: &Cancel,
    ) -> Result<Vec<oci::DescriptorView>, StoreError> {
        let prefix = keys::referrer_key(repository, subject, None);
        let mut found = Vec::new();
        for row in self.prefix(Table::Referrers, &prefix)?.take(limit) {
            cancel.check()?;
            let (_, value) = row?;
            if value.len() <= LONG_DESCRIPTOR {
                let part = serde_json::from_slice(value).map_err(|error| IndexError::Row(error.to_string()));
                found.push(self.noted(part)?);
            }
        }
        Ok(found)
    }

    /// Returns true if the repository has a manifest that does not name `subject` as its subject itself.
    fn is_only_listed(
        &self,
        repository: &RepositoryName,
        subject: &Digest,
        digest: &Digest,
    ) -> Result<bool, StoreError> {
        let is_here = self.get(Table::Manifests, &keys::content_key(repository, digest))?.is_some();
        let key = keys::referrer_key(repository, subject, Some(digest));
        Ok(is_here && self.get(Table::Referrers, &key)?.is_none())
    }

    /// Returns the total length of a manifest and of all content in its repository that it references, each counted
    /// once. Reads at most `rows` rows besides its own and subtracts them; beyond that the size is partial.
    fn total_size(
        &self,
        repository: &RepositoryName,
        digest: &Digest,
        rows: &mut usize,
        cancel: &Cancel,
    ) -> Result<TotalSize, StoreError> {
        let mut size = TotalSize { bytes: 0, is_more: false };
        let (mut seen, mut open) = (BTreeSet::from([digest.clone()]), vec![digest.clone()]);
        while let Some(digest) = open.pop() {
            cancel.check()?;
            let key = keys::content_key(repository, &digest);
            let Some(row) = self.row::<ManifestRow>(Table::Manifests, &key)? else {
                size.bytes = size.bytes.saturating_add(self.blob_link_size(&key)?);
                continue;
            };
            size.bytes = size.bytes.saturating_add(row.size);
            for child in self.children_of(&digest)? {
                if seen.contains(&child) {
                    continue;
                }
                if *rows == 0 {
                    size.is_more = true;
                    break;
                }
                *rows -= 1;
                seen.insert(child.clone());
                open.push(child);
            }
        }
        Ok(size)
    }

    /// Returns the length of a blob in a repository; zero if it is missing.
    fn blob_link_size(&self, key: &[u8]) -> Result<u64, StoreError> {
        Ok(self.row::<RepositoryBlobRow>(Table::RepositoryBlobs, key)?.map_or(0, |row| row.size))
    }

    /// Returns those of the given manifests that the repository has.
    fn manifests_among(
        &self,
        repository: &RepositoryName,
        digests: &[Digest],
    ) -> Result<Vec<ManifestEntry>, StoreError> {
        let mut there = Vec::new();
        for digest in digests {
            there.extend(self.manifest(repository, &Reference::Digest(digest.clone()))?);
        }
        Ok(there)
    }
}

impl<T: ReadTables> Overviews for T {}
