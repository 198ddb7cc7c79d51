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
    #[error("cannot write the access log {0}: {1}; {remedy}, or set another log.access", remedy = access_log_remedy(.1))]
    AccessLog(String, io::Error),
}

/// Returns the first half of the remedy.
fn access_log_remedy(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => "free space there",
        _ => {
            "create its directory for the registry's user, for a service with LogsDirectory= (systemctl edit holdfast)"
        }
    }
}
