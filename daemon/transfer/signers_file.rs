//! Reads the file of allowed signers.

use std::fs::File;
use std::io::{Error, Read, Result};
use std::path::Path;

use rustix::fs::{Mode, OFlags};

use super::signature::AllowedSigners;

/// The maximum length of the file, in bytes.
const MAX: u64 = 1 << 20;

/// Reads and parses a file of allowed signers; blocking.
///
/// # Errors
/// Fails if it cannot be read, is not a regular file, is longer than 1 MiB or malformed.
pub fn read(file: &Path) -> Result<AllowedSigners> {
    // With O_NONBLOCK, opening a FIFO in place of the file does not wait for a writer.
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let file = File::from(rustix::fs::open(file, flags, Mode::empty())?);
    if !file.metadata()?.is_file() {
        return Err(Error::other("it is not a regular file"));
    }
    let mut text = String::new();
    file.take(MAX + 1).read_to_string(&mut text)?;
    if text.len() as u64 > MAX {
        return Err(Error::other(format!("it is longer than {MAX} bytes")));
    }
    AllowedSigners::parse(&text).map_err(Error::other)
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "the tests write files of an operator")]
mod tests {
    use super::*;

    #[test]
    fn only_regular_files_of_a_limited_length_are_read() {
        let directory = tempfile::tempdir().unwrap();
        let (text, fifo) = (directory.path().join("text"), directory.path().join("fifo"));
        std::fs::write(&text, "#".repeat(1 << 20)).unwrap();
        assert!(read(&text).unwrap().is_empty());
        std::fs::write(&text, "#".repeat((1 << 20) + 1)).unwrap();
        assert!(read(&text).unwrap_err().to_string().contains("longer"));
        assert!(std::process::Command::new("mkfifo").arg(&fifo).status().unwrap().success());
        for other in [fifo.as_path(), directory.path()] {
            assert!(read(other).unwrap_err().to_string().contains("regular"));
        }
        std::fs::write(&text, "ops").unwrap();
        assert!(read(&text).unwrap_err().to_string().contains("line 1"));
    }
}
