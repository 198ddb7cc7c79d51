//! The handle of the store and the state behind it, which all operations share.
//!
//! The operations are `impl Store` blocks in the file of their subject; `open.rs` opens and closes the store.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::mpsc::SyncSender;
use std::thread::JoinHandle;
use std::time::Instant;

use arc_swap::ArcSwap;

use super::buffers::Buffers;
use super::capacity::Capacity;
use super::capacity_limits::CapacityLimits;
use super::delay::DiskDelay;
use super::disk::Disk;
use super::error::StoreError;
use super::gc::LastCollection;
use super::immutable::ImmutableRule;
use super::index::Index;
use super::index::feed::Feed;
use super::index::inspect::Inspection;
use super::index::writer::Writer;
use super::locks;
use super::measure::Measurements;
use super::pulls::Pulls;
use super::repository_pages::KeptLists;
use super::retention::GracePeriods;
use super::settings::{IndexHealth, Role};
use super::spool::Spools;
use super::summaries::Summaries;
use super::transfer_leases::TransferLeases;
use super::uploads::Uploads;
use super::work::{Cancel, Kind, Work};
use crate::base::Lock;

/// The store, cheap to clone.
#[derive(Clone)]
pub struct Store(pub(super) Arc<Inner>);

/// The threads of the store.
pub(super) struct Threads {
    pub(super) writer: JoinHandle<()>,
    /// Returns true if `index.json` has everything that the index has.
    pub(super) layout: JoinHandle<bool>,
    /// Set before an idle exit: the journal of names may stay.
    pub(super) exits_idle: Arc<AtomicBool>,
}

/// The state of the store.
pub(super) struct Inner {
    pub(super) disk: Arc<Disk>,
    pub(super) index: Arc<Index>,
    pub(super) feed: Arc<Feed>,
    pub(super) uploads: Arc<Uploads>,
    pub(super) buffers: Arc<Buffers>,
    pub(super) work: Arc<Work>,
    pub(super) spools: Spools,
    pub(super) role: Role,
    pub(super) grace_periods: Lock<GracePeriods>,
    pub(super) immutable: ArcSwap<Vec<ImmutableRule>>,
    pub(super) capacity: Arc<Capacity>,
    pub(super) summaries: Summaries,
    pub(super) repository_lists: KeptLists,
    /// Pulls that are not in the index yet.
    pub(super) pulls: Arc<Pulls>,
    /// The leases of open transfers.
    pub(super) leases: Arc<TransferLeases>,
    /// The last collection of this process.
    pub(super) last_collection: Lock<Option<LastCollection>>,
    pub(super) measurements: Measurements,
    /// The time of the daemon's last check of `index.json`.
    pub(super) layout_checked: Lock<Option<Instant>>,
    pub(super) inspect: fn(&Inspection) -> IndexHealth,
    /// Set if opening rebuilt the index from an `index.json` that may lack names.
    pub(super) may_lack_names: bool,
    /// Set once the index was inspected in this process.
    pub(super) index_verified: AtomicBool,
    /// True if files may be in `blobs/` that the index does not have, as at the start of a process: the next collection
    /// lists them.
    pub(super) may_have_unknown_files: AtomicBool,
    /// `None` once the store is closing.
    pub(super) writer: Lock<Option<Writer>>,
    pub(super) threads: Lock<Option<Threads>>,
    /// The lock of the owner, released when the store is closed or dropped.
    pub(super) lock: Lock<Option<locks::FileLock>>,
}

impl Store {
    /// Returns true if opening rebuilt the index and names may be lost, so that no collection should start on its own.
    pub fn may_lack_names(&self) -> bool {
        self.0.may_lack_names
    }

    /// Replaces the grace periods, the rules of immutable tags and the limits of pushes.
    pub fn reconfigure(
        &self,
        grace_periods: GracePeriods,
        immutable: Vec<ImmutableRule>,
        limits: CapacityLimits,
    ) {
        self.change_pull_record(&grace_periods.retention);
        *self.0.grace_periods.lock() = grace_periods;
        self.0.immutable.store(Arc::new(immutable));
        self.0.capacity.set_limits(limits);
    }

    /// Refuses new lists and cancels running ones, because the daemon stops. Pulls and pushes continue.
    pub fn stop_lists(&self) {
        self.0.work.stop_lists();
    }

    /// Returns how long the oldest running read and write have been waiting for the disk.
    pub fn disk_delay(&self) -> DiskDelay {
        self.0.disk.delay()
    }

    /// Reads a few bytes from the medium, in the pool of pulls.
    ///
    /// # Errors
    /// [`StoreError::Io`] if the disk fails.
    pub async fn probe(&self) -> Result<(), StoreError> {
        let disk = Arc::clone(&self.0.disk);
        self.0.work.run(Kind::Read, move || disk.probe()).await
    }

    /// Runs a list over stored content in its pool; see [`Work::run_cancellable`].
    pub(super) async fn list<T: Send + 'static>(
        &self,
        kind: Kind,
        work: impl FnOnce(&Inner, &Cancel) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        let inner = Arc::clone(&self.0);
        self.0.work.run_cancellable(kind, move |cancel| work(&inner, cancel)).await
    }

    /// Asks the index writer for a liveness reply on this channel; no reply comes while the thread hangs.
    pub fn ping(&self, answer: SyncSender<()>) {
        if let Some(writer) = &*self.0.writer.lock() {
            writer.ping(answer);
        }
    }

    /// Returns the index writer; refuses once the store is read-only or closing.
    pub(super) fn writer(&self) -> Result<Writer, StoreError> {
        self.0.disk.check_writable()?;
        self.0.writer.lock().clone().ok_or(StoreError::Closing)
    }
}
