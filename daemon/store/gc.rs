//! Collection: what nobody needs any more is freed while pushes and pulls go on.
//!
//! Everything is found in short reads, page by page, and taken in short transactions of the index's writer, which
//! check it again: a push that meets the same digest at the same moment wins. A file leaves `blobs/` for `trash/`
//! inside the transaction that forgets it, and is removed after the commit; what a power cut leaves in between is
//! put right by [`Store::sort_left_trash`]. What has just lost its last use stays for the grace time.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use serde::Serialize;

use super::error::StoreError;
use super::index::Index;
use super::index::candidates::{Amount, CollectedManifest, Handled, Unneeded, WithSubject};
use super::index::forecast::Forecast;
use super::index::writer::Batch;
use super::locks::Lock;
use super::retention::{Policy, Retention};
use super::verify::Share;
use super::work::Kind;
use super::{Store, blocking, management};
use crate::oci::{Algorithm, Digest, Reference, RepositoryName, Tag};

/// How many rows one read looks at.
pub(super) const PAGE: usize = 1000;
/// How often a repository is collected again because signatures went with what they sign.
const ROUNDS: usize = 4;
/// How many things one transaction takes: other changes wait for it.
pub(super) const AT_ONCE: usize = 32;
/// The number of uploads that one transaction notes.
const NOTED_AT_ONCE: usize = 512;

/// Something that a collection took, or would take.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "kind", rename_all = "lowercase")]
pub enum Taken {
    /// A tag that no rule of retention keeps.
    Tag {
        /// Its repository.
        repository: RepositoryName,
        /// The tag.
        tag: Tag,
        /// What it named.
        digest: Digest,
    },
    /// A manifest without a tag.
    Manifest {
        /// Its repository.
        repository: RepositoryName,
        /// The manifest.
        digest: Digest,
    },
    /// A blob that no manifest needs.
    Blob {
        /// The blob.
        digest: Digest,
        /// Its length.
        bytes: u64,
    },
    /// An upload that nobody has gone on with.
    Upload {
        /// Its id.
        id: String,
        /// How much of it there was.
        bytes: u64,
    },
}

/// What a collection looked at, what it took, what it kept and why.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Report {
    /// Whether it only looked.
    pub dry_run: bool,
    /// Repositories looked at.
    pub repositories: u64,
    /// Tags taken, which no rule of retention kept.
    pub freed_tags: u64,
    /// Manifests taken.
    pub freed_manifests: u64,
    /// Blobs taken.
    pub freed_blobs: Amount,
    /// Uploads taken.
    pub freed_uploads: Amount,
    /// Blobs and manifests kept because a manifest needs them or because they are one.
    pub kept_needed: Amount,
    /// Blobs kept because a push may still be counting on them.
    pub kept_young: Amount,
    /// Uploads kept because they may go on.
    pub kept_uploads: Amount,
    /// Files that the index did not know; they are kept for the grace time.
    pub found: u64,
    /// How long it took, in milliseconds.
    pub milliseconds: u64,
}

/// The last collection of a process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Collected {
    /// When it ended, in seconds since 1970.
    pub at: u64,
    /// What it did.
    pub report: Report,
}

impl Report {
    /// Whether anything was taken or found.
    pub fn did_something(&self) -> bool {
        let files = self.freed_blobs.count + self.freed_uploads.count + self.found;
        self.freed_tags + self.freed_manifests + files > 0
    }
}

impl Store {
    /// Frees what nobody needs, or only looks. `observe` is told of everything that is taken.
    ///
    /// # Errors
    /// What the disk or the index says; what was taken until then stays taken.
    pub async fn collect(
        &self,
        policy: &Policy,
        dry_run: bool,
        observe: &mut (dyn FnMut(Taken) + Send),
    ) -> Result<Report, StoreError> {
        if dry_run {
            return self.collect_now(policy, true, observe).await;
        }
        let _running = self.0.measurements.collection_begins();
        let collected = self.collect_now(policy, false, observe).await;
        if let Err(error) = &collected {
            self.0.measurements.note(|jobs| jobs.collection.end(Some(error)));
        }
        collected
    }

    async fn collect_now(
        &self,
        policy: &Policy,
        dry_run: bool,
        observe: &mut (dyn FnMut(Taken) + Send),
    ) -> Result<Report, StoreError> {
        let lock = if dry_run { None } else { self.lock_collection(policy.by_hand).await? };
        let began = Instant::now();
        let report = Report { dry_run, ..Report::default() };
        if lock.is_none() && !dry_run {
            return Ok(report);
        }
        if !dry_run {
            self.keep_layout_healthy().await?;
        }
        let held = self.0.index.collection_is_held()?;
        if held && !policy.by_hand {
            return Ok(report);
        }
        let counts = self.0.index.counts()?;
        let share = Share::of(counts.blobs.saturating_add(counts.manifests));
        let mut collection = Collection {
            store: self,
            policy,
            dry_run,
            observe,
            report,
            share,
            verified: false,
            forecast: Arc::default(),
        };
        if !dry_run {
            // A process that was killed while it read holds back what is freed.
            self.0.index.env.clear_stale_readers()?;
            // Also where nothing else is written: the ages of a registry that is only pulled from go on.
            self.writer()?.keep_clock().await?;
            if held {
                self.writer()?.submit(|batch| batch.hold_collection(false)).await?;
            }
            match self.sort_trash().await {
                // What is collected may make the room that is needed to put a blob back.
                Err(error) if error.is_lack_of_room() => log::warn!("the trash is not sorted: {error}"),
                sorted => sorted?,
            }
        }
        collection.repositories().await?;
        collection.blobs().await?;
        collection.link_exceptions().await?;
        collection.unknown_files().await?;
        collection.uploads().await?;
        let milliseconds = u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX);
        let report = Report { milliseconds, ..collection.report };
        if !dry_run {
            *self.0.collected.lock() = Some(Collected { at: crate::base::clock::unix_seconds(), report });
            let freed = report.freed_blobs.bytes + report.freed_uploads.bytes;
            self.0.measurements.note(|jobs| {
                jobs.collection.end(None);
                jobs.freed_bytes += freed;
            });
        }
        Ok(report)
    }

    /// Puts right what an interrupted collection left in `trash/`; one that goes on has done so.
    pub(super) async fn sort_left_trash(&self) -> Result<(), StoreError> {
        match self.0.disk.try_lock_collection()? {
            Some(_lock) => self.sort_trash().await,
            None => Ok(()),
        }
    }

    /// One collection at a time: a person waits for another, the daemon leaves it at that.
    async fn lock_collection(&self, wait: bool) -> Result<Option<Lock>, StoreError> {
        let disk = Arc::clone(&self.0.disk);
        blocking(move || if wait { disk.lock_collection().map(Some) } else { disk.try_lock_collection() })
            .await
    }

    async fn sort_trash(&self) -> Result<(), StoreError> {
        let disk = Arc::clone(&self.0.disk);
        let trash = blocking(move || disk.trash()).await?;
        for part in trash.chunks(AT_ONCE) {
            #[expect(
                clippy::redundant_closure_for_method_calls,
                reason = "the method alone is not general enough"
            )]
            let removable = self.change(part.to_vec(), |batch, part| batch.sort_trash(part)).await?;
            self.remove_trash(removable).await?;
        }
        Ok(())
    }

    /// Applies a change to some items in one transaction, or in several smaller ones where the index or the disk has no
    /// room for so many at once. Items for which there is no room at all are left out if others could be changed: those
    /// may have made room, and the next collection finds the rest.
    pub(super) async fn change<T, R>(
        &self,
        items: Vec<T>,
        change: impl Fn(&mut Batch, &[T]) -> Result<Vec<R>, StoreError> + Clone + Send + 'static,
    ) -> Result<Vec<R>, StoreError>
    where
        T: Clone + Send + 'static,
        R: Send + 'static,
    {
        let (mut changed, mut failure, mut succeeded) = (Vec::new(), None, false);
        let mut parts = vec![items];
        while let Some(mut part) = parts.pop() {
            let (change, items) = (change.clone(), part.clone());
            match self.writer()?.submit(move |batch| change(batch, &items)).await {
                Ok(results) => {
                    changed.extend(results);
                    succeeded = true;
                }
                Err(error) if error.is_lack_of_room() && part.len() > 1 => {
                    let rest = part.split_off(part.len() / 2);
                    parts.extend([rest, part]);
                }
                Err(error) if error.is_lack_of_room() => failure = Some(error),
                Err(error) => return Err(error),
            }
        }
        match failure {
            Some(error) if !succeeded => Err(error),
            _ => Ok(changed),
        }
    }

    /// Takes things in as many transactions as it needs; returns those that were taken.
    async fn take<T: Clone + Send + 'static, R: Send + 'static>(
        &self,
        mut items: Vec<T>,
        change: impl Fn(&mut Batch, &[T]) -> Result<Vec<Handled<T, R>>, StoreError> + Clone + Send + 'static,
    ) -> Result<Vec<R>, StoreError> {
        let mut taken = Vec::new();
        while !items.is_empty() {
            // The first of them is never postponed.
            for one in self.change(std::mem::take(&mut items), change.clone()).await? {
                match one {
                    Handled::Taken(one) => taken.push(one),
                    Handled::Postponed(one) => items.push(one),
                }
            }
        }
        Ok(taken)
    }

    async fn remove_trash(&self, digests: Vec<Digest>) -> Result<(), StoreError> {
        let disk = Arc::clone(&self.0.disk);
        blocking(move || digests.iter().try_for_each(|digest| disk.remove_trash(digest))).await
    }
}

pub(super) struct Collection<'a> {
    pub(super) store: &'a Store,
    policy: &'a Policy,
    pub(super) dry_run: bool,
    pub(super) observe: &'a mut (dyn FnMut(Taken) + Send),
    pub(super) report: Report,
    share: Share,
    /// Whether this collection has verified the index.
    verified: bool,
    /// What a dry run would have changed so far; empty otherwise.
    forecast: Arc<Mutex<Forecast>>,
}

impl Collection<'_> {
    /// Notes in a dry run what a real one would change.
    pub(super) async fn foresee<T: Send + 'static>(
        &mut self,
        change: impl FnOnce(&Index, &mut Forecast) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        let (index, forecast) = (Arc::clone(&self.store.0.index), Arc::clone(&self.forecast));
        blocking(move || change(&index, &mut super::lock(&forecast))).await
    }

    /// Verifies the index before content is taken: once in the life of the process, and once more when this collection
    /// is about to take a large part of all content. Content is taken for lack of rows that need it, and rows that
    /// damage has removed are not noticed otherwise.
    async fn before_taking(&mut self, count: usize) -> Result<(), StoreError> {
        let is_large = self.share.take(count as u64);
        let is_due = !self.store.index_is_verified() || (is_large && !self.verified);
        if count > 0 && is_due {
            self.store.verify_index().await?;
            self.verified = true;
        }
        Ok(())
    }

    /// Tags and manifests, repository by repository.
    async fn repositories(&mut self) -> Result<(), StoreError> {
        let mut last = None;
        loop {
            let page = self.store.all_repositories(last, PAGE).await?;
            for repository in &page.items {
                self.report.repositories += 1;
                let rule = Retention::of(&self.policy.retention, repository);
                if let Some(rule) = rule.filter(|rule| rule.is_about_tags()) {
                    self.tags(repository, rule).await?;
                }
                self.manifests_and_attached(repository, rule).await?;
            }
            let Some(name) = page.items.last().filter(|_| page.more) else { return Ok(()) };
            last = Some(name.to_string());
        }
    }

    /// Removes manifests, and where a rule is about the repository the tags that are attached to them. What these tags
    /// named may be unneeded now, too: without a grace period it goes at once.
    async fn manifests_and_attached(
        &mut self,
        repository: &RepositoryName,
        rule: Option<&Retention>,
    ) -> Result<(), StoreError> {
        let attached = rule.is_some_and(Retention::takes_something);
        for _ in 0..ROUNDS {
            let before = self.report.freed_tags;
            self.manifests(repository, (rule.and_then(|rule| rule.untagged), attached)).await?;
            if self.report.freed_tags == before {
                break;
            }
        }
        Ok(())
    }

    /// Removes the manifests that a delete left behind, and with `untagged` all without a tag that are so old; with
    /// `attached` the tags that are attached to them as well.
    async fn manifests(
        &mut self,
        repository: &RepositoryName,
        (untagged, attached): (Option<Duration>, bool),
    ) -> Result<(), StoreError> {
        let mut after = None;
        loop {
            let (store, name, grace) = (self.store.clone(), repository.clone(), self.policy.grace);
            let (page, next) = self
                .foresee(move |index, forecast| {
                    let now = index.clock.now();
                    let mut page =
                        index.unneeded_page(&name, after.as_ref(), PAGE, untagged.is_some(), forecast)?;
                    let next = page.last().filter(|_| page.len() == PAGE).map(|one| one.digest.clone());
                    page.retain(|one| {
                        let age = one.since.age(now);
                        (one.deleted && age >= grace) || untagged.is_some_and(|untagged| age >= untagged)
                    });
                    index.retain_unneeded(&name, &mut page, forecast)?;
                    Ok((store.without_living_subject(&name, page, forecast)?, next))
                })
                .await?;
            for part in page.chunks(AT_ONCE) {
                self.take_manifests(repository, part.to_vec(), attached).await?;
            }
            if next.is_none() {
                return if self.dry_run { Ok(()) } else { self.store.finish_deletes(repository).await };
            }
            after = next;
        }
    }

    async fn take_manifests(
        &mut self,
        repository: &RepositoryName,
        manifests: Vec<WithSubject>,
        attached: bool,
    ) -> Result<(), StoreError> {
        let name = repository.clone();
        self.before_taking(manifests.len()).await?;
        let taken = if self.dry_run {
            let collect = move |index: &Index, forecast: &mut Forecast| {
                forecast.collect_manifests(index, &name, manifests, attached)
            };
            self.foresee(collect).await?
        } else {
            let collect = move |batch: &mut Batch, part: &[_]| batch.collect_manifests(&name, part, attached);
            self.store.take(manifests, collect).await?
        };
        for CollectedManifest { digest, tags } in taken {
            self.report.freed_manifests += 1;
            (self.observe)(Taken::Manifest { repository: repository.clone(), digest });
            for (tag, digest) in tags {
                self.report.freed_tags += 1;
                (self.observe)(Taken::Tag { repository: repository.clone(), tag, digest });
            }
        }
        Ok(())
    }

    /// Frees the blobs that no manifest needs.
    async fn blobs(&mut self) -> Result<(), StoreError> {
        let (mut after, grace) = (None, self.policy.grace);
        loop {
            let page = move |index: &Index, forecast: &mut Forecast| {
                index.blob_page(after.as_deref(), PAGE, grace, forecast)
            };
            let page = self.foresee(page).await?;
            self.report.kept_needed.add_all(page.needed);
            self.report.kept_young.add_all(page.young);
            for part in page.garbage.chunks(AT_ONCE) {
                self.take_blobs(part.to_vec()).await?;
            }
            let strays = if self.dry_run { Vec::new() } else { page.strays };
            for part in strays.chunks(AT_ONCE) {
                self.before_taking(part.len()).await?;
                let forget = move |batch: &mut Batch, part: &[_]| {
                    batch.forget_strays(part, grace).map(|()| Vec::<()>::new())
                };
                self.store.change(part.to_vec(), forget).await?;
            }
            if page.next.is_none() {
                return Ok(());
            }
            after = page.next;
        }
    }

    async fn take_blobs(&mut self, blobs: Vec<(Digest, u64)>) -> Result<(), StoreError> {
        let grace = self.policy.grace;
        self.before_taking(blobs.len()).await?;
        let taken = if self.dry_run {
            blobs
        } else {
            let discard = move |batch: &mut Batch, part: &[_]| batch.discard_blobs(part, grace);
            let taken = self.store.take(blobs, discard).await?;
            self.store.remove_trash(taken.iter().map(|(digest, _)| digest.clone()).collect()).await?;
            taken
        };
        for (digest, bytes) in taken {
            self.report.freed_blobs.add(bytes);
            (self.observe)(Taken::Blob { digest, bytes });
        }
        Ok(())
    }

    /// Removes the link exceptions that no manifest needs any more.
    async fn link_exceptions(&mut self) -> Result<(), StoreError> {
        if self.dry_run {
            return Ok(());
        }
        let mut after = None;
        loop {
            let (index, last) = (Arc::clone(&self.store.0.index), after.take());
            let page = blocking(move || index.link_exceptions_after(last.as_ref(), PAGE)).await?;
            for part in page.chunks(AT_ONCE) {
                let forget = |batch: &mut Batch, part: &[_]| {
                    batch.forget_link_exceptions(part).map(|()| Vec::<()>::new())
                };
                self.store.change(part.to_vec(), forget).await?;
            }
            after = page.into_iter().next_back();
            if after.is_none() {
                return Ok(());
            }
        }
    }

    /// Lets the index know of files in `blobs/` that it does not: a power cut may leave them.
    async fn unknown_files(&mut self) -> Result<(), StoreError> {
        for algorithm in Algorithm::ALL {
            let store = self.store.clone();
            let unknown = blocking(move || store.unknown_files(algorithm)).await?;
            for part in unknown.chunks(AT_ONCE) {
                let part = part.to_vec();
                let found = if self.dry_run {
                    part.len() as u64
                } else {
                    match self.store.writer()?.submit(move |batch| batch.adopt_blobs(&part)).await {
                        Err(error) if error.is_lack_of_room() => 0,
                        found => found?,
                    }
                };
                self.report.found += found;
            }
        }
        Ok(())
    }

    /// Removes the uploads that nobody has gone on with.
    async fn uploads(&mut self) -> Result<(), StoreError> {
        let (store, expire, dry_run) = (self.store.clone(), self.policy.uploads_expire, self.dry_run);
        let (uploads, gone, expired) = blocking(move || {
            if !dry_run {
                store.0.disk.clear_uploads()?;
            }
            let uploads = store.0.disk.uploads()?;
            // Files that another process has removed are no longer counted.
            store.0.uploads.recount(&uploads);
            let mut expired = BTreeSet::new();
            for (name, length) in &uploads {
                let row = store.0.index.upload(name)?.filter(|row| row.length == *length);
                if row.is_some_and(|row| row.since.age(store.0.index.clock.now()) >= expire) {
                    expired.insert(name.clone());
                }
            }
            let gone = store.0.index.uploads_gone(&uploads)?;
            Ok((uploads, gone, expired))
        })
        .await?;
        if !self.dry_run {
            match self.store.note_uploads(&uploads, gone).await {
                // Those that are not noted are kept for longer.
                Err(error) if error.is_lack_of_room() => log::warn!("uploads are not noted: {error}"),
                done => done?,
            }
        }
        for (id, bytes) in uploads {
            if !expired.contains(&id) {
                self.report.kept_uploads.add(bytes);
                continue;
            }
            if !self.dry_run && !self.store.expire_upload(id.clone(), bytes).await? {
                // Its client came back.
                self.report.kept_uploads.add(bytes);
                continue;
            }
            self.report.freed_uploads.add(bytes);
            (self.observe)(Taken::Upload { id, bytes });
        }
        Ok(())
    }
}

impl Store {
    /// Orphans the referrers of manifests that were removed here, or by a process that ended before it had done so.
    async fn finish_deletes(&self, repository: &RepositoryName) -> Result<(), StoreError> {
        let (index, name) = (Arc::clone(&self.0.index), repository.clone());
        for digest in blocking(move || index.unfinished_deletes(&name)).await? {
            management::orphan_referrers(&self.writer()?, repository, &digest).await?;
        }
        Ok(())
    }

    /// Notes the uploads that are there, and forgets those that are not.
    async fn note_uploads(&self, uploads: &[(String, u64)], gone: Vec<Vec<u8>>) -> Result<(), StoreError> {
        for part in gone.chunks(NOTED_AT_ONCE) {
            let part = part.to_vec();
            self.writer()?.submit(move |batch| batch.forget_uploads(&part)).await?;
        }
        for part in uploads.chunks(NOTED_AT_ONCE) {
            let part = part.to_vec();
            self.writer()?.submit(move |batch| batch.note_uploads(&part)).await?;
        }
        Ok(())
    }

    /// Leaves out the manifests whose subject is in the repository; gives the others with theirs.
    fn without_living_subject(
        &self,
        repository: &RepositoryName,
        manifests: Vec<Unneeded>,
        forecast: &Forecast,
    ) -> Result<Vec<WithSubject>, StoreError> {
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
            subjects.append(&mut self.0.index.subjects_of(repository, &unreadable)?);
        }
        let mut kept = Vec::new();
        for one in manifests {
            let subject = subjects.remove(&one.digest);
            let alive = match &subject {
                Some(subject) => {
                    let by_digest = Reference::Digest(subject.clone());
                    !forecast.lacks(repository, subject)
                        && self.0.index.manifest(repository, &by_digest)?.is_some()
                }
                None => false,
            };
            if !alive {
                kept.push((one, subject));
            }
        }
        Ok(kept)
    }

    /// The files in `blobs/` that the index does not know, and their lengths.
    pub(super) fn unknown_files(&self, algorithm: Algorithm) -> Result<Vec<(Digest, u64)>, StoreError> {
        let mut unknown = Vec::new();
        for digest in self.0.disk.blobs(algorithm)? {
            let digest = digest?;
            if !self.0.index.knows_blob(&digest)? {
                let length = self.0.disk.blob_length(&digest)?;
                unknown.extend(length.map(|length| (digest, length)));
            }
        }
        Ok(unknown)
    }

    /// Removes an upload unless a request has continued it.
    async fn expire_upload(&self, name: String, length: u64) -> Result<bool, StoreError> {
        let inner = Arc::clone(&self.0);
        self.0.work.run(Kind::Write, move || inner.uploads.expire(&name, length)).await
    }
}
