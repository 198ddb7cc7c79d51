//! The key that signs bearer tokens, and store time for their expiry.
//!
//! On disk: `secret` is one line of 64 hexadecimal digits followed by their CRC-32 as eight more digits; mode 0600. A
//! file that is missing, damaged or readable by other users is replaced with a new key, which invalidates the tokens
//! that the old key signed and nothing else. An obstacle in its place, or a file that cannot be opened, stays and is an
//! error.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};

use nix::fcntl::OFlag;
use ring::rand::{SecureRandom, SystemRandom};

use super::disk::Disk;
use super::error::StoreError;
use super::{Store, blocking};

const NAME: &str = "secret";
/// Readable by the registry's own account only.
const MODE: u32 = 0o600;
/// The length of the file, in bytes.
const LENGTH: usize = 64 + 8 + 1;

impl Store {
    /// Returns the key; creates it if it is missing.
    ///
    /// # Errors
    /// [`StoreError`] if the file cannot be read, or is missing and cannot be written.
    pub async fn signing_key(&self) -> Result<[u8; 32], StoreError> {
        let disk = std::sync::Arc::clone(&self.0.disk);
        blocking(move || read_or_create(&disk)).await
    }

    /// Returns store time in seconds: it passes only while the machine is on, whatever the wall clock does.
    pub fn store_seconds(&self) -> u64 {
        self.0.index.clock.now().seconds()
    }
}

fn read_or_create(disk: &Disk) -> Result<[u8; 32], StoreError> {
    match read(disk) {
        Ok(Some(key)) => return Ok(key),
        Ok(None) => {
            log::warn!(
                "the file {NAME} in the data directory is damaged or readable by other users; replacing it"
            );
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        // Not replaced: the replacement could fail, and a failed write makes the store read-only.
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

/// Reads the key; returns `None` for a file that is damaged or readable by other users.
fn read(disk: &Disk) -> io::Result<Option<[u8; 32]>> {
    let mut file = open(disk)?;
    let metadata = file.metadata()?;
    if !metadata.is_file() {
        return Err(io::Error::other("it is not a regular file"));
    }
    if metadata.mode() & 0o077 != 0 || metadata.len() != LENGTH as u64 {
        return Ok(None);
    }
    let mut text = String::new();
    Read::by_ref(&mut file).take(LENGTH as u64).read_to_string(&mut text)?;
    Ok(parse(&text))
}

#[expect(clippy::disallowed_methods, reason = "opens the file for reading only")]
fn open(disk: &Disk) -> io::Result<File> {
    // Fails for a symbolic link, and does not wait for the other end of a FIFO.
    let flags = OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK;
    OpenOptions::new().read(true).custom_flags(flags.bits()).open(disk.path(NAME))
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
    fn a_damaged_key_is_rejected() {
        let text = format(&[7; 32]);
        assert_eq!((text.len(), parse(&text)), (LENGTH, Some([7; 32])));
        for damaged in ["", &text[1..], &text[..72], &text.replacen('7', "6", 1), &text.replace('\n', "x")] {
            assert_eq!(parse(damaged), None, "{damaged}");
        }
    }
}
