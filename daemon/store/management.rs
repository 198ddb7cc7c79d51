//! Management: what is deleted by its name or digest. Files follow with the next collection.

use super::error::StoreError;
use super::index::deletes::Subject;
use super::index::writer::Batch;
use super::{Store, detached};
use crate::oci::{Digest, RepositoryName, Tag};

impl Store {
    /// Removes a tag and nothing else.
    ///
    /// # Errors
    /// [`StoreError::ManifestUnknown`], [`StoreError::NameUnknown`] or [`StoreError::TagKept`].
    pub async fn delete_tag(&self, repository: &RepositoryName, tag: &Tag) -> Result<(), StoreError> {
        let (writer, repository, tag) = (self.writer()?, repository.clone(), tag.clone());
        let immutable = self.0.immutable.load_full();
        let delete = move |batch: &mut Batch| {
            batch.check_tag_delete(&repository, &tag, &immutable)?;
            batch.delete_tag(&repository, &tag)
        };
        detached(async move { writer.submit(delete).await }).await
    }

    /// Removes tags that still name the manifest beside them, and nothing else, all in one change; gives those that
    /// were removed, and how many name another manifest by now and stay.
    ///
    /// # Errors
    /// [`StoreError::TagKept`] when one of them must not be deleted, or what the disk or the index says; nothing is
    /// removed then.
    pub async fn delete_tags(
        &self,
        repository: &RepositoryName,
        tags: Vec<(Tag, Digest)>,
    ) -> Result<(Vec<Tag>, usize), StoreError> {
        let (writer, repository) = (self.writer()?, repository.clone());
        let immutable = self.0.immutable.load_full();
        let delete = move |batch: &mut Batch| {
            for (tag, _) in &tags {
                batch.check_tag_delete(&repository, tag, &immutable)?;
            }
            batch.delete_tags(&repository, &tags)
        };
        detached(async move { writer.submit(delete).await }).await
    }

    /// Removes a manifest from a repository, and every tag that points at it.
    ///
    /// # Errors
    /// [`StoreError::ManifestUnknown`] or [`StoreError::NameUnknown`]; [`StoreError::TagKept`] when one of its tags must
    /// not be deleted.
    pub async fn delete_manifest(
        &self,
        repository: &RepositoryName,
        digest: &Digest,
    ) -> Result<(), StoreError> {
        let writer = self.writer()?;
        // Read here, so that the writer does not search the rows of the repository for it.
        let subject = self.subject_of(repository, digest).await.map_or(Subject::Unreadable, Subject::Known);
        let (repository, digest) = (repository.clone(), digest.clone());
        let immutable = self.0.immutable.load_full();
        let delete = move |batch: &mut Batch| {
            batch.check_manifest_delete(&repository, &digest, &immutable)?;
            batch.delete_manifest(&repository, &digest, &subject)
        };
        detached(async move { writer.submit(delete).await }).await
    }

    /// Removes a blob from a repository; other repositories keep it.
    ///
    /// # Errors
    /// [`StoreError::BlobUnknown`].
    pub async fn delete_blob(&self, repository: &RepositoryName, digest: &Digest) -> Result<(), StoreError> {
        let (writer, repository, digest) = (self.writer()?, repository.clone(), digest.clone());
        detached(async move { writer.submit(move |batch| batch.delete_blob(&repository, &digest)).await })
            .await
    }
}
