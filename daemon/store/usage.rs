//! The use of manifests by pulls, for retention rules with `keep_pulled`.
//!
//! Pulls are noted in memory and recorded in the index with the next push or delete, before a collection decides, and
//! when the store closes. A pull that a power cut takes is forgotten. The record has a beginning: everything counts as
//! pulled at that time. It begins with the first rule that needs it, and again in a rebuilt index.

use std::sync::Arc;
use std::time::Duration;

use super::Store;
use super::clock::StoreTime;
use super::error::StoreError;
use super::index::Index;
use super::index::changes::uses::PullRecord;
use super::index::tables::candidates::{DatedTag, OrphanCandidate};
use super::index::tables::uses::{self, StoreDay};
use super::index::writer::Writer;
use super::pulls::Pulls;
use super::retention::RetentionRule;
use super::settings::Role;
use crate::oci::{Digest, RepositoryName};

impl Store {
    /// Notes that a client pulled a manifest, if a retention rule needs to know; writes nothing to the disk.
    pub fn note_pull(&self, repository: &RepositoryName, digest: &Digest) {
        if self.0.pulls.is_recording() {
            self.0.pulls.note(repository, digest, StoreDay::of(self.0.index.clock.now()));
        }
    }

    /// Switches the record of pulls on or off, as the rules need it. For the daemon, which serves all pulls.
    pub(super) async fn start_pull_record(&self, rules: &[RetentionRule]) {
        if self.0.role == Role::Daemon {
            self.0.pulls.set_recording(RetentionRule::any_needs_pulls(rules));
            self.keep_pull_record().await;
        }
    }

    /// As [`Store::start_pull_record`], for new rules of a running daemon.
    pub(super) fn change_pull_record(&self, rules: &[RetentionRule]) {
        let is_needed = RetentionRule::any_needs_pulls(rules);
        if self.0.pulls.set_recording(is_needed) == is_needed {
            return;
        }
        let record = if is_needed { PullRecord::BeginAnew } else { PullRecord::End };
        if let Ok(writer) = self.writer() {
            writer.try_submit(record);
        }
    }

    /// Makes the index agree with whether pulls are recorded. Without room on the disk, the next collection tries it
    /// again; until then everything counts as pulled.
    async fn keep_pull_record(&self) {
        let is_needed = self.0.pulls.is_recording();
        let is_begun = self.0.index.pulls_recorded_since();
        let Ok(is_begun) = is_begun.map(|since| since.is_some()) else { return };
        if is_begun == is_needed {
            return;
        }
        let record = if is_needed { PullRecord::Begin } else { PullRecord::End };
        if let Ok(writer) = self.writer()
            && let Err(error) = writer.submit(record).await
        {
            log::warn!("cannot change the record of pulls: {error}");
        }
    }

    /// Records all noted pulls, before a collection or the end. Without room on the disk they stay in memory, where
    /// collections of this process find them.
    pub(super) async fn record_pulls(&self) {
        if self.0.role == Role::Daemon {
            self.keep_pull_record().await;
        }
        let Ok(writer) = self.writer() else { return };
        while record_some(&writer, &self.0.pulls).await {}
    }

    /// Has noted pulls recorded beside a change that is about to be queued: usually in the same transaction, and
    /// without making the change wait.
    pub(super) fn record_pulls_soon(&self, writer: &Writer) {
        if self.0.pulls.is_pending() {
            let (writer, pulls) = (writer.clone(), Arc::clone(&self.0.pulls));
            drop(tokio::spawn(async move { record_some(&writer, &pulls).await }));
        }
    }

    /// Returns the uses by which a rule keeps content; `None` if it does not keep what was pulled.
    pub(super) fn usage(&self, rule: Option<&RetentionRule>) -> Result<Option<Usage>, StoreError> {
        let Some(period) = rule.and_then(|rule| rule.pulled) else { return Ok(None) };
        let inner = &self.0;
        let recorded_since = inner.index.pulls_recorded_since()?.filter(|_| !inner.pulls.has_gap());
        Ok(Some(Usage { pulls: Arc::clone(&inner.pulls), recorded_since, period }))
    }
}

/// Records as many pulls as fit into a transaction; returns true if there may be more.
async fn record_some(writer: &Writer, pulls: &Arc<Pulls>) -> bool {
    let Some(uses) = pulls.pending() else { return false };
    match writer.submit(uses.clone()).await {
        Ok(()) => {
            pulls.recorded(&uses);
            true
        }
        Err(error) => {
            log::debug!("pulls cannot be recorded yet: {error}");
            false
        }
    }
}

/// The pulls that a retention rule keeps content by.
#[derive(Clone)]
pub(super) struct Usage {
    pulls: Arc<Pulls>,
    recorded_since: Option<StoreTime>,
    period: Duration,
}

impl Usage {
    /// Drops the tags whose manifest may have been pulled within the period.
    pub(super) fn drop_used_tags(
        &self,
        (index, repository): (&Index, &RepositoryName),
        tags: &mut Vec<DatedTag>,
        now: StoreTime,
    ) -> Result<(), StoreError> {
        let mut unused = Vec::new();
        for tag in tags.drain(..) {
            if !self.may_be_in_use((index, repository), &tag.digest, now)? {
                unused.push(tag);
            }
        }
        *tags = unused;
        Ok(())
    }

    /// Drops the untagged manifests that may have been pulled within the period, unless `is_due` says that they are due
    /// in any case.
    pub(super) fn drop_used_manifests(
        &self,
        (index, repository): (&Index, &RepositoryName),
        manifests: &mut Vec<OrphanCandidate>,
        now: StoreTime,
        is_due: impl Fn(&OrphanCandidate) -> bool,
    ) -> Result<(), StoreError> {
        let mut unused = Vec::new();
        for one in manifests.drain(..) {
            let is_young = one.since.age(now) < self.period;
            if is_due(&one) || !(is_young || self.may_be_in_use((index, repository), &one.digest, now)?) {
                unused.push(one);
            }
        }
        *manifests = unused;
        Ok(())
    }

    fn may_be_in_use(
        &self,
        (index, repository): (&Index, &RepositoryName),
        digest: &Digest,
        now: StoreTime,
    ) -> Result<bool, StoreError> {
        let last = index.last_pull(repository, digest)?.max(self.pulls.last(repository, digest));
        Ok(uses::may_be_in_use(last, self.recorded_since, (now, self.period)))
    }
}

#[cfg(test)]
mod tests;
