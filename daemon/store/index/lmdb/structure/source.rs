//! The file of the index as bytes, and the error of a part of it.

use std::fmt::Display;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

use crate::store::index_error::IndexError;

/// Bytes that are read at positions.
pub(in crate::store) trait ReadAt {
    /// Fills the buffer from the bytes at `offset`.
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()>;
}

impl ReadAt for File {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        self.read_exact_at(buffer, offset)
    }
}

impl ReadAt for [u8] {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        let range =
            usize::try_from(offset).ok().and_then(|start| Some(start..start.checked_add(buffer.len())?));
        let bytes = range.and_then(|range| self.get(range)).ok_or(io::ErrorKind::UnexpectedEof)?;
        buffer.copy_from_slice(bytes);
        Ok(())
    }
}

/// Returns the error of a part of the file that breaks the rule `what`.
pub(super) fn corrupt(place: impl Display, what: &str) -> IndexError {
    IndexError::Corrupt(format!("{place}: {what} is wrong"))
}
