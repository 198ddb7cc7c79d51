//! What a running daemon says of itself to the command line.

use serde::{Deserialize, Serialize};

use crate::store;

/// How a running daemon is.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Live {
    /// Its release.
    pub(super) version: String,
    /// Its data directory.
    pub(super) data: String,
    /// For how many seconds it has been running.
    pub(super) seconds: u64,
    /// Connections now.
    pub(super) connections: usize,
    /// Requests now.
    pub(super) requests: usize,
    /// Uploads that are not finished.
    pub(super) uploads: usize,
    /// Says that the disk has not answered for a while, if that is so.
    #[serde(default)]
    pub(super) disk: Option<String>,
    /// What is in its store.
    #[serde(flatten)]
    pub(super) store: store::Status,
}
