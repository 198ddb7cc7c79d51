//! Reading blobs.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::sync::Arc;

use bytes::Bytes;

use super::disk::Disk;
use super::error::StoreError;
use crate::oci::Digest;

/// A blob is read in chunks of this many bytes.
const CHUNK: u64 = 256 << 10;

/// A range of a blob that is being read, a chunk at a time: memory for one chunk, whatever the blob's size.
pub struct BlobReader {
    file: Arc<File>,
    remaining: u64,
}

impl BlobReader {
    /// Opens a blob from `start` on, for `length` bytes; blocking.
    pub(super) fn open(disk: &Disk, digest: &Digest, start: u64, length: u64) -> Result<Self, StoreError> {
        let mut file = disk.open_blob(digest)?;
        let failed = |error| StoreError::io("read a blob", error);
        if file.metadata().map_err(failed)?.len() < start + length {
            return Err(StoreError::Damaged(digest.clone()));
        }
        file.seek(SeekFrom::Start(start)).map_err(failed)?;
        Ok(BlobReader { file: Arc::new(file), remaining: length })
    }

    /// How many bytes are still to come.
    pub fn remaining(&self) -> u64 {
        self.remaining
    }

    /// The next chunk, or nothing at the end.
    ///
    /// # Errors
    /// [`StoreError::Io`] when the disk fails or the file ends too early.
    pub async fn chunk(&mut self) -> Result<Option<Bytes>, StoreError> {
        let want = self.remaining.min(CHUNK);
        if want == 0 {
            return Ok(None);
        }
        let file = Arc::clone(&self.file);
        let chunk = super::blocking(move || read_chunk(&file, want)).await?;
        self.remaining -= want;
        Ok(Some(chunk))
    }
}

fn read_chunk(mut file: &File, want: u64) -> Result<Bytes, StoreError> {
    let capacity = usize::try_from(want).unwrap_or(usize::MAX);
    let mut buffer = Vec::with_capacity(capacity);
    file.by_ref()
        .take(want)
        .read_to_end(&mut buffer)
        .map_err(|error| StoreError::io("read a blob", error))?;
    if buffer.len() != capacity {
        return Err(StoreError::io("read a blob", std::io::ErrorKind::UnexpectedEof.into()));
    }
    Ok(buffer.into())
}

/// All bytes of a manifest; blocking.
pub(super) fn read_whole(disk: &Disk, digest: &Digest, size: u64) -> Result<Bytes, StoreError> {
    let file = disk.open_blob(digest)?;
    match read_chunk(&file, size) {
        Err(StoreError::Io { source, .. }) if source.kind() == std::io::ErrorKind::UnexpectedEof => {
            Err(StoreError::Damaged(digest.clone()))
        }
        other => other,
    }
}
