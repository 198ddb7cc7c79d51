//! The trash of an earlier release, which moved blobs to `trash/` before the commit that forgot them.

use std::collections::BTreeSet;

use crate::oci::Algorithm;
use crate::store::blob_store::BlobStore;
use crate::store::disk::Disk;
use crate::store::error::StoreError;
use crate::store::index::Index;

/// Restores the files in the trash that the index has and that `blobs/` lacks, and removes the others; blocking.
pub(super) fn recover(disk: &Disk, index: &Index) -> Result<(), StoreError> {
    let trash = disk.trash()?;
    if trash.is_empty() {
        disk.remove_empty_trash();
        return Ok(());
    }
    let _changing = disk.begin_changes()?;
    let (mut restored, mut removable) = (BTreeSet::<Algorithm>::new(), Vec::new());
    for digest in trash {
        if index.contains_blob(&digest)? && disk.blob_length(&digest)?.is_none() {
            disk.restore_from_trash(&digest)?;
            restored.insert(digest.algorithm());
        } else {
            removable.push(digest);
        }
    }
    restored.into_iter().try_for_each(|algorithm| disk.sync(algorithm))?;
    removable.iter().try_for_each(|digest| disk.remove_trash(digest))?;
    disk.remove_empty_trash();
    Ok(())
}
