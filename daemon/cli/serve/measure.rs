//! Periodic measurement of the store, from which health checks and metrics are answered, and the metrics file.

use std::sync::Arc;
use std::time::Duration;

use super::super::metrics::write_file;
use super::app::App;
use crate::metrics::Format;

/// Interval of measurements of the store.
const MEASURE_INTERVAL: Duration = Duration::from_secs(5);
/// Number of measurements per read from the medium: cached content says nothing about the disk.
const PROBE_EVERY: u32 = 6;
/// Interval at which the metrics file is written.
const WRITE_INTERVAL: Duration = Duration::from_mins(1);
/// Timeout of the last write: a hanging disk must not keep the daemon from ending.
const LAST_WRITE: Duration = Duration::from_secs(2);

/// Measures the store periodically.
pub(super) async fn measure_periodically(app: Arc<App>) {
    for round in 1_u32.. {
        tokio::time::sleep(MEASURE_INTERVAL).await;
        // The store itself records failures and delays of the disk.
        let _ = app.store.measure().await;
        count_served(&app);
        app.store.write_overdue_days().await;
        if round % PROBE_EVERY == 0 {
            let _ = app.store.probe().await;
        }
    }
}

/// Adds the bytes that were served to the totals of the day.
pub(super) fn count_served(app: &App) {
    app.store.count_served(app.server.services().http.take_content_sent());
}

/// Writes `metrics.file` every minute, if it is set.
pub(super) async fn write_periodically(app: Arc<App>) {
    let mut reported = String::new();
    loop {
        let failure = write(&app).await.unwrap_or_default();
        if failure != reported && !failure.is_empty() {
            log::warn!("{failure}");
        }
        reported = failure;
        tokio::select! {
            () = tokio::time::sleep(WRITE_INTERVAL) => {}
            () = app.reloaded.notified() => {}
        }
    }
}

/// Writes `metrics.file` a last time.
pub(super) async fn write_at_end(app: &App) {
    // A fresh measurement, for the last seconds; if the disk does not answer, the previous one has to do.
    let written = async {
        let _ = app.store.measure().await;
        write(app).await
    };
    if let Ok(Some(failure)) = tokio::time::timeout(LAST_WRITE, written).await {
        log::warn!("{failure}");
    }
}

/// Writes `metrics.file`, if it is set; returns the message of a failure.
async fn write(app: &App) -> Option<String> {
    let path = app.config.load().metrics.file.clone()?;
    let text = app.server.metrics_text(Format::Prometheus);
    let written = tokio::task::spawn_blocking(move || {
        write_file(&path, &text)
            .map_err(|error| format!("cannot write metrics.file {}: {error}", path.display()))
    });
    match written.await {
        Ok(written) => written.err(),
        Err(error) => Some(error.to_string()),
    }
}
