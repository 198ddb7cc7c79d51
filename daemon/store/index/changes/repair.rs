//! The changes of a repair: corrupt content is removed, so that the next push brings it again.
//!
//! Each one has the inode of the file that was read. A file that has been replaced since stays: every push replaces the
//! file, so that a replaced file also means that a tag may have been set.

use std::sync::Arc;

use super::applier::Applier;
use super::apply::{Apply, FileFact, Needs};
use super::deletes::{Deleted, ManifestDelete};
use crate::oci::{Digest, RepositoryName};
use crate::store::error::StoreError;
use crate::store::index::event::EventKind;
use crate::store::index::tables::link_exceptions::LinkExceptions;
use crate::store::index::tables::parents::References;
use crate::store::index::tables::rows::{BlobRow, LinkExceptionRow};
use crate::store::index::tables::{Table, WriteTables, keys};

/// A file that was found corrupt, and the file that has its name when the change is applied.
#[derive(Debug)]
pub(in crate::store) struct CorruptFile {
    /// The inode of the file that was read; `None` if it was missing.
    read: Option<u64>,
    now: FileFact,
}

impl CorruptFile {
    /// Returns the file of a blob that was read under this inode.
    pub(in crate::store) fn new(digest: Digest, read: Option<u64>) -> Self {
        CorruptFile { read, now: FileFact::about(digest) }
    }

    fn is_replaced(&self) -> bool {
        self.now.inode() != self.read
    }

    fn fact(&mut self) -> Needs<'_> {
        Needs::Facts(std::slice::from_mut(&mut self.now))
    }
}

/// Removes a manifest whose file is corrupt, with its tags, or some of them if it has very many.
#[derive(Debug)]
pub(in crate::store) struct DeleteBrokenManifest {
    pub(in crate::store) delete: Arc<ManifestDelete>,
    pub(in crate::store) file: CorruptFile,
}

impl Apply for DeleteBrokenManifest {
    type Reply = Option<Deleted>;

    fn apply<T: WriteTables>(&self, to: &mut Applier<'_, T>) -> Result<Option<Deleted>, StoreError> {
        if self.file.is_replaced() {
            return Ok(None);
        }
        to.delete_manifest(&self.delete).map(Some)
    }

    fn needs(&mut self) -> Needs<'_> {
        self.file.fact()
    }
}

/// Removes the rows of a corrupt blob everywhere, and moves its file to `damaged/`. Refused if the file has been
/// replaced, or is a manifest of a repository.
#[derive(Debug)]
pub(in crate::store) struct SetBlobAside(pub(in crate::store) CorruptFile);

impl Apply for SetBlobAside {
    type Reply = bool;

    fn apply<T: WriteTables>(&self, to: &mut Applier<'_, T>) -> Result<bool, StoreError> {
        let digest = &self.0.now.digest;
        let key = keys::digest_key(digest);
        let is_manifest = to.tables.prefix(Table::ManifestRepositories, &key)?.next().is_some();
        if is_manifest || self.0.is_replaced() {
            return Ok(false);
        }
        if let Some(row) = to.tables.row::<BlobRow>(Table::Blobs, &key)? {
            for repository in to.repositories_of(digest)? {
                if !to.tables.is_referenced_in(&repository, digest)? {
                    to.drop_exception(&repository, digest)?;
                }
            }
            to.remove_blob_rows(digest, row.size)?;
        }
        to.files.set_aside.push(digest.clone());
        to.emit_content(EventKind::Repair, None, digest);
        Ok(true)
    }

    fn needs(&mut self) -> Needs<'_> {
        self.0.fact()
    }
}

/// Adds a blob to a repository again if its file exists, and the repository still requires it: it was found in an earlier snapshot.
#[derive(Debug)]
pub(in crate::store) struct RestoreLink {
    pub(in crate::store) repository: RepositoryName,
    pub(in crate::store) file: FileFact,
}

impl Apply for RestoreLink {
    type Reply = bool;

    fn apply<T: WriteTables>(&self, to: &mut Applier<'_, T>) -> Result<bool, StoreError> {
        let Some(size) = self.file.length() else { return Ok(false) };
        let exception = to.tables.link_exception(&self.repository, &self.file.digest)?;
        if exception.is_some_and(LinkExceptionRow::is_absence)
            || !to.tables.may_be_referenced_in(&self.repository, &self.file.digest)?
        {
            return Ok(false);
        }
        to.record_blob(&self.file.digest, size)?;
        to.link_blob(&self.repository, &self.file.digest, size)?;
        to.emit_content(EventKind::Repair, Some(&self.repository), &self.file.digest);
        Ok(true)
    }

    fn needs(&mut self) -> Needs<'_> {
        Needs::Facts(std::slice::from_mut(&mut self.file))
    }
}
