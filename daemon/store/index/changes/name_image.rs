//! The change of an import: links the blobs of images to a repository, stores their manifests and sets their tags, in one
//! transaction. An image that is not complete gets no name.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::applier::Applier;
use super::apply::Apply;
use super::push::NewManifest;
use crate::oci::{Digest, ReferenceKind, ReferencedContent, RepositoryName, Tag};
use crate::store::capacity_limits::NameLimits;
use crate::store::error::StoreError;
use crate::store::immutable::ImmutableRule;
use crate::store::index::tables::rows::{BlobRow, ManifestRow, RepositoryRow};
use crate::store::index::tables::synced::{self, Synced, SyncedRow};
use crate::store::index::tables::{Table, WriteTables, keys};

/// The maximum number of missing digests that a manifest takes over from its children, and that a tag lists.
const MAX_INHERITED: usize = 100;

/// Content that an image lacks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MissingContent {
    /// The digest.
    pub digest: Digest,
    /// Its length in bytes, if a manifest has it.
    pub size: Option<u64>,
}

/// A tag that an import sets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WantedTag {
    /// The tag.
    pub tag: Tag,
    /// The manifest.
    pub digest: Digest,
    /// The time of its push at the registry that exported it, in seconds since 1970 by the clock of that registry.
    pub pushed: Option<u64>,
}

/// The rule for tags that name another manifest already.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TagPolicy {
    /// The name under which the times of the other registry are recorded; `None` without a known registry.
    pub rule: Option<String>,
    /// True if such a tag always stays.
    pub keep_existing: bool,
    /// True if such a tag always moves.
    pub force: bool,
}

/// Reason why a tag that names another manifest was kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kept {
    /// A rule makes it immutable.
    Immutable,
    /// The import keeps all existing tags.
    Existing,
    /// The last import from the same registry brought a tag that was pushed then or later.
    NotNewer,
    /// No import from the same registry has set the tag before, so that there is no time to compare.
    NeverImported,
    /// The archive has no time of the push, or does not name its registry.
    NoTime,
}

/// The outcome for a tag.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TagOutcome {
    /// It is new.
    Set,
    /// It named another manifest.
    Moved(Digest),
    /// It names the manifest already.
    Unchanged,
    /// It still names another manifest.
    Kept(Digest, Kept),
    /// Its image is not complete.
    Incomplete(Vec<MissingContent>),
}

/// The reply to [`NameImage`]: the missing content of each manifest, which is stored if nothing is missing, and the outcome
/// of each tag, both in the order of the change.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Named {
    /// The manifests.
    pub manifests: Vec<Vec<MissingContent>>,
    /// The tags.
    pub tags: Vec<TagOutcome>,
}

/// Names that other requests bring before those of a dry run. They count towards the limits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct OtherNames {
    /// Manifests and tags.
    pub names: u64,
    /// The tags among them in the same repository.
    pub tags: u64,
}

/// Links all blobs of images, stores their manifests and sets their tags. The files of the manifests are blobs already.
#[derive(Debug)]
pub(in crate::store) struct NameImage {
    pub(in crate::store) repository: RepositoryName,
    /// The manifests, children before parents, without tags.
    pub(in crate::store) manifests: Vec<NewManifest>,
    /// The tags, each once.
    pub(in crate::store) tags: Vec<WantedTag>,
    pub(in crate::store) policy: TagPolicy,
    /// True if manifests of an index may be missing, except those of this change.
    pub(in crate::store) sparse: bool,
    pub(in crate::store) limits: NameLimits,
    pub(in crate::store) immutable: Arc<Vec<ImmutableRule>>,
    /// Content whose file is not as indexed, which counts as missing.
    pub(in crate::store) damaged: BTreeSet<Digest>,
    /// Foreign layers that the transfer did not bring: the repository gets no access to them.
    pub(in crate::store) unlinked: BTreeSet<Digest>,
    /// Names nothing, and finds the outcome that the change has once all blobs are here.
    pub(in crate::store) dry_run: Option<OtherNames>,
}

impl Apply for NameImage {
    type Reply = Named;

    fn apply<T: WriteTables>(&self, to: &mut Applier<'_, T>) -> Result<Named, StoreError> {
        to.name_image(self)
    }
}

impl<T: WriteTables> Applier<'_, T> {
    fn name_image(&mut self, change: &NameImage) -> Result<Named, StoreError> {
        let manifests = self.missing_content(change)?;
        let tags = self.tag_outcomes(change, &manifests)?;
        self.check_image_limits(change, &manifests, &tags)?;
        self.tables.check_capacity()?;
        if change.dry_run.is_some() {
            return Ok(Named { manifests, tags });
        }
        let mut stored = BTreeSet::new();
        for (new, _) in change.manifests.iter().zip(&manifests).filter(|(_, missing)| missing.is_empty()) {
            self.link_blobs_of(change, new)?;
            if self.store_manifest(change, new)? {
                stored.insert(&new.digest);
            }
        }
        for (wanted, outcome) in change.tags.iter().zip(&tags) {
            self.set_tag(change, wanted, outcome)?;
        }
        self.orphan_kept(change, &tags, stored)?;
        Ok(Named { manifests, tags })
    }

    /// Returns the missing content of each manifest.
    fn missing_content(&self, change: &NameImage) -> Result<Vec<Vec<MissingContent>>, StoreError> {
        let mut found: Vec<Vec<MissingContent>> = Vec::new();
        let mut known: BTreeMap<&Digest, usize> = BTreeMap::new();
        for new in &change.manifests {
            let missing =
                self.missing_of(change, new, |digest| known.get(digest).map(|at| &found[*at][..]))?;
            known.insert(&new.digest, found.len());
            found.push(missing);
        }
        Ok(found)
    }

    /// Returns the missing content of a manifest. `earlier` returns that of an earlier manifest of the change.
    fn missing_of<'a>(
        &self,
        change: &NameImage,
        new: &NewManifest,
        earlier: impl Fn(&Digest) -> Option<&'a [MissingContent]>,
    ) -> Result<Vec<MissingContent>, StoreError> {
        let (mut missing, mut absent, mut present) = (Vec::new(), Vec::new(), 0);
        if !self.has_usable_file(change, &new.digest)? {
            missing.push(MissingContent { digest: new.digest.clone(), size: Some(new.size) });
        }
        for link in new.manifest.references() {
            let content = || MissingContent { digest: link.digest.clone(), size: link.size };
            match link.kind {
                ReferenceKind::Foreign => present += 1,
                ReferenceKind::Blob if self.has_usable_file(change, &link.digest)? => present += 1,
                ReferenceKind::Blob => missing.push(content()),
                ReferenceKind::Manifest => match earlier(&link.digest) {
                    Some([]) => present += 1,
                    Some(inherited) => missing.extend(inherited.iter().take(MAX_INHERITED).cloned()),
                    None if self.has_usable_manifest(change, &link.digest)? => present += 1,
                    None => absent.push(content()),
                },
            }
        }
        if !change.sparse || (present == 0 && missing.is_empty()) {
            missing.append(&mut absent);
        }
        Ok(missing)
    }

    /// Returns true if the store has the file of a blob, whichever repository has it. A dry run takes it for present.
    fn has_usable_file(&self, change: &NameImage, digest: &Digest) -> Result<bool, StoreError> {
        if change.dry_run.is_some() {
            return Ok(true);
        }
        let is_known = self.tables.get(Table::Blobs, &keys::digest_key(digest))?.is_some();
        Ok(is_known && !change.damaged.contains(digest))
    }

    fn has_usable_manifest(&self, change: &NameImage, digest: &Digest) -> Result<bool, StoreError> {
        let key = keys::content_key(&change.repository, digest);
        Ok(self.tables.get(Table::Manifests, &key)?.is_some() && !change.damaged.contains(digest))
    }

    fn tag_outcomes(
        &self,
        change: &NameImage,
        manifests: &[Vec<MissingContent>],
    ) -> Result<Vec<TagOutcome>, StoreError> {
        let known: BTreeMap<&Digest, &Vec<MissingContent>> =
            change.manifests.iter().map(|new| &new.digest).zip(manifests).collect();
        let outcome = |wanted: &WantedTag| match known.get(&wanted.digest) {
            Some(missing) if !missing.is_empty() => {
                Ok(TagOutcome::Incomplete(missing.iter().take(MAX_INHERITED).cloned().collect()))
            }
            Some(_) => self.tag_outcome(change, wanted),
            // Another request of the dry run has its manifest.
            None if change.dry_run.is_some() => self.tag_outcome(change, wanted),
            None if self.has_usable_manifest(change, &wanted.digest)? => self.tag_outcome(change, wanted),
            None => {
                let missing = MissingContent { digest: wanted.digest.clone(), size: None };
                Ok(TagOutcome::Incomplete(vec![missing]))
            }
        };
        change.tags.iter().map(outcome).collect()
    }

    /// Returns the outcome for a tag whose image is complete.
    fn tag_outcome(&self, change: &NameImage, wanted: &WantedTag) -> Result<TagOutcome, StoreError> {
        let NameImage { repository, policy, immutable, .. } = change;
        let row: Option<ManifestRow> =
            self.tables.row(Table::Tags, &keys::tag_key(repository, &wanted.tag))?;
        let Some(row) = row else { return Ok(TagOutcome::Set) };
        let current = row.digest(&*self.tables)?;
        if current == wanted.digest {
            return Ok(TagOutcome::Unchanged);
        }
        if ImmutableRule::check_move(immutable, repository, &wanted.tag).is_err() {
            return Ok(TagOutcome::Kept(current, Kept::Immutable));
        }
        if policy.keep_existing {
            return Ok(TagOutcome::Kept(current, Kept::Existing));
        }
        if policy.force {
            return Ok(TagOutcome::Moved(current));
        }
        let (Some(rule), Some(pushed)) = (&policy.rule, wanted.pushed) else {
            return Ok(TagOutcome::Kept(current, Kept::NoTime));
        };
        Ok(match self.tables.synced(rule, repository, &wanted.tag)? {
            None => TagOutcome::Kept(current, Kept::NeverImported),
            Some(last) if pushed > last.pushed => TagOutcome::Moved(current),
            Some(_) => TagOutcome::Kept(current, Kept::NotNewer),
        })
    }

    /// Refuses new names beyond the limits, as for a push.
    fn check_image_limits(
        &self,
        change: &NameImage,
        manifests: &[Vec<MissingContent>],
        tags: &[TagOutcome],
    ) -> Result<(), StoreError> {
        let NameImage { repository, limits, .. } = change;
        let others = change.dry_run.unwrap_or_default();
        let tags = tags.iter().filter(|outcome| **outcome == TagOutcome::Set).count() as u64;
        let mut new = BTreeSet::new();
        for (manifest, _) in change.manifests.iter().zip(manifests).filter(|(_, missing)| missing.is_empty())
        {
            let key = keys::content_key(repository, &manifest.digest);
            if self.tables.get(Table::Manifests, &key)?.is_none() {
                new.insert(key);
            }
        }
        if tags > 0 {
            let row: Option<RepositoryRow> =
                self.tables.row(Table::Repositories, repository.as_str().as_bytes())?;
            let limit = limits.tags_per_repository;
            if u64::from(row.unwrap_or_default().tags).saturating_add(tags).saturating_add(others.tags)
                > limit
            {
                return Err(StoreError::TooManyTags { repository: repository.clone(), limit });
            }
        }
        let more = tags + new.len() as u64;
        if more > 0 {
            let names = self.tables.len(Table::Tags)? + self.tables.len(Table::Manifests)?;
            if names.saturating_add(more).saturating_add(others.names) > limits.names {
                return Err(StoreError::TooManyNames { limit: limits.names });
            }
        }
        Ok(())
    }

    /// Links the blobs that the repository does not have yet; foreign layers only if the store has them.
    fn link_blobs_of(&mut self, change: &NameImage, new: &NewManifest) -> Result<(), StoreError> {
        let NameImage { repository, unlinked, .. } = change;
        let is_linked = |link: &&ReferencedContent| match link.kind {
            ReferenceKind::Blob => true,
            ReferenceKind::Foreign => !unlinked.contains(&link.digest),
            ReferenceKind::Manifest => false,
        };
        for link in new.manifest.references().iter().filter(is_linked) {
            let key = keys::content_key(repository, &link.digest);
            if self.tables.get(Table::RepositoryBlobs, &key)?.is_none() {
                let row: Option<BlobRow> = self.tables.row(Table::Blobs, &keys::digest_key(&link.digest))?;
                if let Some(row) = row {
                    self.link_blob(repository, &link.digest, row.size)?;
                }
            }
        }
        Ok(())
    }

    /// Stores a manifest, unless the repository has it and no collection may take it. Returns false in that case.
    fn store_manifest(&mut self, change: &NameImage, new: &NewManifest) -> Result<bool, StoreError> {
        let key = keys::content_key(&change.repository, &new.digest);
        let is_orphan = self.tables.get(Table::Orphans, &key)?.is_some();
        if !is_orphan && self.tables.get(Table::Manifests, &key)?.is_some() {
            return Ok(false);
        }
        self.record_blob(&new.digest, new.size)?;
        self.index_manifest(new)?;
        Ok(true)
    }

    fn set_tag(
        &mut self,
        change: &NameImage,
        wanted: &WantedTag,
        outcome: &TagOutcome,
    ) -> Result<(), StoreError> {
        let NameImage { repository, policy, .. } = change;
        match outcome {
            TagOutcome::Set | TagOutcome::Moved(_) => {
                let key = keys::content_key(repository, &wanted.digest);
                self.tables.delete(Table::Orphans, &key)?;
                self.restore_tag(repository, &wanted.tag, &wanted.digest, None)?;
            }
            TagOutcome::Unchanged => {}
            TagOutcome::Kept(..) | TagOutcome::Incomplete(_) => return Ok(()),
        }
        let (Some(rule), Some(pushed)) = (&policy.rule, wanted.pushed) else { return Ok(()) };
        let last = self.tables.synced(rule, repository, &wanted.tag)?;
        if last.is_some_and(|last| last.pushed >= pushed) && *outcome == TagOutcome::Unchanged {
            return Ok(());
        }
        let row = SyncedRow::new(&wanted.digest, pushed);
        Ok(self.tables.put_row(Table::Synced, &synced::key(rule, repository, &wanted.tag), &row)?)
    }

    /// Orphans the stored manifests all of whose tags still name other ones, so that a collection takes them, as after a
    /// delete.
    fn orphan_kept(
        &mut self,
        change: &NameImage,
        tags: &[TagOutcome],
        mut stored: BTreeSet<&Digest>,
    ) -> Result<(), StoreError> {
        let mut kept = BTreeSet::new();
        for (wanted, outcome) in change.tags.iter().zip(tags) {
            match outcome {
                TagOutcome::Kept(..) => drop(kept.insert(&wanted.digest)),
                TagOutcome::Set | TagOutcome::Moved(_) | TagOutcome::Unchanged => {
                    stored.remove(&wanted.digest);
                }
                TagOutcome::Incomplete(_) => {}
            }
        }
        for digest in kept.intersection(&stored) {
            self.mark_orphaned(&change.repository, digest, self.now.store_time, true)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
