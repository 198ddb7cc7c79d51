//! Status of a data directory, read beside a running daemon or without one.

use std::path::Path;

use super::capacity::Space;
use super::disk::Disk;
use super::error::StoreError;
use super::index::{Counts, Index};
use super::work::Kind;
use super::{Settings, Store, recover};

/// The status of a data directory for `holdfast status`.
#[derive(Clone, Debug, serde::Serialize, serde::Deserialize)]
pub struct Status {
    /// True while a daemon serves the directory.
    pub daemon_runs: bool,
    /// The reason why the daemon is read-only, if it is.
    pub read_only: Option<String>,
    /// The amounts of content.
    #[serde(flatten)]
    pub counts: Counts,
    /// The free bytes of the file system.
    pub free_bytes: u64,
}

impl Store {
    /// Returns the status of the open store of a daemon; blocking.
    fn status(&self) -> Result<Status, StoreError> {
        let disk = &self.0.disk;
        let (counts, free_bytes) = (self.0.index.counts()?, Space::of(&disk.path(""))?.free);
        Ok(Status { daemon_runs: true, read_only: disk.read_only_reason(), counts, free_bytes })
    }

    /// Returns the status and the number of unfinished uploads, read in the pool for pulls.
    ///
    /// # Errors
    /// [`StoreError::Index`] or [`StoreError::Io`].
    pub async fn live_status(&self) -> Result<(Status, usize), StoreError> {
        let store = self.clone();
        let read = move || {
            let _counted = store.0.disk.begin_read();
            Ok((store.status()?, store.unfinished_uploads()?))
        };
        self.0.work.run(Kind::Read, read).await
    }

    /// Returns the number of unfinished uploads; blocking.
    ///
    /// # Errors
    /// [`StoreError::Io`].
    pub fn unfinished_uploads(&self) -> Result<usize, StoreError> {
        Ok(self.0.disk.uploads()?.len())
    }
}

/// Returns true while a daemon serves a data directory.
pub fn daemon_runs(path: &Path) -> bool {
    Disk::daemon_runs(path)
}

/// Returns the status of a data directory without changing it, beside a running daemon or without one; blocking.
///
/// # Errors
/// [`StoreError::NeedsRecovery`] or [`StoreError::Index`] when its index cannot be read.
pub fn status(settings: &Settings) -> Result<Status, StoreError> {
    let daemon_runs = Disk::daemon_runs(&settings.path);
    let disk = Disk::at(&settings.path, |_| {});
    let read_only = if daemon_runs { disk.read_only_reason_of_daemon() } else { None };
    let _shared = disk.share_index_file_read_only()?;
    recover::require_healthy(&disk, settings)?;
    // Twice: opening reads the memory map already, and the address of the map is known only afterwards.
    super::faults::watch(&disk);
    let index = Index::open_read_only(&disk, settings.index_map_size)?;
    super::faults::watch(&disk);
    let free_bytes = Space::of(&settings.path)?.free;
    Ok(Status { daemon_runs, read_only, counts: index.counts()?, free_bytes })
}
