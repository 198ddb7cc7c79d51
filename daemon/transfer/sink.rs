//! The receiving end of a transfer: a registry.

use std::collections::BTreeSet;

use bytes::Bytes;

use super::chunks::Chunks;
use super::image_set::{ImageSet, ImagesAnswer, Item, Stored};
use crate::oci::{Digest, RepositoryName};

/// The answer to content whose digest is known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Put {
    /// The sink has read the content and stored it.
    Stored,
    /// The sink had the content, with this size if it states one.
    Present(Option<u64>),
    /// The sink refused the content alone, for example because it does not match the digest.
    Refused(String),
}

/// Reason why a sink failed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SinkError {
    /// The connection broke, for example because the daemon restarts; a new transfer may succeed.
    #[error("{0}")]
    Disconnected(String),
    /// The sink has no space for the content.
    #[error("{0}")]
    Full(String),
    /// The content of this request was refused; others may be accepted.
    #[error("{0}")]
    Refused(String),
    /// The whole transfer was refused, for example because its signature is missing or not valid.
    #[error("{0}")]
    Denied(String),
    /// The user has interrupted the transfer.
    #[error("interrupted")]
    Interrupted,
}

/// Items in one request for missing content.
const BATCH: usize = 10_000;

/// A registry that receives a transfer. All calls belong to one lease, which holds off the collection.
pub trait Sink: Send {
    /// Returns true if content belongs to one repository, that which was [entered](Sink::enter) last, and not to all of them.
    fn is_by_repository(&self) -> bool {
        false
    }

    /// Sets the repository of the following content.
    fn enter(&mut self, _repository: &RepositoryName) {}

    /// Returns the items that the sink does not have, and adds all of them to the lease.
    ///
    /// # Errors
    /// [`SinkError::Full`] if the sum of the missing sizes exceeds the space or the quota.
    fn need(&mut self, items: &[Item]) -> impl Future<Output = Result<Vec<Item>, SinkError>> + Send;

    /// Stores content whose digest is known. Does not read it if the sink has it.
    ///
    /// # Errors
    /// Fails if the content is incomplete, or with an error of the transfer.
    fn put(&mut self, item: &Item, content: Chunks) -> impl Future<Output = Result<Put, SinkError>> + Send;

    /// Stores content whose digest is not known.
    ///
    /// # Errors
    /// Fails if the content is incomplete, or with an error of the transfer.
    fn post(&mut self, content: Chunks) -> impl Future<Output = Result<Stored, SinkError>> + Send;

    /// Reads back small content of this transfer; `None` if the sink does not have it.
    ///
    /// # Errors
    /// Fails with an error of the transfer.
    fn read(&mut self, digest: &Digest) -> impl Future<Output = Result<Option<Bytes>, SinkError>> + Send;

    /// Gives the list of contents of an export and its signature; returns the signer.
    ///
    /// # Errors
    /// [`SinkError::Denied`] if signatures are required and this one does not satisfy.
    fn export(
        &mut self,
        content: &str,
        signature: Option<&str>,
    ) -> impl Future<Output = Result<Option<String>, SinkError>> + Send;

    /// Returns the digest and the bytes of the manifest that a tag names; `None` without one.
    ///
    /// # Errors
    /// Fails with an error of the transfer.
    fn tagged(
        &mut self,
        repository: &str,
        tag: &str,
    ) -> impl Future<Output = Result<Option<(Digest, Bytes)>, SinkError>> + Send;

    /// Opens a new transfer after the connection broke.
    ///
    /// # Errors
    /// Fails if the registry does not come back.
    fn reopen(&mut self) -> impl Future<Output = Result<(), SinkError>> + Send;

    /// Stores manifests and sets tags, in one transaction.
    ///
    /// # Errors
    /// Fails with an error of the transfer, or refuses the set.
    fn images(&mut self, set: &ImageSet) -> impl Future<Output = Result<ImagesAnswer, SinkError>> + Send;
}

/// Returns the digests that a sink does not have, in as many requests as it takes.
///
/// # Errors
/// As [`Sink::need`].
pub(super) async fn missing_of<S: Sink>(sink: &mut S, items: &[Item]) -> Result<BTreeSet<Digest>, SinkError> {
    let mut missing = BTreeSet::new();
    for batch in items.chunks(BATCH) {
        missing.extend(sink.need(batch).await?.into_iter().map(|item| item.digest));
    }
    Ok(missing)
}
