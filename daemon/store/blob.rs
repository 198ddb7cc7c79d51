//! Reading blobs.

use std::fs::File;
use std::io::IoSliceMut;
use std::os::unix::fs::FileExt;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use rustix::io::ReadWriteFlags;
use tokio::task::JoinHandle;

use super::buffers::{Buffer, Buffers};
use super::disk::Disk;
use super::error::StoreError;
use crate::oci::Digest;

/// How many bytes are read at once: what fits into a core's cache on its way through.
const CHUNK: usize = 128 << 10;

/// No manifest is larger than this, in bytes; an index that says so is damaged.
pub(super) const LARGEST_MANIFEST: u64 = 4 << 20;

/// A range of a blob that is being read, a chunk at a time: memory for one chunk, whatever the blob's size.
pub struct BlobReader {
    file: Arc<File>,
    buffers: Arc<Buffers>,
    position: u64,
    remaining: u64,
    reading: Option<JoinHandle<Result<Buffer, StoreError>>>,
}

impl BlobReader {
    /// Opens a blob from `start` on, for `length` bytes; blocking.
    pub(super) fn open(
        disk: &Disk,
        buffers: Arc<Buffers>,
        digest: &Digest,
        start: u64,
        length: u64,
    ) -> Result<Self, StoreError> {
        let file = disk.open_blob(digest)?;
        if file.metadata().map_err(failed)?.len() < start + length {
            return Err(StoreError::Damaged(digest.clone()));
        }
        Ok(BlobReader { file: Arc::new(file), buffers, position: start, remaining: length, reading: None })
    }

    /// How many bytes are still to come.
    pub fn remaining(&self) -> u64 {
        self.remaining
    }

    /// The next chunk, or nothing at the end. What the system has in memory is copied at once; only what has to
    /// come from the disk is waited for, on another thread.
    ///
    /// # Errors
    /// [`StoreError::Io`] when the disk fails or the file ends too early.
    pub fn poll_chunk(&mut self, context: &mut Context<'_>) -> Poll<Option<Result<Bytes, StoreError>>> {
        if self.reading.is_none() {
            if self.remaining == 0 {
                return Poll::Ready(None);
            }
            let mut buffer = self.buffers.take();
            let want = usize::try_from(self.remaining).unwrap_or(usize::MAX).min(CHUNK);
            if read_from_memory(&self.file, self.position, want, &mut buffer) {
                return Poll::Ready(Some(Ok(self.deliver(buffer))));
            }
            let (file, position) = (Arc::clone(&self.file), self.position);
            self.reading = Some(tokio::task::spawn_blocking(move || read(&file, position, want, buffer)));
        }
        let Some(reading) = &mut self.reading else { return Poll::Ready(None) };
        let read = ready!(Pin::new(reading).poll(context));
        self.reading = None;
        Poll::Ready(Some(match read {
            Ok(Ok(buffer)) => Ok(self.deliver(buffer)),
            Ok(Err(error)) => Err(error),
            Err(_) => Err(StoreError::Closing),
        }))
    }

    fn deliver(&mut self, buffer: Buffer) -> Bytes {
        let length = buffer.as_ref().len() as u64;
        self.position += length;
        self.remaining -= length;
        Bytes::from_owner(buffer)
    }
}

/// Reads what the system has of this in memory; false if it has nothing, or cannot tell.
fn read_from_memory(file: &File, position: u64, want: usize, buffer: &mut Buffer) -> bool {
    let count = buffer.fill_by(want, |room| {
        rustix::io::preadv2(file, &mut [IoSliceMut::new(room)], position, ReadWriteFlags::NOWAIT)
    });
    count.is_ok_and(|count| count > 0)
}

fn read(file: &File, position: u64, want: usize, mut buffer: Buffer) -> Result<Buffer, StoreError> {
    let all = buffer.fill_by(want, |room| file.read_exact_at(room, position).map(|()| want));
    all.map_err(failed)?;
    Ok(buffer)
}

/// All bytes of a manifest; blocking.
pub(super) fn read_whole(disk: &Disk, digest: &Digest, size: u64) -> Result<Bytes, StoreError> {
    let file = disk.open_blob(digest)?;
    if size > LARGEST_MANIFEST {
        return Err(StoreError::Damaged(digest.clone()));
    }
    let mut bytes = vec![0; usize::try_from(size).map_err(|_| StoreError::Damaged(digest.clone()))?];
    match file.read_exact_at(&mut bytes, 0) {
        Ok(()) => Ok(bytes.into()),
        Err(error) if error.kind() == std::io::ErrorKind::UnexpectedEof => {
            Err(StoreError::Damaged(digest.clone()))
        }
        Err(error) => Err(failed(error)),
    }
}

fn failed(error: std::io::Error) -> StoreError {
    StoreError::io("read a blob", error)
}
