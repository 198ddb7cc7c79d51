//! Background maintenance: certificate renewal and periodic collections.

use std::sync::Arc;
use std::time::Duration;

use super::app::App;
use crate::base::human::{count, size};
use crate::store::{CollectionReport, StoreError};

/// Interval at which certificates are checked.
const RENEWAL_INTERVAL: Duration = Duration::from_secs(30);
/// Maximum delay of the first collection: a daemon that idle exits keep short-lived has to collect as well.
const FIRST_COLLECTION: Duration = Duration::from_mins(1);

/// Renews or reloads certificates when they are due.
pub(super) async fn renew_certificates(app: Arc<App>) {
    loop {
        tokio::time::sleep(RENEWAL_INTERVAL).await;
        renew_certificate(&app).await;
    }
}

/// Renews or reloads the certificate if that is due.
pub(super) async fn renew_certificate(app: &App) {
    let Some(certificates) = app.server.services().certificates.clone() else { return };
    match tokio::task::spawn_blocking(move || certificates.refresh()).await {
        Ok(Ok(true)) => log::info!("certificate replaced"),
        Ok(Ok(false)) => {}
        Ok(Err(error)) => log::error!("keeping the old certificate: {error}"),
        Err(error) => log::error!("cannot check the certificate: {error}"),
    }
}

/// Collects every `gc.interval`, for as long as the store accepts changes.
pub(super) async fn collect_periodically(app: Arc<App>) {
    let mut is_first = true;
    loop {
        let interval = app.config.load().gc.interval;
        let wait = async {
            match interval {
                Some(interval) if is_first => tokio::time::sleep(interval.min(FIRST_COLLECTION)).await,
                Some(interval) => tokio::time::sleep(interval).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            () = wait => {}
            () = app.reloaded.notified() => continue,
        }
        is_first = false;
        let policy = app.config.load().gc.policy.clone();
        let mut observe = |item| log::debug!("collected {item:?}");
        match app.store.collect(&policy, false, &mut observe).await {
            Ok(report) if report.did_work() => log_report(&report),
            Ok(_) => {}
            Err(StoreError::Closing | StoreError::ReadOnly) => return,
            Err(error) => log::error!("collection failed: {error}; it will be retried"),
        }
    }
}

fn log_report(report: &CollectionReport) {
    log::info!(
        "collected {}, {}, {} and {}: {} freed",
        count(report.freed_tags, "tag"),
        count(report.freed_manifests, "manifest"),
        count(report.freed_blobs.count, "blob"),
        count(report.freed_uploads.count, "upload"),
        size(report.freed_blobs.bytes + report.freed_uploads.bytes)
    );
}
