//! The status that a running daemon reports to the command line, as JSON on the control socket.

use serde::{Deserialize, Serialize};

use crate::store;

/// Status of a running daemon.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct DaemonStatus {
    /// Release of the daemon.
    pub(super) version: String,
    /// Absolute path of its data directory.
    pub(super) data: String,
    /// Uptime, in seconds.
    pub(super) seconds: u64,
    /// Open connections.
    pub(super) connections: usize,
    /// Active requests.
    pub(super) requests: usize,
    /// Unfinished uploads.
    pub(super) uploads: usize,
    /// Warning that the disk has not answered for a while.
    #[serde(default)]
    pub(super) disk: Option<String>,
    /// Status of its store.
    #[serde(flatten)]
    pub(super) store: store::Status,
}
