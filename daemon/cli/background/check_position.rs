//! The place at which a scheduled check was interrupted: the next one continues there, in this daemon or a later one.

use std::convert::Infallible;
use std::time::Duration;

use crate::base::Lock;
use crate::store::{CheckPosition, JobRow, Store};

/// The name of its record among those of the jobs. No job has a slash in its name.
const RECORD: &str = "check/position";

/// The time after which a running check first saves its place, for the case of a power cut. Short checks write nothing.
const FIRST_SAVE: Duration = Duration::from_secs(5);
/// The longest time between two saves.
const LONGEST_PAUSE: Duration = Duration::from_mins(5);

/// Returns the saved place, if a check was interrupted.
pub(super) async fn load(store: &Store) -> Option<CheckPosition> {
    let records = store.job_records().await.ok()?;
    let (_, record) = records.into_iter().find(|(name, _)| name == RECORD)?;
    serde_json::from_str(&record.text).ok()
}

/// Saves the place; `None` after a check that came to its end. Without it the next check begins anew.
pub(super) async fn save(store: &Store, position: Option<&CheckPosition>) {
    let text = position.and_then(|position| serde_json::to_string(position).ok()).unwrap_or_default();
    if let Err(error) = store.note_job(RECORD, JobRow { text, ..JobRow::default() }).await {
        log::debug!("cannot save the place of the check: {error}");
    }
}

/// Saves the place of a check that runs, at intervals that grow with its duration.
pub(super) async fn save_regularly(store: &Store, position: &Lock<Option<CheckPosition>>) -> Infallible {
    let mut pause = FIRST_SAVE;
    loop {
        tokio::time::sleep(pause).await;
        let reached = position.lock().clone();
        if reached.is_some() {
            save(store, reached.as_ref()).await;
        }
        pause = (pause * 2).min(LONGEST_PAUSE);
    }
}
