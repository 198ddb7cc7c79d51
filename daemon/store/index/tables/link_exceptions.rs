//! Link exceptions: blobs of a repository that do not follow from its manifests.
//!
//! By the rule, a repository has the blobs that its manifests reference as config or layer, and a rebuild links
//! those. There are three exceptions, each with a row here that `index.json` carries: a blob that a client deleted
//! while a manifest references it, a blob that a sparse manifest lacks, and a foreign layer that a client pushed. A foreign descriptor alone links
//! nothing: a client may name any digest there without having the content.

use std::ops::Bound;

use super::keys;
use super::port::{ReadTables, Table};
use super::rows::LinkExceptionRow;
use crate::oci::{Digest, RepositoryName};
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

/// Lookups of link exceptions.
pub(in crate::store) trait LinkExceptions: ReadTables {
    /// Returns the link exception of a blob in a repository.
    fn link_exception(
        &self,
        repository: &RepositoryName,
        digest: &Digest,
    ) -> Result<Option<LinkExceptionRow>, StoreError> {
        Ok(self.row(Table::LinkExceptions, &keys::content_key(repository, digest))?)
    }

    /// Returns a page of link exceptions after `after`, in key order.
    fn link_exceptions_after(
        &self,
        after: Option<&LinkException>,
        limit: usize,
    ) -> Result<Vec<LinkException>, StoreError> {
        let after = after.map(|after| keys::content_key(&after.repository, &after.digest));
        let start = after.as_deref().map_or(Bound::Unbounded, Bound::Excluded);
        let mut page = Vec::new();
        for row in self.range(Table::LinkExceptions, &(start, Bound::Unbounded))?.take(limit) {
            let (key, value) = row?;
            let end = key.iter().position(|byte| *byte == 0).unwrap_or(key.len());
            let repository = keys::text_after(&key[..end], 0).and_then(|name| name.parse().ok());
            let digest = key.get(end + 1..).and_then(keys::split_digest).map(|(digest, _)| digest);
            if let (Some(repository), Some(digest)) = (repository, digest) {
                page.push(LinkException { repository, digest, kind: self.decode(value)? });
            }
        }
        Ok(page)
    }
}

impl<T: ReadTables> LinkExceptions for T {}
