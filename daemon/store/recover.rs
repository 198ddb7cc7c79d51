//! Opening the index when it may be broken: a ladder, and the log says which rung held.
//!
//! 1. The index as it is. 2. LMDB's snapshot before the last commit, unless `index.json` is newer. 3. A new index, made
//!    from `index.json`, the manifests and the blobs; at once if the old one is of a system of another word size. A
//!    broken index is kept beside, never deleted.

use std::sync::Arc;

use super::Settings;
use super::blob::LARGEST_MANIFEST;
use super::disk::Disk;
use super::error::StoreError;
use super::index::Index;
use super::index::changes::NewManifest;
use super::index::inspect::Inspection;
use super::index::writer::{Batch, Writer};
use super::layout::{self, Layout};
use super::order::Order;
use super::sys;
use crate::oci::{Algorithm, Digest, Manifest, Reference};

/// How many blobs or manifests go into one transaction.
const AT_ONCE: usize = 1000;

/// What the ladder found.
pub(super) struct Opened {
    /// The index.
    pub(super) index: Index,
    /// Whether it is new and has to be filled, and from what.
    pub(super) rebuild: Option<Basis>,
    /// Whether `index.json` may say less than the index.
    pub(super) stale_layout: bool,
}

/// What a new index is made from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Basis {
    /// An `index.json` that says all that the old index said.
    Current,
    /// One of which nobody knows whether it does.
    Unsure,
}

/// What an inspection has found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Soundness {
    /// It reads to its end.
    Sound,
    /// It does not.
    Broken,
    /// It could not be looked at, which says nothing about it; why.
    Unknown(String),
}

/// Refuses an index that nobody has in use and that is broken; it is only looked at if it was not closed in good
/// order.
pub(super) fn refuse_broken(disk: &Disk, settings: &Settings) -> Result<(), StoreError> {
    if disk.index_is_of_another_word_size()? {
        return Err(StoreError::Unready);
    }
    if Disk::daemon_runs(&settings.path) || disk.order() != Order::Unknown {
        return Ok(());
    }
    if is_sound(disk, settings, 0)? { Ok(()) } else { Err(StoreError::Unready) }
}

/// Opens the index by the first rung that holds; the caller holds [`Disk::lock_index_file`].
pub(super) fn open(disk: &Disk, settings: &Settings) -> Result<Opened, StoreError> {
    let order = disk.take_order()?;
    (settings.opening)("opening the index");
    if disk.index_is_of_another_word_size()? {
        log::warn!("the index was written by a system of another word size; making it again from index.json");
        return start_anew(disk, settings, Basis::after(order));
    }
    disk.forget_inspected_index()?;
    let there = disk.index_directory().join("data.mdb").exists();
    // A file that is broken says nothing.
    let least_change = layout::read(disk).unwrap_or_default().change;
    let looked = |previous| copy_if_sound(disk, settings, previous, least_change);
    let why = if order != Order::Unknown || !there || looked(false)? {
        disk.use_inspected_index()?;
        match Index::open(disk, settings.index_map_size) {
            Ok(index) => {
                let rebuild = !index.is_complete()? && something_is_there(disk)?;
                let rebuild = rebuild.then_some(Basis::Unsure);
                return Ok(Opened { index, rebuild, stale_layout: order != Order::Good });
            }
            Err(StoreError::Format { found, known }) if found < known => {
                log::warn!("the index was written by an older release; making it again from index.json");
                return start_anew(disk, settings, Basis::after(order));
            }
            Err(error) if !is_broken(&error) => return Err(error),
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
    start_anew(disk, settings, Basis::Unsure)
}

impl Basis {
    /// For an index that was left so: who ends in good order has written `index.json` before.
    fn after(order: Order) -> Self {
        if order == Order::Good { Basis::Current } else { Basis::Unsure }
    }
}

/// Sets the index aside because somebody wants it to be made again, and opens an empty one; not if that would lose names.
/// The caller holds [`Disk::lock_index_file`].
pub(super) fn start_over(disk: &Disk, settings: &Settings) -> Result<Opened, StoreError> {
    let basis = if disk.index_is_of_another_word_size()? || !disk.index_directory().join("data.mdb").exists()
    {
        Basis::Unsure
    } else {
        let known = layout::read(disk).unwrap_or_default().change;
        if is_sound(disk, settings, known + 1)? {
            return Err(StoreError::LayoutStale);
        }
        if is_sound(disk, settings, known)? { Basis::Current } else { Basis::Unsure }
    };
    disk.take_order()?;
    start_anew(disk, settings, basis)
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
fn copy_if_sound(
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
fn is_sound(disk: &Disk, settings: &Settings, least_change: u64) -> Result<bool, StoreError> {
    let (directory, map_size) = (disk.index_directory(), settings.index_map_size);
    verdict(
        settings,
        &Inspection { directory: &directory, map_size, previous: false, least_change, copy: None },
    )
}

fn verdict(settings: &Settings, inspection: &Inspection) -> Result<bool, StoreError> {
    match (settings.inspect)(inspection) {
        Soundness::Sound => Ok(true),
        Soundness::Broken => Ok(false),
        Soundness::Unknown(why) => Err(StoreError::io("look at the index", std::io::Error::other(why))),
    }
}

/// Whether an index that is empty should not be: there are names or blobs.
fn something_is_there(disk: &Disk) -> Result<bool, StoreError> {
    if disk.top("index.json").exists() {
        return Ok(true);
    }
    for algorithm in Algorithm::ALL {
        if disk.blobs(algorithm)?.next().is_some() {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Sets the index aside and opens an empty one, to be filled; the caller holds [`Disk::lock_index_file`].
fn start_anew(disk: &Disk, settings: &Settings, basis: Basis) -> Result<Opened, StoreError> {
    // Where no index can be opened, for lack of room or of memory for so large a map, the old one is not at fault.
    disk.forget_inspected_index()?;
    drop(sys::open_environment_file(&disk.inspected_index(), settings.index_map_size)?);
    disk.forget_inspected_index()?;
    if let Some(aside) = disk.set_index_aside(&super::seconds_since_1970().to_string())? {
        log::warn!("the index that was there is kept in {}", aside.display());
    }
    let index = Index::open(disk, settings.index_map_size)?;
    Ok(Opened { index, rebuild: Some(basis), stale_layout: true })
}

/// Whether an error says that the files are no index, rather than that they cannot be reached now.
fn is_broken(error: &StoreError) -> bool {
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

/// Fills a new index from `index.json`, the manifests it names and the blobs on the disk. Where names may be lost, what no
/// name needs is not collected before somebody says so: it may be what they named.
pub(super) async fn rebuild(
    disk: &Arc<Disk>,
    index: &Arc<Index>,
    writer: &Writer,
    (basis, told): (Basis, fn(&str)),
) -> Result<(), StoreError> {
    let reader = Arc::clone(disk);
    let read = move || {
        empty_trash_into_blobs(&reader)?;
        Ok((layout_or_none(&reader)?, all_blobs(&reader)?))
    };
    let (layout, blobs) = super::blocking(read).await?;
    let Layout { names, change, now, hold } = layout;
    log::warn!(
        "making the index again: {} names in index.json, {} blobs on the disk",
        names.len(),
        blobs.len()
    );
    writer
        .submit(move |batch| {
            batch.index.clock.advance_to(now);
            batch.go_on_from_change(change)?;
            batch.keep_clock()
        })
        .await?;
    for (number, part) in blobs.chunks(AT_ONCE).enumerate() {
        told(&format!("making the index again: {} of {} blobs", number * AT_ONCE, blobs.len()));
        let part = part.to_vec();
        writer.submit(move |batch| know_blobs(batch, &part)).await?;
    }
    let left_out = put_back(disk, writer, names, told).await?;
    if left_out > 0 {
        let aside = disk.keep_layout_beside(&super::seconds_since_1970().to_string())?;
        log::error!("{left_out} names are left out; they are kept in {}", aside.display());
    }
    let index = Arc::clone(index);
    let orphans = super::blocking(move || index.blobs_nobody_needs()).await?;
    if hold || orphans > 0 && (left_out > 0 || basis == Basis::Unsure) {
        log::error!(
            "names may be lost, and none needs {orphans} of the blobs: nothing is collected until `holdfast gc` is run, or \
             the admin page told to collect"
        );
        writer.submit(|batch| batch.hold_collection(true)).await?;
    }
    writer.mark_complete().await?;
    log::warn!("the index is made again");
    Ok(())
}

/// Reads the manifests of these names and puts them into the index, many in one transaction; gives how many could not be.
async fn put_back(
    disk: &Arc<Disk>,
    writer: &Writer,
    names: Vec<layout::Name>,
    told: fn(&str),
) -> Result<usize, StoreError> {
    let (all, mut names, mut restored) = (names.len(), names.into_iter(), 0);
    loop {
        told(&format!("making the index again: {} of {all} names", all - names.len()));
        let reader = Arc::clone(disk);
        let (part, rest) = super::blocking(move || Ok((read_some(&reader, &mut names)?, names))).await?;
        names = rest;
        if part.is_empty() {
            return Ok(all - restored);
        }
        restored += part.len();
        writer.submit(move |batch| part.iter().try_for_each(|new| restore(batch, new))).await?;
    }
}

/// The next manifests that can be read: few enough for one transaction, and for the memory.
fn read_some(
    disk: &Disk,
    names: &mut impl Iterator<Item = layout::Name>,
) -> Result<Vec<NewManifest>, StoreError> {
    let (mut part, mut bytes) = (Vec::new(), 0);
    while part.len() < AT_ONCE && bytes < LARGEST_MANIFEST {
        let Some(name) = names.next() else { break };
        match read_manifest(disk, &name) {
            Ok(new) => {
                bytes += new.size;
                part.push(new);
            }
            // It may be readable in a moment.
            Err(error) if is_for_lack_of_something(&error) => return Err(error),
            Err(error) => log::warn!("{} of {} is left out: {error}", name.reference, name.repository),
        }
    }
    Ok(part)
}

fn is_for_lack_of_something(error: &StoreError) -> bool {
    let StoreError::Io { source, .. } = error else { return false };
    source.raw_os_error().is_some_and(|code| [libc::EMFILE, libc::ENFILE, libc::ENOMEM].contains(&code))
}

/// What `index.json` says; if that is broken, too, it is kept beside and says nothing.
fn layout_or_none(disk: &Disk) -> Result<Layout, StoreError> {
    match layout::read(disk) {
        Err(StoreError::Io { source, .. }) if source.kind() == std::io::ErrorKind::InvalidData => {
            log::error!("index.json is broken, too, and kept beside: the names of the images are lost");
            disk.set_layout_aside(&super::seconds_since_1970().to_string())?;
            Ok(Layout::default())
        }
        layout => layout,
    }
}

/// Without the index nobody knows which of the files in the trash are needed: the next collection finds out.
fn empty_trash_into_blobs(disk: &Disk) -> Result<(), StoreError> {
    disk.trash()?.iter().try_for_each(|digest| disk.restore(digest))?;
    Algorithm::ALL.into_iter().try_for_each(|algorithm| disk.sync_blobs(algorithm))
}

fn all_blobs(disk: &Disk) -> Result<Vec<(Digest, u64)>, StoreError> {
    let mut blobs = Vec::new();
    for algorithm in Algorithm::ALL {
        for digest in disk.blobs(algorithm)? {
            let length = disk.blob_length(&digest)?;
            blobs.extend(length.map(|length| (digest, length)));
        }
    }
    Ok(blobs)
}

fn know_blobs(batch: &mut Batch, blobs: &[(Digest, u64)]) -> Result<(), StoreError> {
    blobs.iter().try_for_each(|(digest, size)| batch.know_blob(digest, *size))
}

fn restore(batch: &mut Batch, new: &NewManifest) -> Result<(), StoreError> {
    batch.know_blob(&new.digest, new.size)?;
    batch.link_children(new)?;
    batch.index_manifest(new)
}

fn read_manifest(disk: &Disk, name: &layout::Name) -> Result<NewManifest, StoreError> {
    let damaged = || StoreError::Damaged(name.digest.clone());
    let size = disk.blob_length(&name.digest)?.ok_or_else(damaged)?;
    let bytes = super::blob::read_whole(disk, &name.digest, size)?;
    let manifest = Manifest::parse(&bytes, Some(&name.media_type)).map_err(|_| damaged())?;
    let tags = match &name.reference {
        Reference::Tag(tag) => vec![tag.clone()],
        Reference::Digest(_) => Vec::new(),
    };
    let (repository, digest) = (name.repository.clone(), name.digest.clone());
    Ok(NewManifest { repository, manifest, digest, size, tags, given: name.given })
}
