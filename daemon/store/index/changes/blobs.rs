//! The changes that bring blobs: an upload becomes a blob, and a blob of one repository is mounted in another.
//!
//! Each one checks first and writes afterwards, so that a refused change has written nothing.

use super::applier::Applier;
use super::apply::{Apply, FileFact, Needs};
use crate::oci::{Digest, RepositoryName};
use crate::store::error::StoreError;
use crate::store::index::tables::meta::{self, Meta};
use crate::store::index::tables::parents::WRITER_LOOKUPS;
use crate::store::index::tables::rows::{BlobRow, RepositoryBlobRow};
use crate::store::index::tables::{Table, WriteTables, keys};
use crate::store::upload_files::HashedFile;

/// A blob whose synced file waits in `uploads/`.
#[derive(Clone, Debug)]
pub(in crate::store) struct NewBlob {
    /// The file in `uploads/`.
    pub file: HashedFile,
    /// The digest of its content.
    pub digest: Digest,
}

/// Makes a synced upload a blob of a repository. Without one the blob is loose: known to the index, with a new grace
/// period, and in no repository.
#[derive(Debug)]
pub(in crate::store) struct AdmitBlob {
    pub(in crate::store) repository: Option<RepositoryName>,
    pub(in crate::store) blob: NewBlob,
}

impl Apply for AdmitBlob {
    type Reply = ();

    fn apply<T: WriteTables>(&self, to: &mut Applier<'_, T>) -> Result<(), StoreError> {
        to.admit_blob(self.repository.as_ref(), &self.blob)
    }

    fn needs(&mut self) -> Needs<'_> {
        Needs::Admission(&self.blob.file, &self.blob.digest)
    }
}

/// Mounts a blob of one repository in another.
#[derive(Debug)]
pub(in crate::store) struct MountBlob {
    pub(in crate::store) from: RepositoryName,
    pub(in crate::store) to: RepositoryName,
    /// The file of the blob.
    pub(in crate::store) file: FileFact,
}

/// The reply to [`MountBlob`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::store) enum Mounted {
    /// The repository has the blob.
    Yes,
    /// The source does not have it.
    Unknown,
    /// Its file is missing or has another length: the client has to upload it, which replaces the file.
    Damaged,
}

impl Apply for MountBlob {
    type Reply = Mounted;

    fn apply<T: WriteTables>(&self, to: &mut Applier<'_, T>) -> Result<Mounted, StoreError> {
        to.mount_blob(self)
    }

    fn needs(&mut self) -> Needs<'_> {
        Needs::Facts(std::slice::from_mut(&mut self.file))
    }
}

impl<T: WriteTables> Applier<'_, T> {
    fn admit_blob(&mut self, repository: Option<&RepositoryName>, blob: &NewBlob) -> Result<(), StoreError> {
        self.tables.check_capacity()?;
        self.record_blob(&blob.digest, blob.file.length)?;
        match repository {
            Some(repository) => self.link_blob(repository, &blob.digest, blob.file.length),
            None => self.note_if_in_no_repository(&blob.digest),
        }
    }

    /// Writes the row of a file in `blobs/`, with a new lease.
    pub(super) fn record_blob(&mut self, digest: &Digest, size: u64) -> Result<(), StoreError> {
        let key = keys::digest_key(digest);
        let known: Option<BlobRow> = self.tables.row(Table::Blobs, &key)?;
        self.update_total_bytes(size, known.map_or(0, |row| row.size))?;
        let row = BlobRow { size, leased_at: self.now.store_time };
        Ok(self.tables.put_row(Table::Blobs, &key, &row)?)
    }

    /// Updates the total length of all blobs.
    pub(super) fn update_total_bytes(&mut self, more: u64, less: u64) -> Result<(), StoreError> {
        if more == less {
            return Ok(());
        }
        let bytes = self.tables.bytes()?.saturating_add(more).saturating_sub(less);
        Ok(self.tables.put_row(Table::Meta, meta::BYTES, &bytes)?)
    }

    /// Adds a blob to a repository, with a new lease, and updates the statistics of the repository.
    pub(super) fn link_blob(
        &mut self,
        repository: &RepositoryName,
        digest: &Digest,
        size: u64,
    ) -> Result<(), StoreError> {
        let (key, row) = (
            keys::content_key(repository, digest),
            RepositoryBlobRow { size, leased_at: self.now.store_time },
        );
        let before: Option<RepositoryBlobRow> = self.tables.row(Table::RepositoryBlobs, &key)?;
        self.tables.put_row(Table::RepositoryBlobs, &key, &row)?;
        self.tables.put(Table::BlobRepositories, &keys::repository_key(digest, repository), &[])?;
        if before.is_none() {
            self.forget_candidate(None, digest)?;
            self.note_candidate(Some(repository), digest)?;
            self.record_new_link(repository, digest)?;
            self.fill_holes(repository, digest, &mut WRITER_LOOKUPS.clone())?;
        }
        match before.map_or(0, |row| row.size) {
            before if before == size => Ok(()),
            before => self.update_stats(repository, |counted| {
                counted.bytes = counted.bytes.saturating_add(size).saturating_sub(before);
            }),
        }
    }

    fn mount_blob(&mut self, mount: &MountBlob) -> Result<Mounted, StoreError> {
        let MountBlob { from, to, file } = mount;
        let key = keys::content_key(from, &file.digest);
        let row: Option<RepositoryBlobRow> = self.tables.row(Table::RepositoryBlobs, &key)?;
        let Some(row) = row else { return Ok(Mounted::Unknown) };
        if file.length() != Some(row.size) {
            return Ok(Mounted::Damaged);
        }
        self.tables.check_capacity()?;
        self.record_blob(&file.digest, row.size)?;
        self.link_blob(to, &file.digest, row.size)?;
        Ok(Mounted::Yes)
    }
}
