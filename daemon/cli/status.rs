//! `holdfast status`.

use super::{Failure, check_there_is_a_registry, print};
use crate::config::Config;
use crate::store;

/// Prints what is in the data directory, beside a running daemon or without one.
pub(super) fn run(config: &Config, json: bool) -> Result<(), Failure> {
    check_there_is_a_registry(config)?;
    let path = &config.storage.path;
    let status = store::status(path, config.storage.index_map_size).map_err(Failure::failed)?;
    if json {
        let text = serde_json::to_string_pretty(&status).map_err(Failure::failed)?;
        return print(&format!("{text}\n"));
    }
    let counts = status.counts;
    let state = match (&status.read_only, status.daemon_runs) {
        (Some(why), _) => why,
        (None, true) => "running",
        (None, false) => "not running",
    };
    print(&format!(
        "daemon        {state}\nrepositories  {}\ntags          {}\nmanifests     {}\nblobs         {} ({} bytes)\nfree          {} bytes\n",
        counts.repositories, counts.tags, counts.manifests, counts.blobs, counts.bytes, status.free_bytes,
    ))
}
