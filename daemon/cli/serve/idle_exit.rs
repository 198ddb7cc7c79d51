//! Idle exit: under socket activation the daemon ends when it has nothing to do, and the next connection starts it again.
//!
//! Connections that arrive meanwhile wait in the listening socket, which systemd keeps open; one that was accepted at the last
//! moment is served by the drain.

use std::sync::Arc;
use std::time::Duration;

use super::super::failure::Failure;
use super::super::validate::validate_for_start;
use super::app::App;

/// Maximum interval of the checks.
const CHECK_INTERVAL: Duration = Duration::from_secs(5);

/// Waits until the daemon has had no connection for `service.idle`, has no administrator logged in, no unfinished upload, no
/// job that runs or waits and no archive in the import folder, and could start again. Jobs that are due later do not keep it: the next daemon runs them.
pub(super) async fn until_idle(app: Arc<App>) {
    let mut reported = String::new();
    loop {
        let idle = app.config.load().service.idle;
        let interval = idle.map_or(CHECK_INTERVAL, |idle| CHECK_INTERVAL.min(idle / 4));
        tokio::time::sleep(interval.max(Duration::from_millis(10))).await;
        let Some(idle) = idle else { continue };
        let is_idle = app.server.activity().idle_for.is_some_and(|time| time >= idle);
        if !(is_idle && !app.jobs.is_busy() && has_no_session(&app).await && has_no_upload(&app).await) {
            continue;
        }
        if has_archive(&app).await {
            continue;
        }
        if let Err(failure) = validate_restart(&app).await {
            // Each reason once, and not with every check.
            if reported != failure.line {
                log::warn!(
                    "idle, but not exiting, because the daemon could not start again: {}",
                    failure.line
                );
                reported = failure.line;
            }
            continue;
        }
        log::info!("idle for {} s: exiting; the next connection starts the daemon again", idle.as_secs());
        return;
    }
}

/// Validates the configuration on disk. If a reload refused it, the daemon runs with the old one and must not end, since the next
/// start would fail.
async fn validate_restart(app: &Arc<App>) -> Result<(), Failure> {
    let app = Arc::clone(app);
    let validated = tokio::task::spawn_blocking(move || {
        let config = (app.read_config)().map_err(Failure::misuse)?;
        validate_for_start(&config)
    });
    validated.await.map_err(Failure::failed)?
}

/// Returns true if no administrator is logged in. Sessions are in memory, so an exit would end them.
async fn has_no_session(app: &App) -> bool {
    let services = app.server.services();
    services.access.logged_in(&app.admin.sessions).await == 0
}

async fn has_no_upload(app: &App) -> bool {
    let store = app.store.clone();
    let uploads = tokio::task::spawn_blocking(move || store.unfinished_uploads()).await;
    // If the number is unknown, the daemon stays.
    matches!(uploads, Ok(Ok(0)))
}

/// Returns true if the import folder has an archive that will be imported soon.
async fn has_archive(app: &Arc<App>) -> bool {
    let Some(folder) = app.config.load().import.folder.clone() else { return false };
    let watch = Arc::clone(&app.watch);
    let looked = tokio::task::spawn_blocking(move || {
        watch.is_waiting(&crate::intake::archives_in(&folder), std::time::Instant::now())
    });
    looked.await.unwrap_or(false)
}
