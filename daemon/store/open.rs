//! Opening and closing the store.
//!
//! The owner of the data directory, a daemon or a command without one, recovers the index by the ladder of `recover.rs`,
//! starts the index writer, rebuilds the index if the ladder ended there, starts the writer of `index.json`, and recovers
//! the trash of an earlier release. Closing commits all accepted changes, writes `index.json`, notes that the index
//! was closed in good order, unless the index failed, and gives the directory up.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::Receiver;
use std::thread::JoinHandle;

use arc_swap::ArcSwap;

use super::buffers::Buffers;
use super::capacity::Capacity;
use super::disk::Disk;
use super::error::StoreError;
use super::index::Index;
use super::index::feed::Feed;
use super::index::writer::Writer;
use super::inner::{Inner, Store, Threads};
use super::layout_writer::{self, LayoutWriter};
use super::locks;
use super::locks::Ownership;
use super::measure::Measurements;
use super::repository_pages::KeptLists;
use super::settings::{Role, Settings};
use super::spool::Spools;
use super::summaries::Summaries;
use super::upload_id::UploadId;
use super::uploads::Uploads;
use super::work::{Work, blocking};
use super::{faults, identity, layout, rebuild, recover};
use crate::base::Lock;

impl Store {
    /// Takes and opens the data directory.
    ///
    /// # Errors
    /// [`StoreError::InUse`] if another process has it, [`StoreError::Io`] and [`StoreError::Index`] if it cannot be
    /// opened.
    pub async fn open(settings: Settings, role: Role) -> Result<Self, StoreError> {
        let taken = settings.clone();
        let ownership = blocking(move || Ownership::take(&taken, role.kind())).await?;
        Self::open_owned(settings, role, ownership).await
    }

    /// Opens a data directory that this process owns.
    ///
    /// # Errors
    /// [`StoreError::Io`] and [`StoreError::Index`] if it cannot be opened.
    pub async fn open_owned(
        settings: Settings,
        role: Role,
        ownership: Ownership,
    ) -> Result<Self, StoreError> {
        let buffers = Arc::new(Buffers::default());
        let (grace_periods, limits, kept_uploads) =
            (settings.grace_periods.clone(), settings.capacity, settings.idle_uploads);
        let (opening, inspect) = (settings.on_opening, settings.inspect);
        let immutable = ArcSwap::from_pointee(settings.immutable.clone());
        let feed = Arc::clone(&ownership.feed);
        let (disk, lock, opened) = blocking(move || open_directory(&settings, role, ownership)).await?;
        faults::watch(&disk);
        let stale_layout = opened.stale_layout || !disk.has_file("index.json");
        let index = Arc::new(opened.index);
        let capacity = Arc::new(Capacity::new(disk.path(""), limits, Arc::clone(&index)));
        let work = Arc::new(Work::default());
        let uploads =
            Uploads::new(kept_uploads, Arc::clone(&disk), Arc::clone(&buffers), Arc::clone(&capacity));
        let (writer, threads, may_lack_names) =
            start_threads((&disk, &index, &feed), opened.rebuild, opening, stale_layout).await?;
        let store = Store(Arc::new(Inner {
            disk,
            index,
            feed,
            uploads: Arc::new(uploads),
            buffers,
            work,
            spools: Spools::default(),
            role,
            grace_periods: Lock::new(grace_periods),
            immutable,
            capacity,
            summaries: Summaries::default(),
            repository_lists: KeptLists::default(),
            pulls: Arc::default(),
            leases: Arc::default(),
            last_collection: Lock::default(),
            measurements: Measurements::default(),
            layout_checked: Lock::default(),
            inspect,
            may_lack_names,
            index_verified: AtomicBool::new(false),
            may_have_unknown_files: AtomicBool::new(true),
            writer: Lock::new(Some(writer)),
            threads: Lock::new(Some(threads)),
            lock: Lock::new(Some(lock)),
        }));
        store.recover_files().await?;
        let rules = Arc::clone(&store.0.grace_periods.lock().retention);
        store.start_pull_record(&rules).await;
        Ok(store)
    }

    /// Recovers the trash of an earlier release, and removes or counts the unfinished uploads.
    async fn recover_files(&self) -> Result<(), StoreError> {
        self.recover_trash().await?;
        self.remove_loose_uploads().await?;
        self.count_uploads().await
    }

    /// Removes the unfinished uploads of transfers: a transfer ends with its process, so that no client resumes them.
    async fn remove_loose_uploads(&self) -> Result<(), StoreError> {
        let inner = Arc::clone(&self.0);
        blocking(move || {
            let is_loose = |name: &str| name.parse::<UploadId>().is_ok_and(UploadId::is_loose);
            for (name, _) in inner.disk.uploads()?.into_iter().filter(|(name, _)| is_loose(name)) {
                if let Err(error) = inner.disk.remove_upload(&name) {
                    log::warn!("cannot remove an upload of an interrupted import: {error}");
                }
            }
            Ok(())
        })
        .await
    }

    /// Leaves the journal of a large `index.json` when the store is closed: the next connection starts the daemon again,
    /// and a write of the whole file each time would wear out the card.
    pub fn keep_journal_at_close(&self) {
        if let Some(threads) = &*self.0.threads.lock() {
            threads.exits_idle.store(true, Ordering::Relaxed);
        }
    }

    /// Closes the store: refuses further changes, commits the accepted ones, and writes `index.json`.
    ///
    /// # Errors
    /// [`StoreError::Closing`] if a thread of the store has panicked.
    pub async fn close(&self) -> Result<(), StoreError> {
        self.record_pulls().await;
        self.0.feed.flush_logins();
        self.0.feed.flush_days();
        let writer = self.0.writer.lock().take();
        if let Some(writer) = writer {
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
            if layout_is_current && !index_failed {
                if inner.disk.check_writable().is_ok() {
                    merge_log(&inner.index, threads.exits_idle.load(Ordering::Relaxed));
                }
                inner.disk.mark_clean(Some(inner.index.sequence()));
            }
            // Other processes may open the directory now; this one only reads files that it has open.
            drop(inner.lock.lock().take());
            Ok(())
        })
        .await
    }

    async fn count_uploads(&self) -> Result<(), StoreError> {
        let inner = Arc::clone(&self.0);
        blocking(move || {
            inner.disk.set_obstacles_in_uploads_aside()?;
            inner.uploads.recount(&inner.disk.uploads()?);
            Ok(())
        })
        .await
    }
}

/// The most rows of the log that stay there at an idle exit: the next start takes them from it in a moment.
const LEFT_IN_LOG: usize = 2048;

/// Writes the rows of the log to the index that is being closed; with `exits_idle` only many of them, because the next
/// connection starts the daemon again.
fn merge_log(index: &Index, exits_idle: bool) {
    if exits_idle && index.pending_rows() <= LEFT_IN_LOG {
        return;
    }
    // They stay in the log, from which the next start takes them.
    if let Err(error) = index.checkpoint() {
        log::debug!("the log of the index was not merged: {error}");
    }
}

/// Starts the index writer, rebuilds the index if it is new, and starts the writer of `index.json`. Returns true last
/// if names may be lost.
async fn start_threads(
    (disk, index, feed): (&Arc<Disk>, &Arc<Index>, &Arc<Feed>),
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
    let (writer, writer_thread) =
        Writer::start(Arc::clone(index), Arc::clone(disk), Arc::clone(feed), move || {
            let _ = wake.try_send(());
        })?;
    if layout_is_due {
        // Only a whole file has them: what changed before this process began is not known.
        index.changed_names.lose(index.change()?);
    }
    save_names_before_they_leave_the_log(disk, index);
    let (mut may_lack_names, was_rebuilt) = (false, source.is_some());
    if let Some(source) = source {
        may_lack_names = rebuild::rebuild(disk, index, &writer, (source, opening)).await?;
    } else if !index.is_complete()? {
        identity::identify(&writer, None).await?;
        writer.mark_complete().await?;
    }
    // Only now: an index that is half rebuilt must never overwrite the index.json that it is rebuilt from.
    let exits_idle = Arc::default();
    let layout = start_layout(disk, index, changes, (layout_is_due || was_rebuilt, &exits_idle))?;
    Ok((writer, Threads { writer: writer_thread, layout, exits_idle }, may_lack_names))
}

/// Has the names of the log saved before it overwrites them, so that an index that is lost can be rebuilt to the last one.
fn save_names_before_they_leave_the_log(disk: &Arc<Disk>, index: &Arc<Index>) {
    let (disk, saved) = (Arc::clone(disk), Arc::downgrade(index));
    index.save_names_by(move || {
        // An index that is being rebuilt must not overwrite the index.json that it is rebuilt from.
        if let Some(index) = saved.upgrade()
            && index.is_complete().unwrap_or(false)
        {
            layout_writer::catch_up(&disk, &index);
        }
    });
}

fn start_layout(
    disk: &Arc<Disk>,
    index: &Arc<Index>,
    changes: Receiver<()>,
    (is_stale, exits_idle): (bool, &Arc<AtomicBool>),
) -> Result<JoinHandle<bool>, StoreError> {
    let (disk, index, exits_idle) = (Arc::clone(disk), Arc::clone(index), Arc::clone(exits_idle));
    let thread = std::thread::Builder::new().name("layout".into());
    thread
        .spawn(move || LayoutWriter::new(&disk, &index, is_stale).keep_current(&changes, &exits_idle))
        .map_err(|error| StoreError::io("start the layout writer", error))
}

/// Opens the files of a data directory that this process owns.
fn open_directory(
    settings: &Settings,
    role: Role,
    ownership: Ownership,
) -> Result<(Arc<Disk>, locks::FileLock, recover::Opened), StoreError> {
    let Ownership { disk, lock, feed: _ } = ownership;
    // Opening the index reads its mapping; a second call, when it is open, tells the handler the addresses.
    faults::watch(&disk);
    disk.mark_as_daemon();
    disk.set_obstacles_in_index_aside()?;
    layout::write_marker(&disk)?;
    let opened = match role {
        Role::Rebuild => recover::open_for_rebuild(&disk, settings)?,
        Role::Daemon | Role::Command => recover::open(&disk, settings)?,
    };
    Ok((Arc::new(disk), lock, opened))
}

#[cfg(test)]
mod tests;
