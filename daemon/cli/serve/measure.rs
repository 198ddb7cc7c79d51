//! The state in memory that health checks and metrics are answered from, and the file of metrics.

use std::sync::Arc;
use std::time::Duration;

use super::House;
use crate::cli::metrics::write_file;
use crate::metrics::Format;

/// How often the store is measured.
const MEASURE: Duration = Duration::from_secs(5);
/// After how many measurements a few bytes are read from the medium: what is cached says nothing about the disk.
const PROBE: u32 = 6;
/// How often the file of metrics is written.
const WRITE: Duration = Duration::from_mins(1);
/// How long the last writing may take: a disk that hangs must not keep the daemon from ending.
const PATIENCE: Duration = Duration::from_secs(2);

/// Measures the store now and then.
pub(super) async fn keep_measuring(house: Arc<House>) {
    for round in 1_u32.. {
        tokio::time::sleep(MEASURE).await;
        // That the disk fails or hangs is known by its other operations, too.
        let _ = house.store.measure().await;
        if round % PROBE == 0 {
            let _ = house.store.probe().await;
        }
    }
}

/// Writes the file of metrics each minute, if there is one.
pub(super) async fn keep_writing(house: Arc<House>) {
    let mut said = String::new();
    loop {
        let failed = write(&house).await.unwrap_or_default();
        if failed != said && !failed.is_empty() {
            log::warn!("{failed}");
        }
        said = failed;
        tokio::select! {
            () = tokio::time::sleep(WRITE) => {}
            () = house.reloaded.notified() => {}
        }
    }
}

/// Writes the file a last time.
pub(super) async fn write_at_end(house: &House) {
    // The numbers of the last seconds belong to it; the last measurement will do where the disk does not answer.
    let written = async {
        let _ = house.store.measure().await;
        write(house).await
    };
    if let Ok(Some(failed)) = tokio::time::timeout(PATIENCE, written).await {
        log::warn!("{failed}");
    }
}

/// Writes the file of metrics, if there is one; gives what went wrong, if something did.
async fn write(house: &House) -> Option<String> {
    let path = house.config.load().metrics.file.clone()?;
    let text = house.server.metrics_text(Format::Prometheus);
    let written = tokio::task::spawn_blocking(move || {
        write_file(&path, &text)
            .map_err(|error| format!("cannot write metrics.file, {}: {error}", path.display()))
    });
    match written.await {
        Ok(written) => written.err(),
        Err(error) => Some(error.to_string()),
    }
}
