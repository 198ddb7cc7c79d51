//! The change that stores a manifest with its tags, applied inside the writer's transaction; `blobs` brings its blobs.
//!
//! It checks first and writes afterwards, so that a refused change has written nothing.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::applier::{Applier, Object};
use super::apply::{Apply, Needs};
use crate::oci::{Descriptor, Digest, Manifest, ReferenceKind, RepositoryName, Tag};
use crate::store::capacity_limits::NameLimits;
use crate::store::error::StoreError;
use crate::store::immutable::ImmutableRule;
use crate::store::index::event::EventKind;
use crate::store::index::tables::parents::WRITER_LOOKUPS;
use crate::store::index::tables::rows::{ManifestRow, NameTimestamps, RepositoryRow};
use crate::store::index::tables::sparse::SparseManifests;
use crate::store::index::tables::{Table, WriteTables, keys};
use crate::store::index_error::IndexError;
use crate::store::upload_files::HashedFile;

/// A manifest to store, and its tags.
#[derive(Clone, Debug)]
pub(in crate::store) struct NewManifest {
    /// The repository.
    pub repository: RepositoryName,
    /// The parsed manifest.
    pub manifest: Manifest,
    /// The digest of its bytes.
    pub digest: Digest,
    /// Its length in bytes.
    pub size: u64,
    /// The tags to set.
    pub tags: Vec<Tag>,
    /// The time at which the names were set; now if `None`.
    pub timestamps: Option<NameTimestamps>,
    /// True if content that the manifest references may be missing, which makes it sparse.
    pub may_be_sparse: bool,
}

/// The maximum number of missing digests that an error lists.
const MAX_MISSING_DIGESTS: usize = 100;

/// Stores a manifest with its file, tags, references and referrer row. Refused with
/// [`StoreError::ManifestBlobUnknown`] if content that it references is missing.
#[derive(Debug)]
pub(in crate::store) struct PutManifest {
    pub(in crate::store) new: Box<NewManifest>,
    /// The file in `uploads/`.
    pub(in crate::store) file: HashedFile,
    pub(in crate::store) limits: NameLimits,
    pub(in crate::store) immutable: Arc<Vec<ImmutableRule>>,
    /// Content whose file is not as indexed, which counts as missing.
    pub(in crate::store) damaged: BTreeSet<Digest>,
}

/// Returns the missing content for which a manifest is refused; empty if it is accepted. An image needs all of its blobs, and
/// an index one of its manifests: users mirror single platforms of an index to places without internet.
pub(in crate::store) fn missing_content(
    manifest: &Manifest,
    mut has: impl FnMut(&Digest) -> Result<bool, StoreError>,
) -> Result<Vec<Digest>, StoreError> {
    let (mut resolved, mut missing, mut refused) = (0, Vec::new(), false);
    for link in manifest.references() {
        if has(&link.digest)? {
            resolved += 1;
        } else if link.kind != ReferenceKind::Foreign {
            refused |= link.kind == ReferenceKind::Blob;
            if missing.len() < MAX_MISSING_DIGESTS {
                missing.push(link.digest.clone());
            }
        }
    }
    if !refused && resolved > 0 {
        missing.clear();
    }
    Ok(missing)
}

impl Apply for PutManifest {
    type Reply = ();

    fn apply<T: WriteTables>(&self, to: &mut Applier<'_, T>) -> Result<(), StoreError> {
        to.put_manifest(self)
    }

    fn needs(&mut self) -> Needs<'_> {
        Needs::Manifest(&self.file, &self.new.digest)
    }
}

impl<T: WriteTables> Applier<'_, T> {
    fn put_manifest(&mut self, put: &PutManifest) -> Result<(), StoreError> {
        let PutManifest { new, limits, immutable, damaged, .. } = put;
        self.check_immutable(new, immutable)?;
        self.check_references(new, damaged)?;
        self.check_name_limits(new, *limits)?;
        self.tables.check_capacity()?;
        self.record_blob(&new.digest, new.size)?;
        if new.may_be_sparse {
            self.record_missing_blobs(&new.repository, &new.manifest)?;
        }
        self.index_manifest(new)
    }

    /// Refuses new names beyond the limits; moving a tag adds no name.
    fn check_name_limits(&self, new: &NewManifest, limits: NameLimits) -> Result<(), StoreError> {
        let mut tags = BTreeSet::new();
        for tag in &new.tags {
            let key = keys::tag_key(&new.repository, tag);
            if self.tables.get(Table::Tags, &key)?.is_none() {
                tags.insert(key);
            }
        }
        let key = keys::content_key(&new.repository, &new.digest);
        let manifests = u64::from(self.tables.get(Table::Manifests, &key)?.is_none());
        let tags = tags.len() as u64;
        if tags > 0 {
            let key = new.repository.as_str().as_bytes();
            let row: Option<RepositoryRow> = self.tables.row(Table::Repositories, key)?;
            let limit = limits.tags_per_repository;
            if u64::from(row.unwrap_or_default().tags) + tags > limit {
                return Err(StoreError::TooManyTags { repository: new.repository.clone(), limit });
            }
        }
        if tags + manifests > 0 {
            let names = self.tables.len(Table::Tags)? + self.tables.len(Table::Manifests)?;
            if names + tags + manifests > limits.names {
                return Err(StoreError::TooManyNames { limit: limits.names });
            }
        }
        Ok(())
    }

    /// Refuses a manifest whose content is missing, see [`missing_content`]. If the manifest may be sparse, only content
    /// counts whose file is not as indexed, so that the client pushes it again.
    fn check_references(&self, new: &NewManifest, damaged: &BTreeSet<Digest>) -> Result<(), StoreError> {
        let missing = missing_content(&new.manifest, |digest| {
            let is_damaged = damaged.contains(digest);
            Ok(!is_damaged && (new.may_be_sparse || self.tables.has_content(&new.repository, digest)?))
        })?;
        if missing.is_empty() { Ok(()) } else { Err(StoreError::ManifestBlobUnknown(missing)) }
    }

    /// Writes all rows of a manifest whose file is in `blobs/`.
    pub(super) fn index_manifest(&mut self, new: &NewManifest) -> Result<(), StoreError> {
        self.names_changed();
        let timestamps = self.timestamps_or_now(new.timestamps)?;
        let mut row = ManifestRow {
            digest: keys::digest_key(&new.digest),
            size: new.size,
            media_type: new.manifest.media_type().to_string(),
            pushed: timestamps.pushed,
            since: timestamps.since,
            order: timestamps.order,
        };
        let key = keys::content_key(&new.repository, &new.digest);
        let is_new = self.tables.get(Table::Manifests, &key)?.is_none();
        self.tables.put_row(Table::Manifests, &key, &row)?;
        if is_new {
            self.hide_attached(&new.repository, &new.digest)?;
        }
        self.tables.put(
            Table::ManifestRepositories,
            &keys::repository_key(&new.digest, &new.repository),
            &[],
        )?;
        self.forget_candidate(None, &new.digest)?;
        self.put_edges(new)?;
        if let Some(subject) = new.manifest.subject() {
            let descriptor = new.manifest.descriptor(new.digest.clone(), new.size);
            self.put_referrer(&new.repository, subject, &descriptor)?;
        }
        self.record_push(&new.repository, is_new.then_some(new.size), new.timestamps)?;
        if is_new {
            self.emit_name(EventKind::Push, (&new.repository, None), (&new.digest, None), &row);
        }
        for (number, tag) in new.tags.iter().enumerate() {
            if number > 0 && new.timestamps.is_none() {
                row.order = self.next_sequence_number()?;
            }
            self.move_tag(&new.repository, tag, &row)?;
        }
        // A push makes an orphan live again.
        self.tables.delete(Table::Orphans, &key)?;
        if new.may_be_sparse || self.tables.is_sparse(&new.repository, &new.digest)? {
            self.update_sparse_mark(&new.repository, &new.digest, &mut u32::MAX.clone())?;
        }
        if is_new {
            self.fill_holes(&new.repository, &new.digest, &mut WRITER_LOOKUPS.clone())?;
        }
        Ok(())
    }

    /// Writes the references of a manifest, and records foreign layers that the repository has, which a rebuild could
    /// not derive from the manifest.
    fn put_edges(&mut self, new: &NewManifest) -> Result<(), StoreError> {
        let mut children = Vec::new();
        // Where manifests have holes, a row may also say that content has filled one.
        let sparse = keys::repository_prefix(&new.repository);
        let has_holes = self.tables.prefix(Table::Sparse, &sparse)?.next().is_some();
        for link in new.manifest.references() {
            children.extend_from_slice(&keys::digest_key(&link.digest));
            self.tables.put(Table::Parents, &keys::edge_key(&link.digest, &new.digest), &[])?;
            if !has_holes {
                self.forget_candidate(Some(&new.repository), &link.digest)?;
            }
            if link.kind == ReferenceKind::Foreign {
                self.record_foreign_link(&new.repository, &link.digest)?;
            }
        }
        self.tables.put(Table::Children, &keys::digest_key(&new.digest), &children)?;
        Ok(())
    }

    /// Restores a tag of an indexed manifest; returns false if the repository does not have the manifest.
    pub(super) fn restore_tag(
        &mut self,
        repository: &RepositoryName,
        tag: &Tag,
        digest: &Digest,
        timestamps: Option<NameTimestamps>,
    ) -> Result<bool, StoreError> {
        let key = keys::content_key(repository, digest);
        let Some(row) = self.tables.row::<ManifestRow>(Table::Manifests, &key)? else { return Ok(false) };
        let timestamps = self.timestamps_or_now(timestamps)?;
        let NameTimestamps { pushed, since, order } = timestamps;
        let named = ManifestRow { pushed, since, order, ..row.clone() };
        if since > row.since {
            self.tables.put_row(Table::Manifests, &key, &named)?;
        }
        self.names_changed();
        self.move_tag(repository, tag, &named)?;
        self.record_push(repository, None, Some(timestamps))?;
        Ok(true)
    }

    /// Returns the timestamps of a name, or those of a name that is set now.
    fn timestamps_or_now(
        &mut self,
        timestamps: Option<NameTimestamps>,
    ) -> Result<NameTimestamps, StoreError> {
        match timestamps {
            Some(timestamps) => Ok(timestamps),
            None => Ok(NameTimestamps {
                pushed: self.now.wall_time,
                since: self.now.store_time,
                order: self.next_sequence_number()?,
            }),
        }
    }

    fn move_tag(
        &mut self,
        repository: &RepositoryName,
        tag: &Tag,
        row: &ManifestRow,
    ) -> Result<(), StoreError> {
        let key = keys::tag_key(repository, tag);
        let before: Option<ManifestRow> = self.tables.row(Table::Tags, &key)?;
        let digest = row.digest(&*self.tables)?;
        match &before {
            None => {
                self.update_stats(repository, |counted| counted.tags = counted.tags.saturating_add(1))?;
                self.emit_name(EventKind::Tag, (repository, Some(tag)), (&digest, None), row);
            }
            Some(before) if before.digest != row.digest => {
                let before = before.digest(&*self.tables)?;
                self.mark_orphaned(repository, &before, self.now.store_time, false)?;
                self.emit_name(EventKind::Tag, (repository, Some(tag)), (&digest, Some(before)), row);
            }
            Some(_) => {}
        }
        self.put_tag(repository, tag, (before.as_ref(), row))
    }

    /// Writes the event of a name that was set.
    fn emit_name(
        &mut self,
        kind: EventKind,
        (repository, tag): (&RepositoryName, Option<&Tag>),
        (digest, before): (&Digest, Option<Digest>),
        row: &ManifestRow,
    ) {
        let media_type = Some(row.media_type.as_str());
        self.emit(kind, Object { repository, tag, digest, before, media_type, size: row.size });
    }

    fn put_referrer(
        &mut self,
        repository: &RepositoryName,
        subject: &Digest,
        descriptor: &Descriptor,
    ) -> Result<(), StoreError> {
        let value = serde_json::to_vec(descriptor).map_err(|error| IndexError::Row(error.to_string()));
        let value = self.tables.noted(value)?;
        let key = keys::referrer_key(repository, subject, Some(&descriptor.digest));
        Ok(self.tables.put(Table::Referrers, &key, &value)?)
    }
}
