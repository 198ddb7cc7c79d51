//! The status of the daemon: one line for `systemctl status`, and the whole for `holdfast status`.

use std::sync::Arc;
use std::time::Duration;

use super::super::background::collection_rules;
use super::super::format::{count, size};
use super::super::next_due::NextDue;
use super::super::offline::canonical;
use super::app::App;
use crate::access::SeenUsers;
use crate::control::{Identity, StatusReport};
use crate::service;
use crate::store::{self, OwnerKind};

/// Timeout of the store's status.
const STATUS_TIMEOUT: Duration = Duration::from_secs(5);
/// Interval at which the line is sent, if it has changed.
const SEND_INTERVAL: Duration = Duration::from_secs(5);

/// The content of `status.json`.
#[derive(serde::Serialize)]
pub(super) struct LastStatus {
    #[serde(flatten)]
    pub(super) status: StatusReport,
    /// When a daemon has to run for a background job.
    pub(super) next_due: NextDue,
    /// The archives in the import folder for which no daemon has to run, by their fingerprints.
    pub(super) held_archives: Vec<String>,
    /// The users that this daemon has seen, unless there are too many.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) users: Option<SeenUsers>,
}

/// Keeps the line in `systemctl status` current.
pub(super) async fn keep_current(app: Arc<App>) {
    let mut sent = String::new();
    loop {
        let line = line(&app).await;
        if line != sent {
            sent.clone_from(&line);
            // The notification may block. It fails only when the runtime ends.
            let _ = tokio::task::spawn_blocking(move || service::status(&line)).await;
        }
        tokio::time::sleep(SEND_INTERVAL).await;
    }
}

/// Returns the line: content, free space and activity, or else the impairment.
pub(super) async fn line(app: &Arc<App>) -> String {
    if let Some(warning) = app.store.disk_delay().warning() {
        return warning;
    }
    let Some((store, uploads)) = live(app).await else { return "the disk does not answer".into() };
    if let Some(reason) = store.read_only {
        return reason;
    }
    format!(
        "serving {} in {}: {}, {} free; {}, {}",
        count(store.counts.tags, "tag"),
        count(store.counts.repositories, "repository"),
        size(store.counts.bytes),
        size(store.free_bytes),
        count(app.server.activity().requests, "request"),
        count(uploads, "upload")
    )
}

/// Returns the status of the store and the number of uploads; `None` if the disk does not answer.
async fn live(app: &App) -> Option<(store::Status, usize)> {
    tokio::time::timeout(STATUS_TIMEOUT, app.store.live_status()).await.ok()?.ok()
}

/// Returns the status of the daemon. If the disk does not answer, the content is that of the last measurement; `None` before
/// the first one.
pub(super) async fn status(app: &App) -> Option<StatusReport> {
    let (store, uploads) = match live(app).await {
        Some(live) => live,
        None => app.store.last_status()?,
    };
    let activity = app.server.activity();
    Some(StatusReport {
        state: app.server.services().registry.impairment(true).unwrap_or("serving").into(),
        owner: OwnerKind::Daemon,
        version: env!("CARGO_PKG_VERSION").into(),
        data: canonical(&app.config.load().storage.path),
        seconds: app.began.elapsed().as_secs(),
        connections: activity.connections,
        requests: activity.requests,
        uploads,
        disk: app.store.disk_delay().warning(),
        may_lack_names: app.store.may_lack_names(),
        collection_rules: Some(collection_rules(&app.config.load())),
        identity: Identity::default(),
        store,
    })
}
