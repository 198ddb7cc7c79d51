//! Link exceptions: blobs of a repository that do not follow from its manifests.
//!
//! By the rule, a repository has the blobs that its manifests reference as config or layer, and a rebuild links
//! those. There are two exceptions, each with a row here that `index.json` carries: a blob that a client deleted
//! while a manifest references it, and a foreign layer that a client pushed. A foreign descriptor alone links
//! nothing: a client may name any digest there without having the content.

use std::ops::Bound;

use heed::RoTxn;

use super::batch::Batch;
use super::database::Index;
use super::rows::{BlobRow, LinkExceptionRow};
use super::schema::Tables;
use super::{keys, schema};
use crate::oci::{Digest, ReferenceKind, ReferencedContent, RepositoryName};
use crate::store::error::StoreError;

/// A link exception and its key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::store) struct LinkException {
    /// The repository.
    pub repository: RepositoryName,
    /// The blob.
    pub digest: Digest,
    /// The kind of exception.
    pub kind: LinkExceptionRow,
}

impl Tables {
    /// Returns the link exception of a blob in a repository.
    pub(in crate::store) fn link_exception(
        &self,
        txn: &RoTxn,
        repository: &RepositoryName,
        digest: &Digest,
    ) -> Result<Option<LinkExceptionRow>, StoreError> {
        schema::row(self.link_exceptions, txn, &keys::content_key(repository, digest))
    }

    /// Returns a page of link exceptions after `after`, in key order.
    pub(in crate::store) fn link_exceptions_after(
        &self,
        txn: &RoTxn,
        after: Option<&LinkException>,
        limit: usize,
    ) -> Result<Vec<LinkException>, StoreError> {
        let after = after.map(|after| keys::content_key(&after.repository, &after.digest));
        let start = after.as_deref().map_or(Bound::Unbounded, Bound::Excluded);
        let mut page = Vec::new();
        for row in self.link_exceptions.range(txn, &(start, Bound::Unbounded))?.take(limit) {
            let (key, value) = row?;
            let end = key.iter().position(|byte| *byte == 0).unwrap_or(key.len());
            let repository = keys::text_after(&key[..end], 0).and_then(|name| name.parse().ok());
            let digest = key.get(end + 1..).and_then(keys::split_digest).map(|(digest, _)| digest);
            if let (Some(repository), Some(digest)) = (repository, digest) {
                page.push(LinkException { repository, digest, kind: self.link_exceptions.decode(value)? });
            }
        }
        Ok(page)
    }
}

impl Index {
    /// As [`Tables::link_exception`], in a transaction of its own.
    pub(in crate::store) fn link_exception(
        &self,
        repository: &RepositoryName,
        digest: &Digest,
    ) -> Result<Option<LinkExceptionRow>, StoreError> {
        let txn = self.read_txn()?;
        self.tables.link_exception(&txn, repository, digest)
    }

    /// As [`Tables::link_exceptions_after`], in a transaction of its own.
    pub(in crate::store) fn link_exceptions_after(
        &self,
        after: Option<&LinkException>,
        limit: usize,
    ) -> Result<Vec<LinkException>, StoreError> {
        let txn = self.read_txn()?;
        self.tables.link_exceptions_after(&txn, after, limit)
    }
}

impl Batch<'_> {
    /// Records a foreign layer of a pushed manifest, if the repository has the blob.
    pub(super) fn record_foreign_link(
        &mut self,
        repository: &RepositoryName,
        digest: &Digest,
    ) -> Result<(), StoreError> {
        let (tables, key) = (self.index.tables, keys::content_key(repository, digest));
        if tables.repository_blobs.get(&self.txn, &key)?.is_none() {
            return Ok(());
        }
        schema::put_row(tables.link_exceptions, &mut self.txn, &key, &LinkExceptionRow::Linked)
    }

    /// Records that a repository gets a blob that one of its manifests references already: it was deleted before, or
    /// the manifests reference it only as foreign. If that would take too many lookups, it is recorded in any case:
    /// the row is true, and a collection removes it if no manifest needs it.
    pub(super) fn record_new_link(
        &mut self,
        repository: &RepositoryName,
        digest: &Digest,
    ) -> Result<(), StoreError> {
        let (tables, key) = (self.index.tables, keys::content_key(repository, digest));
        if tables.may_be_referenced_in(&self.txn, repository, digest)? {
            schema::put_row(tables.link_exceptions, &mut self.txn, &key, &LinkExceptionRow::Linked)?;
            self.names_changed();
        } else if tables.link_exceptions.get(&self.txn, &key)?.is_some() {
            tables.link_exceptions.delete(&mut self.txn, &key)?;
            self.names_changed();
        }
        Ok(())
    }

    /// Records that a client deleted content, as a blob or as a manifest, that a manifest of the repository
    /// references. As in [`Batch::record_new_link`], too many lookups record it in any case.
    pub(super) fn record_deletion(
        &mut self,
        repository: &RepositoryName,
        digest: &Digest,
    ) -> Result<(), StoreError> {
        let (tables, key) = (self.index.tables, keys::content_key(repository, digest));
        let is_linked = tables.repository_blobs.get(&self.txn, &key)?.is_some();
        if !is_linked && tables.may_be_referenced_in(&self.txn, repository, digest)? {
            schema::put_row(tables.link_exceptions, &mut self.txn, &key, &LinkExceptionRow::Deleted)?;
        } else if !is_linked {
            tables.link_exceptions.delete(&mut self.txn, &key)?;
        }
        self.names_changed();
        Ok(())
    }

    /// Restores a link exception of `index.json`, before or after the manifests that it concerns.
    pub(in crate::store) fn restore_link_exception(
        &mut self,
        exception: &LinkException,
    ) -> Result<(), StoreError> {
        let LinkException { repository, digest, kind } = exception;
        let tables = self.index.tables;
        match kind {
            LinkExceptionRow::Deleted => {
                self.unlink_blob(repository, digest)?;
            }
            LinkExceptionRow::Linked => {
                let row: Option<BlobRow> = schema::row(tables.blobs, &self.txn, &keys::digest_key(digest))?;
                if let Some(row) = row {
                    self.link_blob(repository, digest, row.size)?;
                }
            }
        }
        let key = keys::content_key(repository, digest);
        schema::put_row(tables.link_exceptions, &mut self.txn, &key, kind)
    }

    /// Links every stored blob that a manifest references to its repository, except for the link exceptions; for a
    /// rebuild, after the exceptions are restored.
    pub(in crate::store) fn link_children(
        &mut self,
        repository: &RepositoryName,
        links: &[ReferencedContent],
    ) -> Result<(), StoreError> {
        let tables = self.index.tables;
        for link in links {
            let exception = keys::content_key(repository, &link.digest);
            let exception = schema::row(tables.link_exceptions, &self.txn, &exception)?;
            let is_linked = match link.kind {
                ReferenceKind::Manifest => false,
                ReferenceKind::Blob => exception != Some(LinkExceptionRow::Deleted),
                ReferenceKind::Foreign => exception == Some(LinkExceptionRow::Linked),
            };
            let key = keys::digest_key(&link.digest);
            let row: Option<BlobRow> = schema::row(tables.blobs, &self.txn, &key)?;
            if let Some(row) = row.filter(|_| is_linked) {
                self.link_blob(repository, &link.digest, row.size)?;
            }
        }
        Ok(())
    }

    /// Removes link exceptions that no manifest of their repository needs any more.
    pub(in crate::store) fn remove_link_exceptions(
        &mut self,
        exceptions: &[LinkException],
    ) -> Result<(), StoreError> {
        let tables = self.index.tables;
        for LinkException { repository, digest, .. } in exceptions {
            if tables.is_referenced_in(&self.txn, repository, digest)? {
                continue;
            }
            let key = keys::content_key(repository, digest);
            if tables.link_exceptions.delete(&mut self.txn, &key)? {
                self.names_changed();
            }
        }
        Ok(())
    }
}
