//! Opening the index when it may be broken: a ladder, and the log says which rung held.
//!
//! 1. The index as it is. 2. LMDB's snapshot before the last commit. 3. A new index, made from `index.json`, the
//!    manifests and the blobs. A broken index is kept beside, never deleted.

use std::sync::Arc;

use super::disk::Disk;
use super::error::StoreError;
use super::index::Index;
use super::index::changes::NewManifest;
use super::index::writer::{Batch, Writer};
use super::layout;
use crate::oci::{Algorithm, Digest, Manifest};

/// What the ladder found.
pub(super) struct Opened {
    /// The index.
    pub(super) index: Index,
    /// Whether it is new and has to be filled.
    pub(super) rebuild: bool,
}

/// Opens the index by the first rung that holds.
pub(super) fn open(disk: &Disk, map_size: usize) -> Result<Opened, StoreError> {
    let first = match Index::open(disk, map_size, false) {
        Ok(index) => {
            let rebuild = !index.is_complete()? && disk.top("index.json").exists();
            return Ok(Opened { index, rebuild });
        }
        Err(error) if !is_broken(&error) => return Err(error),
        Err(error) => error,
    };
    log::warn!("the index cannot be opened ({first}); trying its previous snapshot");
    match Index::open(disk, map_size, true) {
        Ok(index) => {
            log::warn!("the index was opened at its previous snapshot; the last change to it may be lost");
            return Ok(Opened { index, rebuild: false });
        }
        Err(error) => log::warn!("nor its previous snapshot ({error}); making it again from index.json"),
    }
    Ok(Opened { index: start_anew(disk, map_size)?, rebuild: true })
}

/// Sets the index aside and opens an empty one, to be filled.
pub(super) fn start_anew(disk: &Disk, map_size: usize) -> Result<Index, StoreError> {
    let aside = disk.set_index_aside(&super::seconds_since_1970().to_string())?;
    log::warn!("the index that was there is kept in {}", aside.display());
    Index::open(disk, map_size, false)
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
pub(super) async fn rebuild(disk: &Arc<Disk>, writer: &Writer) -> Result<(), StoreError> {
    let reader = Arc::clone(disk);
    let (names, blobs) = super::blocking(move || Ok((layout::read(&reader)?, all_blobs(&reader)?))).await?;
    log::warn!(
        "making the index again: {} names in index.json, {} blobs on the disk",
        names.len(),
        blobs.len()
    );
    for part in blobs.chunks(1000) {
        let part = part.to_vec();
        writer.submit(move |batch| know_blobs(batch, &part)).await?;
    }
    for name in names {
        let reader = Arc::clone(disk);
        let new = super::blocking(move || Ok(read_manifest(&reader, &name))).await?;
        if let Some(new) = new {
            writer.submit(move |batch| restore(batch, &new)).await?;
        }
    }
    writer.mark_complete().await?;
    log::warn!("the index is made again");
    Ok(())
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
