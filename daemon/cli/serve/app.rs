//! The running daemon, as its background tasks see it.

use std::sync::Arc;
use std::time::Instant;

use arc_swap::ArcSwap;
use tokio::sync::Notify;

use super::services::Shared;
use crate::admin::AdminState;
use crate::config::{Config, ConfigError};
use crate::intake::Watch;
use crate::jobs::Jobs;
use crate::server::Server;
use crate::service::AccessFile;
use crate::store::Store;

/// Reads the configuration, at the start and for each reload.
pub(super) type ReadConfig = Box<dyn Fn() -> Result<Config, ConfigError> + Send + Sync>;

/// The running daemon: its configuration, store, server and the state of the admin page.
pub(super) struct App {
    pub(super) read_config: ReadConfig,
    pub(super) config: ArcSwap<Config>,
    pub(super) store: Store,
    pub(super) server: Arc<Server>,
    pub(super) admin: Arc<AdminState>,
    pub(super) jobs: Arc<Jobs>,
    /// The archives in the import folder.
    pub(super) watch: Arc<Watch>,
    /// True if all listening sockets are on loopback addresses.
    pub(super) loopback_only: bool,
    pub(super) shared: Shared,
    /// True under socket activation.
    pub(super) activated: bool,
    pub(super) began: Instant,
    /// Wakes the tasks whose intervals a reload may have changed.
    pub(super) reloaded: Notify,
    /// The file of the access log, which a reload opens again.
    pub(super) access_file: Option<AccessFile>,
}
