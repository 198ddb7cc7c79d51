//! The changes of a delete.
//!
//! The children and the referrers of a deleted manifest become orphans, which a collection removes after the grace
//! period.

use std::sync::Arc;

use super::applier::Applier;
use super::apply::Apply;
use crate::oci::{Digest, RepositoryName, Tag};
use crate::store::error::StoreError;
use crate::store::immutable::ImmutableRule;
use crate::store::index::tables::WriteTables;
use crate::store::index::tables::tag_index::TagIndex;

/// A manifest to delete.
#[derive(Debug)]
pub(in crate::store) struct ManifestDelete {
    pub(in crate::store) repository: RepositoryName,
    pub(in crate::store) digest: Digest,
    /// The subject of the manifest.
    pub(in crate::store) subject: Option<Digest>,
    /// The rules for immutable tags.
    pub(in crate::store) immutable: Arc<Vec<ImmutableRule>>,
}

/// The progress of a delete.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::store) enum Deleted {
    /// The delete is complete.
    Complete,
    /// The manifest is removed; [`OrphanReferrers`] has to orphan the rest of its referrers.
    ReferrersLeft,
    /// Some tags of the manifest are removed, as many as one transaction removes, and the manifest stays until another one.
    TagsLeft,
}

/// Removes a tag; its manifest and other tags stay.
#[derive(Debug)]
pub(in crate::store) struct DeleteTag {
    pub(in crate::store) repository: RepositoryName,
    pub(in crate::store) tag: Tag,
    pub(in crate::store) immutable: Arc<Vec<ImmutableRule>>,
}

impl Apply for DeleteTag {
    type Reply = ();

    fn apply<T: WriteTables>(&self, to: &mut Applier<'_, T>) -> Result<(), StoreError> {
        to.check_tag_delete(&self.repository, &self.tag, &self.immutable)?;
        to.delete_tag(&self.repository, &self.tag)
    }
}

/// Removes those of some tags that still name the manifest given with them.
#[derive(Debug)]
pub(in crate::store) struct DeleteTags {
    pub(in crate::store) repository: RepositoryName,
    pub(in crate::store) tags: Vec<(Tag, Digest)>,
    pub(in crate::store) immutable: Arc<Vec<ImmutableRule>>,
}

/// The reply to [`DeleteTags`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::store) struct TagsDeleted {
    /// The removed tags.
    pub(in crate::store) deleted: Vec<Tag>,
    /// The number of tags that stay because they name another manifest now.
    pub(in crate::store) moved: usize,
}

impl Apply for DeleteTags {
    type Reply = TagsDeleted;

    fn apply<T: WriteTables>(&self, to: &mut Applier<'_, T>) -> Result<TagsDeleted, StoreError> {
        for (tag, _) in &self.tags {
            to.check_tag_delete(&self.repository, tag, &self.immutable)?;
        }
        to.delete_tags(&self.repository, &self.tags)
    }
}

/// Removes a manifest from a repository together with its tags, or some of them if it has very many.
#[derive(Debug)]
pub(in crate::store) struct DeleteManifest(pub(in crate::store) Arc<ManifestDelete>);

impl Apply for DeleteManifest {
    type Reply = Deleted;

    fn apply<T: WriteTables>(&self, to: &mut Applier<'_, T>) -> Result<Deleted, StoreError> {
        to.delete_manifest(&self.0)
    }
}

/// Removes a manifest from a repository, unless it has a tag.
#[derive(Debug)]
pub(in crate::store) struct DeleteUntaggedManifest(pub(in crate::store) Arc<ManifestDelete>);

impl Apply for DeleteUntaggedManifest {
    /// The progress; `None` if the manifest has a tag.
    type Reply = Option<Deleted>;

    fn apply<T: WriteTables>(&self, to: &mut Applier<'_, T>) -> Result<Option<Deleted>, StoreError> {
        let is_tagged = to.tables.has_tag(&self.0.repository, &self.0.digest)?;
        if is_tagged { Ok(None) } else { to.delete_manifest(&self.0).map(Some) }
    }
}

/// Orphans the next referrers of a deleted manifest.
#[derive(Debug)]
pub(in crate::store) struct OrphanReferrers {
    pub(in crate::store) repository: RepositoryName,
    pub(in crate::store) subject: Digest,
    /// The referrer after which they begin.
    pub(in crate::store) after: Option<Digest>,
}

impl Apply for OrphanReferrers {
    type Reply = Option<Digest>;

    fn apply<T: WriteTables>(&self, to: &mut Applier<'_, T>) -> Result<Option<Digest>, StoreError> {
        to.orphan_referrers(&self.repository, &self.subject, self.after.as_ref())
    }
}

/// Removes a blob from a repository; other repositories keep it.
#[derive(Debug)]
pub(in crate::store) struct DeleteBlob {
    pub(in crate::store) repository: RepositoryName,
    pub(in crate::store) digest: Digest,
    pub(in crate::store) immutable: Arc<Vec<ImmutableRule>>,
}

impl Apply for DeleteBlob {
    type Reply = ();

    fn apply<T: WriteTables>(&self, to: &mut Applier<'_, T>) -> Result<(), StoreError> {
        to.delete_blob(&self.repository, &self.digest, &self.immutable)
    }
}

#[cfg(test)]
mod tests;
