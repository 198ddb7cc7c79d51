//! The changes that a repair makes in the index, each applied inside the writer's transaction.

use super::batch::Batch;
use super::deletes::{Deleted, ManifestDelete};
use super::rows::BlobRow;
use super::{keys, schema};
use crate::oci::{Digest, RepositoryName, Tag};
use crate::store::error::StoreError;

impl Batch<'_> {
    /// Notes that names were lost, or that a person has seen to it: until then only a person collects.
    pub(in crate::store) fn hold_collection(&mut self, hold: bool) -> Result<(), StoreError> {
        let meta = self.index.tables.meta;
        if hold {
            meta.put(&mut self.txn, schema::HOLD, &[])?;
        } else {
            meta.delete(&mut self.txn, schema::HOLD)?;
        }
        // An index that is made again knows it from there.
        self.names_changed();
        Ok(())
    }

    /// Removes a manifest whose file is broken from a repository, with tags that point at it; none if its file is another one
    /// by now than the one that was looked at. A push replaces the file, so that no tag is set without that.
    pub(in crate::store) fn delete_broken_manifest(
        &mut self,
        delete: &ManifestDelete,
        tags: &[Tag],
        file: Option<u64>,
    ) -> Result<Option<Deleted>, StoreError> {
        if self.disk.blob_file(&delete.digest)? != file {
            return Ok(None);
        }
        self.delete_with_tags(delete, tags).map(Some)
    }

    /// Removes some of the tags of a manifest whose file is broken; false if it is another file by now.
    pub(in crate::store) fn delete_tags_of_broken(
        &mut self,
        delete: &ManifestDelete,
        tags: &[Tag],
        file: Option<u64>,
    ) -> Result<bool, StoreError> {
        if self.disk.blob_file(&delete.digest)? != file {
            return Ok(false);
        }
        self.delete_tags_of(&delete.repository, &delete.digest, tags)?;
        Ok(true)
    }

    /// Moves a broken blob out of `blobs/` and forgets it everywhere, so that the next push brings it again; false if it is
    /// another file by now than the one that was looked at, or a manifest of a repository.
    pub(in crate::store) fn set_blob_aside(
        &mut self,
        digest: &Digest,
        file: Option<u64>,
    ) -> Result<bool, StoreError> {
        let (tables, key) = (self.index.tables, keys::digest_key(digest));
        let is_manifest = tables.manifest_repositories.prefix_iter(&self.txn, &key)?.next().is_some();
        if is_manifest || self.disk.blob_file(digest)? != file {
            return Ok(false);
        }
        if let Some(row) = schema::row::<BlobRow>(tables.blobs, &self.txn, &key)? {
            self.remove_blob_rows(digest, row.size)?;
        }
        self.disk.set_blob_aside(digest)?;
        Ok(true)
    }

    /// Makes a blob known in a repository again, if its file is there.
    pub(in crate::store) fn link_again(
        &mut self,
        repository: &RepositoryName,
        digest: &Digest,
    ) -> Result<bool, StoreError> {
        let Some(size) = self.disk.blob_length(digest)? else { return Ok(false) };
        self.know_blob(digest, size)?;
        self.link_blob(repository, digest, size)?;
        Ok(true)
    }
}
