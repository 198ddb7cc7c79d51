//! Check of the data directory: every blob against its digest, every manifest against the content that it references,
//! the index against the files, and `index.json` against the index.
//!
//! A check runs beside pushes, deletes and collections, in short reads of the index. A mismatch is looked up once more
//! before it is reported, as the content may have been removed in between. A repair moves corrupt blobs to `damaged/`
//! and removes their rows, so that clients push them again; while the index contradicts itself, rows are not trusted
//! and it repairs nothing.

mod content;
mod images;
mod report;
mod rows;
#[cfg(test)]
mod tests;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

pub use self::report::{
    Affected, CheckEvent, CheckOptions, CheckPosition, CheckProgress, CheckReport, Fault, FaultFound, Outcome,
};

use super::error::StoreError;
use super::index::ManifestEntry;
use super::index::changes::FileFact;
use super::index::changes::repair::RestoreLink;
use super::index::tables::candidates::Amount;
use super::{Role, Store, blocking};
use crate::oci::{Algorithm, Digest, RepositoryName};

/// The maximum number of blobs set aside that a check remembers, so that it does not report the manifests that miss them as well.
const SET_ASIDE: usize = 10_000;

/// The number of rows in one read of the index.
const ROWS_PER_READ: usize = 1000;

impl Store {
    /// Runs a check. Calls `observe` with each fault and with the progress.
    ///
    /// # Errors
    /// Those of the index, and a lack of descriptors or memory. A blob that cannot be read for another reason is a
    /// fault.
    pub async fn check(
        &self,
        options: CheckOptions,
        observe: &mut (dyn FnMut(CheckEvent) + Send),
    ) -> Result<CheckReport, StoreError> {
        self.check_from(options, None, observe).await
    }

    /// As [`Store::check`], after the blobs that an interrupted check has read: index, manifests and tags are checked whole.
    ///
    /// # Errors
    /// As those of [`Store::check`].
    pub async fn check_from(
        &self,
        options: CheckOptions,
        start: Option<CheckPosition>,
        observe: &mut (dyn FnMut(CheckEvent) + Send),
    ) -> Result<CheckReport, StoreError> {
        let checked = self.check_now(options, start, observe).await?;
        self.0.measurements.totals.lock().faults = Some(checked.faults);
        Ok(checked)
    }

    async fn check_now(
        &self,
        options: CheckOptions,
        start: Option<CheckPosition>,
        observe: &mut (dyn FnMut(CheckEvent) + Send),
    ) -> Result<CheckReport, StoreError> {
        let mut check = Check {
            store: self,
            options,
            observe,
            checked: CheckReport::default(),
            began: None,
            set_aside: BTreeSet::new(),
        };
        let index_is_healthy = check.index().await?;
        // A repair acts on rows: in a damaged index these may be wrong.
        check.options.repair &= index_is_healthy;
        check.layout(index_is_healthy).await?;
        check.blobs(start).await?;
        check.repositories().await?;
        for algorithm in Algorithm::ALL {
            let store = self.clone();
            check.checked.unknown_files +=
                blocking(move || store.unknown_files(algorithm)).await?.len() as u64;
        }
        if check.checked.unknown_files > 0 {
            self.0.may_have_unknown_files.store(true, Ordering::Relaxed);
        }
        Ok(check.checked)
    }
}

/// A running check.
struct Check<'a> {
    store: &'a Store,
    options: CheckOptions,
    observe: &'a mut (dyn FnMut(CheckEvent) + Send),
    checked: CheckReport,
    /// The time at which the first blob was read, and the bytes that were read before, if the rate is limited.
    began: Option<(Instant, u64)>,
    /// The blobs that this check has set aside.
    set_aside: BTreeSet<Digest>,
}

impl Check<'_> {
    /// Checks that the index is consistent; returns true if it is.
    async fn index(&mut self) -> Result<bool, StoreError> {
        match self.store.verify_index().await {
            Err(StoreError::NeedsRecovery) => {
                self.fault(Fault::Index, Outcome::Found);
                Ok(false)
            }
            verified => verified.map(|()| true),
        }
    }

    /// Checks `index.json`. The daemon repairs it in any case, as it also rewrites it after each change. A damaged
    /// index must not overwrite it: the file may have the only copy of the names.
    async fn layout(&mut self, index_is_healthy: bool) -> Result<(), StoreError> {
        let Some(problem) = self.store.layout_fault(index_is_healthy).await? else { return Ok(()) };
        let repair = index_is_healthy && (self.options.repair || self.may_rewrite_layout());
        let repaired = repair && self.store.rewrite_layout().await?;
        self.fault(Fault::Layout { problem }, if repaired { Outcome::Repaired } else { Outcome::Found });
        Ok(())
    }

    fn may_rewrite_layout(&self) -> bool {
        self.store.0.role == Role::Daemon && !self.options.leave_layout
    }

    /// Checks the blobs in the index against their files, after those that an earlier check has read.
    async fn blobs(&mut self, start: Option<CheckPosition>) -> Result<(), StoreError> {
        let (mut after, read_before) =
            start.map_or((None, CheckReport::default()), |start| (Some(start.after), start.report));
        // The totals of the blobs alone, for the position.
        let others = std::mem::replace(&mut self.checked, read_before);
        let counts = self.store.0.index.counts()?;
        let all = Amount { count: counts.blobs, bytes: counts.bytes };
        loop {
            let index = Arc::clone(&self.store.0.index);
            let page = blocking(move || index.blobs_after(after.as_ref(), ROWS_PER_READ)).await?;
            for (digest, size) in &page {
                self.blob(digest, *size).await?;
                (self.observe)(CheckEvent::Progress(CheckProgress { done: self.checked.blobs, all }));
                let position = CheckPosition { after: digest.clone(), report: self.checked };
                (self.observe)(CheckEvent::Position(position));
            }
            after = page.last().map(|(digest, _)| digest.clone());
            if after.is_none() {
                self.checked.add(&others);
                return Ok(());
            }
        }
    }

    async fn blob(&mut self, digest: &Digest, size: u64) -> Result<(), StoreError> {
        let (store, wanted) = (self.store.clone(), digest.clone());
        let (fault, inode) = blocking(move || store.read_against_digest(&wanted, size)).await?;
        let read_before = self.checked.blobs.bytes;
        self.checked.blobs.add(size);
        self.limit_rate(read_before).await;
        let Some(fault) = fault else {
            self.store.0.disk.note_sound(digest);
            return Ok(());
        };
        if !self.store.0.index.contains_blob(digest)? {
            // A collection removed it after its page was read.
            return Ok(());
        }
        self.store.0.disk.note_damaged(digest);
        let repair = self.options.repair && !fault.is_index_fault();
        // Only the file that was read is moved: a push may have replaced it since.
        // Its tags are gone once a corrupt manifest is set aside.
        let affected = self.store.affected_by(digest).await?;
        let outcome = if repair && self.store.move_aside(digest, inode).await? {
            if self.set_aside.len() < SET_ASIDE {
                self.set_aside.insert(digest.clone());
            }
            Outcome::SetAside
        } else {
            Outcome::Found
        };
        self.fault_of_images(fault, outcome, affected);
        Ok(())
    }

    /// Sleeps while more was read than the rate allows.
    async fn limit_rate(&mut self, read_before: u64) {
        let Some(rate) = self.options.rate.filter(|rate| *rate > 0) else { return };
        let (began, at_begin) = *self.began.get_or_insert_with(|| (Instant::now(), read_before));
        let read = self.checked.blobs.bytes.saturating_sub(at_begin);
        tokio::time::sleep(least_duration(read, rate).saturating_sub(began.elapsed())).await;
    }

    fn fault(&mut self, fault: Fault, outcome: Outcome) {
        self.fault_of_images(fault, outcome, Affected::default());
    }

    fn fault_of_images(&mut self, fault: Fault, outcome: Outcome, affected: Affected) {
        self.checked.count(&fault, outcome);
        (self.observe)(CheckEvent::Fault(FaultFound { fault, outcome, affected }));
    }

    async fn repositories(&mut self) -> Result<(), StoreError> {
        let mut last = None;
        loop {
            let page = self.store.all_repositories(last, ROWS_PER_READ).await?;
            for repository in &page.items {
                self.manifests(repository).await?;
                self.totals(repository).await?;
                self.repository_blobs(repository).await?;
                self.tags(repository).await?;
            }
            let Some(name) = page.items.last().filter(|_| page.more) else { return Ok(()) };
            last = Some(name.to_string());
        }
    }

    async fn manifests(&mut self, repository: &RepositoryName) -> Result<(), StoreError> {
        let mut after = None;
        loop {
            let (index, name) = (Arc::clone(&self.store.0.index), repository.clone());
            let page = blocking(move || index.manifests_after(&name, after.as_ref(), ROWS_PER_READ)).await?;
            for entry in &page {
                self.checked.manifests += 1;
                self.manifest(repository, entry).await?;
            }
            after = page.last().map(|entry| entry.digest.clone());
            if after.is_none() {
                return Ok(());
            }
        }
    }

    async fn manifest(
        &mut self,
        repository: &RepositoryName,
        entry: &ManifestEntry,
    ) -> Result<(), StoreError> {
        let (store, name, entry) = (self.store.clone(), repository.clone(), entry.clone());
        let faults = blocking(move || store.faults_of_manifest(&name, &entry)).await?;
        for fault in faults {
            if let Fault::Incomplete { repository, missing, .. } = &fault {
                if self.set_aside.contains(missing) {
                    // The fault of the blob has named this image.
                    continue;
                }
                let outcome = self.complete(repository, missing).await?;
                if outcome == Outcome::NeedsPush {
                    self.store.0.disk.note_damaged(missing);
                }
                let affected = self.store.affected_by(missing).await?;
                self.fault_of_images(fault, outcome, affected);
            } else {
                self.fault(fault, Outcome::Found);
            }
        }
        Ok(())
    }

    /// Adds a blob that a manifest requires to its repository, if this check repairs and the blob is there although its row is not.
    async fn complete(
        &mut self,
        repository: &RepositoryName,
        missing: &Digest,
    ) -> Result<Outcome, StoreError> {
        if self.options.repair {
            let (repository, file) = (repository.clone(), FileFact::about(missing.clone()));
            let is_there = self.store.writer()?.submit(RestoreLink { repository, file }).await?;
            return Ok(if is_there { Outcome::Repaired } else { Outcome::NeedsPush });
        }
        let is_there = self.store.0.index.contains_blob(missing)?;
        Ok(if is_there { Outcome::Found } else { Outcome::NeedsPush })
    }

    /// Checks the totals in the row of a repository against its other rows.
    async fn totals(&mut self, repository: &RepositoryName) -> Result<(), StoreError> {
        let (index, name) = (Arc::clone(&self.store.0.index), repository.clone());
        if !blocking(move || index.repository_stats_match(&name)).await? {
            self.fault(Fault::Miscounted { repository: repository.clone() }, Outcome::Found);
        }
        Ok(())
    }

    /// Checks that each blob of a repository has a file of its length. [`Check::blobs`] reads only the files that are
    /// in the table of blobs.
    async fn repository_blobs(&mut self, repository: &RepositoryName) -> Result<(), StoreError> {
        let mut after = None;
        loop {
            let (store, name) = (self.store.clone(), repository.clone());
            let page = move || store.faults_of_repository_blobs(&name, after.as_ref(), ROWS_PER_READ);
            let (last, faults) = blocking(page).await?;
            for fault in faults {
                self.fault(fault, Outcome::Found);
            }
            after = last;
            if after.is_none() {
                return Ok(());
            }
        }
    }

    async fn tags(&mut self, repository: &RepositoryName) -> Result<(), StoreError> {
        let mut after = None;
        loop {
            let (store, name) = (self.store.clone(), repository.clone());
            let (page, dangling) = blocking(move || {
                let page = store.0.index.tags_after(&name, after.as_ref(), ROWS_PER_READ)?;
                let dangling = store.dangling_tags(&name, &page)?;
                Ok((page, dangling))
            })
            .await?;
            self.checked.tags += page.len() as u64;
            for one in dangling {
                let (repository, tag, digest) = (repository.clone(), one.tag, one.digest);
                self.fault(Fault::Dangling { repository, tag, digest }, Outcome::Found);
            }
            after = page.into_iter().next_back().map(|last| last.tag);
            if after.is_none() {
                return Ok(());
            }
        }
    }
}

/// Returns the time that reading `bytes` takes at least, at `rate` bytes per second.
fn least_duration(bytes: u64, rate: u64) -> Duration {
    Duration::from_millis(bytes.saturating_mul(1000) / rate)
}
