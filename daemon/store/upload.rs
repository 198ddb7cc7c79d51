//! An unfinished upload: content on its way into the store.
//!
//! An upload is a file in `uploads/`, named by its id. The file is authoritative; the running hash is only in memory
//! and is computed again from the file after a restart. Bytes are hashed and written on blocking threads, a buffer at a
//! time, while the next ones arrive. A second request for the same upload takes it over: the first one is most likely a
//! connection that its client has given up.
//!
//! [`Upload`] has the whole life of an upload: [`Upload::start`] or [`Upload::resume`], [`Upload::write`], then
//! [`Upload::commit`] or [`Upload::cancel`]. Its blocking half is in `upload_owner.rs`.
//!
//! The states of an upload. Each transition happens under the lock of its one session (`sessions.rs`);
//! `upload_phase.rs` lists the legal ones:
//!
//! ```text
//!   POST: create the file
//!    │
//!    ▼
//! ┌──────┐   PUT ends: digest and length match, fdatasync   ┌────────┐
//! │ Open │ ───────────────────────────────────────────────▶ │ Sealed │
//! │      │ ◀─────────────────────────────────────────────── │        │
//! └──────┘   refused: the index did not take the change     └────────┘
//!  │ ▲ │                                                         │
//!  │ └─┘ PATCH, PUT: take over, write                            │ committed: the very file that was hashed
//!  │                                                             │ is a blob; or a manifest's refused content
//!  │ DELETE, expiry, digest mismatch: unlink                     ▼ is unlinked
//!  │                                                        ┌────────┐
//!  └──────────────────────────────────────────────────────▶ │ Ended  │
//!                                                           └────────┘
//! ```
//!
//! * `Open`: the request that came last owns the upload and may write. The previous owner fails at its next step. A
//!   write hashes, writes at the length, and then moves the length; a write that fails is cut off again.
//! * `Sealed`: the content is hashed, synced and handed to the index writer. Every request gets 404.
//! * `Ended`: final. The unlink, or the rename to the blobs, comes first and is the moment at which the upload ends; a
//!   request in between waits for the lock and gets 404.
//!
//! Expiry takes only an upload that no request uses and whose length has not changed; a request that resumes the upload
//! before the unlink wins. A kill leaves a file that can be resumed, a blob, or nothing.
//!
//! A hash that does not cover the whole file (after a restart, an eviction, or for a digest of the other algorithm)
//! catches up in steps of a few MiB. Between two steps the lock is free, and a request whose client has
//! disconnected ends. The progress is kept; once caught up both hashes stay current, so that a file is read again at
//! most once per algorithm.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use tokio::task::JoinHandle;

use super::buffers::{self, Buffer, LargeBuffers};
use super::error::StoreError;
use super::index::changes::blobs::{AdmitBlob, NewBlob};
use super::inner::Store;
use super::upload_id::UploadId;
use super::upload_owner::{Owner, Sealed};
use super::work::{Cancel, Kind, detached};
use crate::oci::{Algorithm, Digest, RepositoryName};

/// An upload that this request owns.
pub struct Upload {
    store: Store,
    /// `None` for a loose upload, whose blob belongs to no repository yet.
    repository: Option<RepositoryName>,
    owner: Owner,
    /// Bytes that are not written yet.
    buffered: Option<Buffer>,
    /// Present once a buffer was full, unless too many uploads have large buffers.
    large: Option<Arc<LargeBuffers>>,
    /// The write of the previous buffer.
    running: Option<JoinHandle<Result<(), StoreError>>>,
}

impl Upload {
    /// Opens a new upload.
    ///
    /// # Errors
    /// [`StoreError::Full`], [`StoreError::ReadOnly`] or [`StoreError::Io`].
    pub async fn start(
        store: &Store,
        repository: &RepositoryName,
        algorithm: Algorithm,
    ) -> Result<Self, StoreError> {
        Self::owned_by(store, repository, move |store, repository| {
            Owner::start(&store.0.uploads, repository, algorithm)
        })
        .await
    }

    /// Resumes an upload; takes it over from a request that still uses it.
    ///
    /// # Errors
    /// [`StoreError::UploadUnknown`] if the repository has no upload of this id.
    pub async fn resume(
        store: &Store,
        repository: &RepositoryName,
        id: UploadId,
    ) -> Result<Self, StoreError> {
        Self::owned_by(store, repository, move |store, repository| {
            Owner::resume(&store.0.uploads, repository, id)
        })
        .await
    }

    fn of(store: Store, repository: Option<RepositoryName>, owner: Owner) -> Self {
        Upload { store, repository, owner, buffered: None, large: None, running: None }
    }

    async fn owned_by(
        store: &Store,
        repository: &RepositoryName,
        open: impl FnOnce(&Store, &RepositoryName) -> Result<Owner, StoreError> + Send + 'static,
    ) -> Result<Self, StoreError> {
        let (store, repository) = (store.clone(), repository.clone());
        let work = Arc::clone(&store.0.work);
        let opened = move || {
            let owner = open(&store, &repository)?;
            Ok(Self::of(store, Some(repository), owner))
        };
        work.run(Kind::Write, opened).await
    }

    /// Opens a new loose upload: its blob belongs to no repository, and a collection takes it after the grace period if
    /// none gets it. With `reserve`, it may use the reserve of the disk down to this number of bytes.
    ///
    /// # Errors
    /// As [`Upload::start`].
    pub(super) async fn start_loose(
        store: &Store,
        algorithm: Algorithm,
        reserve: Option<u64>,
    ) -> Result<Self, StoreError> {
        let (store, work) = (store.clone(), Arc::clone(&store.0.work));
        let opened = move || {
            let owner = Owner::start_in(&store.0.uploads, None, algorithm, reserve)?;
            Ok(Self::of(store, None, owner))
        };
        work.run(Kind::Write, opened).await
    }

    /// Returns the length of an upload in bytes, without taking it over.
    ///
    /// # Errors
    /// [`StoreError::UploadUnknown`] if the repository has no upload of this id.
    pub async fn length_of(
        store: &Store,
        repository: &RepositoryName,
        id: UploadId,
    ) -> Result<u64, StoreError> {
        let (uploads, repository) = (Arc::clone(&store.0.uploads), repository.clone());
        store.0.work.run(Kind::Read, move || uploads.length(&repository, id)).await
    }

    /// Returns the id of the upload.
    pub fn id(&self) -> UploadId {
        self.owner.handle.id()
    }

    /// Returns the number of bytes that are written, without those that [`Upload::write`] still buffers.
    pub fn length(&self) -> u64 {
        self.owner.handle.length()
    }

    /// Refuses an announced body that exceeds the capacity, before its first byte is written.
    ///
    /// # Errors
    /// [`StoreError::Full`] or [`StoreError::Quota`].
    pub async fn expect(&self, bytes: u64) -> Result<(), StoreError> {
        if bytes > 0 {
            self.owner.handle.expected.store(self.length().saturating_add(bytes), Ordering::Relaxed);
        }
        if bytes <= buffers::SIZE as u64 {
            // The first write checks the capacity of a small body.
            return Ok(());
        }
        let (capacity, reserve) = (Arc::clone(&self.owner.uploads.capacity), self.owner.reserve());
        self.store.0.work.run(Kind::Write, move || capacity.check_with(bytes, reserve)).await
    }

    /// Appends bytes. They are hashed and written on a blocking thread, a buffer at a time, while the next ones arrive;
    /// a later call returns the error of a buffer.
    ///
    /// # Errors
    /// [`StoreError::UploadTakenOver`] if another request took over the upload, or the error of the disk.
    pub async fn write(&mut self, mut bytes: &[u8]) -> Result<(), StoreError> {
        while !bytes.is_empty() {
            let (buffers, large) = (&self.owner.uploads.buffers, &self.large);
            let buffer = self
                .buffered
                .get_or_insert_with(|| large.as_ref().map_or_else(|| buffers.take(), LargeBuffers::take));
            let taken = buffer.fill(bytes);
            bytes = &bytes[taken..];
            if buffer.is_full() {
                if self.large.is_none() {
                    self.large = buffers.admit_to_large();
                }
                self.finish_write().await?;
                self.start_write();
            }
        }
        Ok(())
    }

    fn start_write(&mut self) {
        if let Some(buffer) = self.buffered.take() {
            let owner = self.owner.clone();
            self.running = Some(self.store.0.work.spawn_write(move || owner.write(buffer.as_ref())));
        }
    }

    async fn finish_write(&mut self) -> Result<(), StoreError> {
        match self.running.take() {
            Some(running) => running.await.map_err(|_| StoreError::Closing)?,
            None => Ok(()),
        }
    }

    /// Writes the buffered bytes; the upload stays open.
    ///
    /// # Errors
    /// As [`Upload::write`].
    pub async fn pause(&mut self) -> Result<(), StoreError> {
        self.finish_write().await?;
        self.start_write();
        self.finish_write().await
    }

    /// Catches up the hash of the algorithm that the upload will end with; any hash while the algorithm is unknown.
    /// Stops when the future is dropped or the daemon stops.
    ///
    /// # Errors
    /// [`StoreError::UploadTakenOver`] if another request took over the upload, [`StoreError::Closing`] if the daemon
    /// stops, or the error of the disk.
    pub async fn prepare(&self, algorithm: Option<Algorithm>) -> Result<(), StoreError> {
        loop {
            let owner = self.owner.clone();
            let catch_up = move |cancel: &Cancel| owner.catch_up(algorithm, cancel);
            if self.store.0.work.run_cancellable(Kind::Write, catch_up).await? {
                return Ok(());
            }
        }
    }

    /// Writes the buffered bytes and returns the digest of all.
    ///
    /// # Errors
    /// As [`Upload::write`] and [`Upload::prepare`].
    pub(super) async fn digest(&mut self, algorithm: Algorithm) -> Result<Digest, StoreError> {
        self.pause().await?;
        loop {
            let owner = self.owner.clone();
            if let Some(digest) = self.store.0.work.run(Kind::Write, move || owner.digest(algorithm)).await? {
                return Ok(digest);
            }
            self.prepare(Some(algorithm)).await?;
        }
    }

    /// Makes the upload a blob of its repository, or a loose one; durable on return. Once the index writer has the change, a client
    /// that disconnects does not stop it. An upload that could not become a blob stays open.
    ///
    /// # Errors
    /// [`StoreError::DigestMismatch`] if the content has another digest; the upload is removed then.
    /// [`StoreError::UploadTakenOver`], [`StoreError::UploadUnknown`], or the error of the disk or the index.
    pub async fn commit(self, digest: Digest) -> Result<(), StoreError> {
        let (store, repository) = (self.store.clone(), self.repository.clone());
        let (writer, is_loose) = (store.writer()?, repository.is_none());
        detached(async move {
            let sealed = self.seal(&digest).await?;
            // Without an answer, `holdfast check --repair` restores what is missed.
            let is_missed = store.is_missed(&digest).unwrap_or_default();
            let blob = NewBlob { file: sealed.file.clone(), digest: digest.clone() };
            let committed = writer.submit(AdmitBlob { repository, blob }).await;
            match &committed {
                // The file is a blob now, or was removed or replaced by other hands.
                Ok(()) | Err(StoreError::UploadUnknown) => sealed.committed()?,
                // No client knows a loose upload, so that none could continue it.
                Err(_) if is_loose => store.0.work.run(Kind::Write, move || sealed.discard()).await?,
                Err(_) => store.0.work.run(Kind::Write, move || sealed.reopen()).await?,
            }
            if committed.is_ok() && is_missed {
                store.restore_links(&digest).await;
            }
            committed
        })
        .await
    }

    /// Writes the buffered bytes, checks the digest and syncs the content. A mismatch removes the upload.
    pub(super) async fn seal(mut self, claimed: &Digest) -> Result<Sealed, StoreError> {
        self.pause().await?;
        loop {
            let (owner, digest) = (self.owner.clone(), claimed.clone());
            if let Some(sealed) = self.store.0.work.run(Kind::Write, move || owner.seal(&digest)).await? {
                return Ok(sealed);
            }
            self.prepare(Some(claimed.algorithm())).await?;
        }
    }

    /// Ends the upload and removes its file.
    ///
    /// # Errors
    /// [`StoreError::UploadUnknown`] if it has ended already, or the error of the disk.
    pub async fn cancel(mut self) -> Result<(), StoreError> {
        // The result of the last write does not matter: its bytes are removed with the file.
        let _ = self.finish_write().await;
        let owner = self.owner;
        self.store.0.work.run(Kind::Write, move || owner.cancel()).await
    }
}
