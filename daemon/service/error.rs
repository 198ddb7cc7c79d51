//! Errors of the process's environment.

use std::io;

/// A failure of the environment that the daemon was started in.
#[derive(Debug, thiserror::Error)]
pub enum ServiceError {
    /// An inherited socket is not a stream listener.
    #[error(
        "cannot use inherited socket {0} ({1}): {2}; pass a TCP listener named registry, or a Unix stream listener named \
         control"
    )]
    Socket(usize, String, io::Error),
    /// The log cannot be started.
    #[error("cannot start the log: {0}")]
    Log(String),
    /// The file of the access log cannot be written.
    #[error(
        "cannot write the access log {0}: {1}; create its directory for the registry's user, for a service with LogsDirectory= \
         (systemctl edit holdfast), or set another log.access"
    )]
    AccessLog(String, io::Error),
}
