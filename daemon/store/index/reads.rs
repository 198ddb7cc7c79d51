//! The reads of the open index, each in a snapshot of its own. The reads themselves are generic over the back end and
//! stand in `tables`.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::{Bound, ControlFlow};
use std::time::Duration;

use uuid::Uuid;

use super::lmdb::Index;
use super::tables::blob_candidates::BlobCandidates;
use super::tables::candidates::{
    BlobCandidate, BlobPage, CandidateWithSubject, CollectedManifest, DatedTag, OrphanCandidate,
};
use super::tables::daily::{Daily, DailyRow, Day};
use super::tables::emptied::Emptied;
use super::tables::entry::{Counts, ManifestEntry, Page};
use super::tables::forecast::Forecast;
use super::tables::jobs::{JobRow, JobRows};
use super::tables::lease::{Lease, Leases};
use super::tables::link_exceptions::{LinkException, LinkExceptions};
use super::tables::lists::{Lists, NumberedTag, RepositoryPage};
use super::tables::lookups::Lookups;
use super::tables::mark::Mark;
use super::tables::meta::Meta;
use super::tables::names::{Name, Names};
use super::tables::overview::Overviews;
use super::tables::parents::References;
use super::tables::repository_lists::RepositoryLists;
use super::tables::rows::{LinkExceptionRow, RepositoryBlobRow, UploadRow};
use super::tables::search::Searches;
use super::tables::sparse::{Presence, SparseManifest, SparseManifests};
use super::tables::stats::Stats;
use super::tables::tag_index::TagIndex;
use super::tables::tag_lists::{SharedTag, TagLists};
use super::tables::untagged::{UntaggedManifest, UntaggedManifests};
use super::tables::uses::{StoreDay, Uses};
use crate::base::clock::unix_seconds;
use crate::oci::{
    AttachmentTarget, DescriptorView, Digest, ListedDescriptor, Reference, RepositoryName, Tag,
};
use crate::store::clock::StoreTime;
use crate::store::error::StoreError;
use crate::store::listing::{
    FoundNames, ListPage, ListQuery, NameQuery, Repositories, RepositoryOrder, RepositoryOverview, TagOrder,
    TotalSize, Visible,
};
use crate::store::work::Cancel;

/// Defines methods of [`Index`] that call the method of the same name on a new snapshot.
macro_rules! reads {
    ($(fn $name:ident($($argument:ident: $type:ty),*) -> $result:ty;)*) => {
        impl Index {
            $(pub(in crate::store) fn $name(&self, $($argument: $type),*) -> Result<$result, StoreError> {
                self.read()?.$name($($argument),*)
            })*
        }
    };
}

reads! {
    fn bytes() -> u64;
    fn change() -> u64;
    fn registry_id() -> Option<Uuid>;
    fn collection_is_held() -> bool;
    fn is_complete() -> bool;
    fn counts() -> Counts;
    fn manifest(repository: &RepositoryName, reference: &Reference) -> Option<ManifestEntry>;
    fn manifests_among(repository: &RepositoryName, digests: &[Digest]) -> Vec<ManifestEntry>;
    fn manifest_repositories(digest: &Digest) -> Vec<RepositoryName>;
    fn manifests_after(repository: &RepositoryName, after: Option<&Digest>, limit: usize) -> Vec<ManifestEntry>;
    fn name_of(repository: &RepositoryName, reference: &Reference) -> Option<Name>;
    fn repository_exists(repository: &RepositoryName) -> bool;
    fn repository_stats_match(repository: &RepositoryName) -> bool;
    fn blob(repository: &RepositoryName, digest: &Digest) -> Option<RepositoryBlobRow>;
    fn blob_size(digest: &Digest) -> Option<u64>;
    fn contains_blob(digest: &Digest) -> bool;
    fn blob_repositories(digest: &Digest, limit: usize) -> Vec<RepositoryName>;
    fn blobs_after(after: Option<&Digest>, limit: usize) -> Vec<(Digest, u64)>;
    fn repository_blobs_after(repository: &RepositoryName, after: Option<&Digest>, limit: usize) -> Vec<(Digest, u64)>;
    fn count_unreferenced_blobs() -> u64;
    fn candidates_of(digest: &Digest) -> Vec<BlobCandidate>;
    fn last_full_collection() -> Option<StoreTime>;
    fn repositories_with_orphans(after: Option<&[u8]>, rows: usize) -> (Vec<RepositoryName>, Option<Vec<u8>>);
    fn referencing_manifests(digest: &Digest, limit: usize) -> Vec<(RepositoryName, Digest)>;
    fn link_exception(repository: &RepositoryName, digest: &Digest) -> Option<LinkExceptionRow>;
    fn link_exceptions_after(after: Option<&LinkException>, limit: usize) -> Vec<LinkException>;
    fn last_pull(repository: &RepositoryName, digest: &Digest) -> Option<StoreDay>;
    fn pulls_recorded_since() -> Option<StoreTime>;
    fn sparse_after(after: Option<&SparseManifest>, limit: usize) -> Vec<SparseManifest>;
    fn holes(repository: &RepositoryName, digest: &Digest) -> Vec<Digest>;
    fn may_have_holes(repository: &RepositoryName, digest: &Digest, budget: &mut u32) -> bool;
    fn presence(repository: &RepositoryName, digest: &Digest, config: Option<&Digest>) -> Option<Presence>;
    fn days_from(first: Day) -> Vec<(Day, DailyRow)>;
    fn day_before(day: Day) -> Option<(Day, DailyRow)>;
    fn job_rows() -> Vec<(String, JobRow)>;
    fn vanished_uploads(there: &[(String, u64)]) -> Vec<Vec<u8>>;
    fn upload_row(name: &str) -> Option<UploadRow>;
    fn tags(repository: &RepositoryName, last: Option<&str>, limit: usize) -> Page<Tag>;
    fn tags_after(repository: &RepositoryName, after: Option<&Tag>, limit: usize) -> Vec<DatedTag>;
    fn each_tag_naming(
        repository: &RepositoryName, digest: &Digest, visit: &mut dyn FnMut(&Tag) -> Result<(), StoreError>
    ) -> ();
    fn has_attached_subject(repository: &RepositoryName, attached: &AttachmentTarget) -> bool;
    fn is_only_listed(repository: &RepositoryName, subject: &Digest, digest: &Digest) -> bool;
    fn unfinished_deletes(repository: &RepositoryName) -> Vec<Digest>;
    fn repositories(last: Option<&str>, limits: (usize, usize), wanted: &dyn Fn(&RepositoryName) -> bool) -> RepositoryPage;
    fn referrers(
        subject: (&RepositoryName, &Digest), last: Option<&Digest>, cancel: &Cancel,
        visit: &mut dyn FnMut(ListedDescriptor<'_>) -> ControlFlow<()>
    ) -> Option<Digest>;
    fn orphan_candidates(
        repository: &RepositoryName, after: Option<&Digest>, limit: usize, all: bool, forecast: &Forecast
    ) -> Vec<OrphanCandidate>;
    fn retain_orphans(repository: &RepositoryName, manifests: &mut Vec<OrphanCandidate>, forecast: &Forecast) -> ();
    fn repositories_overview(
        part: &ListQuery<RepositoryOrder>, visible: &Visible, cancel: &Cancel
    ) -> Repositories;
    fn repository_overview(name: &RepositoryName) -> Option<RepositoryOverview>;
    fn search_names(query: &NameQuery, wanted: &dyn Fn(&RepositoryName) -> bool, cancel: &Cancel) -> FoundNames;
    fn first_referrers(
        repository: &RepositoryName, subject: &Digest, limit: usize, cancel: &Cancel
    ) -> Vec<DescriptorView>;
    fn referrers_overview(
        repository: &RepositoryName, subject: &Digest, limit: usize, cancel: &Cancel
    ) -> (Vec<DescriptorView>, usize);
    fn tags_overview(repository: &RepositoryName, part: &ListQuery<TagOrder>, cancel: &Cancel) -> ListPage<SharedTag>;
    fn tags_from(repository: &RepositoryName, start: &Bound<Tag>, limit: usize) -> Vec<NumberedTag>;
    fn tags_named(repository: &RepositoryName, wanted: &BTreeSet<Tag>) -> Vec<SharedTag>;
    fn tags_of(repository: &RepositoryName, digest: &Digest, limit: usize, cancel: &Cancel) -> (Vec<Tag>, usize);
    fn total_size(repository: &RepositoryName, digest: &Digest, rows: &mut usize, cancel: &Cancel) -> TotalSize;
}

impl Index {
    /// As [`Leases::blob_lease`], now.
    pub(in crate::store) fn blob_lease(
        &self,
        repository: &RepositoryName,
        digest: &Digest,
        link: &RepositoryBlobRow,
        grace: Duration,
    ) -> Result<Lease, StoreError> {
        let now = self.clock.now();
        // Most leases are young: no snapshot is needed for them.
        let lease = Lease::of(link.leased_at.age(now), grace);
        if lease == Lease::Valid {
            return Ok(lease);
        }
        self.read()?.blob_lease(repository, digest, link, (now, grace))
    }

    /// As [`Leases::manifest_lease`], now.
    pub(in crate::store) fn manifest_lease(
        &self,
        repository: &RepositoryName,
        digest: &Digest,
        grace: Duration,
        untagged: Option<Duration>,
    ) -> Result<Lease, StoreError> {
        let now = self.clock.now();
        self.read()?.manifest_lease(repository, digest, now, (grace, untagged))
    }

    /// As [`Mark::blob_page`] if `is_full`, otherwise as [`Mark::candidate_page`], now.
    pub(in crate::store) fn blob_page(
        &self,
        after: Option<&[u8]>,
        is_full: bool,
        (limit, grace): (usize, Duration),
        forecast: &Forecast,
    ) -> Result<BlobPage, StoreError> {
        let (now, tables) = (self.clock.now(), self.read()?);
        if is_full {
            tables.blob_page(after, limit, (now, grace), forecast)
        } else {
            tables.candidate_page(after, limit, (now, grace), forecast)
        }
    }

    /// As [`BlobCandidates::needs_full_collection`], now.
    pub(in crate::store) fn needs_full_collection(&self) -> Result<bool, StoreError> {
        self.read()?.needs_full_collection(self.clock.now())
    }

    /// As [`UntaggedManifests::untagged`], with the age of each manifest in seconds.
    pub(in crate::store) fn untagged(
        &self,
        repository: &RepositoryName,
        part: (usize, usize),
        cancel: &Cancel,
    ) -> Result<(Vec<(UntaggedManifest, u64)>, usize), StoreError> {
        let now = self.clock.now();
        let (found, total) = self.read()?.untagged(repository, part, cancel)?;
        let with_age = |manifest: UntaggedManifest| {
            let age = manifest.since.age(now).as_secs();
            (manifest, age)
        };
        Ok((found.into_iter().map(with_age).collect(), total))
    }

    /// As [`Emptied::emptied_since`], in seconds since 1970.
    pub(in crate::store) fn emptied_at(
        &self,
        repository: &RepositoryName,
        rows: &mut usize,
        cancel: &Cancel,
    ) -> Result<Option<u64>, StoreError> {
        let now = self.clock.now();
        let since = self.read()?.emptied_since(repository, rows, cancel)?;
        Ok(since.map(|since| unix_seconds().saturating_sub(since.age(now).as_secs())))
    }

    /// Returns true if a tag names a manifest, by one lookup; false also while it takes more to find that out, because not all
    /// tags are indexed by their digests.
    pub(in crate::store) fn is_known_as_tagged(
        &self,
        repository: &RepositoryName,
        digest: &Digest,
    ) -> Result<bool, StoreError> {
        let snapshot = self.read()?;
        Ok(snapshot.has_all_tags_indexed()? && snapshot.has_tag(repository, digest)?)
    }

    /// Returns the subjects of those of the given manifests that have one, found in the referrer rows of their
    /// repository in short reads: this works for manifests whose bytes cannot be read.
    pub(in crate::store) fn subjects_of(
        &self,
        repository: &RepositoryName,
        manifests: &BTreeSet<Digest>,
    ) -> Result<BTreeMap<Digest, Digest>, StoreError> {
        let (mut subjects, mut after) = (BTreeMap::new(), None::<Vec<u8>>);
        loop {
            after = self.read()?.find_subjects(repository, manifests, after.as_deref(), &mut subjects)?;
            if after.is_none() {
                return Ok(subjects);
            }
        }
    }

    /// As [`Forecast::retire_tags`], now.
    pub(in crate::store) fn forecast_retired_tags(
        &self,
        forecast: &mut Forecast,
        repository: &RepositoryName,
        tags: &[DatedTag],
    ) -> Result<(), StoreError> {
        let now = self.clock.now();
        forecast.retire_tags(&self.read()?, now, repository, tags)
    }

    /// As [`Forecast::sweep_manifests`], now.
    pub(in crate::store) fn forecast_swept_manifests(
        &self,
        forecast: &mut Forecast,
        repository: &RepositoryName,
        manifests: Vec<CandidateWithSubject>,
        attached: bool,
    ) -> Result<Vec<CollectedManifest>, StoreError> {
        let now = self.clock.now();
        forecast.sweep_manifests(&self.read()?, now, repository, manifests, attached)
    }
}
