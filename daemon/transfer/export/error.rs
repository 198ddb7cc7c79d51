//! Errors of an export.

use std::io;

use crate::base::human;
use crate::oci::Digest;

/// The reason why an export failed.
#[derive(Debug, thiserror::Error)]
pub enum ExportError {
    /// An operation on the medium failed.
    #[error("cannot {operation} {path}: {error}")]
    Medium {
        /// The operation, such as `write`.
        operation: &'static str,
        /// The path of the file.
        path: String,
        /// The error of the system.
        error: io::Error,
    },
    /// The medium has too little free space.
    #[error("{path} has {} free, but the export needs {}; nothing was written", human::size(*.free), human::size(*.needed))]
    Space {
        /// The path of the medium.
        path: String,
        /// Bytes that the export still needs.
        needed: u64,
        /// Bytes that are free.
        free: u64,
    },
    /// The medium returned other bytes than were written.
    #[error(
        "{path} returns other bytes than were written, at byte {offset}; the medium is broken or counterfeit"
    )]
    Differs {
        /// The path of the file.
        path: String,
        /// The position in it.
        offset: u64,
    },
    /// The target cannot be used.
    #[error("{0}")]
    Refused(String),
    /// Content of the registry is missing or does not match its digest.
    #[error("{digest} cannot be read: {why}")]
    Unreadable {
        /// Its digest.
        digest: Digest,
        /// The reason.
        why: String,
    },
    /// The walk found more than its limit.
    #[error("it has more than {limit} names, manifests and layers together")]
    TooLarge {
        /// The limit.
        limit: usize,
    },
    /// The registry failed.
    #[error("{0}")]
    Registry(String),
    /// The operator interrupted the export.
    #[error("interrupted")]
    Interrupted,
}

impl ExportError {
    /// Returns the error of an operation on a file.
    pub fn medium(operation: &'static str, path: impl Into<String>, error: io::Error) -> Self {
        ExportError::Medium { operation, path: path.into(), error }
    }
}
