//! `secret`: the key by which the daemon signs what it hands out and reads again later.
//!
//! It is a line of 64 hexadecimal digits and, as eight more, their CRC-32. A file that is missing or damaged, or that others
//! can read, is replaced by a new one: that ends what was signed and nothing else. One that cannot be opened, and what is no
//! file, stays.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};

use nix::fcntl::OFlag;
use ring::rand::{SecureRandom, SystemRandom};

use super::disk::Disk;
use super::error::StoreError;
use super::{Store, blocking};

const NAME: &str = "secret";
/// Only the registry's own account reads it.
const MODE: u32 = 0o600;
/// The length of the file, in bytes.
const LENGTH: usize = 64 + 8 + 1;

impl Store {
    /// Returns the key; creates it if it is missing.
    ///
    /// # Errors
    /// [`StoreError`] if it is missing and cannot be written.
    pub async fn secret(&self) -> Result<[u8; 32], StoreError> {
        let disk = std::sync::Arc::clone(&self.0.disk);
        blocking(move || read_or_make(&disk)).await
    }

    /// Returns the time that the store has counted so far, in seconds. It passes only while the machine is on, and no jump of
    /// the wall clock changes it.
    pub fn seconds(&self) -> u64 {
        self.0.index.clock.now().number()
    }
}

fn read_or_make(disk: &Disk) -> Result<[u8; 32], StoreError> {
    match read(disk) {
        Ok(Some(key)) => return Ok(key),
        Ok(None) => {
            log::warn!("{NAME} in the data directory is damaged or readable by others: a new one is made");
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        // To replace a directory would fail, and a write that fails makes the store read-only.
        Err(error) => return Err(StoreError::io(format!("read {NAME}"), error)),
    }
    let failed = |error: io::Error| StoreError::io(format!("write {NAME}"), error);
    let mut key = [0; 32];
    SystemRandom::new()
        .fill(&mut key)
        .map_err(|_| failed(io::Error::other("the system has no random bytes")))?;
    let text = format(&key);
    disk.replace_with_mode(NAME, MODE, |file| file.write_all(text.as_bytes()).map_err(failed))?;
    Ok(key)
}

fn format(key: &[u8; 32]) -> String {
    let digits = hex::encode(key);
    let sum = crc32fast::hash(digits.as_bytes());
    format!("{digits}{sum:08x}\n")
}

/// Reads the key; returns nothing for a file that is not as it was written.
fn read(disk: &Disk) -> io::Result<Option<[u8; 32]>> {
    let mut file = open(disk)?;
    let metadata = file.metadata()?;
    if !metadata.is_file() {
        return Err(io::Error::other("it is no regular file"));
    }
    if metadata.mode() & 0o077 != 0 || metadata.len() != LENGTH as u64 {
        return Ok(None);
    }
    let mut text = String::new();
    Read::by_ref(&mut file).take(LENGTH as u64).read_to_string(&mut text)?;
    Ok(parse(&text))
}

#[expect(clippy::disallowed_methods, reason = "it is only read")]
fn open(disk: &Disk) -> io::Result<File> {
    // Neither a link nor a FIFO in its place leads anywhere.
    let flags = OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK;
    OpenOptions::new().read(true).custom_flags(flags.bits()).open(disk.top(NAME))
}

fn parse(text: &str) -> Option<[u8; 32]> {
    let mut key = [0; 32];
    hex::decode_to_slice(text.get(..64)?, &mut key).ok()?;
    (format(&key) == text).then_some(key)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_damaged_key_is_none() {
        let text = format(&[7; 32]);
        assert_eq!((text.len(), parse(&text)), (LENGTH, Some([7; 32])));
        for damaged in ["", &text[1..], &text[..72], &text.replacen('7', "6", 1), &text.replace('\n', "x")] {
            assert_eq!(parse(damaged), None, "{damaged}");
        }
    }
}
