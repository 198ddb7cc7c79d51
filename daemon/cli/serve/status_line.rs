//! The status of the daemon: one line for `systemctl status`, and the whole for `holdfast status`.

use std::sync::Arc;
use std::time::Duration;

use super::super::daemon_status::DaemonStatus;
use super::super::format::{count, size};
use super::super::offline::absolute;
use super::app::App;
use crate::service;

/// Timeout of the store's status.
const STATUS_TIMEOUT: Duration = Duration::from_secs(5);
/// Interval at which the line is sent, if it has changed.
const SEND_INTERVAL: Duration = Duration::from_secs(5);

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
    let Some(status) = status(app).await else { return "the disk does not answer".into() };
    let store = status.store;
    if let Some(reason) = store.read_only {
        return reason;
    }
    format!(
        "serving {} in {}: {}, {} free; {}, {}",
        count(store.counts.tags, "tag"),
        count(store.counts.repositories, "repository"),
        size(store.counts.bytes),
        size(store.free_bytes),
        count(status.requests, "request"),
        count(status.uploads, "upload")
    )
}

/// Returns the status of the daemon; `None` if the disk does not answer.
pub(super) async fn status(app: &Arc<App>) -> Option<DaemonStatus> {
    let (store, uploads) = tokio::time::timeout(STATUS_TIMEOUT, app.store.live_status()).await.ok()?.ok()?;
    let activity = app.server.activity();
    Some(DaemonStatus {
        version: env!("CARGO_PKG_VERSION").into(),
        data: absolute(&app.config.load().storage.path),
        seconds: app.began.elapsed().as_secs(),
        connections: activity.connections,
        requests: activity.requests,
        uploads,
        disk: app.store.disk_delay().warning(),
        store,
    })
}
