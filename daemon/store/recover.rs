//! Opening the index when it may be broken: a ladder, and the log says which rung held.
//!
//! 1. The index as it is. 2. LMDB's snapshot before the last commit. 3. A new index, made from `index.json`, the
//!    manifests and the blobs; at once if the old one is of a system of another word size. A broken index is kept
//!    beside, never deleted.

use std::sync::Arc;

use super::Settings;
use super::blob::LARGEST_MANIFEST;
use super::disk::Disk;
use super::error::StoreError;
use super::index::Index;
use super::index::changes::NewManifest;
use super::index::inspect::Inspection;
use super::index::writer::{Batch, Writer};
use super::layout;
use crate::oci::{Algorithm, Digest, Manifest, Reference};

/// How many blobs or manifests go into one transaction.
const AT_ONCE: usize = 1000;

/// What the ladder found.
pub(super) struct Opened {
    /// The index.
    pub(super) index: Index,
    /// Whether it is new and has to be filled.
    pub(super) rebuild: bool,
    /// Whether it may miss its last change, and names have to come from `index.json`.
    pub(super) merge: bool,
}

/// Refuses an index that nobody has in use and that is broken; it is only looked at if it was not closed in good
/// order.
pub(super) fn refuse_broken(disk: &Disk, settings: &Settings) -> Result<(), StoreError> {
    let directory = disk.index_directory();
    if disk.index_is_of_another_word_size()? {
        return Err(StoreError::Unready);
    }
    let (directory, map_size) = (&directory, settings.index_map_size);
    let inspection = Inspection { directory, map_size, previous: false, copy: None };
    if Disk::daemon_runs(&settings.path) || disk.has_clean_mark() || (settings.inspect)(&inspection) {
        return Ok(());
    }
    Err(StoreError::Unready)
}

/// Opens the index by the first rung that holds.
pub(super) fn open(disk: &Disk, settings: &Settings) -> Result<Opened, StoreError> {
    let map_size = settings.index_map_size;
    let clean = disk.take_clean_mark();
    (settings.opening)("opening the index");
    if disk.index_is_of_another_word_size()? {
        log::warn!("the index was written by a system of another word size; making it again from index.json");
        return Ok(Opened { index: start_anew(disk, map_size)?, rebuild: true, merge: false });
    }
    let there = disk.index_directory().join("data.mdb").exists();
    let sound = if clean || !there {
        disk.forget_inspected_index()?;
        true
    } else {
        reads(disk, settings, false)?
    };
    let why = if sound {
        disk.use_inspected_index()?;
        match Index::open(disk, map_size) {
            Ok(index) => {
                let rebuild = !index.is_complete()? && disk.top("index.json").exists();
                return Ok(Opened { index, rebuild, merge: false });
            }
            Err(error) if !is_broken(&error) => return Err(error),
            Err(error) => error.to_string(),
        }
    } else {
        "it does not read to its end".to_owned()
    };
    log::warn!("the index is broken ({why}); trying its previous snapshot");
    if reads(disk, settings, true)? && disk.inspected_index().exists() {
        let aside = disk.copy_index_aside(&super::seconds_since_1970().to_string())?;
        disk.use_inspected_index()?;
        match Index::open(disk, map_size) {
            Ok(index) if index.is_complete()? => {
                log::warn!(
                    "the index was opened at its previous snapshot; what the last change to it was is looked up \
                     in index.json, and a copy of the broken one is in {}",
                    aside.display()
                );
                return Ok(Opened { index, rebuild: false, merge: true });
            }
            Ok(_) => {}
            Err(error) => log::warn!("the previous snapshot cannot be opened: {error}"),
        }
    }
    disk.forget_inspected_index()?;
    log::warn!("its previous snapshot is no better; making it again from index.json");
    Ok(Opened { index: start_anew(disk, map_size)?, rebuild: true, merge: false })
}

/// Whether a snapshot of the index reads to its end; there is a copy of it then, if the disk has room.
fn reads(disk: &Disk, settings: &Settings, previous: bool) -> Result<bool, StoreError> {
    disk.forget_inspected_index()?;
    let (directory, copy) = (disk.index_directory(), disk.inspected_index());
    let map_size = settings.index_map_size;
    Ok((settings.inspect)(&Inspection { directory: &directory, map_size, previous, copy: Some(&copy) }))
}

/// Sets the index aside and opens an empty one, to be filled.
pub(super) fn start_anew(disk: &Disk, map_size: usize) -> Result<Index, StoreError> {
    let aside = disk.set_index_aside(&super::seconds_since_1970().to_string())?;
    log::warn!("the index that was there is kept in {}", aside.display());
    Index::open(disk, map_size)
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

/// Fills a new index from `index.json`, the manifests it names and the blobs on the disk.
pub(super) async fn rebuild(disk: &Arc<Disk>, writer: &Writer, told: fn(&str)) -> Result<(), StoreError> {
    let reader = Arc::clone(disk);
    let read = move || {
        empty_trash_into_blobs(&reader)?;
        Ok((names_or_none(&reader)?, all_blobs(&reader)?))
    };
    let (names, blobs) = super::blocking(read).await?;
    log::warn!(
        "making the index again: {} names in index.json, {} blobs on the disk",
        names.len(),
        blobs.len()
    );
    if names.is_empty() && !blobs.is_empty() {
        log::error!(
            "nothing names these blobs any more: none is collected until `holdfast gc` is run by hand"
        );
        writer.submit(|batch| batch.hold_collection(true)).await?;
    }
    for (number, part) in blobs.chunks(AT_ONCE).enumerate() {
        told(&format!("making the index again: {} of {} blobs", number * AT_ONCE, blobs.len()));
        let part = part.to_vec();
        writer.submit(move |batch| know_blobs(batch, &part)).await?;
    }
    put_back(disk, writer, names, told).await?;
    writer.mark_complete().await?;
    log::warn!("the index is made again");
    Ok(())
}

/// Puts the names of `index.json` that an older snapshot of the index does not have back into it.
pub(super) async fn merge_names(
    disk: &Arc<Disk>,
    index: &Arc<Index>,
    writer: &Writer,
) -> Result<(), StoreError> {
    let (reader, known) = (Arc::clone(disk), Arc::clone(index));
    let missing = super::blocking(move || {
        let mut missing = Vec::new();
        for name in names_or_none(&reader)? {
            let reference = match &name.tag {
                Some(tag) => Reference::Tag(tag.clone()),
                None => Reference::Digest(name.digest.clone()),
            };
            if known.manifest(&name.repository, &reference)?.is_none() {
                missing.push(name);
            }
        }
        Ok(missing)
    })
    .await?;
    for name in &missing {
        log::warn!("{} of {} is back from index.json", name.digest, name.repository);
    }
    put_back(disk, writer, missing, |_| {}).await
}

/// Reads the manifests of these names and puts them into the index, many in one transaction.
async fn put_back(
    disk: &Arc<Disk>,
    writer: &Writer,
    names: Vec<layout::Name>,
    told: fn(&str),
) -> Result<(), StoreError> {
    let (all, mut names) = (names.len(), names.into_iter());
    loop {
        told(&format!("making the index again: {} of {all} names", all - names.len()));
        let reader = Arc::clone(disk);
        let (part, rest) = super::blocking(move || Ok((read_some(&reader, &mut names), names))).await?;
        names = rest;
        if part.is_empty() {
            return Ok(());
        }
        writer.submit(move |batch| part.iter().try_for_each(|new| restore(batch, new))).await?;
    }
}

/// The next manifests that can be read: few enough for one transaction, and for the memory.
fn read_some(disk: &Disk, names: &mut impl Iterator<Item = layout::Name>) -> Vec<NewManifest> {
    let (mut part, mut bytes) = (Vec::new(), 0);
    while part.len() < AT_ONCE && bytes < LARGEST_MANIFEST {
        let Some(name) = names.next() else { break };
        if let Some(new) = read_manifest(disk, &name) {
            bytes += new.size;
            part.push(new);
        }
    }
    part
}

/// The names in `index.json`; if that is broken, too, it is kept beside and there are none.
fn names_or_none(disk: &Disk) -> Result<Vec<layout::Name>, StoreError> {
    match layout::read(disk) {
        Err(StoreError::Io { source, .. }) if source.kind() == std::io::ErrorKind::InvalidData => {
            log::error!("index.json is broken, too, and kept beside: the names of the images are lost");
            disk.set_layout_aside(&super::seconds_since_1970().to_string())?;
            Ok(Vec::new())
        }
        names => names,
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

fn read_manifest(disk: &Disk, name: &layout::Name) -> Option<NewManifest> {
    let size = disk.blob_length(&name.digest).ok()??;
    let bytes = super::blob::read_whole(disk, &name.digest, size).ok()?;
    let Ok(manifest) = Manifest::parse(&bytes, Some(&name.media_type)) else {
        log::warn!("{} of {} is not readable as a manifest and is left out", name.digest, name.repository);
        return None;
    };
    let tags = name.tag.iter().cloned().collect();
    Some(NewManifest {
        repository: name.repository.clone(),
        manifest,
        digest: name.digest.clone(),
        size,
        tags,
    })
}
