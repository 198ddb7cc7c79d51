//! Pulls: lookups and reads of manifests and blobs.
//!
//! A lookup is a read of mapped memory. A client that may push skips the upload of content that it sees here, so that
//! its HEAD renews the lease: content that a collection could take soon gets another grace period. Content that a read
//! finds missing or damaged is reported once, and is an error of that request only.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use super::blob::{self, BlobReader, Source};
use super::disk::Disk;
use super::error::StoreError;
use super::holder::Holder;
use super::index::ManifestEntry;
use super::index::changes::TypedChange;
use super::index::changes::leases::{RenewBlobLease, RenewManifestLease};
use super::index::tables::lease::Lease;
use super::inner::Store;
use super::manifest_cache::LARGEST_KEPT;
use super::work::Kind;
use crate::oci::{Digest, Hasher, Reference, RepositoryName};

/// The longest wait of a response for the renewal of a lease. A disk whose syncs hang must not stop pulls.
const RENEWAL: Duration = Duration::from_secs(2);

/// The largest manifest that is read and verified on the thread of a request, in bytes: a slow core hashes it in a third
/// of a millisecond.
const LARGEST_READ_AT_ONCE: u64 = 16 << 10;

impl Store {
    /// Returns the manifest of a tag or a digest; one lookup in mapped memory.
    ///
    /// # Errors
    /// [`StoreError::ManifestUnknown`], or [`StoreError::NameUnknown`] if the repository has no manifest at all.
    pub fn manifest(
        &self,
        repository: &RepositoryName,
        reference: &Reference,
    ) -> Result<ManifestEntry, StoreError> {
        if let Some(entry) = self.0.index.manifest(repository, reference)? {
            return Ok(entry);
        }
        self.check_exists(repository)?;
        Err(StoreError::ManifestUnknown(reference.clone()))
    }

    /// Returns the manifest of a digest to a client that may push, and renews its lease: the client may skip the upload
    /// because the manifest exists, so that one which a collection could take soon gets another grace period.
    ///
    /// # Errors
    /// As [`Store::manifest`].
    pub async fn manifest_with_lease(
        &self,
        repository: &RepositoryName,
        digest: &Digest,
    ) -> Result<ManifestEntry, StoreError> {
        let reference = Reference::Digest(digest.clone());
        let entry = self.manifest(repository, &reference)?;
        let (grace, untagged) = self.0.grace_periods.lock().of(repository);
        let lease = self.0.index.manifest_lease(repository, digest, grace, untagged)?;
        // A read-only store collects nothing, so that no lease is needed. An unreadable tag counts as none.
        let is_collectable = lease != Lease::Valid && self.writer().is_ok();
        if !is_collectable || self.0.index.is_known_as_tagged(repository, digest).unwrap_or(false) {
            return Ok(entry);
        }
        let (name, digest) = (repository.clone(), digest.clone());
        if self.renew(lease, RenewManifestLease { repository: name, digest }).await {
            // A collection may have taken it before the renewal.
            return self.manifest(repository, &reference);
        }
        Ok(entry)
    }

    /// Starts another grace period for content that a collection could take. Returns true if the renewal was waited
    /// for.
    async fn renew(&self, lease: Lease, change: impl TypedChange) -> bool {
        // A read-only store collects nothing.
        let Ok(writer) = self.writer() else { return false };
        match lease {
            Lease::Valid => false,
            Lease::Renewable => {
                writer.try_submit(change);
                false
            }
            Lease::Expiring => {
                // Errors and a timeout are ignored: a full or hanging disk must not stop the pull. After a timeout the
                // change is still queued before any later collection.
                let _ = tokio::time::timeout(RENEWAL, writer.submit(change)).await;
                true
            }
        }
    }

    pub(super) fn check_exists(&self, repository: &RepositoryName) -> Result<(), StoreError> {
        if self.0.index.repository_exists(repository)? {
            return Ok(());
        }
        Err(StoreError::NameUnknown(repository.clone()))
    }

    /// Returns the bytes of a manifest that [`Store::manifest`] returned, from memory if they are there.
    ///
    /// # Errors
    /// [`StoreError::Damaged`] if its file is missing, too short, or has other bytes.
    pub async fn read_manifest(&self, entry: &ManifestEntry) -> Result<Bytes, StoreError> {
        if let Some(bytes) = self.0.disk.kept_manifest(&entry.digest) {
            return Ok(bytes);
        }
        if let Some(bytes) = read_cached(&self.0.disk, entry) {
            return Ok(bytes);
        }
        let (disk, digest, size) = (Arc::clone(&self.0.disk), entry.digest.clone(), entry.size);
        let read = move || {
            let bytes = read_verified(&disk, &digest, size);
            if let Err(StoreError::Damaged(digest)) = &bytes {
                disk.report_damaged(digest);
            }
            bytes
        };
        self.0.work.run(Kind::Read, read).await
    }

    /// Returns the length of a blob in bytes; one lookup in mapped memory.
    ///
    /// # Errors
    /// [`StoreError::BlobUnknown`] if the repository does not have it.
    pub fn blob(&self, repository: &RepositoryName, digest: &Digest) -> Result<u64, StoreError> {
        let link = self.0.index.blob(repository, digest)?;
        Ok(link.ok_or_else(|| StoreError::BlobUnknown(digest.clone()))?.size)
    }

    /// Returns the length of a blob to a client that may push, and renews its lease: the client may skip the upload
    /// because the blob exists, so that one which a collection could take soon gets another grace period.
    ///
    /// # Errors
    /// As [`Store::blob`].
    pub async fn blob_with_lease(
        &self,
        repository: &RepositoryName,
        digest: &Digest,
    ) -> Result<u64, StoreError> {
        let unknown = || StoreError::BlobUnknown(digest.clone());
        let link = self.0.index.blob(repository, digest)?.ok_or_else(unknown)?;
        let grace = self.0.grace_periods.lock().grace;
        let lease = self.0.index.blob_lease(repository, digest, &link, grace)?;
        let renewal = RenewBlobLease { repository: repository.clone(), digest: digest.clone() };
        if self.renew(lease, renewal).await {
            // A collection may have taken it before the renewal.
            return Ok(self.0.index.blob(repository, digest)?.ok_or_else(unknown)?.size);
        }
        Ok(link.size)
    }

    /// Returns true if the content was found damaged since the daemon started and was not pushed again; no system call.
    pub fn is_known_damaged(&self, digest: &Digest) -> bool {
        self.0.disk.is_reported(digest)
    }

    /// Returns true if the file of a blob or a manifest exists with the length that the index has, and no check has found
    /// other bytes in it; after a report of damage a small one is also verified. A client that is told that content exists
    /// skips the upload, which would replace a damaged file.
    ///
    /// # Errors
    /// [`StoreError::Io`] if the disk fails.
    pub async fn has_file(&self, digest: &Digest, length: u64) -> Result<bool, StoreError> {
        let (inner, digest) = (Arc::clone(&self.0), digest.clone());
        let look = move || {
            let is_there = is_intact(&inner.disk, &digest, length)?;
            // Not damage if a collection took it after the lookup.
            if is_there {
                inner.disk.forget_report(&digest);
            } else if inner.index.contains_blob(&digest)? {
                inner.disk.report_damaged(&digest);
            }
            Ok(is_there)
        };
        self.0.work.run(Kind::Read, look).await
    }

    /// Opens `length` bytes of a blob that [`Store::blob`] returned, from `start` on.
    ///
    /// # Errors
    /// [`StoreError::Damaged`] if its file is missing or too short.
    pub async fn read_blob(
        &self,
        digest: &Digest,
        start: u64,
        length: u64,
    ) -> Result<BlobReader, StoreError> {
        let (inner, digest) = (Arc::clone(&self.0), digest.clone());
        let source = Source {
            disk: Arc::clone(&inner.disk),
            buffers: Arc::clone(&inner.buffers),
            work: Arc::clone(&inner.work),
            holder: Holder::current(),
        };
        if let Some(reader) = BlobReader::open_cached(&source, &digest, start, length) {
            return Ok(reader);
        }
        let open = move || match BlobReader::open(source, &digest, start, length) {
            // A collection took it after the lookup.
            Err(StoreError::Damaged(_)) if !inner.index.contains_blob(&digest)? => {
                Err(StoreError::BlobUnknown(digest))
            }
            Err(StoreError::Damaged(digest)) => {
                inner.disk.report_damaged(&digest);
                Err(StoreError::Damaged(digest))
            }
            opened => opened,
        };
        self.0.work.run(Kind::Read, open).await
    }
}

/// Reads a small manifest that the kernel has in memory, verifies it and keeps it; `None` if anything else is to be done
/// or told.
fn read_cached(disk: &Disk, entry: &ManifestEntry) -> Option<Bytes> {
    let digest = &entry.digest;
    if entry.size > LARGEST_READ_AT_ONCE || disk.is_reported(digest) {
        return None;
    }
    let bytes = disk.read_cached_blob(digest, usize::try_from(entry.size).ok()?)?;
    if Hasher::digest(digest.algorithm(), &bytes) != *digest {
        return None;
    }
    disk.manifests.keep(digest, &bytes);
    Some(bytes)
}

/// Reads a manifest, verifies it against its digest, and keeps it in memory if it is small; blocking.
fn read_verified(disk: &Disk, digest: &Digest, size: u64) -> Result<Bytes, StoreError> {
    let bytes = blob::read_whole(disk, digest, size)?;
    if Hasher::digest(digest.algorithm(), &bytes) != *digest {
        // The length of the file does not show it, so that it stays damaged until it is pushed again.
        disk.report_damaged(digest);
        disk.note_damaged(digest);
        return Err(StoreError::Damaged(digest.clone()));
    }
    disk.manifests.keep(digest, &bytes);
    Ok(bytes)
}

/// Returns true if the file of a blob exists with its length and is not known to have other bytes; blocking.
pub(super) fn is_intact(disk: &Disk, digest: &Digest, length: u64) -> Result<bool, StoreError> {
    Ok(disk.has_blob(digest, length)? && is_sound(disk, digest, length)?)
}

/// Returns false if a check has found other bytes in a blob, or if a small one was reported as damaged and its bytes are
/// still wrong; blocking.
fn is_sound(disk: &Disk, digest: &Digest, length: u64) -> Result<bool, StoreError> {
    if !disk.is_reported(digest) {
        return Ok(true);
    }
    if length > LARGEST_KEPT {
        return Ok(!disk.reported.is_checked(digest));
    }
    match read_verified(disk, digest, length) {
        Ok(_) => Ok(true),
        Err(StoreError::Damaged(_)) => Ok(false),
        Err(error) => Err(error),
    }
}
