//! The changes of a repair, applied inside the writer's transaction.

use super::batch::Batch;
use super::deletes::{Deleted, ManifestDelete};
use super::rows::BlobRow;
use super::{keys, schema};
use crate::oci::{Digest, RepositoryName, Tag};
use crate::store::error::StoreError;

impl Batch<'_> {
    /// Sets or clears the collection hold: while it is set, only the operator starts a collection.
    pub(in crate::store) fn hold_collection(&mut self, hold: bool) -> Result<(), StoreError> {
        let meta = self.index.tables.meta;
        if hold {
            meta.put(&mut self.txn, schema::HOLD, &[])?;
        } else {
            meta.delete(&mut self.txn, schema::HOLD)?;
        }
        // `index.json` carries the hold to a rebuilt index.
        self.names_changed();
        Ok(())
    }

    /// Removes a manifest whose file is corrupt, with its tags. Returns `None` if the file has been replaced since it
    /// was read. Every push replaces the file, so that a replaced file also means that a tag may have been set.
    pub(in crate::store) fn delete_broken_manifest(
        &mut self,
        delete: &ManifestDelete,
        tags: &[Tag],
        file: Option<u64>,
    ) -> Result<Option<Deleted>, StoreError> {
        if self.disk.blob_inode(&delete.digest)? != file {
            return Ok(None);
        }
        self.delete_with_tags(delete, tags).map(Some)
    }

    /// Removes some of the tags of a manifest whose file is corrupt; returns false if the file has been replaced.
    pub(in crate::store) fn delete_tags_of_broken(
        &mut self,
        delete: &ManifestDelete,
        tags: &[Tag],
        file: Option<u64>,
    ) -> Result<bool, StoreError> {
        if self.disk.blob_inode(&delete.digest)? != file {
            return Ok(false);
        }
        self.delete_tags_of(&delete.repository, &delete.digest, tags)?;
        Ok(true)
    }

    /// Moves a corrupt blob to `damaged/` and removes its rows everywhere, so that the next push brings it again.
    /// Returns false if the file has been replaced since it was read, or is a manifest of a repository.
    pub(in crate::store) fn set_blob_aside(
        &mut self,
        digest: &Digest,
        file: Option<u64>,
    ) -> Result<bool, StoreError> {
        let (tables, key) = (self.index.tables, keys::digest_key(digest));
        let is_manifest = tables.manifest_repositories.prefix_iter(&self.txn, &key)?.next().is_some();
        if is_manifest || self.disk.blob_inode(digest)? != file {
            return Ok(false);
        }
        if let Some(row) = schema::row::<BlobRow>(tables.blobs, &self.txn, &key)? {
            self.remove_blob_rows(digest, row.size)?;
        }
        self.disk.move_to_damaged(digest)?;
        Ok(true)
    }

    /// Adds a blob to a repository again if its file exists.
    pub(in crate::store) fn restore_link(
        &mut self,
        repository: &RepositoryName,
        digest: &Digest,
    ) -> Result<bool, StoreError> {
        let Some(size) = self.disk.blob_length(digest)? else { return Ok(false) };
        self.record_blob(digest, size)?;
        self.link_blob(repository, digest, size)?;
        Ok(true)
    }
}
