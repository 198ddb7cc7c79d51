//! Opening and closing the store.
//!
//! The daemon locks the data directory, recovers the index by the ladder of `recover.rs`, starts the index writer,
//! rebuilds the index if the ladder ended there, starts the writer of `index.json`, and recovers the trash of an
//! interrupted collection. A command beside the daemon takes the index as it is. Closing commits all accepted changes,
//! writes `index.json`, and notes that the index was closed in good order, unless the index failed.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::mpsc::Receiver;
use std::thread::JoinHandle;

use arc_swap::ArcSwap;

use super::buffers::Buffers;
use super::capacity::Capacity;
use super::disk::Disk;
use super::error::StoreError;
use super::index::Index;
use super::index::writer::Writer;
use super::inner::{Inner, Store, Threads};
use super::locks;
use super::measure::Measurements;
use super::settings::{Role, Settings};
use super::spool::Spools;
use super::summaries::Summaries;
use super::uploads::Uploads;
use super::work::{Work, blocking};
use super::{faults, layout, rebuild, recover};
use crate::base::Lock;

impl Store {
    /// Opens the data directory.
    ///
    /// # Errors
    /// [`StoreError::InUse`] if another daemon serves it, [`StoreError::NeedsRecovery`] if only a daemon can recover
    /// its index, [`StoreError::Io`] and [`StoreError::Index`] if it cannot be opened.
    pub async fn open(settings: Settings, role: Role) -> Result<Self, StoreError> {
        let buffers = Arc::new(Buffers::default());
        let (grace_periods, limits, kept_uploads) =
            (settings.grace_periods.clone(), settings.capacity, settings.idle_uploads);
        let (opening, inspect) = (settings.on_opening, settings.inspect);
        let immutable = ArcSwap::from_pointee(settings.immutable.clone());
        let (disk, lock, opened) = blocking(move || open_directory(&settings, role)).await?;
        faults::watch(&disk);
        let stale_layout = opened.stale_layout || !disk.has_file("index.json");
        let index = Arc::new(opened.index);
        let capacity = Arc::new(Capacity::new(disk.path(""), limits, Arc::clone(&index)));
        let work = Arc::new(Work::default());
        let uploads = Uploads::new(
            kept_uploads,
            Arc::clone(&disk),
            Arc::clone(&buffers),
            Arc::clone(&capacity),
            Arc::clone(&work),
        );
        let (writer, threads, may_lack_names) =
            start_threads(&disk, &index, opened.rebuild, opening, role != Role::Command && stale_layout)
                .await?;
        let store = Store(Arc::new(Inner {
            disk,
            index,
            uploads: Arc::new(uploads),
            buffers,
            work,
            spools: Spools::default(),
            role,
            grace_periods: Lock::new(grace_periods),
            immutable,
            capacity,
            summaries: Summaries::default(),
            last_collection: Lock::default(),
            measurements: Measurements::default(),
            layout_checked: Lock::default(),
            inspect,
            may_lack_names,
            index_verified: AtomicBool::new(false),
            writer: Lock::new(Some(writer)),
            threads: Lock::new(Some(threads)),
            _lock: lock,
        }));
        store.recover_files().await?;
        Ok(store)
    }

    /// Recovers the trash of an interrupted collection, and counts the unfinished uploads.
    async fn recover_files(&self) -> Result<(), StoreError> {
        if self.0.role != Role::Command {
            match self.recover_trash().await {
                // The next collection recovers it, when there is space.
                Err(error) if error.is_lack_of_space() => {
                    log::warn!("cannot empty the trash: {error}");
                }
                recovered => recovered?,
            }
        }
        self.count_uploads().await
    }

    /// Closes the store: refuses further changes, commits the accepted ones, and writes `index.json`.
    ///
    /// # Errors
    /// [`StoreError::Closing`] if a thread of the store has panicked.
    pub async fn close(&self) -> Result<(), StoreError> {
        let writer = self.0.writer.lock().take();
        if let Some(writer) = writer.filter(|_| self.0.role != Role::Command) {
            // Best effort: a read-only store keeps the row of the last commit.
            let _ = writer.save_clock().await;
        }
        let Some(threads) = self.0.threads.lock().take() else { return Ok(()) };
        let inner = Arc::clone(&self.0);
        blocking(move || {
            // The writer's end closes the channel on which the layout thread waits for changes.
            threads.writer.join().map_err(|_| StoreError::Closing)?;
            let layout_is_current = threads.layout.join().map_err(|_| StoreError::Closing)?;
            let index_failed = inner.index.has_failed() || inner.disk.index_failed();
            match (inner.role, index_failed) {
                (Role::Command, true) => inner.disk.mark_suspect(),
                (Role::Daemon | Role::Rebuild, true) => {}
                (Role::Command | Role::Daemon | Role::Rebuild, false) if !layout_is_current => {}
                (Role::Command, false) => inner.disk.mark_change_ended(),
                (Role::Daemon | Role::Rebuild, false) => inner.disk.mark_clean(),
            }
            Ok(())
        })
        .await
    }

    async fn count_uploads(&self) -> Result<(), StoreError> {
        let inner = Arc::clone(&self.0);
        blocking(move || {
            if inner.role != Role::Command {
                inner.disk.set_obstacles_in_uploads_aside()?;
            }
            inner.uploads.recount(&inner.disk.uploads()?);
            Ok(())
        })
        .await
    }
}

/// Starts the index writer, rebuilds the index if it is new, and starts the writer of `index.json`. Returns true last
/// if names may be lost.
async fn start_threads(
    disk: &Arc<Disk>,
    index: &Arc<Index>,
    source: Option<recover::RebuildSource>,
    opening: fn(&str),
    layout_is_due: bool,
) -> Result<(Writer, Threads, bool), StoreError> {
    // A channel of one: a full channel means that a rewrite of index.json is due already.
    let (wake, changes) = std::sync::mpsc::sync_channel(1);
    if layout_is_due {
        // A power cut may have come before index.json had the last changes. The channel is empty here.
        let _ = wake.try_send(());
    }
    let (writer, writer_thread) = Writer::start(Arc::clone(index), Arc::clone(disk), move || {
        let _ = wake.try_send(());
    })?;
    let mut may_lack_names = false;
    if let Some(source) = source {
        may_lack_names = rebuild::rebuild(disk, index, &writer, (source, opening)).await?;
    } else if !index.is_complete()? {
        writer.mark_complete().await?;
    }
    // Only now: an index that is half rebuilt must never overwrite the index.json that it is rebuilt from.
    let layout = start_layout(disk, index, changes)?;
    Ok((writer, Threads { writer: writer_thread, layout }, may_lack_names))
}

fn start_layout(
    disk: &Arc<Disk>,
    index: &Arc<Index>,
    changes: Receiver<()>,
) -> Result<JoinHandle<bool>, StoreError> {
    let (disk, index) = (Arc::clone(disk), Arc::clone(index));
    let thread = std::thread::Builder::new().name("layout".into());
    thread
        .spawn(move || layout::keep_current(&disk, &index, &changes))
        .map_err(|error| StoreError::io("start the layout writer", error))
}

/// Opens the files of the data directory in the order of their locks: the daemon's, then that of the index file.
fn open_directory(
    settings: &Settings,
    role: Role,
) -> Result<(Arc<Disk>, Option<locks::FileLock>, recover::Opened), StoreError> {
    let disk = Disk::open(&settings.path, settings.on_read_only)?;
    // Opening the index reads its mapping; a second call, when it is open, tells the handler the addresses.
    faults::watch(&disk);
    if role == Role::Command {
        // Held from the inspection until the index is open, so that no daemon replaces the file in between.
        let _shared = disk.share_index_file()?;
        recover::require_healthy(&disk, settings)?;
        // Before the index is opened: opening stores the clock, which changes the file that the shutdown marker vouches
        // for.
        disk.mark_changing()?;
        let index = Index::open(&disk, settings.index_map_size)?;
        disk.remember_index_files()?;
        if !index.is_complete()? {
            return Err(StoreError::NeedsRecovery);
        }
        return Ok((Arc::new(disk), None, recover::Opened { index, rebuild: None, stale_layout: false }));
    }
    let lock = disk.lock_for_daemon()?;
    // Held from the inspection until the index is open: a commit of a command in between would be lost with the old
    // file.
    let _exclusive = disk.lock_index_file()?;
    disk.mark_as_daemon();
    disk.set_obstacles_in_index_aside()?;
    layout::write_marker(&disk)?;
    let opened = match role {
        Role::Rebuild => recover::open_for_rebuild(&disk, settings)?,
        Role::Daemon | Role::Command => recover::open(&disk, settings)?,
    };
    Ok((Arc::new(disk), Some(lock), opened))
}

#[cfg(test)]
mod tests;
