//! Work on the data directory beside a daemon, or without one.

use std::path::Path;

use super::failure::Failure;
use super::settings::store_settings;
use crate::config::Config;
use crate::store::{self, Role, Store, StoreError};

/// Opens and closes the store as a daemon does, if none runs: recovers the index and brings `index.json` up to date. A daemon
/// that socket activation starts meanwhile waits no longer than that. Returns true if the index was rebuilt and names may be
/// lost.
pub(super) async fn recover_offline(config: &Config) -> Result<bool, StoreError> {
    if store::daemon_runs(&config.storage.path) {
        return Ok(false);
    }
    match Store::open(store_settings(config), Role::Daemon).await {
        Ok(store) => {
            store.close().await?;
            Ok(store.may_lack_names())
        }
        // A daemon has started since.
        Err(StoreError::InUse(_)) => Ok(false),
        Err(error) => Err(error),
    }
}

/// Returns a runtime for commands that use the store beside the daemon.
pub(super) fn runtime() -> Result<tokio::runtime::Runtime, Failure> {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| Failure::failed(format!("cannot start the async runtime: {error}")))
}

/// Returns the absolute form of a path, for messages and comparisons between processes.
pub(super) fn absolute(path: &Path) -> String {
    std::path::absolute(path).unwrap_or_else(|_| path.to_owned()).display().to_string()
}
