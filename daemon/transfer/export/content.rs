//! Content on its way from the registry to the writing thread.

use bytes::Bytes;
use tokio::sync::mpsc;

use super::error::ExportError;
use crate::oci::{Digest, RepositoryName};

/// Chunks that wait between registry and medium.
const WAITING: usize = 4;

/// Content of the registry, with the repositories from which it can be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BlobRef {
    /// Its digest.
    pub digest: Digest,
    /// Its length in bytes.
    pub size: u64,
    /// The repositories that have it.
    pub repositories: Vec<RepositoryName>,
    /// True for a manifest, which is read from another path.
    pub is_manifest: bool,
}

/// The reason why content did not arrive.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FetchError {
    /// The registry answers, but does not have this content whole.
    Unreadable(String),
    /// The registry failed.
    Failed(String),
}

/// A request for content from a position on. An empty chunk ends it: a sender that is dropped before has been interrupted.
#[derive(Debug)]
pub struct Fetch {
    /// The content.
    pub blob: BlobRef,
    /// The position of the first byte.
    pub offset: u64,
    /// The receiver of its bytes.
    pub chunks: mpsc::Sender<Result<Bytes, FetchError>>,
}

/// Requests content; for the writing thread.
#[derive(Clone, Debug)]
pub struct Fetcher(mpsc::UnboundedSender<Fetch>);

/// Makes a channel for requests, which come one after the other.
pub fn fetches() -> (Fetcher, mpsc::UnboundedReceiver<Fetch>) {
    let (sender, receiver) = mpsc::unbounded_channel();
    (Fetcher(sender), receiver)
}

impl Fetcher {
    /// Reads content from a position on, and calls `each` with its chunks. Blocks the thread.
    pub(super) fn read(
        &self,
        blob: &BlobRef,
        offset: u64,
        mut each: impl FnMut(&[u8]) -> Result<(), ExportError>,
    ) -> Result<(), ExportError> {
        let (chunks, mut receiver) = mpsc::channel(WAITING);
        let fetch = Fetch { blob: blob.clone(), offset, chunks };
        // The receiving side ends when the operator interrupts the export.
        self.0.send(fetch).map_err(|_| ExportError::Interrupted)?;
        loop {
            match receiver.blocking_recv() {
                Some(Ok(bytes)) if bytes.is_empty() => return Ok(()),
                Some(Ok(bytes)) => each(&bytes)?,
                Some(Err(FetchError::Unreadable(why))) => {
                    return Err(ExportError::Unreadable { digest: blob.digest.clone(), why });
                }
                Some(Err(FetchError::Failed(why))) => return Err(ExportError::Registry(why)),
                None => return Err(ExportError::Interrupted),
            }
        }
    }
}
