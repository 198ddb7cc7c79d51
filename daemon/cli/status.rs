//! `holdfast status`.

use std::os::unix::fs::FileTypeExt;
use std::time::{Duration, Instant};

use clap::Args;

use super::control_client::{self, Unhealthy};
use super::daemon_status::DaemonStatus;
use super::failure::Failure;
use super::format::{count, size};
use super::offline::runtime;
use super::output::print;
use super::privileges;
use super::settings::store_settings;
use crate::config::Config;
use crate::store;

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

/// Prints the status of a running daemon, or else of the data directory. `is_service_data` is false if `--data` named another
/// directory than the service's: then no socket activation is to be expected.
pub(super) fn run(options: &Options, config: &Config, is_service_data: bool) -> Result<(), Failure> {
    if let Some(limit) = &options.wait {
        let limit = crate::config::duration("--wait", limit).map_err(Failure::misuse)?;
        runtime()?.block_on(wait(config, limit))?;
    }
    // Under socket activation a query would start a daemon, so query only if one runs, or if that cannot be known.
    let index = config.storage.path.join("index/data.mdb");
    // Opening a FIFO in its place would block.
    let is_file = std::fs::metadata(&index).is_ok_and(|metadata| metadata.is_file());
    let is_readable = is_file && std::fs::File::open(&index).is_ok();
    let may_query = store::daemon_runs(&config.storage.path) || !is_readable;
    let daemon = if may_query { runtime()?.block_on(control_client::status(config)) } else { None };
    if let Some(daemon) = daemon {
        return if options.json {
            print_json(&daemon)
        } else {
            print(&table(&daemon.store, Some(&daemon), false))
        };
    }
    privileges::enter(config)?;
    let status = store::status(&store_settings(config)).map_err(Failure::failed)?;
    let is_activatable = is_service_data && has_control_socket(config);
    if options.json { print_json(&status) } else { print(&table(&status, None, is_activatable)) }
}

/// Returns true if systemd holds the control socket. Does not connect, which would start a daemon.
fn has_control_socket(config: &Config) -> bool {
    std::fs::metadata(&config.service.control).is_ok_and(|file| file.file_type().is_socket())
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

fn print_json(status: &impl serde::Serialize) -> Result<(), Failure> {
    let text = serde_json::to_string_pretty(status).map_err(Failure::failed)?;
    print(&format!("{text}\n"))
}

fn table(status: &store::Status, daemon: Option<&DaemonStatus>, is_activatable: bool) -> String {
    let counts = status.counts;
    let state = match (&status.read_only, status.daemon_runs) {
        (Some(reason), _) => reason.as_str(),
        (None, true) => "running",
        (None, false) if is_activatable => "waiting for a connection, which starts it",
        (None, false) => "not running",
    };
    let mut rows = vec![("daemon", state.to_owned())];
    if let Some(daemon) = daemon {
        rows.push(("version", daemon.version.clone()));
        rows.push(("uptime", count(daemon.seconds, "second")));
        rows.push(("requests", daemon.requests.to_string()));
        rows.push(("uploads", daemon.uploads.to_string()));
        rows.extend(daemon.disk.clone().map(|disk| ("warning", disk)));
    }
    rows.push(("repositories", counts.repositories.to_string()));
    rows.push(("tags", counts.tags.to_string()));
    rows.push(("manifests", counts.manifests.to_string()));
    rows.push(("blobs", format!("{} ({})", counts.blobs, size(counts.bytes))));
    rows.push(("free", size(status.free_bytes)));
    rows.into_iter().map(|(name, value)| format!("{name:14}{value}\n")).collect()
}
