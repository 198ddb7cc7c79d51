//! The id of an upload: a UUID of version 8.
//!
//! Byte 9 is the hash algorithm that the upload was opened with; the last six bytes are a checksum of the others and
//! the repository. So the file, which has the id as its name, is all that has to survive a restart, and an id is valid
//! in its own repository only. That of a loose upload, which has no repository, is valid in none.

use std::fmt;
use std::str::FromStr;

use uuid::Uuid;

use super::error::StoreError;
use super::random::random_bytes;
use crate::oci::{Algorithm, Hasher, RepositoryName};

/// The id of an upload.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct UploadId(Uuid);

/// Error of a text that is not the id of an upload.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the upload id is not a UUID in canonical form")]
pub struct ParseUploadIdError;

impl UploadId {
    /// Returns a random id for an upload to this repository, or for a loose one.
    pub(super) fn new(repository: Option<&RepositoryName>, algorithm: Algorithm) -> Result<Self, StoreError> {
        let mut bytes: [u8; 16] = random_bytes()?;
        bytes[9] = match algorithm {
            Algorithm::Sha256 => 0,
            Algorithm::Sha512 => 1,
        };
        let mut id = UploadId(Uuid::new_v8(bytes));
        let checksum = id.checksum(repository.map_or("", RepositoryName::as_str));
        let mut bytes = id.0.into_bytes();
        bytes[10..].copy_from_slice(&checksum);
        id.0 = Uuid::new_v8(bytes);
        Ok(id)
    }

    fn checksum(self, repository: &str) -> [u8; 6] {
        let mut hasher = Hasher::new(Algorithm::Sha256);
        hasher.update(&self.0.as_bytes()[..10]);
        hasher.update(repository.as_bytes());
        let mut checksum = [0; 6];
        checksum.copy_from_slice(&hasher.finish().bytes()[..6]);
        checksum
    }

    /// Returns true if the upload was opened in this repository.
    pub(super) fn belongs_to(self, repository: &RepositoryName) -> bool {
        self.0.as_bytes()[10..] == self.checksum(repository.as_str())
    }

    /// Returns true if the upload is loose: its blob belongs to no repository yet.
    pub(super) fn is_loose(self) -> bool {
        self.0.as_bytes()[10..] == self.checksum("")
    }

    /// Returns the algorithm that the upload was opened with.
    pub(super) fn algorithm(self) -> Algorithm {
        if self.0.as_bytes()[9] == 1 { Algorithm::Sha512 } else { Algorithm::Sha256 }
    }
}

impl fmt::Display for UploadId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.hyphenated().fmt(f)
    }
}

impl FromStr for UploadId {
    type Err = ParseUploadIdError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let uuid = Uuid::try_parse(text).map_err(|_| ParseUploadIdError)?;
        let canonical = uuid.hyphenated().to_string() == text;
        if canonical { Ok(UploadId(uuid)) } else { Err(ParseUploadIdError) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_carries_its_repository_and_its_algorithm() {
        let (mine, other): (RepositoryName, RepositoryName) =
            ("a/b".parse().unwrap(), "a/c".parse().unwrap());
        for algorithm in Algorithm::ALL {
            let id = UploadId::new(Some(&mine), algorithm).unwrap();
            let read: UploadId = id.to_string().parse().unwrap();
            assert_eq!(read, id);
            assert!(read.belongs_to(&mine) && !read.belongs_to(&other));
            assert_eq!(read.algorithm(), algorithm);
        }
    }

    #[test]
    fn only_the_canonical_form_is_an_id() {
        for text in ["", "x", "../../etc/passwd", "00000000000080008000000000000000", "{0}"] {
            assert!(text.parse::<UploadId>().is_err(), "{text}");
        }
    }
}
