//! What a data directory looks like from outside, beside a daemon or without one.

use std::path::Path;

use super::capacity::Space;
use super::disk::Disk;
use super::error::StoreError;
use super::index::{Counts, Index};
use super::work::Kind;
use super::{Settings, Store, recover};

/// What `holdfast status` shows of a data directory.
#[derive(Clone, Debug, serde::Serialize, serde::Deserialize)]
pub struct Status {
    /// Whether a daemon serves it now.
    pub daemon_runs: bool,
    /// Why that daemon takes no more writes, if it does not.
    pub read_only: Option<String>,
    /// How much there is in it.
    #[serde(flatten)]
    pub counts: Counts,
    /// How many bytes are free on its file system.
    pub free_bytes: u64,
}

impl Store {
    /// What the daemon that has this store open says of it; blocking.
    fn status(&self) -> Result<Status, StoreError> {
        let disk = &self.0.disk;
        let (counts, free_bytes) = (self.0.index.counts()?, Space::of(&disk.top(""))?.free);
        Ok(Status { daemon_runs: true, read_only: disk.failure(), counts, free_bytes })
    }

    /// Returns the status and the number of unfinished uploads, read in the pool of pulls.
    ///
    /// # Errors
    /// [`StoreError::Index`] or [`StoreError::Io`].
    pub async fn live_status(&self) -> Result<(Status, usize), StoreError> {
        let store = self.clone();
        let look = move || {
            let _read = store.0.disk.reads();
            Ok((store.status()?, store.unfinished_uploads()?))
        };
        self.0.work.run(Kind::Read, look).await
    }

    /// How many uploads are not finished; blocking.
    ///
    /// # Errors
    /// [`StoreError::Io`].
    pub fn unfinished_uploads(&self) -> Result<usize, StoreError> {
        Ok(self.0.disk.uploads()?.len())
    }
}

/// Whether a daemon serves a data directory now.
pub fn daemon_runs(path: &Path) -> bool {
    Disk::daemon_runs(path)
}

/// Looks at a data directory beside the daemon, or without one; blocking.
///
/// # Errors
/// [`StoreError::Unready`] or [`StoreError::Index`] when its index cannot be read.
pub fn status(settings: &Settings) -> Result<Status, StoreError> {
    let daemon_runs = Disk::daemon_runs(&settings.path);
    let disk = Disk::at(&settings.path, |_| {});
    let read_only = if daemon_runs { disk.failure_of_daemon() } else { None };
    let _shared = disk.share_index_file_to_look()?;
    recover::refuse_broken(&disk, settings)?;
    super::faults::watch(&disk);
    let index = Index::open_to_look(&disk, settings.index_map_size)?;
    super::faults::watch(&disk);
    let free_bytes = Space::of(&settings.path)?.free;
    Ok(Status { daemon_runs, read_only, counts: index.counts()?, free_bytes })
}
