//! Reads of blobs and manifests for pulls.
//!
//! A blob is read in chunks, so that a pull holds one buffer whatever the size of the blob. A file that the kernel has in
//! memory is opened, and a chunk copied, on the calling thread ([`super::page_cache`]); everything else is done in the
//! pool of reads. A file that is missing or shorter than the index says is [`StoreError::Damaged`].

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;

use super::blob_store::BlobStore;
use super::buffers::{Buffer, Buffers};
use super::disk::Disk;
use super::error::StoreError;
use super::holder::Holder;
use super::page_cache;
use super::work::{Kind, Work};
use crate::oci::{Digest, MAX_MANIFEST};

/// The maximum size of one chunk in bytes: it stays in a core's cache between the read and the send.
const CHUNK: usize = 128 << 10;

/// The size limit of manifests in bytes. A larger size in the index means that the row is corrupt.
pub(super) const LARGEST_MANIFEST: u64 = MAX_MANIFEST as u64;

/// A reader of a range of a blob.
pub struct BlobReader {
    file: Arc<File>,
    source: Source,
    position: u64,
    remaining: u64,
    reading: Option<Reading>,
}

/// The read of a chunk in the pool.
type Reading = Pin<Box<dyn Future<Output = Result<Buffer, StoreError>> + Send>>;

/// The parts of the store that a reader needs.
#[derive(Clone)]
pub(super) struct Source {
    pub(super) disk: Arc<Disk>,
    pub(super) buffers: Arc<Buffers>,
    pub(super) work: Arc<Work>,
    /// The holder of the request. The response body is polled outside the task-local of the request.
    pub(super) holder: Holder,
}

impl BlobReader {
    /// Opens `length` bytes of a blob from `start` on; blocking.
    pub(super) fn open(source: Source, digest: &Digest, start: u64, length: u64) -> Result<Self, StoreError> {
        let file = source.disk.open_blob(digest)?;
        if file.metadata().map_err(failed)?.len() < start + length {
            return Err(StoreError::Damaged(digest.clone()));
        }
        Ok(Self::of(file, source, start, length))
    }

    /// As [`BlobReader::open`], without waiting for the disk; `None` if that is not possible.
    pub(super) fn open_cached(source: &Source, digest: &Digest, start: u64, length: u64) -> Option<Self> {
        let file = source.disk.open_cached_blob(digest, start + length)?;
        Some(Self::of(file, source.clone(), start, length))
    }

    fn of(file: File, source: Source, start: u64, length: u64) -> Self {
        BlobReader { file: Arc::new(file), source, position: start, remaining: length, reading: None }
    }

    /// Returns the number of bytes that have not been read yet.
    pub fn remaining(&self) -> u64 {
        self.remaining
    }

    /// Returns the next chunk; `None` at the end.
    ///
    /// # Errors
    /// [`StoreError::Io`] when the disk fails or the file ends too early.
    pub fn poll_chunk(&mut self, context: &mut Context<'_>) -> Poll<Option<Result<Bytes, StoreError>>> {
        if self.reading.is_none() {
            if self.remaining == 0 {
                return Poll::Ready(None);
            }
            let mut buffer = self.source.buffers.take();
            let want = usize::try_from(self.remaining).unwrap_or(usize::MAX).min(CHUNK);
            if read_from_cache(&self.file, self.position, want, &mut buffer) {
                return Poll::Ready(Some(Ok(self.deliver(buffer))));
            }
            let (file, position) = (Arc::clone(&self.file), self.position);
            let Source { disk, work, holder, .. } = self.source.clone();
            self.reading = Some(Box::pin(holder.run(async move {
                work.run(Kind::Read, move || {
                    let _read = disk.begin_read();
                    read(&file, position, want, buffer)
                })
                .await
            })));
        }
        let Some(reading) = &mut self.reading else { return Poll::Ready(None) };
        let read = ready!(reading.as_mut().poll(context));
        self.reading = None;
        Poll::Ready(Some(read.map(|buffer| self.deliver(buffer))))
    }

    fn deliver(&mut self, buffer: Buffer) -> Bytes {
        let length = buffer.as_ref().len() as u64;
        self.position += length;
        self.remaining -= length;
        Bytes::from_owner(buffer)
    }
}

/// Reads the bytes that the page cache has; returns false if it has none, or the file system cannot tell.
fn read_from_cache(file: &File, position: u64, want: usize, buffer: &mut Buffer) -> bool {
    buffer.fill_with(want, |memory| page_cache::read(file, position, memory).ok_or(())).is_ok()
}

fn read(file: &File, position: u64, want: usize, mut buffer: Buffer) -> Result<Buffer, StoreError> {
    let all = buffer.fill_with(want, |memory| file.read_exact_at(memory, position).map(|()| want));
    all.map_err(failed)?;
    Ok(buffer)
}

/// Reads a whole manifest; blocking.
pub(super) fn read_whole(blobs: &impl BlobStore, digest: &Digest, size: u64) -> Result<Bytes, StoreError> {
    if size > LARGEST_MANIFEST {
        return Err(StoreError::Damaged(digest.clone()));
    }
    blobs.read(digest, 0, size)
}

fn failed(error: std::io::Error) -> StoreError {
    StoreError::io("read a blob", error)
}
