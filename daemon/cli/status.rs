//! `holdfast status`.

use std::os::unix::fs::FileTypeExt;
use std::time::{Duration, Instant};

use clap::Args;

use super::live::Live;
use super::words::{count, size};
use super::{Failure, ask, owner, print, runtime, store_settings};
use crate::config::Config;
use crate::store;

/// How long it is waited between two questions.
const PAUSE: Duration = Duration::from_millis(200);

#[derive(Args)]
pub(super) struct Options {
    /// Waits until the registry answers, for a minute or so long, and fails if it does not
    #[arg(long, value_name = "DURATION", num_args = 0..=1, require_equals = true, default_missing_value = "1m")]
    wait: Option<String>,
    /// Prints JSON
    #[arg(long)]
    json: bool,
}

/// Prints what is in the data directory: what a running daemon says, or what is seen beside it or without one. Whether it
/// is the directory of a service, and not one that was named, says what it means that no daemon runs.
pub(super) fn run(options: &Options, config: &Config, is_the_services: bool) -> Result<(), Failure> {
    if let Some(patience) = &options.wait {
        let patience = crate::config::duration("--wait", patience).map_err(Failure::misuse)?;
        runtime()?.block_on(wait(config, patience))?;
    }
    // Asking would start one that systemd has not started; who may not look at the directory can only ask.
    let index = config.storage.path.join("index/data.mdb");
    // To open a FIFO in its place would wait.
    let is_file = std::fs::metadata(&index).is_ok_and(|metadata| metadata.is_file());
    let may_look = is_file && std::fs::File::open(&index).is_ok();
    let asks = store::daemon_runs(&config.storage.path) || !may_look;
    let live = if asks { runtime()?.block_on(ask::live(config)) } else { None };
    if let Some(live) = live {
        return if options.json { print_json(&live) } else { print(&rows(&live.store, Some(&live), false)) };
    }
    owner::enter(config)?;
    let status = store::status(&store_settings(config)).map_err(Failure::failed)?;
    let waits = is_the_services && socket_is_there(config);
    if options.json { print_json(&status) } else { print(&rows(&status, None, waits)) }
}

/// Whether systemd holds the socket through which a daemon is asked. To connect would start one.
fn socket_is_there(config: &Config) -> bool {
    std::fs::metadata(&config.service.control).is_ok_and(|file| file.file_type().is_socket())
}

async fn wait(config: &Config, patience: Duration) -> Result<(), Failure> {
    let began = Instant::now();
    loop {
        if ask::answers(config).await {
            return Ok(());
        }
        if began.elapsed() >= patience {
            let line =
                "the registry does not answer; its log says why (journalctl -u holdfast, or docker logs)";
            return Err(Failure::failed(line));
        }
        tokio::time::sleep(PAUSE).await;
    }
}

fn print_json(status: &impl serde::Serialize) -> Result<(), Failure> {
    let text = serde_json::to_string_pretty(status).map_err(Failure::failed)?;
    print(&format!("{text}\n"))
}

fn rows(status: &store::Status, live: Option<&Live>, waits: bool) -> String {
    let counts = status.counts;
    let state = match (&status.read_only, status.daemon_runs) {
        (Some(why), _) => why.as_str(),
        (None, true) => "running",
        (None, false) if waits => "waiting for a connection, which starts it",
        (None, false) => "not running",
    };
    let mut rows = vec![("daemon", state.to_owned())];
    if let Some(live) = live {
        rows.push(("version", live.version.clone()));
        rows.push(("since", count(live.seconds, "second")));
        rows.push(("requests", live.requests.to_string()));
        rows.push(("uploads", live.uploads.to_string()));
        rows.extend(live.disk.clone().map(|disk| ("warning", disk)));
    }
    rows.push(("repositories", counts.repositories.to_string()));
    rows.push(("tags", counts.tags.to_string()));
    rows.push(("manifests", counts.manifests.to_string()));
    rows.push(("blobs", format!("{} ({})", counts.blobs, size(counts.bytes))));
    rows.push(("free", size(status.free_bytes)));
    rows.into_iter().map(|(name, value)| format!("{name:14}{value}\n")).collect()
}
