//! The archives of the import folder that are not imported again until they change, or until there is more space for them: a
//! later daemon knows them, too.

use crate::intake::Watch;
use crate::store::{JobRow, Overview, Store};

/// The name of their record among those of the jobs. No job has a slash in its name.
const RECORD: &str = "import/held";

/// The space of the registry, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Space {
    /// The bytes that can be stored now.
    pub(super) free: u64,
    /// The bytes that an empty registry could store.
    pub(super) most: u64,
}

/// Restores the archives that an earlier process has saved.
pub(super) async fn load(store: &Store, watch: &Watch) {
    let Ok(records) = store.job_records().await else { return };
    if let Some((_, record)) = records.into_iter().find(|(name, _)| name == RECORD) {
        watch.restore(&record.text);
    }
}

/// Saves the archives if they have changed.
pub(super) async fn save(store: &Store, watch: &Watch) {
    let Some(text) = watch.take_changed() else { return };
    if let Err(error) = store.note_job(RECORD, JobRow { text, ..JobRow::default() }).await {
        log::debug!("cannot save the archives that are held back: {error}");
    }
}

/// Returns the space of a registry.
pub(super) async fn space(store: &Store) -> Space {
    // A store that does not answer refuses the import itself.
    store.overview().await.map_or(Space { free: 0, most: u64::MAX }, |overview| space_of(&overview))
}

fn space_of(overview: &Overview) -> Space {
    let above_reserve = |bytes: u64| bytes.saturating_sub(overview.reserve_bytes);
    let quota = overview.quota_bytes.unwrap_or(u64::MAX);
    let used = overview.counts.bytes.saturating_add(overview.uploading);
    Space {
        free: above_reserve(overview.free_bytes).min(quota.saturating_sub(used)),
        most: above_reserve(overview.total_bytes).min(quota),
    }
}
