//! How the daemon is: a line for `systemctl status`, and all of it for `holdfast status`.

use std::sync::Arc;
use std::time::Duration;

use super::House;
use crate::cli::live::Live;
use crate::cli::words::{count, size};
use crate::service;

/// How long the disk may take to say how it is.
const PATIENCE: Duration = Duration::from_secs(5);
/// How often the line is written, if it has changed.
const TELL: Duration = Duration::from_secs(5);

/// Keeps the line in `systemctl status` current.
pub(super) async fn keep_telling(house: Arc<House>) {
    let mut told = String::new();
    loop {
        let line = line(&house).await;
        if line != told {
            told.clone_from(&line);
            // Telling may block. A runtime that is ending does not tell any more.
            let _ = tokio::task::spawn_blocking(move || service::status(&line)).await;
        }
        tokio::time::sleep(TELL).await;
    }
}

/// Images, disk, what goes on, and whether something is wrong.
pub(super) async fn line(house: &Arc<House>) -> String {
    if let Some(warning) = house.store.disk_delay().warning() {
        return warning;
    }
    let Some(live) = live(house).await else { return "the disk does not answer".into() };
    let store = live.store;
    if let Some(why) = store.read_only {
        return why;
    }
    format!(
        "serving {} in {}: {}, {} free; {}, {}",
        count(store.counts.tags, "tag"),
        count(store.counts.repositories, "repository"),
        size(store.counts.bytes),
        size(store.free_bytes),
        count(live.requests as u64, "request"),
        count(live.uploads as u64, "upload")
    )
}

/// How the daemon is; nothing if the disk does not say.
pub(super) async fn live(house: &Arc<House>) -> Option<Live> {
    let (store, uploads) = tokio::time::timeout(PATIENCE, house.store.live_status()).await.ok()?.ok()?;
    let activity = house.server.activity();
    Some(Live {
        version: env!("CARGO_PKG_VERSION").into(),
        data: crate::cli::absolute(&house.config.load().storage.path),
        seconds: house.began.elapsed().as_secs(),
        connections: activity.connections,
        requests: activity.requests,
        uploads,
        disk: house.store.disk_delay().warning(),
        store,
    })
}
