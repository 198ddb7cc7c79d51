//! Recovery: opens an index that may be corrupt, by the first of three rungs that holds. The log names the rung.
//!
//! 1. The index as it is; if only the structure of its file is wrong, a copy of its rows.
//! 2. LMDB's previous snapshot, unless `index.json` is newer.
//! 3. A new index, to be rebuilt from `index.json`, the manifests and the blobs; at once if the old index was written
//!    by a system of another word size or an older release.
//!
//! A corrupt index is moved aside, never deleted. An index of a newer release is refused and stays untouched.

use super::blob_store::BlobStore;
use super::disk::Disk;
use super::error::StoreError;
use super::index::inspect::Inspection;
use super::index::{self, Index};
use super::layout;
use super::layout_checksum::Checksum;
use super::layout_reader;
use super::layout_rescue;
use super::settings::{IndexHealth, Settings};
use super::shutdown_marker::ShutdownMarker;
use crate::base::clock::unix_seconds;
use crate::oci::Algorithm;

/// The opened index.
pub(super) struct Opened {
    /// The index.
    pub(super) index: Index,
    /// The source to rebuild it from, if the index is new and has to be filled.
    pub(super) rebuild: Option<RebuildSource>,
    /// True if `index.json` may be older than the index.
    pub(super) stale_layout: bool,
}

/// The source of a rebuild.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum RebuildSource {
    /// An `index.json` that has all names of the old index.
    Current,
    /// An `index.json` that may lack names.
    Unsure,
}

/// Opens the index by the first rung that holds.
pub(super) fn open(disk: &Disk, settings: &Settings) -> Result<Opened, StoreError> {
    let marker = disk.take_shutdown_marker()?;
    (settings.on_opening)("opening the index");
    if disk.index_is_of_another_word_size()? {
        log::warn!("the index was written by a system of another word size; rebuilding it from index.json");
        return start_empty(disk, settings, RebuildSource::after(marker));
    }
    disk.remove_inspected_index()?;
    let exists = disk.index_directory().join("data.mdb").exists();
    if !exists {
        save_names_of_log(disk)?;
        disk.set_log_aside(&unix_seconds().to_string())?;
    }
    // An unreadable index.json has no change number to compare with.
    let least_change = layout_change(disk)?;
    let is_healthy_copy = |previous| inspect_and_copy(disk, settings, previous, least_change);
    let why = if marker != ShutdownMarker::Unknown || !exists || is_healthy_copy(false)? {
        if disk.inspected_index().exists() {
            log::warn!(
                "the pages of the index are damaged, but its rows are not: it is replaced by a copy of them"
            );
        }
        disk.install_inspected_index()?;
        match Index::open_after(disk, settings.index_map_size, marker.ended_at()) {
            // A clean index of an earlier day, from a backup, vouches for itself, but its names are old. A flipped bit in
            // the number of index.json is no reason to drop a healthy index.
            Ok(index)
                if index.is_complete()? && index.change()? < least_change && !layout_is_corrupt(disk)? =>
            {
                "index.json is newer".to_owned()
            }
            Ok(index) => {
                let rebuild = !index.is_complete()? && has_content(disk)?;
                let rebuild = rebuild.then_some(RebuildSource::Unsure);
                let stale_layout = marker == ShutdownMarker::Unknown || index.change()? != least_change;
                return Ok(Opened { index, rebuild, stale_layout });
            }
            Err(StoreError::Format { found, known }) if found < known => {
                log::warn!("the index was written by an older release; rebuilding it from index.json");
                return start_empty(disk, settings, RebuildSource::after(marker));
            }
            Err(error) if !is_corrupt_index(&error) => return Err(error),
            Err(error) => error.to_string(),
        }
    } else {
        "rows are unreadable or missing, or index.json is newer".to_owned()
    };
    log::warn!("the index is corrupt ({why}); trying its previous snapshot");
    disk.remove_inspected_index()?;
    if is_healthy_copy(true)?
        && let Some(index) = open_previous(disk, settings)?
    {
        return Ok(Opened { index, rebuild: None, stale_layout: true });
    }
    log::warn!("the previous snapshot cannot be used either; rebuilding the index from index.json");
    disk.remove_inspected_index()?;
    start_empty(disk, settings, RebuildSource::Unsure)
}

impl RebuildSource {
    /// Derives the source from the shutdown marker: a clean shutdown has written `index.json` before.
    fn after(marker: ShutdownMarker) -> Self {
        if marker == ShutdownMarker::Unknown { RebuildSource::Unsure } else { RebuildSource::Current }
    }
}

/// Moves the index aside on the operator's request and opens an empty one, unless that would lose names.
///
/// # Errors
/// [`StoreError::LayoutStale`] when a healthy index has names that `index.json` lacks.
pub(super) fn open_for_rebuild(disk: &Disk, settings: &Settings) -> Result<Opened, StoreError> {
    let source = if disk.index_is_of_another_word_size()? || !disk.index_directory().join("data.mdb").exists()
    {
        RebuildSource::Unsure
    } else {
        if layout_is_corrupt(disk)? && is_healthy(disk, settings, 0)? {
            // A healthy index has all names, while the file that the rebuild reads has not.
            layout::write(disk, &Index::open(disk, settings.index_map_size)?)?;
        }
        let known = layout_change(disk)?;
        if is_healthy(disk, settings, known.saturating_add(1))? {
            return Err(StoreError::LayoutStale);
        }
        if is_healthy(disk, settings, known)? { RebuildSource::Current } else { RebuildSource::Unsure }
    };
    disk.take_shutdown_marker()?;
    start_empty(disk, settings, source)
}

/// Returns the change number of `index.json`; zero if the file is unreadable.
fn layout_change(disk: &Disk) -> Result<u64, StoreError> {
    match layout_reader::read_head(disk) {
        Err(error) if error.is_lack_of_resources() => Err(error),
        head => Ok(head.unwrap_or_default().change),
    }
}

/// Returns true if `index.json` cannot be read to its end or its checksum does not match; its head alone does not
/// show that.
fn layout_is_corrupt(disk: &Disk) -> Result<bool, StoreError> {
    match layout_reader::read_entries(disk, &mut |_| Ok(())) {
        Err(error) if error.is_corrupt_file() => Ok(true),
        read => read.map(|read| read.checksum == Checksum::Wrong),
    }
}

/// Opens LMDB's previous snapshot from the copy that the inspection made, if the disk had room for one.
fn open_previous(disk: &Disk, settings: &Settings) -> Result<Option<Index>, StoreError> {
    if !disk.inspected_index().exists() {
        return Ok(None);
    }
    match disk.keep_index_beside(&unix_seconds().to_string()) {
        Ok(aside) => log::warn!("the old index is kept in {}", aside.display()),
        Err(error) => {
            log::warn!("{error}");
            return Ok(None);
        }
    }
    disk.install_inspected_index()?;
    match Index::open(disk, settings.index_map_size) {
        Ok(index) if index.is_complete()? => {
            log::warn!("now using the previous snapshot of the index");
            Ok(Some(index))
        }
        Ok(_) => Ok(None),
        Err(error) => {
            log::warn!("the previous snapshot cannot be opened: {error}");
            Ok(None)
        }
    }
}

/// Inspects the newest or the previous snapshot and copies it. Returns true if it is healthy and not older than
/// `least_change`; a copy exists then, if the disk has room.
fn inspect_and_copy(
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

/// Inspects the index without copying it. Returns true if it is healthy and not older than `least_change`.
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
        IndexHealth::Unknown(why) => Err(StoreError::io("inspect the index", std::io::Error::other(why))),
    }
}

/// Returns true if the data directory has names or blobs, so that an empty index is incomplete.
fn has_content(disk: &Disk) -> Result<bool, StoreError> {
    if disk.path("index.json").exists() {
        return Ok(true);
    }
    for algorithm in Algorithm::ALL {
        if disk.list(algorithm)?.next().transpose()?.is_some() {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Moves the index aside and opens an empty one, to be filled.
fn start_empty(disk: &Disk, settings: &Settings, source: RebuildSource) -> Result<Opened, StoreError> {
    // If no index can be opened at all, for lack of room or address space, the old one is not at fault and stays.
    disk.remove_inspected_index()?;
    index::try_to_create(&disk.inspected_index(), settings.index_map_size)?;
    disk.remove_inspected_index()?;
    save_names_of_log(disk)?;
    if let Some(aside) = disk.set_index_aside(&unix_seconds().to_string())? {
        log::warn!("the old index is kept in {}", aside.display());
    }
    let index = Index::open(disk, settings.index_map_size)?;
    Ok(Opened { index, rebuild: Some(source), stale_layout: true })
}

/// Saves the names that only the log of an index has which is lost.
fn save_names_of_log(disk: &Disk) -> Result<(), StoreError> {
    match layout_rescue::save_names_of_log(disk) {
        Ok(0) => {}
        Ok(count) => {
            log::info!(
                "the log of the old index has {count} changes of names that index.json lacks: saved them"
            );
        }
        Err(error) if error.is_lack_of_resources() || error.is_lack_of_space() => return Err(error),
        Err(error) => {
            log::warn!("the log of the old index cannot be read, and the newest names may be lost: {error}");
        }
    }
    Ok(())
}

/// Returns true if an error means a corrupt index, and not one that cannot be reached now.
fn is_corrupt_index(error: &StoreError) -> bool {
    matches!(error, StoreError::Index(error) if error.is_corruption())
}

#[cfg(test)]
mod tests;
