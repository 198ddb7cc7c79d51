//! The changes that a repair makes in the index, each applied inside the writer's transaction.

use super::deletes::Subject;
use super::schema::{self, BlobRow};
use super::text_behind;
use super::writer::Batch;
use crate::oci::{Digest, RepositoryName};
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

    /// Moves a broken blob out of `blobs/` and forgets it everywhere, a manifest with its tags, so that the next push
    /// brings it again; false if it is another file by now than the one that was looked at.
    pub(in crate::store) fn set_blob_aside(
        &mut self,
        digest: &Digest,
        file: Option<u64>,
    ) -> Result<bool, StoreError> {
        if self.disk.blob_file(digest)? != file {
            return Ok(false);
        }
        let (tables, key) = (self.index.tables, schema::digest_key(digest));
        let mut homes = Vec::new();
        for row in tables.manifest_homes.prefix_iter(&self.txn, &key)? {
            homes.extend(text_behind(row?.0, key.len()).and_then(|name| name.parse().ok()));
        }
        for repository in homes {
            // The bytes of a broken manifest say nothing.
            self.delete_manifest(&repository, digest, &Subject::Unreadable)?;
        }
        if let Some(row) = schema::row::<BlobRow>(tables.blobs, &self.txn, &key)? {
            self.forget_blob(digest, row.size)?;
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
