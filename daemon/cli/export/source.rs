//! The registry whose images are exported: the local one, or another. One type for both: the export is compiled once.

use std::time::Duration;

use bytes::Bytes;
use tokio::sync::mpsc;

use super::super::failure::Failure;
use super::forward::Broken;
use super::registry::LocalRegistry;
use super::remote_registry::RemoteRegistry;
use crate::oci::{Digest, RepositoryName};
use crate::transfer::export::{ExportError, Fetch, FetchError, ManifestText, Registry, TagEntry};

/// Attempts to continue content after the connection broke.
const ATTEMPTS: usize = 5;
/// Pause between two attempts: a daemon that restarts is back after it.
const PAUSE: Duration = Duration::from_secs(1);

/// The source of an export.
pub(super) enum Source<'a> {
    /// The local registry.
    Local(LocalRegistry<'a>),
    /// Another registry, which has no leases: what is deleted there meanwhile is missing.
    Remote(RemoteRegistry),
}

impl Source<'_> {
    /// Holds off the collection from this content.
    pub(super) async fn lease(&mut self, contents: Vec<(Digest, u64)>) -> Result<(), Failure> {
        match self {
            Source::Local(registry) => registry.lease(contents).await,
            Source::Remote(_) => Ok(()),
        }
    }

    async fn keep_lease(&mut self) {
        match self {
            Source::Local(registry) => registry.keep_lease().await,
            Source::Remote(_) => {}
        }
    }

    /// Ends the lease.
    pub(super) async fn end_lease(&mut self) {
        match self {
            Source::Local(registry) => registry.end_lease().await,
            Source::Remote(_) => {}
        }
    }

    /// Serves the writing thread until its requests end, and keeps the lease.
    pub(super) async fn serve(&mut self, fetches: &mut mpsc::UnboundedReceiver<Fetch>) {
        let mut renewal = tokio::time::interval(Duration::from_mins(5));
        renewal.tick().await;
        loop {
            tokio::select! {
                fetch = fetches.recv() => match fetch {
                    Some(fetch) => self.serve_one(fetch).await,
                    None => return,
                },
                _ = renewal.tick() => self.keep_lease().await,
            }
        }
    }

    /// Serves one request of the writing thread.
    async fn serve_one(&mut self, fetch: Fetch) {
        let (mut at, mut attempt) = (fetch.offset, 0);
        loop {
            let before = at;
            let sent = match self {
                Source::Local(registry) => registry.send_content(&fetch, &mut at).await,
                Source::Remote(registry) => registry.send_content(&fetch, &mut at).await,
            };
            match sent {
                Ok(()) => return drop(fetch.chunks.send(Ok(Bytes::new())).await),
                Err(Broken::Unreadable(why)) => {
                    return drop(fetch.chunks.send(Err(FetchError::Unreadable(why))).await);
                }
                Err(Broken::Connection(line)) => {
                    attempt = if at > before { 0 } else { attempt + 1 };
                    if attempt == ATTEMPTS {
                        let failed = self.judge(line).await;
                        return drop(fetch.chunks.send(Err(failed)).await);
                    }
                    tokio::time::sleep(PAUSE).await;
                    self.keep_lease().await;
                }
            }
        }
    }

    /// Tells a registry that is gone from one that cannot send this content.
    async fn judge(&mut self, line: String) -> FetchError {
        let is_there = match self {
            Source::Local(registry) => registry.is_there().await,
            Source::Remote(registry) => registry.is_there().await,
        };
        if is_there {
            FetchError::Unreadable("the registry cannot send it to its end".into())
        } else {
            FetchError::Failed(line)
        }
    }
}

impl Registry for Source<'_> {
    async fn tags(&mut self, repository: &str, tag: &str) -> Result<Vec<TagEntry>, ExportError> {
        match self {
            Source::Local(registry) => registry.tags(repository, tag).await,
            Source::Remote(registry) => registry.tags(repository, tag).await,
        }
    }

    async fn manifest(
        &mut self,
        repository: &RepositoryName,
        digest: &Digest,
    ) -> Result<Option<ManifestText>, ExportError> {
        match self {
            Source::Local(registry) => registry.manifest(repository, digest).await,
            Source::Remote(registry) => registry.manifest(repository, digest).await,
        }
    }

    async fn blob_size(
        &mut self,
        repository: &RepositoryName,
        digest: &Digest,
    ) -> Result<Option<u64>, ExportError> {
        match self {
            Source::Local(registry) => registry.blob_size(repository, digest).await,
            Source::Remote(registry) => registry.blob_size(repository, digest).await,
        }
    }

    async fn referrers(
        &mut self,
        repository: &RepositoryName,
        digest: &Digest,
    ) -> Result<Vec<Digest>, ExportError> {
        match self {
            Source::Local(registry) => registry.referrers(repository, digest).await,
            Source::Remote(registry) => registry.referrers(repository, digest).await,
        }
    }
}
