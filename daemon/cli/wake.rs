//! `holdfast wake`: starts a daemon that sleeps if a background job is due, or an archive is in the import folder. `holdfast-wake.timer` runs it every quarter of an
//! hour. It opens no store: `status.json` says when the next job is due, and which archives wait for the operator.

use http::Method;
use serde::Deserialize;

use super::failure::Failure;
use super::next_due::{Moment, SavedDue};
use super::offline;
use super::owner::{RequestError, connect_to_daemon, is_registry, sockets_in_words};
use crate::config::Config;
use crate::intake::archives_in;
use crate::store::{self, Occupancy, SavedStatus};

/// The part of `status.json` with the archives for which no daemon has to run.
#[derive(Deserialize)]
struct SavedArchives {
    #[serde(default)]
    held_archives: Vec<String>,
}

/// Asks the daemon, which systemd starts for it, to run the jobs that are due, and waits for their ends. Does nothing if no job
/// is due and no archive is in the import folder that could be imported, or if a daemon runs: that runs its jobs by itself, and a request would keep it from its idle exit.
pub(super) fn run(config: &Config) -> Result<(), Failure> {
    let data = &config.storage.path;
    let is_hidden = match store::occupancy(data) {
        Occupancy::Daemon => return Ok(()),
        // The search for the daemon says so.
        Occupancy::Hidden => true,
        Occupancy::Command(_) | Occupancy::Free => false,
    };
    if !is_hidden && !is_registry(data) {
        // Nothing was stored there, or its disk is not mounted.
        return Ok(());
    }
    let has_archive = || {
        let Some(folder) = config.import.folder.as_deref() else { return false };
        let held = store::saved_status::<SavedArchives>(data)
            .map_or_else(Vec::new, |saved| saved.status.held_archives);
        archives_in(folder).iter().any(|archive| !held.contains(&archive.fingerprint()))
    };
    if let Some(SavedStatus { saved, status }) = store::saved_status::<SavedDue>(data)
        && !status.is_due(saved, &Moment::now())
        && !has_archive()
    {
        return Ok(());
    }
    offline::runtime()?.block_on(wake(config))
}

async fn wake(config: &Config) -> Result<(), Failure> {
    let Some(mut daemon) = connect_to_daemon(config).await? else {
        return Err(Failure::failed(format!(
            "a background job is due, but no daemon answers on {}; start holdfast.socket, or `holdfast serve`",
            sockets_in_words(config)
        )));
    };
    match daemon.stream(Method::POST, "wake", None::<&()>, &mut |_| {}).await {
        // `holdfast jobs` has the outcome of each job. A daemon that stops meanwhile runs them at its next start.
        Ok(_) | Err(RequestError::Refused(_)) => Ok(()),
        Err(RequestError::Failed(failure)) => Err(failure),
    }
}
