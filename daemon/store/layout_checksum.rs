//! The checksum at the end of `index.json`.
//!
//! JSON that lost lines, or has a flipped bit inside a digest, still parses. So the last annotation of the file is
//! the CRC-32 of all bytes before it, as eight hexadecimal digits. Files of older releases and of other tools have
//! none.

use std::io::{self, Read, Write};

/// The text before and after the digits.
const KEY: &[u8] = b",\"io.holdfast.checksum\":\"";
const END: &[u8] = b"\"}}\n";
const DIGITS: usize = 8;
const SUFFIX: usize = KEY.len() + DIGITS + END.len();

/// The result of comparing the checksum.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Checksum {
    /// The file has no checksum.
    Absent,
    /// The checksum matches the bytes before it.
    Matches,
    /// The checksum does not match: bytes have changed since the file was written.
    Wrong,
}

/// A reader that computes the checksum of the bytes that pass through it.
pub(super) struct ChecksumReader<R> {
    inner: R,
    hasher: crc32fast::Hasher,
    /// The last bytes that were read, which may be the checksum itself.
    held: Vec<u8>,
}

impl<R> ChecksumReader<R> {
    pub(super) fn new(inner: R) -> Self {
        ChecksumReader { inner, hasher: crc32fast::Hasher::new(), held: Vec::new() }
    }

    /// Compares the checksum after the last byte was read.
    pub(super) fn verdict(self) -> Checksum {
        let stored = self.held.strip_prefix(KEY).and_then(|rest| rest.strip_suffix(END));
        let Some(stored) = stored else { return Checksum::Absent };
        if stored == text(self.hasher).as_bytes() { Checksum::Matches } else { Checksum::Wrong }
    }
}

impl<R: Read> Read for ChecksumReader<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.inner.read(buffer)?;
        self.held.extend_from_slice(&buffer[..count]);
        let before = self.held.len().saturating_sub(SUFFIX);
        self.hasher.update(&self.held[..before]);
        self.held.drain(..before);
        Ok(count)
    }
}

/// A writer that computes the checksum of the bytes that pass through it.
pub(super) struct ChecksumWriter<W> {
    inner: W,
    hasher: crc32fast::Hasher,
}

impl<W: Write> ChecksumWriter<W> {
    pub(super) fn new(inner: W) -> Self {
        ChecksumWriter { inner, hasher: crc32fast::Hasher::new() }
    }

    pub(super) fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.hasher.update(bytes);
        self.inner.write_all(bytes)
    }

    /// Writes the checksum as the last annotation, and closes the annotations and the file.
    pub(super) fn end(mut self) -> io::Result<()> {
        let checksum = text(self.hasher);
        self.inner.write_all(&[KEY, checksum.as_bytes(), END].concat())
    }
}

fn text(hasher: crc32fast::Hasher) -> String {
    format!("{:08x}", hasher.finalize())
}

#[cfg(test)]
mod tests {
    use super::*;

    const PLAIN: &[u8] = b"{\"manifests\":[],\"annotations\":{\"io.holdfast.change\":\"1\"";

    fn written() -> Vec<u8> {
        let mut file = Vec::new();
        let mut writer = ChecksumWriter::new(&mut file);
        PLAIN.chunks(7).for_each(|part| writer.write(part).unwrap());
        writer.end().unwrap();
        file
    }

    fn verdict(bytes: &[u8]) -> Checksum {
        let mut reader = ChecksumReader::new(bytes);
        let mut buffer = [0; 5];
        while reader.read(&mut buffer).unwrap() > 0 {}
        reader.verdict()
    }

    #[test]
    fn any_changed_or_lost_byte_is_detected() {
        let file = written();
        assert_eq!(verdict(&file), Checksum::Matches);
        for at in 0..PLAIN.len() {
            let mut other = file.clone();
            other[at] ^= 1;
            assert_eq!(verdict(&other), Checksum::Wrong, "{at}");
            other.remove(at);
            assert_eq!(verdict(&other), Checksum::Wrong, "{at}");
        }
        let digit = PLAIN.len() + KEY.len();
        let mut other = file;
        other[digit] ^= 1;
        assert_eq!(verdict(&other), Checksum::Wrong);
    }

    #[test]
    fn file_without_checksum_is_recognized() {
        for file in [&b""[..], b"{}", &[PLAIN, b"}}\n"].concat()] {
            assert_eq!(verdict(file), Checksum::Absent);
        }
    }
}
