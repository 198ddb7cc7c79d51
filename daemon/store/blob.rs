//! Reading blobs.

use std::fs::File;
use std::io::IoSliceMut;
use std::os::unix::fs::FileExt;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use rustix::io::ReadWriteFlags;

use super::buffers::{Buffer, Buffers};
use super::disk::Disk;
use super::error::StoreError;
use super::holder::Holder;
use super::work::{Kind, Work};
use crate::oci::Digest;

/// How many bytes are read at once: what fits into a core's cache on its way through.
const CHUNK: usize = 128 << 10;

/// No manifest is larger than this, in bytes; an index that says so is damaged.
pub(super) const LARGEST_MANIFEST: u64 = 4 << 20;

/// A range of a blob that is being read, a chunk at a time: memory for one chunk, whatever the blob's size.
pub struct BlobReader {
    file: Arc<File>,
    source: Source,
    position: u64,
    remaining: u64,
    reading: Option<Reading>,
}

/// A chunk that is being read.
type Reading = Pin<Box<dyn Future<Output = Result<Buffer, StoreError>> + Send>>;

/// What reading a blob takes from the store.
#[derive(Clone)]
pub(super) struct Source {
    pub(super) disk: Arc<Disk>,
    pub(super) buffers: Arc<Buffers>,
    pub(super) work: Arc<Work>,
    /// The holder of the request: its answer is sent outside of it.
    pub(super) holder: Holder,
}

impl BlobReader {
    /// Opens a blob from `start` on, for `length` bytes; blocking.
    pub(super) fn open(source: Source, digest: &Digest, start: u64, length: u64) -> Result<Self, StoreError> {
        let file = source.disk.open_blob(digest)?;
        if file.metadata().map_err(failed)?.len() < start + length {
            return Err(StoreError::Damaged(digest.clone()));
        }
        Ok(BlobReader { file: Arc::new(file), source, position: start, remaining: length, reading: None })
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
            let mut buffer = self.source.buffers.take();
            let want = usize::try_from(self.remaining).unwrap_or(usize::MAX).min(CHUNK);
            if read_from_memory(&self.file, self.position, want, &mut buffer) {
                return Poll::Ready(Some(Ok(self.deliver(buffer))));
            }
            let (file, position) = (Arc::clone(&self.file), self.position);
            let Source { disk, work, holder, .. } = self.source.clone();
            self.reading = Some(Box::pin(holder.run(async move {
                work.run(Kind::Read, move || {
                    let _read = disk.reads();
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
    let _read = disk.reads();
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
