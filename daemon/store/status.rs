//! Status of a data directory: of the open store, and what the last process has left.

use std::io::{Read, Write};
use std::path::Path;
use std::sync::Arc;

use super::Store;
use super::capacity::Space;
use super::disk::Disk;
use super::error::StoreError;
use super::index::Counts;
use super::regular_file::open_regular;
use super::shutdown_marker::CLEAN;
use super::work::{Kind, blocking};
use crate::base::clock::unix_seconds;
use crate::base::{Durability, replace_file};

/// The file with the status of the last owner, at the top of the data directory.
const SAVED: &str = "status.json";
/// The maximum length of that file that is read, in bytes.
const MAX_SAVED: u64 = 1 << 20;

/// The status of a data directory for `holdfast status`.
#[derive(Clone, Debug, serde::Serialize, serde::Deserialize)]
pub struct Status {
    /// True while a process has opened the store.
    pub daemon_runs: bool,
    /// The reason why the store is read-only, if it is.
    pub read_only: Option<String>,
    /// The amounts of content.
    #[serde(flatten)]
    pub counts: Counts,
    /// The free bytes of the file system.
    pub free_bytes: u64,
}

/// The content of `status.json`: the last status of a process that had opened the store.
#[derive(Clone, Debug, serde::Serialize, serde::Deserialize)]
pub struct SavedStatus<T> {
    /// The time at which it was written, in seconds since 1970.
    pub saved: u64,
    /// The status.
    #[serde(flatten)]
    pub status: T,
}

/// Reads `status.json` of a data directory without opening its store; `None` if there is no readable one. Blocking.
pub fn saved_status<T: serde::de::DeserializeOwned>(root: &Path) -> Option<SavedStatus<T>> {
    let mut text = String::new();
    open_regular(&root.join(SAVED)).ok()?.take(MAX_SAVED).read_to_string(&mut text).ok()?;
    serde_json::from_str(&text).ok()
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

    /// Returns the status and the number of unfinished uploads as of the last measurement, from memory; `None` before the
    /// first one.
    pub fn last_status(&self) -> Option<(Status, usize)> {
        let measured = self.measured()?;
        let read_only = self.0.disk.read_only_reason();
        let (counts, free_bytes) = (measured.counts, measured.free_bytes);
        let uploads = usize::try_from(measured.uploads).unwrap_or(usize::MAX);
        Some((Status { daemon_runs: true, read_only, counts, free_bytes }, uploads))
    }

    /// Writes the status of the process that ends to `status.json`, where `holdfast status` finds it while no daemon runs.
    /// Best effort, and without a sync: it is only shown.
    pub async fn save_status(&self, status: &impl serde::Serialize) {
        let (disk, saved) = (Arc::clone(&self.0.disk), SavedStatus { saved: unix_seconds(), status });
        let Ok(text) = serde_json::to_vec_pretty(&saved) else { return };
        let written = blocking(move || {
            disk.check_writable()?;
            replace_file(&disk.path(SAVED), 0o640, Durability::Cached, |file| file.write_all(&text))
                .map_err(|error| StoreError::io("write status.json", error))
        });
        if let Err(error) = written.await {
            log::debug!("status.json was not written: {error}");
        }
    }

    /// Returns the number of unfinished uploads; blocking.
    ///
    /// # Errors
    /// [`StoreError::Io`].
    pub fn unfinished_uploads(&self) -> Result<usize, StoreError> {
        Ok(self.0.disk.uploads()?.len())
    }
}

/// Returns true if the last process that had opened the store of a data directory has closed it in good order. Blocking.
pub fn was_closed(path: &Path) -> bool {
    path.join(CLEAN).exists()
}

/// Returns true while a process, a daemon or a command, has opened the store of a data directory.
pub fn daemon_runs(path: &Path) -> bool {
    Disk::daemon_runs(path)
}

/// Returns the reason why the daemon that serves a data directory is read-only, if it has left one. Blocking.
pub fn read_only_reason(path: &Path) -> Option<String> {
    Disk::at(path, |_| {}).read_only_reason_of_daemon()
}
