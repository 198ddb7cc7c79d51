//! Pulling: manifests and blobs, looked up and read.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use super::blob::Source;
use super::error::StoreError;
use super::holder::Holder;
use super::index::ManifestEntry;
use super::index::lease::Reliance;
use super::index::writer::Batch;
use super::work::Kind;
use super::{BlobReader, Store, blob};
use crate::oci::{Digest, Reference, RepositoryName};

/// How long an answer waits for the renewal of a lease. A disk that does not sync keeps no content from being sent.
const RENEWAL: Duration = Duration::from_secs(2);

/// How many tags a pull by digest looks at.
const TAGS_LOOKED_AT: usize = 1000;

impl Store {
    /// The manifest under a tag or a digest; one lookup in mapped memory.
    ///
    /// # Errors
    /// [`StoreError::ManifestUnknown`], or [`StoreError::NameUnknown`] when the repository has no manifest at all.
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

    /// The manifest under a digest, for a client that may push: it may leave out an upload because it hears that the
    /// manifest is there, so that one which only waits for its collection is kept for another grace time.
    ///
    /// # Errors
    /// Those of [`Store::manifest`].
    pub async fn manifest_to_count_on(
        &self,
        repository: &RepositoryName,
        digest: &Digest,
    ) -> Result<ManifestEntry, StoreError> {
        let reference = Reference::Digest(digest.clone());
        let entry = self.manifest(repository, &reference)?;
        let (grace, untagged) = super::lock(&self.0.ages).of(repository);
        let reliance = self.0.index.manifest_reliance(repository, digest, grace, untagged)?;
        // A store that takes no writes collects nothing either; a tag that cannot be read is none.
        let may_go = reliance != Reliance::Kept && self.writer().is_ok();
        if !may_go || self.is_tagged(repository, digest).await.unwrap_or(false) {
            return Ok(entry);
        }
        let (name, digest) = (repository.clone(), digest.clone());
        if self.renew(reliance, move |batch| batch.count_on_manifest(&name, &digest)).await {
            // A collection may have been quicker.
            return self.manifest(repository, &reference);
        }
        Ok(entry)
    }

    /// Returns true if one of the first tags of the repository names the manifest. A pull must not wait for lists, so this
    /// looks at a bounded number of them; a manifest whose tag is not among these gets a lease that it does not need.
    async fn is_tagged(&self, repository: &RepositoryName, digest: &Digest) -> Result<bool, StoreError> {
        let (index, name, digest) = (Arc::clone(&self.0.index), repository.clone(), digest.clone());
        self.0.work.run(Kind::Read, move || index.is_tagged(&name, &digest, TAGS_LOOKED_AT)).await
    }

    /// Lets another grace time begin, where somebody counts on what may be collected; whether it was waited for.
    async fn renew(
        &self,
        reliance: Reliance,
        change: impl FnMut(&mut Batch) -> Result<(), StoreError> + Send + 'static,
    ) -> bool {
        // A store that takes no writes collects nothing either.
        let Ok(writer) = self.writer() else { return false };
        match reliance {
            Reliance::Kept => false,
            Reliance::Renewable => {
                writer.suggest(change);
                false
            }
            Reliance::Ending => {
                // A disk without room for this is no reason not to send what is still there, nor is one that hangs: the
                // change is made before any collection that begins later.
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

    /// The bytes of a manifest that [`Store::manifest`] found.
    ///
    /// # Errors
    /// [`StoreError::Damaged`] when its file is not as the index says.
    pub async fn read_manifest(&self, entry: &ManifestEntry) -> Result<Bytes, StoreError> {
        let (disk, digest, size) = (Arc::clone(&self.0.disk), entry.digest.clone(), entry.size);
        let read = move || {
            let bytes = blob::read_whole(&disk, &digest, size);
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
    /// [`StoreError::BlobUnknown`] when the repository does not have it.
    pub fn blob(&self, repository: &RepositoryName, digest: &Digest) -> Result<u64, StoreError> {
        let link = self.0.index.blob(repository, digest)?;
        Ok(link.ok_or_else(|| StoreError::BlobUnknown(digest.clone()))?.size)
    }

    /// Returns the length of a blob, for a client that may push: it may leave out the upload because it hears that the
    /// blob is there, so that a blob which only waits for its collection is kept for another grace time.
    ///
    /// # Errors
    /// As [`Store::blob`].
    pub async fn blob_to_count_on(
        &self,
        repository: &RepositoryName,
        digest: &Digest,
    ) -> Result<u64, StoreError> {
        let unknown = || StoreError::BlobUnknown(digest.clone());
        let link = self.0.index.blob(repository, digest)?.ok_or_else(unknown)?;
        let grace = super::lock(&self.0.ages).grace;
        let reliance = self.0.index.blob_reliance(repository, digest, &link, grace)?;
        let (name, wanted) = (repository.clone(), digest.clone());
        let renewed = self.renew(reliance, move |batch| batch.count_on(Some(&name), &wanted, batch.moment));
        if renewed.await {
            // A collection may have been quicker.
            return Ok(self.0.index.blob(repository, digest)?.ok_or_else(unknown)?.size);
        }
        Ok(link.size)
    }

    /// Returns true for content that was met damaged since the daemon started, and was not pushed again; no system call.
    pub fn is_known_damaged(&self, digest: &Digest) -> bool {
        self.0.disk.is_reported(digest)
    }

    /// Returns true if the file of a blob or a manifest that the index knows is there with its length: a client that
    /// hears that content is there leaves out the upload that would heal it.
    ///
    /// # Errors
    /// [`StoreError::Io`] when the disk fails.
    pub async fn has_file(&self, digest: &Digest, length: u64) -> Result<bool, StoreError> {
        let (inner, digest) = (Arc::clone(&self.0), digest.clone());
        let look = move || {
            let is_there = inner.disk.has_blob(&digest, length)?;
            // It may have been collected since it was found.
            if is_there {
                inner.disk.forget_report(&digest);
            } else if inner.index.knows_blob(&digest)? {
                inner.disk.report_damaged(&digest);
            }
            Ok(is_there)
        };
        self.0.work.run(Kind::Read, look).await
    }

    /// Opens `length` bytes of a blob that [`Store::blob`] found, from `start` on.
    ///
    /// # Errors
    /// [`StoreError::Damaged`] when its file is not as the index says.
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
        let open = move || match BlobReader::open(source, &digest, start, length) {
            // Collected since it was found.
            Err(StoreError::Damaged(_)) if !inner.index.knows_blob(&digest)? => {
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
