//! The runtime of commands, and paths in their messages.

use std::path::Path;

use super::failure::Failure;

/// Returns a runtime for a command.
pub(super) fn runtime() -> Result<tokio::runtime::Runtime, Failure> {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| Failure::failed(format!("cannot start the async runtime: {error}")))
}

/// Returns the absolute form of a path without symbolic links, for comparisons between processes.
pub(super) fn canonical(path: &Path) -> String {
    path.canonicalize().map_or_else(|_| absolute(path), |path| path.display().to_string())
}

/// Returns the absolute form of a path, for messages.
pub(super) fn absolute(path: &Path) -> String {
    std::path::absolute(path).unwrap_or_else(|_| path.to_owned()).display().to_string()
}
