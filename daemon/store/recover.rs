//! Opening the index when it may be broken: a ladder, and the log says which rung held.
//!
//! 1. The index as it is. 2. LMDB's snapshot before the last commit, unless `index.json` is newer. 3. A new index, made
//!    from `index.json`, the manifests and the blobs; at once if the old one is of a system of another word size. A
//!    broken index is kept beside, never deleted.

use super::Settings;
use super::disk::Disk;
use super::error::StoreError;
use super::index::Index;
use super::index::inspect::Inspection;
use super::layout;
use super::layout_checksum::Checksum;
use super::layout_reader;
use super::shutdown_marker::Order;
use super::sys;
use crate::oci::Algorithm;

/// What the ladder found.
pub(super) struct Opened {
    /// The index.
    pub(super) index: Index,
    /// Whether it is new and has to be filled, and from what.
    pub(super) rebuild: Option<RebuildSource>,
    /// Whether `index.json` may say less than the index.
    pub(super) stale_layout: bool,
}

/// What a new index is made from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum RebuildSource {
    /// An `index.json` that says all that the old index said.
    Current,
    /// One of which nobody knows whether it does.
    Unsure,
}

/// What an inspection has found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum IndexHealth {
    /// It reads to its end.
    Healthy,
    /// It does not.
    Corrupt,
    /// It could not be looked at, which says nothing about it; why.
    Unknown(String),
}

/// Refuses an index that nobody has in use and that is broken; it is only looked at if it was not closed in good
/// order.
pub(super) fn refuse_broken(disk: &Disk, settings: &Settings) -> Result<(), StoreError> {
    // In this order: opening a FIFO would wait.
    if !disk.index_is_of_files() || disk.index_is_of_another_word_size()? {
        return Err(StoreError::Unready);
    }
    if Disk::daemon_runs(&settings.path) || disk.order() != Order::Unknown {
        return Ok(());
    }
    if is_healthy(disk, settings, 0)? { Ok(()) } else { Err(StoreError::Unready) }
}

/// Opens the index by the first rung that holds; the caller holds [`Disk::lock_index_file`].
pub(super) fn open(disk: &Disk, settings: &Settings) -> Result<Opened, StoreError> {
    let order = disk.take_order()?;
    (settings.opening)("opening the index");
    if disk.index_is_of_another_word_size()? {
        log::warn!("the index was written by a system of another word size; making it again from index.json");
        return start_empty(disk, settings, RebuildSource::after(order));
    }
    disk.forget_inspected_index()?;
    let there = disk.index_directory().join("data.mdb").exists();
    // A file that is broken says nothing.
    let least_change = change_of_layout(disk)?;
    let looked = |previous| copy_if_healthy(disk, settings, previous, least_change);
    let why = if order != Order::Unknown || !there || looked(false)? {
        disk.use_inspected_index()?;
        match Index::open(disk, settings.index_map_size) {
            Ok(index) => {
                let rebuild = !index.is_complete()? && has_content(disk)?;
                let rebuild = rebuild.then_some(RebuildSource::Unsure);
                let stale_layout = order != Order::Good || index.change()? != least_change;
                return Ok(Opened { index, rebuild, stale_layout });
            }
            Err(StoreError::Format { found, known }) if found < known => {
                log::warn!("the index was written by an older release; making it again from index.json");
                return start_empty(disk, settings, RebuildSource::after(order));
            }
            Err(error) if !is_corrupt_index(&error) => return Err(error),
            Err(error) => error.to_string(),
        }
    } else {
        "it does not read to its end, or is older than index.json".to_owned()
    };
    log::warn!("the index is broken ({why}); trying its previous snapshot");
    disk.forget_inspected_index()?;
    if looked(true)?
        && let Some(index) = open_previous(disk, settings)?
    {
        return Ok(Opened { index, rebuild: None, stale_layout: true });
    }
    log::warn!("its previous snapshot is no better; making it again from index.json");
    disk.forget_inspected_index()?;
    start_empty(disk, settings, RebuildSource::Unsure)
}

impl RebuildSource {
    /// For an index that was left so: who ends in good order has written `index.json` before.
    fn after(order: Order) -> Self {
        if order == Order::Good { RebuildSource::Current } else { RebuildSource::Unsure }
    }
}

/// Sets the index aside because somebody wants it to be made again, and opens an empty one; not if that would lose names.
/// The caller holds [`Disk::lock_index_file`].
pub(super) fn start_over(disk: &Disk, settings: &Settings) -> Result<Opened, StoreError> {
    let source = if disk.index_is_of_another_word_size()? || !disk.index_directory().join("data.mdb").exists()
    {
        RebuildSource::Unsure
    } else {
        if layout_is_corrupt(disk)? && is_healthy(disk, settings, 0)? {
            // A healthy index has all names; the file that it is to be made from does not.
            layout::write(disk, &Index::open(disk, settings.index_map_size)?)?;
        }
        let known = change_of_layout(disk)?;
        if is_healthy(disk, settings, known.saturating_add(1))? {
            return Err(StoreError::LayoutStale);
        }
        if is_healthy(disk, settings, known)? { RebuildSource::Current } else { RebuildSource::Unsure }
    };
    disk.take_order()?;
    start_empty(disk, settings, source)
}

/// Returns the number of the last change of names that `index.json` has. A file that cannot be read says nothing.
fn change_of_layout(disk: &Disk) -> Result<u64, StoreError> {
    match layout_reader::read_head(disk) {
        Err(error) if error.is_lack_of_resources() => Err(error),
        head => Ok(head.unwrap_or_default().change),
    }
}

/// Returns true if `index.json` cannot be read to its end or has another checksum: its head alone does not say so.
fn layout_is_corrupt(disk: &Disk) -> Result<bool, StoreError> {
    match layout_reader::read_entries(disk, &mut |_| Ok(())) {
        Err(error) if error.is_corrupt_file() => Ok(true),
        read => read.map(|read| read.checksum == Checksum::Wrong),
    }
}

/// LMDB's snapshot before the last commit, of which there is a copy if the disk had room.
fn open_previous(disk: &Disk, settings: &Settings) -> Result<Option<Index>, StoreError> {
    if !disk.inspected_index().exists() {
        return Ok(None);
    }
    match disk.keep_index_beside(&super::seconds_since_1970().to_string()) {
        Ok(aside) => log::warn!("the index that was there is kept in {}", aside.display()),
        Err(error) => {
            log::warn!("{error}");
            return Ok(None);
        }
    }
    disk.use_inspected_index()?;
    match Index::open(disk, settings.index_map_size) {
        Ok(index) if index.is_complete()? => {
            log::warn!("the index was opened at its previous snapshot");
            Ok(Some(index))
        }
        Ok(_) => Ok(None),
        Err(error) => {
            log::warn!("the previous snapshot cannot be opened: {error}");
            Ok(None)
        }
    }
}

/// Whether a snapshot of the index, the newest or the one before, reads to its end and is of this change of names or a
/// later one. There is a copy of it then, if the disk has room.
fn copy_if_healthy(
    disk: &Disk,
    settings: &Settings,
    previous: bool,
    least_change: u64,
) -> Result<bool, StoreError> {
    let (directory, copy) = (disk.index_directory(), disk.inspected_index());
    let map_size = settings.index_map_size;
    let copy = Some(copy.as_path());
    verdict(settings, &Inspection { directory: &directory, map_size, previous, least_change, copy })
}

/// Whether the index reads to its end and is of this change of names or a later one.
fn is_healthy(disk: &Disk, settings: &Settings, least_change: u64) -> Result<bool, StoreError> {
    let (directory, map_size) = (disk.index_directory(), settings.index_map_size);
    verdict(
        settings,
        &Inspection { directory: &directory, map_size, previous: false, least_change, copy: None },
    )
}

fn verdict(settings: &Settings, inspection: &Inspection) -> Result<bool, StoreError> {
    match (settings.inspect)(inspection) {
        IndexHealth::Healthy => Ok(true),
        IndexHealth::Corrupt => Ok(false),
        IndexHealth::Unknown(why) => Err(StoreError::io("look at the index", std::io::Error::other(why))),
    }
}

/// Whether an index that is empty should not be: there are names or blobs.
fn has_content(disk: &Disk) -> Result<bool, StoreError> {
    if disk.top("index.json").exists() {
        return Ok(true);
    }
    for algorithm in Algorithm::ALL {
        if disk.blobs(algorithm)?.next().transpose()?.is_some() {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Sets the index aside and opens an empty one, to be filled; the caller holds [`Disk::lock_index_file`].
fn start_empty(disk: &Disk, settings: &Settings, source: RebuildSource) -> Result<Opened, StoreError> {
    // Where no index can be opened, for lack of room or of memory for so large a map, the old one is not at fault.
    disk.forget_inspected_index()?;
    drop(sys::open_environment_file(&disk.inspected_index(), settings.index_map_size)?);
    disk.forget_inspected_index()?;
    if let Some(aside) = disk.set_index_aside(&super::seconds_since_1970().to_string())? {
        log::warn!("the index that was there is kept in {}", aside.display());
    }
    let index = Index::open(disk, settings.index_map_size)?;
    Ok(Opened { index, rebuild: Some(source), stale_layout: true })
}

/// Whether an error says that the files are no index, rather than that they cannot be reached now.
fn is_corrupt_index(error: &StoreError) -> bool {
    use heed::{Error, MdbError};
    matches!(
        error,
        StoreError::Index(
            Error::Mdb(
                MdbError::Invalid
                    | MdbError::VersionMismatch
                    | MdbError::Corrupted
                    | MdbError::PageNotFound
                    | MdbError::Panic
                    | MdbError::Incompatible
            ) | Error::Decoding(_)
        )
    )
}
