//! Collection of tags and manifests, repository by repository.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use super::collection::{Collection, ITEMS_PER_TRANSACTION, ROWS_PER_READ};
use super::decide;
use super::report::CollectedItem;
use crate::oci::{Reference, RepositoryName};
use crate::store::error::StoreError;
use crate::store::index::Index;
use crate::store::index::candidates::OrphanCandidate;
use crate::store::index::candidates::{CandidateWithSubject, CollectedManifest};
use crate::store::index::forecast::Forecast;
use crate::store::index::writer::Batch;
use crate::store::retention::RetentionRule;
use crate::store::{Store, blocking, management};

/// The maximum number of passes over a repository: each pass may free signatures of manifests that the one before
/// freed.
const PASSES: usize = 4;

impl Collection<'_> {
    /// Frees the tags and manifests of all repositories.
    pub(super) async fn repositories(&mut self) -> Result<(), StoreError> {
        let mut last = None;
        loop {
            let page = self.store.all_repositories(last, ROWS_PER_READ).await?;
            for repository in &page.items {
                self.report.repositories += 1;
                let rule = RetentionRule::of(&self.policy.retention, repository);
                if let Some(rule) = rule.filter(|rule| rule.limits_tags()) {
                    self.tags(repository, rule).await?;
                }
                self.manifests_and_attached(repository, rule).await?;
            }
            let Some(name) = page.items.last().filter(|_| page.more) else { return Ok(()) };
            last = Some(name.to_string());
        }
    }

    /// Frees manifests and, in a repository with a retention rule, the tags that are attached to them. The manifests of
    /// these tags become orphans, which a grace period of zero frees at once, in another pass.
    async fn manifests_and_attached(
        &mut self,
        repository: &RepositoryName,
        rule: Option<&RetentionRule>,
    ) -> Result<(), StoreError> {
        let with_attached = rule.is_some_and(RetentionRule::frees_content);
        for _ in 0..PASSES {
            let before = self.report.freed_tags;
            self.manifests(repository, rule.and_then(|rule| rule.untagged), with_attached).await?;
            if self.report.freed_tags == before {
                break;
            }
        }
        Ok(())
    }

    /// Frees orphans and, with `untagged`, all untagged manifests of that age; with `with_attached` also the tags that
    /// are attached to them.
    async fn manifests(
        &mut self,
        repository: &RepositoryName,
        untagged: Option<Duration>,
        with_attached: bool,
    ) -> Result<(), StoreError> {
        let mut after = None;
        loop {
            let (store, name, grace) = (self.store.clone(), repository.clone(), self.policy.grace);
            let (page, next) = self
                .read_with_forecast(move |index, forecast| {
                    let now = index.clock.now();
                    let all = untagged.is_some();
                    let mut page =
                        index.orphan_candidates(&name, after.as_ref(), ROWS_PER_READ, all, forecast)?;
                    let next =
                        page.last().filter(|_| page.len() == ROWS_PER_READ).map(|one| one.digest.clone());
                    page.retain(|one| decide::is_manifest_due(one, now, grace, untagged));
                    index.retain_orphans(&name, &mut page, forecast)?;
                    Ok((store.without_live_subject(&name, page, forecast)?, next))
                })
                .await?;
            for part in page.chunks(ITEMS_PER_TRANSACTION) {
                self.sweep_manifests(repository, part.to_vec(), with_attached).await?;
            }
            if next.is_none() {
                return if self.dry_run { Ok(()) } else { self.store.finish_deletes(repository).await };
            }
            after = next;
        }
    }

    async fn sweep_manifests(
        &mut self,
        repository: &RepositoryName,
        manifests: Vec<CandidateWithSubject>,
        with_attached: bool,
    ) -> Result<(), StoreError> {
        let name = repository.clone();
        self.verify_before_sweep(manifests.len()).await?;
        let taken = if self.dry_run {
            let collect = move |index: &Index, forecast: &mut Forecast| {
                forecast.sweep_manifests(index, &name, manifests, with_attached)
            };
            self.read_with_forecast(collect).await?
        } else {
            let collect =
                move |batch: &mut Batch, part: &[_]| batch.sweep_manifests(&name, part, with_attached);
            self.store.sweep_items(manifests, collect).await?
        };
        for CollectedManifest { digest, tags } in taken {
            self.report.freed_manifests += 1;
            (self.observe)(CollectedItem::Manifest { repository: repository.clone(), digest });
            for (tag, digest) in tags {
                self.report.freed_tags += 1;
                (self.observe)(CollectedItem::Tag { repository: repository.clone(), tag, digest });
            }
        }
        Ok(())
    }
}

impl Store {
    /// Orphans the referrers of deleted manifests where this has not been completed, here or by a process that ended.
    async fn finish_deletes(&self, repository: &RepositoryName) -> Result<(), StoreError> {
        let (index, name) = (Arc::clone(&self.0.index), repository.clone());
        for digest in blocking(move || index.unfinished_deletes(&name)).await? {
            management::orphan_referrers(&self.writer()?, repository, &digest).await?;
        }
        Ok(())
    }

    /// Drops the manifests whose subject is in the repository; returns the others, each with its subject.
    fn without_live_subject(
        &self,
        repository: &RepositoryName,
        manifests: Vec<OrphanCandidate>,
        forecast: &Forecast,
    ) -> Result<Vec<CandidateWithSubject>, StoreError> {
        if manifests.is_empty() {
            return Ok(Vec::new());
        }
        let (mut subjects, mut unreadable) = (BTreeMap::new(), BTreeSet::new());
        for one in &manifests {
            match self.0.read_subject(&one.digest, one.size) {
                Ok(subject) => subjects.extend(subject.map(|subject| (one.digest.clone(), subject))),
                Err(error) if error.is_lack_of_resources() => return Err(error),
                Err(_) => drop(unreadable.insert(one.digest.clone())),
            }
        }
        if !unreadable.is_empty() {
            // The rows of referrers have the subjects, too. Finding them takes a scan, which is for damaged files only.
            subjects.append(&mut self.0.index.subjects_of(repository, &unreadable)?);
        }
        decide::without_live_subject(manifests, subjects, |subject| {
            let by_digest = Reference::Digest(subject.clone());
            Ok(!forecast.removes(repository, subject)
                && self.0.index.manifest(repository, &by_digest)?.is_some())
        })
    }
}
