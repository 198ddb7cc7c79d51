//! Moving corrupt content aside, in short transactions, so that pushes need not wait.

use std::sync::Arc;

use super::error::StoreError;
use super::index::changes::deletes::{Deleted, ManifestDelete};
use super::index::changes::repair::{CorruptFile, DeleteBrokenManifest, SetBlobAside};
use super::{Store, blocking, management};
use crate::oci::{Digest, RepositoryName};

impl Store {
    /// Moves a corrupt blob to `damaged/` and removes its rows everywhere, a manifest with its tags, so that the next
    /// push brings it again. Returns false if the file has been replaced since it was read.
    pub(super) async fn move_aside(&self, digest: &Digest, file: Option<u64>) -> Result<bool, StoreError> {
        let (index, wanted) = (Arc::clone(&self.0.index), digest.clone());
        for repository in blocking(move || index.manifest_repositories(&wanted)).await? {
            if !self.remove_corrupt_manifest(&repository, digest, file).await? {
                return Ok(false);
            }
        }
        self.writer()?.submit(SetBlobAside(CorruptFile::new(digest.clone(), file))).await
    }

    async fn remove_corrupt_manifest(
        &self,
        repository: &RepositoryName,
        digest: &Digest,
        file: Option<u64>,
    ) -> Result<bool, StoreError> {
        let writer = self.writer()?;
        let delete = self.find_corrupt_manifest(repository, digest).await?;
        loop {
            let file = CorruptFile::new(digest.clone(), file);
            return match writer.submit(DeleteBrokenManifest { delete: Arc::clone(&delete), file }).await {
                Ok(None) => Ok(false),
                Ok(Some(Deleted::TagsLeft)) => continue,
                Ok(Some(Deleted::ReferrersLeft)) => {
                    management::orphan_referrers(&writer, repository, digest).await?;
                    Ok(true)
                }
                // Without the manifest or the repository, another delete was first.
                Ok(Some(Deleted::Complete))
                | Err(StoreError::ManifestUnknown(_) | StoreError::NameUnknown(_)) => Ok(true),
                Err(error) => Err(error),
            };
        }
    }

    /// Finds the subject of a corrupt manifest in the index, since its bytes cannot be parsed.
    async fn find_corrupt_manifest(
        &self,
        repository: &RepositoryName,
        digest: &Digest,
    ) -> Result<Arc<ManifestDelete>, StoreError> {
        let (index, repository, digest) = (Arc::clone(&self.0.index), repository.clone(), digest.clone());
        blocking(move || {
            let subject = index.subjects_of(&repository, &[digest.clone()].into())?.remove(&digest);
            Ok(Arc::new(ManifestDelete { repository, digest, subject, immutable: Arc::default() }))
        })
        .await
    }
}
