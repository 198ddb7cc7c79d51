//! Content management: deletes of tags, manifests and blobs (distribution specification, "Content Management").
//!
//! A delete changes only the index; the next collection removes the files. A delete that has begun completes even if
//! its client disconnects.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::error::StoreError;
use super::immutable::ImmutableRule;
use super::index::deletes::{Deleted, MAX_PER_TRANSACTION, ManifestDelete};
use super::index::watches::Watch;
use super::index::writer::{Batch, Writer};
use super::work::{Cancel, Kind};
use super::{Store, detached};
use crate::oci::{Digest, RepositoryName, Tag};

impl Store {
    /// Deletes a tag; its manifest stays.
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

    /// Deletes the tags that still point to the digest given with them, in one transaction; their manifests stay.
    /// Returns the deleted tags, and the number of tags that stay because they were moved.
    ///
    /// # Errors
    /// [`StoreError::TagKept`] when one of them is immutable, or those of the disk and of the index; no tag is deleted
    /// then.
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

    /// Deletes a manifest from a repository with all tags that point to it. Many tags are deleted first, in
    /// transactions of their own.
    ///
    /// # Errors
    /// [`StoreError::ManifestUnknown`] or [`StoreError::NameUnknown`]; [`StoreError::TagKept`] when one of its tags is
    /// immutable; [`StoreError::ContentKept`] when the repository has immutable tags and a manifest references this
    /// one.
    pub async fn delete_manifest(
        &self,
        repository: &RepositoryName,
        digest: &Digest,
    ) -> Result<(), StoreError> {
        let writer = self.writer()?;
        let (store, repository, digest) = (self.clone(), repository.clone(), digest.clone());
        detached(async move {
            // From here on, the writer records tags that are set to the manifest: the searches beside the writer thread
            // may miss them.
            let watch = store.0.index.watch(&repository, &digest);
            let subject = store.subject_to_delete(&repository, &digest).await?;
            let immutable = store.0.immutable.load_full();
            let delete =
                ManifestDelete { repository: repository.clone(), digest: digest.clone(), subject, immutable };
            let delete = Arc::new(delete);
            let whole = Arc::clone(&delete);
            let mut deleted = writer.submit(move |batch| batch.delete_manifest(&whole)).await?;
            if deleted == Deleted::TagsUnknown {
                deleted = store.delete_with_many_tags(&writer, &delete, &watch).await?;
            }
            if deleted == Deleted::ReferrersLeft {
                orphan_referrers(&writer, &repository, &digest).await?;
            }
            Ok(())
        })
        .await
    }

    /// Deletes a manifest from a repository with many tags. Its tags are found in short reads beside pushes and deleted
    /// in short transactions, the last of them together with the manifest.
    async fn delete_with_many_tags(
        &self,
        writer: &Writer,
        delete: &Arc<ManifestDelete>,
        watch: &Watch,
    ) -> Result<Deleted, StoreError> {
        let (inner, wanted) = (Arc::clone(&self.0), Arc::clone(delete));
        let search =
            move |cancel: &Cancel| inner.index.tags_of_manifest(&wanted.repository, &wanted.digest, cancel);
        let mut tags = self.0.work.run_cancellable(Kind::List, search).await?;
        tags.extend(watch.recorded());
        // Checked before the first tag is deleted. Tags that are set later are checked in the last transaction.
        tags.iter()
            .try_for_each(|tag| ImmutableRule::check_delete(&delete.immutable, &delete.repository, tag))?;
        while tags.len() > MAX_PER_TRANSACTION {
            let (part, delete) = (tags.split_off(tags.len() - MAX_PER_TRANSACTION), Arc::clone(delete));
            let remove =
                move |batch: &mut Batch| batch.delete_tags_of(&delete.repository, &delete.digest, &part);
            writer.submit(remove).await?;
        }
        let delete = Arc::clone(delete);
        writer.submit(move |batch| batch.delete_watched_manifest(&delete, &tags)).await
    }

    /// Returns the subject of a manifest from its bytes or, where these cannot be read, from the rows of its
    /// repository.
    async fn subject_to_delete(
        &self,
        repository: &RepositoryName,
        digest: &Digest,
    ) -> Result<Option<Digest>, StoreError> {
        if let Ok(subject) = self.subject_of(repository, digest).await {
            return Ok(subject);
        }
        let (inner, repository, digest) = (Arc::clone(&self.0), repository.clone(), digest.clone());
        let search = move |_: &Cancel| {
            let wanted = BTreeSet::from([digest.clone()]);
            Ok(inner.index.subjects_of(&repository, &wanted)?.remove(&digest))
        };
        self.0.work.run_cancellable(Kind::List, search).await
    }

    /// Deletes a blob from a repository; other repositories keep it.
    ///
    /// # Errors
    /// [`StoreError::BlobUnknown`]; [`StoreError::ContentKept`] when the repository has immutable tags and a manifest
    /// references the blob.
    pub async fn delete_blob(&self, repository: &RepositoryName, digest: &Digest) -> Result<(), StoreError> {
        let (writer, repository, digest) = (self.writer()?, repository.clone(), digest.clone());
        let immutable = self.0.immutable.load_full();
        let delete = move |batch: &mut Batch| batch.delete_blob(&repository, &digest, &immutable);
        detached(async move { writer.submit(delete).await }).await
    }
}

/// Orphans the remaining referrers of a deleted manifest, in short transactions.
pub(super) async fn orphan_referrers(
    writer: &Writer,
    repository: &RepositoryName,
    subject: &Digest,
) -> Result<(), StoreError> {
    let mut after = None;
    loop {
        let (repository, subject) = (repository.clone(), subject.clone());
        let orphan = move |batch: &mut Batch| batch.orphan_referrers(&repository, &subject, after.as_ref());
        after = writer.submit(orphan).await?;
        if after.is_none() {
            return Ok(());
        }
    }
}
