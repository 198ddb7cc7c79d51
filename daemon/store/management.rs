//! Content management: deletes of tags, manifests and blobs (distribution specification, "Content Management").
//!
//! A delete changes only the index; the next collection removes the files. A delete that has begun completes even if
//! its client disconnects.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::error::StoreError;
use super::immutable::ImmutableRule;
use super::index::changes::Origin;
use super::index::changes::deletes::{
    DeleteBlob, DeleteManifest, DeleteTag, DeleteTags, DeleteUntaggedManifest, Deleted, ManifestDelete,
    OrphanReferrers, TagsDeleted,
};
use super::index::writer::Writer;
use super::work::{Cancel, Kind};
use super::{Store, detached};
use crate::oci::{Digest, RepositoryName, Tag};

/// Content to delete from a repository.
#[derive(Clone, Debug)]
pub struct Delete<T> {
    /// The repository.
    pub repository: RepositoryName,
    /// The tag, the tags, or the digest of the manifest or blob.
    pub object: T,
    /// The origin of the delete.
    pub origin: Origin,
}

impl Store {
    /// Deletes a tag; its manifest stays.
    ///
    /// # Errors
    /// [`StoreError::ManifestUnknown`], [`StoreError::NameUnknown`] or [`StoreError::TagKept`].
    pub async fn delete_tag(&self, delete: Delete<Tag>) -> Result<(), StoreError> {
        let (writer, Delete { repository, object: tag, origin }) = (self.writer()?, delete);
        self.record_pulls_soon(&writer);
        let delete = DeleteTag { repository, tag, immutable: self.0.immutable.load_full() };
        detached(async move { writer.submit_by(origin, delete).await }).await
    }

    /// Deletes the tags that still point to the digest given with them, in one transaction; their manifests stay.
    /// Returns the deleted tags, and the number of tags that stay because they were moved.
    ///
    /// # Errors
    /// [`StoreError::TagKept`] when one of them is immutable, or those of the disk and of the index; no tag is deleted
    /// then.
    pub async fn delete_tags(
        &self,
        delete: Delete<Vec<(Tag, Digest)>>,
    ) -> Result<(Vec<Tag>, usize), StoreError> {
        let (writer, Delete { repository, object: tags, origin }) = (self.writer()?, delete);
        self.record_pulls_soon(&writer);
        let delete = DeleteTags { repository, tags, immutable: self.0.immutable.load_full() };
        let TagsDeleted { deleted, moved } =
            detached(async move { writer.submit_by(origin, delete).await }).await?;
        Ok((deleted, moved))
    }

    /// Deletes a manifest from a repository with all tags that point to it. Very many tags are deleted first, in
    /// transactions of their own.
    ///
    /// # Errors
    /// [`StoreError::ManifestUnknown`] or [`StoreError::NameUnknown`]; [`StoreError::TagKept`] when one of its tags is
    /// immutable; [`StoreError::ContentKept`] when the repository has immutable tags and a manifest references this
    /// one.
    pub async fn delete_manifest(&self, delete: Delete<Digest>) -> Result<(), StoreError> {
        let (store, writer) = (self.clone(), self.writer()?);
        self.record_pulls_soon(&writer);
        detached(async move {
            let Delete { repository, object: digest, origin } = delete;
            let delete = store.manifest_delete(repository, digest).await?;
            store.check_tags_may_go(&delete).await?;
            let mut is_begun = false;
            let deleted = loop {
                match writer.submit_by(origin.clone(), DeleteManifest(Arc::clone(&delete))).await {
                    Ok(Deleted::TagsLeft) => is_begun = true,
                    Ok(deleted) => break deleted,
                    // Another delete of it has ended first.
                    Err(StoreError::ManifestUnknown(_) | StoreError::NameUnknown(_)) if is_begun => {
                        return Ok(());
                    }
                    Err(error) => return Err(error),
                }
            };
            finish(&writer, &delete, deleted).await
        })
        .await
    }

    /// Deletes a manifest from a repository unless a tag points to it; returns true if it was deleted.
    ///
    /// # Errors
    /// Those of [`Store::delete_manifest`].
    pub async fn delete_untagged_manifest(&self, delete: Delete<Digest>) -> Result<bool, StoreError> {
        let (store, writer) = (self.clone(), self.writer()?);
        self.record_pulls_soon(&writer);
        detached(async move {
            let Delete { repository, object: digest, origin } = delete;
            let delete = store.manifest_delete(repository, digest).await?;
            let change = DeleteUntaggedManifest(Arc::clone(&delete));
            let Some(deleted) = writer.submit_by(origin, change).await? else { return Ok(false) };
            finish(&writer, &delete, deleted).await?;
            Ok(true)
        })
        .await
    }

    async fn manifest_delete(
        &self,
        repository: RepositoryName,
        digest: Digest,
    ) -> Result<Arc<ManifestDelete>, StoreError> {
        let subject = self.subject_to_delete(&repository, &digest).await?;
        let immutable = self.0.immutable.load_full();
        Ok(Arc::new(ManifestDelete { repository, digest, subject, immutable }))
    }

    /// Refuses to delete a manifest with an immutable tag before the first tag is deleted. Tags that are set later are checked
    /// in their transactions.
    async fn check_tags_may_go(&self, delete: &Arc<ManifestDelete>) -> Result<(), StoreError> {
        if !ImmutableRule::forbids_deletes(&delete.immutable, &delete.repository) {
            return Ok(());
        }
        let (inner, delete) = (Arc::clone(&self.0), Arc::clone(delete));
        let check = move |cancel: &Cancel| {
            inner.index.each_tag_naming(&delete.repository, &delete.digest, &mut |tag| {
                cancel.check()?;
                ImmutableRule::check_delete(&delete.immutable, &delete.repository, tag)
            })
        };
        self.0.work.run_cancellable(Kind::List, check).await
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
    pub async fn delete_blob(&self, delete: Delete<Digest>) -> Result<(), StoreError> {
        let (writer, Delete { repository, object: digest, origin }) = (self.writer()?, delete);
        let delete = DeleteBlob { repository, digest, immutable: self.0.immutable.load_full() };
        detached(async move { writer.submit_by(origin, delete).await }).await
    }
}

/// Completes the delete of a manifest.
async fn finish(writer: &Writer, delete: &ManifestDelete, deleted: Deleted) -> Result<(), StoreError> {
    match deleted {
        Deleted::ReferrersLeft => orphan_referrers(writer, &delete.repository, &delete.digest).await,
        Deleted::Complete | Deleted::TagsLeft => Ok(()),
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
        after = writer.submit(OrphanReferrers { repository, subject, after }).await?;
        if after.is_none() {
            return Ok(());
        }
    }
}
