//! The interface of a change: its rule, and its needs before the transaction.

use super::applier::Applier;
use crate::oci::Digest;
use crate::store::blob_store::BlobFile;
use crate::store::error::StoreError;
use crate::store::index::tables::WriteTables;
use crate::store::upload_files::HashedFile;

/// A change that can be applied to tables.
pub(in crate::store) trait Apply {
    /// The answer to the caller.
    type Reply: Send + 'static;

    /// Applies the change. Checks first and writes afterwards, so that a refused change has written nothing.
    ///
    /// # Errors
    /// Refusals, and errors of the tables that end the transaction ([`StoreError::ends_transaction`]).
    fn apply<T: WriteTables>(&self, to: &mut Applier<'_, T>) -> Result<Self::Reply, StoreError>;

    /// Returns the needs of the change that the writer meets before the transaction.
    fn needs(&mut self) -> Needs<'_> {
        Needs::Nothing
    }
}

/// The needs of a change from files before its transaction begins.
#[derive(Debug)]
pub(in crate::store) enum Needs<'a> {
    /// Nothing.
    Nothing,
    /// A file to become a blob.
    Admission(&'a HashedFile, &'a Digest),
    /// A file to become a manifest.
    Manifest(&'a HashedFile, &'a Digest),
    /// The state of files in `blobs/`.
    Facts(&'a mut [FileFact]),
}

/// The state of a file in `blobs/` when the transaction begins. The writer thread establishes it: only that thread
/// changes these files.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::store) struct FileFact {
    /// The blob.
    pub(in crate::store) digest: Digest,
    /// The file; `None` if it is missing.
    pub(in crate::store) found: Option<BlobFile>,
}

impl FileFact {
    /// Returns the fact to be established about a blob.
    pub(in crate::store) fn about(digest: Digest) -> Self {
        FileFact { digest, found: None }
    }

    /// Returns the length of the file; `None` if it is missing.
    pub(in crate::store) fn length(&self) -> Option<u64> {
        self.found.map(|file| file.length)
    }

    /// Returns the inode of the file; `None` if it is missing.
    pub(in crate::store) fn inode(&self) -> Option<u64> {
        self.found.map(|file| file.inode)
    }
}
