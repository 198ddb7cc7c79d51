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
use crate::store::index::changes::sweep::SweepManifests;
use crate::store::index::tables::candidates::{
    CandidateWithSubject, CollectedManifest, OrphanCandidate, Remaining,
};
use crate::store::index::tables::forecast::Forecast;
use crate::store::retention::RetentionRule;
use crate::store::{Store, blocking, management};

/// The maximum number of passes over a repository: each pass may free signatures of manifests that the one before
/// freed.
const PASSES: usize = 4;

/// The manifests of a page that are not due yet.
struct Early {
    /// True if there are any, also those that a tag or another manifest holds.
    is_waiting: bool,
    /// The number of those that become due by time alone.
    orphans: u64,
    remaining: Remaining,
}

impl Early {
    fn among(
        mut manifests: Vec<OrphanCandidate>,
        retain_orphans: impl FnOnce(&mut Vec<OrphanCandidate>) -> Result<(), StoreError>,
        remaining_time: impl Fn(&OrphanCandidate) -> Option<Duration>,
    ) -> Result<Self, StoreError> {
        let is_waiting = !manifests.is_empty();
        manifests.retain(|one| remaining_time(one).is_some());
        retain_orphans(&mut manifests)?;
        let mut early =
            Early { is_waiting, orphans: manifests.len() as u64, remaining: Remaining::default() };
        manifests.iter().filter_map(remaining_time).for_each(|time| early.remaining.add(time));
        Ok(early)
    }
}

impl<'a> Collection<'a> {
    /// Frees the tags and manifests of the repositories for which a rule says so, and the orphans of all others.
    pub(super) async fn repositories(&mut self) -> Result<(), StoreError> {
        self.repositories_with_rules().await?;
        self.repositories_with_orphans().await
    }

    async fn repositories_with_rules(&mut self) -> Result<(), StoreError> {
        if !self.policy.retention.iter().any(RetentionRule::frees_content) {
            return Ok(());
        }
        let mut last = None;
        loop {
            self.safe_point().await?;
            let page = self.store.all_repositories(last, ROWS_PER_READ).await?;
            for repository in &page.items {
                let Some(rule) = self.freeing_rule(repository) else { continue };
                if rule.limits_tags() && !self.is_preview {
                    self.tags(repository, rule).await?;
                }
                self.manifests_and_attached(repository, Some(rule)).await?;
            }
            let Some(name) = page.items.last().filter(|_| page.more) else { return Ok(()) };
            last = Some(name.to_string());
        }
    }

    /// Frees the orphans of the repositories without a rule. What a delete did not orphan stays there.
    async fn repositories_with_orphans(&mut self) -> Result<(), StoreError> {
        let mut after = None;
        loop {
            let read = move |index: &Index, _: &mut Forecast| {
                index.repositories_with_orphans(after.as_deref(), ROWS_PER_READ)
            };
            let (repositories, next) = self.read_with_forecast(read).await?;
            for repository in &repositories {
                if self.freeing_rule(repository).is_none() {
                    self.manifests_and_attached(repository, None).await?;
                }
            }
            if next.is_none() {
                return Ok(());
            }
            after = next;
        }
    }

    /// Returns the rule for a repository, if it may free something.
    fn freeing_rule(&self, repository: &RepositoryName) -> Option<&'a RetentionRule> {
        RetentionRule::of(&self.policy.retention, repository).filter(|rule| rule.frees_content())
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
            self.manifests(repository, rule, with_attached).await?;
            if self.report.freed_tags == before {
                break;
            }
        }
        Ok(())
    }

    /// Frees orphans and, by a rule with `untagged`, all untagged manifests of that age that were not pulled lately; with
    /// `with_attached` also the tags that are attached to them.
    async fn manifests(
        &mut self,
        repository: &RepositoryName,
        rule: Option<&RetentionRule>,
        with_attached: bool,
    ) -> Result<(), StoreError> {
        let untagged = rule.and_then(|rule| rule.untagged);
        let (usage, mut after) = (self.store.usage(rule)?, None);
        loop {
            let usage = usage.clone();
            let (store, name, grace) = (self.store.clone(), repository.clone(), self.policy.grace);
            let (page, next, early) = self
                .read_with_forecast(move |index, forecast| {
                    let now = index.clock.now();
                    let all = untagged.is_some();
                    let mut page =
                        index.orphan_candidates(&name, after.as_ref(), ROWS_PER_READ, all, forecast)?;
                    let next =
                        page.last().filter(|_| page.len() == ROWS_PER_READ).map(|one| one.digest.clone());
                    let (due, early): (Vec<_>, Vec<_>) =
                        page.into_iter().partition(|one| decide::is_manifest_due(one, now, grace, untagged));
                    page = due;
                    let early = Early::among(
                        early,
                        |early| index.retain_orphans(&name, early, forecast),
                        |one| decide::remaining_time(one, now, grace, untagged),
                    )?;
                    let before = page.len();
                    if let Some(usage) = &usage {
                        let is_due = |one: &_| decide::is_manifest_due(one, now, grace, None);
                        usage.drop_used_manifests((index, &name), &mut page, now, is_due)?;
                    }
                    index.retain_orphans(&name, &mut page, forecast)?;
                    let page = store.without_live_subject(&name, page, forecast)?;
                    let is_waiting = early.is_waiting || page.len() < before;
                    Ok((page, next, Early { is_waiting, ..early }))
                })
                .await?;
            self.waiting |= early.is_waiting;
            self.report.waiting.manifests += early.orphans;
            self.remaining.add_all(early.remaining);
            for part in page.chunks(ITEMS_PER_TRANSACTION) {
                self.sweep_manifests(repository, part.to_vec(), with_attached).await?;
            }
            if next.is_none() {
                return if self.dry_run { Ok(()) } else { self.finish_deletes(repository).await };
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
        let (name, mut manifests) = (repository.clone(), manifests);
        // An import stores the manifests of a large set in several steps, and sets its tags last.
        manifests.retain(|(one, _)| !self.store.0.leases.contains(&one.digest));
        self.verify_before_sweep(manifests.len()).await?;
        let taken = if self.dry_run {
            let collect = move |index: &Index, forecast: &mut Forecast| {
                index.forecast_swept_manifests(forecast, &name, manifests, with_attached)
            };
            self.read_with_forecast(collect).await?
        } else {
            let sweep = |part: &[CandidateWithSubject]| SweepManifests {
                repository: name.clone(),
                manifests: part.to_vec(),
                attached: with_attached,
            };
            self.store.sweep_items(manifests, sweep).await?
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

    /// Orphans the referrers of deleted manifests where this has not been completed, here or by a process that ended.
    async fn finish_deletes(&mut self, repository: &RepositoryName) -> Result<(), StoreError> {
        let (index, name) = (Arc::clone(&self.store.0.index), repository.clone());
        for digest in blocking(move || index.unfinished_deletes(&name)).await? {
            self.safe_point().await?;
            management::orphan_referrers(&self.store.writer()?, repository, &digest).await?;
        }
        Ok(())
    }
}

impl Store {
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
