//! The content of transfers: which of it is missing, and loose blobs that come in or are read.

use std::sync::Arc;

use bytes::Bytes;

use super::blob::{self, BlobReader};
use super::error::StoreError;
use super::inner::Inner;
use super::pull;
use super::transfer_leases::TransferError;
use super::transfers::Transfer;
use super::upload::Upload;
use super::work::Kind;
use crate::oci::{Algorithm, Digest};

/// The number of digests that one read looks up.
const PER_READ: usize = 500;

/// A digest, and the length that its sender knows.
pub type SizedDigest = (Digest, Option<u64>);

impl Transfer {
    /// Leases content and returns the part of it that the store does not have.
    ///
    /// # Errors
    /// [`TransferError::TooManyDigests`], [`TransferError::Unknown`], or the error of the index.
    pub async fn missing(&self, wanted: Vec<SizedDigest>) -> Result<Vec<SizedDigest>, TransferError> {
        self.lease(wanted.iter().map(|(digest, _)| digest)).await?;
        let (mut missing, mut rest) = (Vec::new(), wanted);
        while !rest.is_empty() {
            let part: Vec<SizedDigest> = rest.drain(rest.len().saturating_sub(PER_READ)..).collect();
            let look = move |inner: &Inner| {
                let mut missing = Vec::new();
                for (digest, size) in part {
                    if present(inner, &digest)?.is_none() {
                        missing.push((digest, size));
                    }
                }
                Ok(missing)
            };
            missing.extend(self.read(look).await?.into_iter().rev());
        }
        missing.reverse();
        Ok(missing)
    }

    /// Refuses content of this length if it exceeds the disk or the quota.
    ///
    /// # Errors
    /// [`TransferError::Full`].
    pub async fn check_room(&self, needed: u64) -> Result<(), TransferError> {
        let reserve = self.reserve()?;
        let room = self.read(move |inner| inner.capacity.room(reserve)).await?;
        let full = |free, by_quota| Err(TransferError::Full { needed, free, by_quota });
        match room.quota {
            _ if needed == 0 => Ok(()),
            Some(left) if left < needed && left <= room.disk => full(left, true),
            _ if room.disk < needed || room.exhausted => full(room.disk, false),
            Some(left) if left < needed => full(left, true),
            Some(_) | None => Ok(()),
        }
    }

    /// Leases content, and returns its length if the store has it.
    ///
    /// # Errors
    /// As [`Transfer::missing`].
    pub async fn present(&self, digest: &Digest) -> Result<Option<u64>, TransferError> {
        self.lease(std::iter::once(digest)).await?;
        let digest = digest.clone();
        Ok(self.read(move |inner| present(inner, &digest)).await?)
    }

    /// Opens the upload of a loose blob.
    ///
    /// # Errors
    /// As [`Upload::start`].
    pub async fn upload(&self, algorithm: Algorithm) -> Result<Upload, TransferError> {
        let reserve = self.reserve()?;
        Ok(Upload::start_loose(&self.store, algorithm, reserve).await?)
    }

    /// Makes an upload a loose blob that the transfer leases; durable on return. Without `claimed` the content decides the
    /// digest. Returns digest and length, and true if the store had the blob before. A refused upload is removed.
    ///
    /// # Errors
    /// As [`Upload::commit`].
    pub async fn admit(
        &self,
        mut upload: Upload,
        claimed: Option<Digest>,
    ) -> Result<(Digest, u64, bool), TransferError> {
        let leased = self.lease_uploaded(&mut upload, claimed).await;
        let digest = match leased {
            Ok(digest) => digest,
            Err(error) => {
                // No client can name an upload of a transfer. If its removal fails, too, it expires.
                let _ = upload.cancel().await;
                return Err(error);
            }
        };
        let (length, looked) = (upload.length(), digest.clone());
        let is_present = self.read(move |inner| present(inner, &looked)).await?.is_some();
        upload.commit(digest.clone()).await?;
        Ok((digest, length, is_present))
    }

    /// Writes the last bytes of an upload, and leases its digest.
    async fn lease_uploaded(
        &self,
        upload: &mut Upload,
        claimed: Option<Digest>,
    ) -> Result<Digest, TransferError> {
        let digest = match claimed {
            Some(digest) => digest,
            None => upload.digest(Algorithm::Sha256).await?,
        };
        upload.pause().await?;
        self.lease(std::iter::once(&digest)).await?;
        Ok(digest)
    }

    /// Opens content of the transfer; returns its length, too.
    ///
    /// # Errors
    /// [`StoreError::BlobUnknown`] if the transfer does not lease it or the store does not have it.
    pub async fn open(&self, digest: &Digest) -> Result<(BlobReader, u64), TransferError> {
        let size = self.size(digest)?;
        Ok((self.store.read_blob(digest, 0, size).await?, size))
    }

    /// Returns the length of content of the transfer.
    ///
    /// # Errors
    /// As [`Transfer::open`].
    pub fn size(&self, digest: &Digest) -> Result<u64, TransferError> {
        let unknown = || StoreError::BlobUnknown(digest.clone());
        if !self.leases(digest)? {
            return Err(unknown().into());
        }
        Ok(self.store.0.index.blob_size(digest)?.ok_or_else(unknown)?)
    }

    /// Returns all bytes of content of the transfer, of a length that [`Transfer::size`] returned.
    ///
    /// # Errors
    /// As [`Transfer::open`].
    pub async fn bytes(&self, digest: &Digest, size: u64) -> Result<Bytes, TransferError> {
        let digest = digest.clone();
        Ok(self.read(move |inner| blob::read_whole(&*inner.disk, &digest, size)).await?)
    }

    /// Runs work that takes processor time on a thread of the store.
    ///
    /// # Errors
    /// [`StoreError::Closing`].
    pub async fn compute<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, StoreError> {
        self.read(|_| Ok(work())).await
    }

    pub(super) async fn read<T: Send + 'static>(
        &self,
        read: impl FnOnce(&Inner) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        let inner = Arc::clone(&self.store.0);
        self.store.0.work.run(Kind::Read, move || read(&inner)).await
    }
}

/// Returns the length of content that the index has and whose file is not known to be damaged.
fn present(inner: &Inner, digest: &Digest) -> Result<Option<u64>, StoreError> {
    let Some(size) = inner.index.blob_size(digest)? else { return Ok(None) };
    if pull::is_intact(&inner.disk, digest, size)? {
        return Ok(Some(size));
    }
    inner.disk.report_damaged(digest);
    Ok(None)
}
