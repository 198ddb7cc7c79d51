//! The inventory of the store: its content, and the content that its sparse manifests lack.

use std::sync::Arc;

use uuid::Uuid;

use super::error::StoreError;
use super::index::tables::sparse::SparseManifest;
use super::inner::Store;
use super::work::Kind;
use crate::oci::{Digest, RepositoryName};

/// A part of the inventory, and the position after which the next part begins.
#[derive(Clone, Debug, Default)]
pub struct Holes {
    /// The missing content, each with the repository that wants it.
    pub wanted: Vec<(RepositoryName, Digest)>,
    /// `None` after the last part.
    pub next: Option<SparsePosition>,
}

/// A position among the sparse manifests.
#[derive(Clone, Debug)]
pub struct SparsePosition(SparseManifest);

impl Store {
    /// Returns the id of this registry; `None` until the first start has chosen one.
    ///
    /// # Errors
    /// [`StoreError::Index`].
    pub fn registry_id(&self) -> Result<Option<Uuid>, StoreError> {
        self.0.index.registry_id()
    }

    /// Returns at most `limit` digests of content after `after`.
    ///
    /// # Errors
    /// [`StoreError::Index`].
    pub async fn content_after(
        &self,
        after: Option<Digest>,
        limit: usize,
    ) -> Result<Vec<Digest>, StoreError> {
        let index = Arc::clone(&self.0.index);
        let read = move || {
            let blobs = index.blobs_after(after.as_ref(), limit)?;
            Ok(blobs.into_iter().map(|(digest, _)| digest).collect())
        };
        self.0.work.run(Kind::Read, read).await
    }

    /// Returns the holes of at most `limit` sparse manifests after `after`.
    ///
    /// # Errors
    /// [`StoreError::Index`].
    pub async fn holes_after(
        &self,
        after: Option<SparsePosition>,
        limit: usize,
    ) -> Result<Holes, StoreError> {
        let index = Arc::clone(&self.0.index);
        let read = move || {
            let manifests = index.sparse_after(after.as_ref().map(|after| &after.0), limit)?;
            let mut wanted = Vec::new();
            for SparseManifest { repository, digest } in &manifests {
                let holes = index.holes(repository, digest)?;
                wanted.extend(holes.into_iter().map(|digest| (repository.clone(), digest)));
            }
            let next = manifests.into_iter().next_back().map(SparsePosition);
            Ok(Holes { wanted, next })
        };
        self.0.work.run(Kind::Read, read).await
    }
}
