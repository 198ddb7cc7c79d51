//! Tags that are attached to a manifest by their name (cosign's, and the referrers tag), and immutable tags.

use super::applier::Applier;
use super::push::NewManifest;
use crate::oci::{AttachmentTarget, Digest, RepositoryName, Tag};
use crate::store::error::StoreError;
use crate::store::immutable::ImmutableRule;
use crate::store::index::event::{Cause, EventKind};
use crate::store::index::tables::lookups::Lookups;
use crate::store::index::tables::parents::References;
use crate::store::index::tables::rows::ManifestRow;
use crate::store::index::tables::{Table, WriteTables, keys};

impl<T: WriteTables> Applier<'_, T> {
    /// Removes the tags that are attached to a manifest and returns them. Keeps a tag if the repository still has a
    /// manifest that it belongs to.
    pub(super) fn delete_attached(
        &mut self,
        repository: &RepositoryName,
        digest: &Digest,
    ) -> Result<Vec<(Tag, Digest)>, StoreError> {
        let mut deleted = Vec::new();
        for tag in AttachmentTarget::tags_of(digest) {
            let key = keys::tag_key(repository, &tag);
            if self.tables.get(Table::Tags, &key)?.is_none() {
                continue;
            }
            // The tag contains only part of a long hash, which other digests may share.
            if !self.tables.has_attached_subject(repository, &AttachmentTarget::to(digest))? {
                let removed = self.remove_tag(repository, &tag)?;
                self.emit_by(Cause::Retention, EventKind::Expire, removed.object(repository, &tag));
                deleted.push((tag, removed.digest));
            }
        }
        Ok(deleted)
    }

    /// Refuses a push that would move an immutable tag.
    pub(super) fn check_immutable(
        &self,
        new: &NewManifest,
        rules: &[ImmutableRule],
    ) -> Result<(), StoreError> {
        for tag in &new.tags {
            let key = keys::tag_key(&new.repository, tag);
            let row: Option<ManifestRow> = self.tables.row(Table::Tags, &key)?;
            if row.is_some_and(|row| row.digest != keys::digest_key(&new.digest)) {
                ImmutableRule::check_move(rules, &new.repository, tag)?;
            }
        }
        Ok(())
    }

    /// Refuses to delete an immutable tag; a missing tag is not refused here.
    pub(super) fn check_tag_delete(
        &self,
        repository: &RepositoryName,
        tag: &Tag,
        rules: &[ImmutableRule],
    ) -> Result<(), StoreError> {
        let key = keys::tag_key(repository, tag);
        match self.tables.get(Table::Tags, &key)? {
            Some(_) => ImmutableRule::check_delete(rules, repository, tag),
            None => Ok(()),
        }
    }

    /// Refuses to delete content that a manifest of the repository references, if a rule forbids to delete tags
    /// there: an immutable tag stays pullable.
    pub(super) fn check_immutable_content(
        &self,
        repository: &RepositoryName,
        digest: &Digest,
        rules: &[ImmutableRule],
    ) -> Result<(), StoreError> {
        if ImmutableRule::forbids_deletes(rules, repository)
            && self.tables.may_be_referenced_in(repository, digest)?
        {
            return Err(StoreError::ContentKept { repository: repository.clone(), digest: digest.clone() });
        }
        Ok(())
    }
}
