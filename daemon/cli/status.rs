//! `holdfast status`.

use super::words::size;
use super::{Failure, check_there_is_a_registry, print, store_settings};
use crate::config::Config;
use crate::store;

/// Prints what is in the data directory, beside a running daemon or without one.
pub(super) fn run(config: &Config, json: bool) -> Result<(), Failure> {
    check_there_is_a_registry(config)?;
    let status = store::status(&store_settings(config)).map_err(Failure::failed)?;
    if json {
        let text = serde_json::to_string_pretty(&status).map_err(Failure::failed)?;
        return print(&format!("{text}\n"));
    }
    let counts = status.counts;
    let state = match (&status.read_only, status.daemon_runs) {
        (Some(why), _) => why.as_str(),
        (None, true) => "running",
        (None, false) => "not running",
    };
    let rows = [
        ("daemon", state.to_owned()),
        ("repositories", counts.repositories.to_string()),
        ("tags", counts.tags.to_string()),
        ("manifests", counts.manifests.to_string()),
        ("blobs", format!("{} ({})", counts.blobs, size(counts.bytes))),
        ("free", size(status.free_bytes)),
    ];
    print(&rows.map(|(name, value)| format!("{name:14}{value}\n")).concat())
}
