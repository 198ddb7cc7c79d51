//! What the daemon does by itself: certificates that are renewed, and collections.

use std::sync::Arc;
use std::time::Duration;

use super::House;
use crate::store::{Report, StoreError};

/// How often certificates are looked at.
const REFRESH: Duration = Duration::from_secs(30);
/// When the first collection begins at the latest: a daemon that is only there while somebody calls collects, too.
const FIRST_COLLECTION: Duration = Duration::from_mins(1);

/// Looks at the certificates now and then.
pub(super) async fn keep_fresh(house: Arc<House>) {
    loop {
        tokio::time::sleep(REFRESH).await;
        refresh(&house).await;
    }
}

/// Looks at the certificates now.
pub(super) async fn refresh(house: &House) {
    let Some(certificates) = house.server.site().certificates.clone() else { return };
    match tokio::task::spawn_blocking(move || certificates.refresh()).await {
        Ok(Ok(true)) => log::info!("the certificate is replaced"),
        Ok(Ok(false)) => {}
        Ok(Err(error)) => log::error!("the certificate stays as it is: {error}"),
        Err(error) => log::error!("the certificate could not be looked at: {error}"),
    }
}

/// Collects now and then, for as long as the store takes changes.
pub(super) async fn keep_collecting(house: Arc<House>) {
    let mut first = true;
    loop {
        let interval = house.config.load().gc.interval;
        let wait = async {
            match interval {
                Some(interval) if first => tokio::time::sleep(interval.min(FIRST_COLLECTION)).await,
                Some(interval) => tokio::time::sleep(interval).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            () = wait => {}
            () = house.reloaded.notified() => continue,
        }
        first = false;
        let policy = house.config.load().gc.policy.clone();
        let mut observe = |taken| log::debug!("collected {taken:?}");
        match house.store.collect(&policy, false, &mut observe).await {
            Ok(report) if report.did_something() => tell(&report),
            Ok(_) => {}
            Err(StoreError::Closing | StoreError::ReadOnly) => return,
            Err(error) => log::error!("the collection stopped: {error}; it is tried again"),
        }
    }
}

fn tell(report: &Report) {
    log::info!(
        "collected {} tags, {} manifests, {} blobs and {} uploads: {} bytes are free again",
        report.freed_tags,
        report.freed_manifests,
        report.freed_blobs.count,
        report.freed_uploads.count,
        report.freed_blobs.bytes + report.freed_uploads.bytes
    );
}
