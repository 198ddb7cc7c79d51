//! `holdfast status`.

use std::time::{Duration, Instant};

use clap::Args;
use nix::sys::statvfs::statvfs;

use super::control_client::{self, Unhealthy};
use super::failure::Failure;
use super::format::{count, size, time_with_age};
use super::offline::{canonical, runtime};
use super::output::{print, print_json};
use super::owner::{Found, Patience, find, is_activatable};
use super::privileges;
use crate::base::clock::unix_seconds;
use crate::config::Config;
use crate::control::StatusReport;
use crate::store::{self, Occupancy, SavedStatus};

/// Interval of health checks with `--wait`.
const CHECK_INTERVAL: Duration = Duration::from_millis(200);

#[derive(Args)]
pub(super) struct Options {
    /// Wait until the registry is healthy, else fail after DURATION, such as 30s [default: 1m]
    #[arg(long, value_name = "DURATION", num_args = 0..=1, require_equals = true, default_missing_value = "1m")]
    wait: Option<String>,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// Prints the status of a running daemon, or else the one that the last process has left. Starts no daemon, and opens no store.
/// `is_service_data` is false if `--data` named another directory than the service's: then no socket activation is to be
/// expected.
pub(super) fn run(options: &Options, config: &Config, is_service_data: bool) -> Result<(), Failure> {
    if let Some(limit) = &options.wait {
        let limit = crate::config::duration("--wait", limit).map_err(Failure::misuse)?;
        runtime()?.block_on(wait(config, limit))?;
    }
    let state = match runtime()?.block_on(find(config, Patience::RunningOnly))? {
        Found::Daemon(daemon) => {
            let status = daemon.status;
            return if options.json {
                print_json(&status)
            } else {
                let state = status.store.read_only.clone().unwrap_or_else(|| "running".into());
                print(&table(&running_rows(state, &status)))
            };
        }
        Found::Occupied(Occupancy::Command(process)) => {
            format!("not running; a holdfast command (process {process}) works on the data")
        }
        Found::Occupied(Occupancy::Daemon | Occupancy::Hidden | Occupancy::Free) => {
            let reason = store::read_only_reason(&config.storage.path);
            reason.unwrap_or_else(|| "running, but its control socket does not answer".into())
        }
        Found::Absent if is_service_data && is_activatable(config) => {
            "waiting for a connection, which starts it".into()
        }
        Found::Absent => "not running".into(),
    };
    privileges::require_registry(&config.storage.path)?;
    let saved = store::saved_status::<StatusReport>(&config.storage.path);
    let is_running = store::daemon_runs(&config.storage.path);
    let status = LastStatus { daemon_runs: is_running, free_bytes: free_bytes(config), saved };
    if options.json { print_json(&status.json(config)) } else { print(&table(&status.rows(state))) }
}

/// The status of a data directory whose store is not asked.
struct LastStatus {
    daemon_runs: bool,
    free_bytes: Option<u64>,
    saved: Option<SavedStatus<StatusReport>>,
}

impl LastStatus {
    fn rows(&self, state: String) -> Vec<(&'static str, String)> {
        let mut rows = vec![("daemon", state)];
        if let Some(SavedStatus { saved, status }) = &self.saved {
            rows.extend(content_rows(status));
            rows.push(("as of", time_with_age(*saved, unix_seconds())));
        }
        rows.extend(self.free_bytes.map(|bytes| ("free", size(bytes))));
        rows
    }

    fn json(&self, config: &Config) -> serde_json::Value {
        let saved = self.saved.as_ref().map(serde_json::to_value).and_then(Result::ok);
        let mut json =
            saved.unwrap_or_else(|| serde_json::json!({ "data": canonical(&config.storage.path) }));
        // What was true of the process that has ended is not true now.
        json["daemon_runs"] = self.daemon_runs.into();
        json["state"] = if self.daemon_runs { "unknown" } else { "stopped" }.into();
        json["read_only"] = serde_json::Value::Null;
        if let Some(bytes) = self.free_bytes {
            json["free_bytes"] = bytes.into();
        }
        json
    }
}

fn free_bytes(config: &Config) -> Option<u64> {
    let space = statvfs(&config.storage.path).ok()?;
    #[allow(clippy::useless_conversion, reason = "the types have 32 bits on some systems")]
    Some(u64::from(space.blocks_available()).saturating_mul(u64::from(space.fragment_size())))
}

fn running_rows(state: String, status: &StatusReport) -> Vec<(&'static str, String)> {
    let mut rows = vec![("daemon", state), ("version", status.version.clone())];
    rows.push(("uptime", count(status.seconds, "second")));
    rows.push(("requests", status.requests.to_string()));
    rows.push(("uploads", status.uploads.to_string()));
    rows.extend(status.disk.clone().map(|disk| ("warning", disk)));
    rows.extend(content_rows(status));
    rows.push(("free", size(status.store.free_bytes)));
    rows
}

fn content_rows(status: &StatusReport) -> [(&'static str, String); 4] {
    let counts = status.store.counts;
    [
        ("repositories", counts.repositories.to_string()),
        ("tags", counts.tags.to_string()),
        ("manifests", counts.manifests.to_string()),
        ("blobs", format!("{} ({})", counts.blobs, size(counts.bytes))),
    ]
}

fn table(rows: &[(&'static str, String)]) -> String {
    rows.iter().map(|(name, value)| format!("{name:14}{value}\n")).collect()
}

async fn wait(config: &Config, limit: Duration) -> Result<(), Failure> {
    let began = Instant::now();
    loop {
        let Err(unhealthy) = control_client::health(config).await else { return Ok(()) };
        if began.elapsed() >= limit {
            let state = match unhealthy {
                Unhealthy::Silent => "the registry does not answer".to_owned(),
                Unhealthy::Reports(reason) => format!("the registry is not healthy ({reason})"),
            };
            return Err(Failure::failed(format!(
                "{state}; see its log (journalctl -u holdfast, or docker logs)"
            )));
        }
        tokio::time::sleep(CHECK_INTERVAL).await;
    }
}
