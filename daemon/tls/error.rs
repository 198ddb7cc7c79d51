//! Errors of certificates and of the TLS setup.

use std::path::PathBuf;

/// Reason why there is no certificate.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A file cannot be read or written.
    #[error("cannot {} {}: {}", .0, .1.display(), .2)]
    Io(&'static str, PathBuf, std::io::Error),
    /// A file has invalid content.
    #[error("{} {}", .0.display(), .1)]
    Content(PathBuf, String),
    /// A certificate cannot be issued.
    #[error("cannot issue a certificate: {0}; check tls.names")]
    Issue(#[from] rcgen::Error),
    /// The configuration of TLS is invalid.
    #[error("cannot set up TLS: {0}")]
    Setup(#[from] rustls::Error),
}
