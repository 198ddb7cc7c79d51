//! The port to the registry whose images are exported.

use bytes::Bytes;

use super::error::ExportError;
use crate::oci::{Digest, MediaType, RepositoryName, Tag};

/// A tag, as it was at the time of the selection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TagEntry {
    /// The repository.
    pub repository: RepositoryName,
    /// The tag.
    pub tag: Tag,
    /// The digest of its manifest.
    pub digest: Digest,
    /// The time of the push, in seconds since 1970; `None` if the registry does not tell it.
    pub pushed: Option<u64>,
}

/// The bytes of a manifest and its media type.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ManifestText {
    /// The media type.
    pub media_type: MediaType,
    /// The bytes.
    pub bytes: Bytes,
}

/// Reads names and manifests of a registry.
pub trait Registry {
    /// Returns the tags that match two patterns; none if the repository does not exist.
    ///
    /// # Errors
    /// [`ExportError::Registry`] or [`ExportError::Interrupted`], as all methods.
    fn tags(
        &mut self,
        repository: &str,
        tag: &str,
    ) -> impl Future<Output = Result<Vec<TagEntry>, ExportError>>;

    /// Returns a manifest; `None` if the repository does not have it.
    ///
    /// # Errors
    /// [`ExportError::Unreadable`] if its bytes do not match its digest; otherwise as [`Registry::tags`].
    fn manifest(
        &mut self,
        repository: &RepositoryName,
        digest: &Digest,
    ) -> impl Future<Output = Result<Option<ManifestText>, ExportError>>;

    /// Returns the length of a blob; `None` if the repository does not have it.
    ///
    /// # Errors
    /// As [`Registry::tags`].
    fn blob_size(
        &mut self,
        repository: &RepositoryName,
        digest: &Digest,
    ) -> impl Future<Output = Result<Option<u64>, ExportError>>;

    /// Returns the digests of the manifests whose subject is this digest.
    ///
    /// # Errors
    /// As [`Registry::tags`].
    fn referrers(
        &mut self,
        repository: &RepositoryName,
        digest: &Digest,
    ) -> impl Future<Output = Result<Vec<Digest>, ExportError>>;
}
