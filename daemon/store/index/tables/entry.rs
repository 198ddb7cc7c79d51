//! Manifests, pages and counts as the store's callers see them.

use super::port::ReadTables;
use super::rows::ManifestRow;
use crate::oci::{Digest, MediaType};
use crate::store::index_error::IndexError;

/// An indexed manifest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ManifestEntry {
    /// The digest of its bytes.
    pub digest: Digest,
    /// Its length in bytes.
    pub size: u64,
    /// The media type that it is served with.
    pub media_type: MediaType,
    /// The time of the push or of the tag, in seconds since 1970.
    pub pushed: u64,
}

/// One page of a list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Page<T> {
    /// The items, in byte order.
    pub items: Vec<T>,
    /// True if another page follows.
    pub more: bool,
}

/// The number of objects in the store.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Counts {
    /// Repositories with at least one manifest.
    pub repositories: u64,
    /// Tags of all repositories.
    pub tags: u64,
    /// Manifests, counted once for each repository.
    pub manifests: u64,
    /// Files in `blobs/`.
    pub blobs: u64,
    /// Their total length in bytes.
    pub bytes: u64,
}

/// Converts a row.
pub(in crate::store) fn entry(
    tables: &impl ReadTables,
    row: &ManifestRow,
) -> Result<ManifestEntry, IndexError> {
    let media_type = row.media_type.parse();
    let media_type = media_type.map_err(|_| IndexError::Row("a manifest's media type".into()));
    let (media_type, digest) = (tables.noted(media_type)?, row.digest(tables)?);
    Ok(ManifestEntry { digest, size: row.size, media_type, pushed: row.pushed })
}
