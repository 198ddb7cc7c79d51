//! The store: the only room that touches the data directory.
//!
//! Its verbs are the domain's, and take and return the types of `oci`. It guarantees that what a verb said is
//! done is still there after a power cut: content is synced before it gets its name, and named before the index
//! commits. Single lookups look at mapped memory and are plain functions; everything that waits for the disk is
//! `async` and runs on blocking threads or on the index writer's. A caller that goes away never stops a change
//! half-way.

mod blob;
mod buffers;
mod check;
mod clock;
mod delay;
mod discovery;
mod disk;
mod error;
mod faults;
mod gc;
mod hashes;
mod holder;
mod immutable;
mod index;
mod layout;
mod layout_check;
mod layout_checksum;
mod layout_format;
mod layout_reader;
mod locks;
mod management;
mod measure;
mod natural;
mod obstacles;
mod overview;
mod pull;
mod push;
mod rebuild;
mod recover;
mod repair;
mod reported;
mod retention;
mod room;
mod secret;
mod sessions;
mod shutdown_marker;
mod spool;
mod status;
mod summary;
mod sys;
mod tag_retention;
mod upload;
mod upload_id;
mod upload_limit;
#[cfg(test)]
mod upload_tests;
mod verify;
mod work;

use std::path::PathBuf;
use std::sync::atomic::AtomicBool;
use std::sync::mpsc::{Receiver, SyncSender};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use arc_swap::ArcSwap;

pub use self::blob::BlobReader;
pub use self::check::{CheckOptions, Checked, Event, Fault, Progress};
pub use self::delay::DiskDelay;
pub use self::discovery::{Referrers, ReferrersQuery};
pub use self::error::StoreError;
pub use self::gc::{Collected, Report, Taken};
pub use self::holder::Holder;
pub use self::immutable::Immutable;
pub use self::index::candidates::Amount;
pub use self::index::inspect::{Inspection, inspect};
pub use self::index::{Counts, ManifestEntry, Page};
pub use self::measure::{Impairment, JobState, JobStates, Measured};
pub use self::overview::{
    Fit, Listing, NAMESPACES, Overview, Part, ReferrersShown, Repositories, RepositoryOrder,
    RepositoryOverview, TagOrder, TagOverview, WholeSize,
};
pub use self::recover::IndexHealth;
pub use self::retention::{Ages, Policy, Retention};
pub use self::room::{NameLimits, RoomLimits};
pub use self::spool::{LargePlace, Spool};
pub use self::status::{Status, daemon_runs, status};
pub use self::summary::{Summary, Turn};
pub use self::upload::{RunningUpload, Upload};
pub use self::upload_id::{ParseUploadIdError, UploadId};
pub use self::work::POOLED_THREADS;

use self::buffers::Buffers;
use self::disk::Disk;
use self::index::Index;
use self::index::writer::Writer;
use self::locks::Lock;
use self::room::Room;
use self::spool::Spools;
use self::upload::Uploads;
use self::work::{Cancel, Kind, Work};

/// What the store needs to know.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The data directory; it is made where there is none.
    pub path: PathBuf,
    /// How large the index may get, in bytes; a multiple of 64 KiB.
    pub index_map_size: usize,
    /// How many unfinished uploads are kept in memory.
    pub uploads: usize,
    /// How long what nobody needs is kept.
    pub ages: Ages,
    /// How much pushes may take.
    pub room: RoomLimits,
    /// Tags that can be set once.
    pub immutable: Vec<Immutable>,
    /// Says whether an index reads to its end. Reading a damaged one may end the process that does.
    pub inspect: fn(&Inspection) -> IndexHealth,
    /// Is told why the store takes no more writes, once that is so.
    pub failed: fn(&str),
    /// Is told how far opening has come, when it takes long.
    pub opening: fn(&str),
}

/// Who opens a data directory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// The one daemon that serves it.
    Daemon,
    /// The command line, beside a daemon or without one.
    Beside,
    /// The command line that makes the index again, while no daemon serves it.
    Rebuild,
}

/// The store, cheap to clone.
#[derive(Clone)]
pub struct Store(Arc<Inner>);

struct Threads {
    writer: JoinHandle<()>,
    /// Says at its end whether `index.json` has everything.
    layout: JoinHandle<bool>,
}

struct Inner {
    disk: Arc<Disk>,
    index: Arc<Index>,
    uploads: Arc<Uploads>,
    buffers: Arc<Buffers>,
    work: Arc<Work>,
    spools: Spools,
    role: Role,
    ages: Mutex<Ages>,
    /// Tags that can be set once.
    immutable: ArcSwap<Vec<Immutable>>,
    room: Arc<Room>,
    summaries: summary::Summaries,
    collected: Mutex<Option<Collected>>,
    measurements: measure::Measurements,
    /// When the daemon checked `index.json` last.
    layout_checked: Mutex<Option<Instant>>,
    inspect: fn(&Inspection) -> IndexHealth,
    /// Whether the index was made again when it was opened, from an `index.json` that may lack names.
    may_lack_names: bool,
    /// Whether the index was inspected since this process opened it.
    index_verified: AtomicBool,
    writer: Mutex<Option<Writer>>,
    threads: Mutex<Option<Threads>>,
    _lock: Option<Lock>,
}

impl Store {
    /// Opens the data directory. The daemon locks it and climbs down the ladder to an index; the command line
    /// takes the index as it is, or makes it again.
    ///
    /// # Errors
    /// [`StoreError::InUse`] when another daemon has it, [`StoreError::Unready`] when only a daemon can put its
    /// index right, [`StoreError::Io`] and [`StoreError::Index`] when it cannot be opened at all.
    pub async fn open(settings: Settings, role: Role) -> Result<Self, StoreError> {
        let buffers = Arc::new(Buffers::default());
        let (ages, limits, kept_uploads) = (settings.ages.clone(), settings.room, settings.uploads);
        let (opening, inspect) = (settings.opening, settings.inspect);
        let immutable = ArcSwap::from_pointee(settings.immutable.clone());
        let (disk, lock, opened) = blocking(move || open_directory(&settings, role)).await?;
        faults::watch(&disk);
        let stale_layout = opened.stale_layout || !disk.has_file("index.json");
        let index = Arc::new(opened.index);
        let room = Arc::new(Room::new(disk.top(""), limits, Arc::clone(&index)));
        let work = Arc::new(Work::default());
        let uploads = Uploads::new(
            kept_uploads,
            Arc::clone(&disk),
            Arc::clone(&buffers),
            Arc::clone(&room),
            Arc::clone(&work),
        );
        let uploads = Arc::new(uploads);
        let (wake, changes) = std::sync::mpsc::sync_channel(1);
        if role != Role::Beside && stale_layout {
            // The channel is empty. A power cut may have come before what was last changed was written there.
            let _ = wake.try_send(());
        }
        let (writer, writer_thread) = Writer::start(Arc::clone(&index), Arc::clone(&disk), move || {
            // A full channel means that a rewrite is due anyway.
            let _ = wake.try_send(());
        })?;
        let mut may_lack_names = false;
        if let Some(source) = opened.rebuild {
            may_lack_names = rebuild::rebuild(&disk, &index, &writer, (source, opening)).await?;
        } else if !index.is_complete()? {
            writer.mark_complete().await?;
        }
        // Only now: an index that is half made again must never overwrite the index.json it is made from.
        let layout_thread = start_layout(&disk, &index, changes)?;
        let store = Store(Arc::new(Inner {
            disk,
            index,
            uploads,
            buffers,
            work,
            spools: Spools::default(),
            role,
            ages: Mutex::new(ages),
            immutable,
            room,
            summaries: summary::Summaries::default(),
            collected: Mutex::default(),
            measurements: measure::Measurements::default(),
            layout_checked: Mutex::default(),
            inspect,
            may_lack_names,
            index_verified: AtomicBool::new(false),
            writer: Mutex::new(Some(writer)),
            threads: Mutex::new(Some(Threads { writer: writer_thread, layout: layout_thread })),
            _lock: lock,
        }));
        if role != Role::Beside {
            match store.sort_left_trash().await {
                // The next collection does it, when there is room.
                Err(error) if error.is_lack_of_room() => {
                    log::warn!("the trash is not emptied: {error}");
                }
                sorted => sorted?,
            }
        }
        store.count_uploads().await?;
        Ok(store)
    }

    /// Returns true if the index was made again when it was opened and names may be lost, so that nothing should be
    /// collected before a person has seen to it.
    pub fn may_lack_names(&self) -> bool {
        self.0.may_lack_names
    }

    /// Ends the store: no change is taken any more, those that were are committed, `index.json` is written.
    ///
    /// # Errors
    /// [`StoreError::Closing`] if a thread of the store has failed.
    pub async fn close(&self) -> Result<(), StoreError> {
        let writer = lock(&self.0.writer).take();
        if let Some(writer) = writer.filter(|_| self.0.role != Role::Beside) {
            // Where nothing can be written any more the clock stays as it was kept.
            let _ = writer.keep_clock().await;
        }
        let Some(threads) = lock(&self.0.threads).take() else { return Ok(()) };
        let inner = Arc::clone(&self.0);
        blocking(move || {
            threads.writer.join().map_err(|_| StoreError::Closing)?;
            let layout_is_current = threads.layout.join().map_err(|_| StoreError::Closing)?;
            match (inner.role, error::index_failed()) {
                (Role::Beside, true) => inner.disk.note_damage(),
                (_, true) => {}
                _ if !layout_is_current => {}
                (Role::Beside, false) => inner.disk.note_end_of_change(),
                (Role::Daemon | Role::Rebuild, false) => inner.disk.note_good_order(),
            }
            Ok(())
        })
        .await
    }

    /// Counts the bytes of the unfinished uploads anew.
    async fn count_uploads(&self) -> Result<(), StoreError> {
        let inner = Arc::clone(&self.0);
        blocking(move || {
            if inner.role != Role::Beside {
                inner.disk.clear_uploads()?;
            }
            inner.uploads.recount(&inner.disk.uploads()?);
            Ok(())
        })
        .await
    }

    /// Changes how long content that is not needed is kept, which tags can be set once, and how much pushes may take.
    pub fn adjust(&self, ages: Ages, immutable: Vec<Immutable>, room: RoomLimits) {
        *lock(&self.0.ages) = ages;
        self.0.immutable.store(Arc::new(immutable));
        self.0.room.limit(room);
    }

    /// Refuses lists from now on and cancels those that run, because the daemon stops. Pulls and pushes go on.
    pub fn stop_lists(&self) {
        self.0.work.stop_lists();
    }

    /// Returns how long the disk has not answered.
    pub fn disk_delay(&self) -> DiskDelay {
        self.0.disk.delay()
    }

    /// Reads a few bytes from the medium, in the pool that pulls use.
    ///
    /// # Errors
    /// [`StoreError::Io`] when the disk fails.
    pub async fn probe(&self) -> Result<(), StoreError> {
        let disk = Arc::clone(&self.0.disk);
        self.0.work.run(Kind::Read, move || disk.probe()).await
    }

    /// Runs work on what is stored on the pool of a list; see [`Work::run_cancellable`].
    async fn list<T: Send + 'static>(
        &self,
        kind: Kind,
        work: impl FnOnce(&Inner, &Cancel) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        let inner = Arc::clone(&self.0);
        self.0.work.run_cancellable(kind, move |cancel| work(&inner, cancel)).await
    }

    /// Asks the thread that writes the index for a sign of life: it comes by the channel, if it comes.
    pub fn ping(&self, answer: SyncSender<()>) {
        if let Some(writer) = &*lock(&self.0.writer) {
            writer.ping(answer);
        }
    }

    fn writer(&self) -> Result<Writer, StoreError> {
        self.0.disk.check_writable()?;
        lock(&self.0.writer).clone().ok_or(StoreError::Closing)
    }
}

/// How many manifests the bytes of an `index.json` name.
#[cfg(fuzzing)]
pub fn names_in_layout(bytes: &[u8]) -> usize {
    let mut names = 0;
    // A file that ends early has the names before the damage.
    let _ = layout_reader::parse(bytes, &mut |entry| {
        names += usize::from(matches!(entry, layout_format::Entry::Name(_)));
        Ok(())
    });
    names
}

fn open_directory(
    settings: &Settings,
    role: Role,
) -> Result<(Arc<Disk>, Option<Lock>, recover::Opened), StoreError> {
    let disk = Disk::open(&settings.path, settings.failed)?;
    // Opening the index reads it; where it is in memory is known afterwards.
    faults::watch(&disk);
    if role == Role::Beside {
        // Nobody replaces it between the look and the use.
        let _shared = disk.share_index_file()?;
        recover::refuse_broken(&disk, settings)?;
        // Opening the index keeps its clock, so that it is not the one any more that the note vouches for.
        disk.note_change()?;
        let index = Index::open(&disk, settings.index_map_size)?;
        disk.remember_index_files()?;
        if !index.is_complete()? {
            return Err(StoreError::Unready);
        }
        return Ok((Arc::new(disk), None, recover::Opened { index, rebuild: None, stale_layout: false }));
    }
    let lock = disk.lock_for_daemon()?;
    // From looking at the index to using it: what a command line commits meanwhile would be lost with the old file.
    let _nobody_writes = disk.lock_index_file()?;
    disk.forget_failure();
    disk.clear_index()?;
    layout::write_marker(&disk)?;
    let opened = match role {
        Role::Rebuild => recover::start_over(&disk, settings)?,
        Role::Daemon | Role::Beside => recover::open(&disk, settings)?,
    };
    Ok((Arc::new(disk), Some(lock), opened))
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

/// Runs what waits for the disk on a blocking thread that belongs to no pool: for opening and closing the store, and for
/// long jobs, of which there are few at once. What requests need goes through [`Work`].
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, StoreError> + Send + 'static,
) -> Result<T, StoreError> {
    tokio::task::spawn_blocking(work).await.map_err(|_| StoreError::Closing)?
}

/// Carries on to the end even if the caller goes away, so that no commit stops half-way.
async fn detached<T: Send + 'static>(
    work: impl Future<Output = Result<T, StoreError>> + Send + 'static,
) -> Result<T, StoreError> {
    tokio::spawn(Holder::current().run(work)).await.map_err(|_| StoreError::Closing)?
}

/// Takes a lock; a thread that panicked while it held one has ended the daemon.
fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The wall clock; zero before 1970, since a box without a clock may wake there.
fn seconds_since_1970() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |elapsed| elapsed.as_secs())
}
