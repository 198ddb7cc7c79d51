//! Keeps the link exceptions current; see `tables/link_exceptions.rs`.

use super::applier::Applier;
use super::apply::Apply;
use crate::oci::{Digest, ReferenceKind, ReferencedContent, RepositoryName};
use crate::store::error::StoreError;
use crate::store::index::tables::link_exceptions::LinkException;
use crate::store::index::tables::parents::References;
use crate::store::index::tables::rows::{BlobRow, LinkExceptionRow};
use crate::store::index::tables::{Table, WriteTables, keys};

/// Removes link exceptions that no manifest of their repository needs any more.
#[derive(Debug)]
pub(in crate::store) struct RemoveLinkExceptions(pub(in crate::store) Vec<LinkException>);

impl Apply for RemoveLinkExceptions {
    type Reply = ();

    fn apply<T: WriteTables>(&self, to: &mut Applier<'_, T>) -> Result<(), StoreError> {
        to.remove_link_exceptions(&self.0)
    }
}

/// Restores link exceptions of `index.json`, before or after the manifests that they concern.
#[derive(Debug)]
pub(in crate::store) struct RestoreLinkExceptions(pub(in crate::store) Vec<LinkException>);

impl Apply for RestoreLinkExceptions {
    type Reply = ();

    fn apply<T: WriteTables>(&self, to: &mut Applier<'_, T>) -> Result<(), StoreError> {
        self.0.iter().try_for_each(|exception| to.restore_link_exception(exception))
    }
}

impl<T: WriteTables> Applier<'_, T> {
    /// Records a foreign layer of a pushed manifest, if the repository has the blob.
    pub(super) fn record_foreign_link(
        &mut self,
        repository: &RepositoryName,
        digest: &Digest,
    ) -> Result<(), StoreError> {
        let key = keys::content_key(repository, digest);
        if self.tables.get(Table::RepositoryBlobs, &key)?.is_none() {
            return Ok(());
        }
        Ok(self.tables.put_row(Table::LinkExceptions, &key, &LinkExceptionRow::Linked)?)
    }

    /// Records that a repository gets a blob that one of its manifests references already: it was deleted before, or
    /// the manifests reference it only as foreign. If that would take too many lookups, it is recorded in any case:
    /// the row is true, and a collection removes it if no manifest needs it.
    pub(super) fn record_new_link(
        &mut self,
        repository: &RepositoryName,
        digest: &Digest,
    ) -> Result<(), StoreError> {
        let key = keys::content_key(repository, digest);
        if self.tables.may_be_referenced_in(repository, digest)? {
            self.tables.put_row(Table::LinkExceptions, &key, &LinkExceptionRow::Linked)?;
            self.names_changed();
        } else if self.tables.get(Table::LinkExceptions, &key)?.is_some() {
            self.tables.delete(Table::LinkExceptions, &key)?;
            self.names_changed();
        }
        Ok(())
    }

    /// Records that a client deleted content, as a blob or as a manifest, that a manifest of the repository
    /// references. As in [`Applier::record_new_link`], too many lookups record it in any case.
    pub(super) fn record_deletion(
        &mut self,
        repository: &RepositoryName,
        digest: &Digest,
    ) -> Result<(), StoreError> {
        let key = keys::content_key(repository, digest);
        let is_linked = self.tables.get(Table::RepositoryBlobs, &key)?.is_some();
        if !is_linked && self.tables.may_be_referenced_in(repository, digest)? {
            self.tables.put_row(Table::LinkExceptions, &key, &LinkExceptionRow::Deleted)?;
            self.note_candidate(Some(repository), digest)?;
        } else if !is_linked {
            self.tables.delete(Table::LinkExceptions, &key)?;
        }
        self.names_changed();
        Ok(())
    }

    /// Restores a link exception of `index.json`, before or after the manifests that it concerns.
    fn restore_link_exception(&mut self, exception: &LinkException) -> Result<(), StoreError> {
        let LinkException { repository, digest, kind } = exception;
        match kind {
            LinkExceptionRow::Deleted | LinkExceptionRow::Missing => {
                self.unlink_blob(repository, digest)?;
            }
            LinkExceptionRow::Linked => {
                let row: Option<BlobRow> = self.tables.row(Table::Blobs, &keys::digest_key(digest))?;
                if let Some(row) = row {
                    self.link_blob(repository, digest, row.size)?;
                }
            }
        }
        let key = keys::content_key(repository, digest);
        Ok(self.tables.put_row(Table::LinkExceptions, &key, kind)?)
    }

    /// Links every stored blob that a manifest references to its repository, except for the link exceptions; for a
    /// rebuild, after the exceptions are restored.
    pub(super) fn link_children(
        &mut self,
        repository: &RepositoryName,
        links: &[ReferencedContent],
    ) -> Result<(), StoreError> {
        for link in links {
            let exception = keys::content_key(repository, &link.digest);
            let exception: Option<LinkExceptionRow> = self.tables.row(Table::LinkExceptions, &exception)?;
            let is_linked = match link.kind {
                ReferenceKind::Manifest => false,
                ReferenceKind::Blob => !exception.is_some_and(LinkExceptionRow::is_absence),
                ReferenceKind::Foreign => exception == Some(LinkExceptionRow::Linked),
            };
            let key = keys::digest_key(&link.digest);
            let row: Option<BlobRow> = self.tables.row(Table::Blobs, &key)?;
            if let Some(row) = row.filter(|_| is_linked) {
                self.link_blob(repository, &link.digest, row.size)?;
            }
        }
        Ok(())
    }

    /// Removes the link exception of a blob that no manifest of its repository references any more.
    pub(super) fn drop_exception(
        &mut self,
        repository: &RepositoryName,
        digest: &Digest,
    ) -> Result<(), StoreError> {
        if self.tables.delete(Table::LinkExceptions, &keys::content_key(repository, digest))? {
            self.names_changed();
        }
        Ok(())
    }

    /// Removes link exceptions that no manifest of their repository needs any more.
    fn remove_link_exceptions(&mut self, exceptions: &[LinkException]) -> Result<(), StoreError> {
        for LinkException { repository, digest, .. } in exceptions {
            if !self.tables.is_referenced_in(repository, digest)? {
                self.drop_exception(repository, digest)?;
            }
        }
        Ok(())
    }
}
