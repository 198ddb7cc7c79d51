//! Moving corrupt content aside, in short transactions, so that pushes need not wait.

use std::sync::Arc;

use super::error::StoreError;
use super::index::changes::deletes::{Deleted, ManifestDelete};
use super::index::changes::repair::{CorruptFile, DeleteBrokenManifest, DeleteTagsOfBroken, SetBlobAside};
use super::index::tables::candidates::MAX_PER_TRANSACTION;
use super::work::Cancel;
use super::{Store, blocking, management};
use crate::oci::{Digest, RepositoryName, Tag};

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
        let (delete, mut tags) = self.find_corrupt_manifest(repository, digest).await?;
        while tags.len() > MAX_PER_TRANSACTION {
            let part = tags.split_off(tags.len() - MAX_PER_TRANSACTION);
            let file = CorruptFile::new(digest.clone(), file);
            let remove = DeleteTagsOfBroken { delete: Arc::clone(&delete), tags: part, file };
            if !writer.submit(remove).await? {
                return Ok(false);
            }
        }
        let file = CorruptFile::new(digest.clone(), file);
        match writer.submit(DeleteBrokenManifest { delete, tags, file }).await {
            Ok(None) => Ok(false),
            Ok(Some(Deleted::ReferrersLeft)) => {
                management::orphan_referrers(&writer, repository, digest).await?;
                Ok(true)
            }
            // `TagsUnknown` does not occur here. Without the manifest or the repository, another delete was first.
            Ok(Some(Deleted::Complete | Deleted::TagsUnknown))
            | Err(StoreError::ManifestUnknown(_) | StoreError::NameUnknown(_)) => Ok(true),
            Err(error) => Err(error),
        }
    }

    /// Finds the tags and the subject of a corrupt manifest in the index, since its bytes cannot be parsed.
    async fn find_corrupt_manifest(
        &self,
        repository: &RepositoryName,
        digest: &Digest,
    ) -> Result<(Arc<ManifestDelete>, Vec<Tag>), StoreError> {
        let (index, repository, digest) = (Arc::clone(&self.0.index), repository.clone(), digest.clone());
        blocking(move || {
            let tags = index.tags_of_manifest(&repository, &digest, &Cancel::default())?;
            let subject = index.subjects_of(&repository, &[digest.clone()].into())?.remove(&digest);
            Ok((Arc::new(ManifestDelete { repository, digest, subject, immutable: Arc::default() }), tags))
        })
        .await
    }
}
