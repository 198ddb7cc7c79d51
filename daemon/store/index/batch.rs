//! A batch: the queued changes of one transaction (group commit), with their files.
//!
//! The order is the write-ahead order: the files of the changes are admitted to `blobs/` and each touched directory is
//! synced once; then the transaction is applied and committed; then the files of forgotten blobs are removed. One thread
//! does all of it, so that an admission and a removal of one digest never overlap. A blob that got a row in the same
//! transaction is not removed. A crash in between leaves files that the index does not know: a collection gives them the
//! grace period.

use std::collections::BTreeSet;

use super::changes::{Change, FileFact, Needs, Origin, Reply};
use super::feed::Feed;
use super::metadata_store::{self, Applied, Failed, MetadataStore, Transaction};
use crate::oci::{Algorithm, Digest};
use crate::store::blob_store::BlobStore;
use crate::store::error::StoreError;
use crate::store::upload_files::HashedFile;

/// A queued change.
pub(super) struct Job {
    pub(super) change: Change,
    pub(super) origin: Origin,
    /// The file that the change admits, and its digest.
    admission: Option<(HashedFile, Digest)>,
    result: Option<Result<Reply, StoreError>>,
    answer: Box<dyn FnOnce(Result<Reply, StoreError>) + Send>,
}

impl Job {
    /// Returns a job that calls `answer` once the change is committed or has failed.
    pub(super) fn new(
        change: Change,
        origin: Origin,
        answer: impl FnOnce(Result<Reply, StoreError>) + Send + 'static,
    ) -> Self {
        Job { change, origin, admission: None, result: None, answer: Box::new(answer) }
    }

    /// Answers the caller: with the result of the change if it is committed, otherwise with the error.
    pub(super) fn answer(self, committed: Result<(), StoreError>) {
        let result = self.result.unwrap_or(Err(StoreError::Closing));
        (self.answer)(committed.and(result));
    }
}

/// A failed batch.
pub(super) struct Failure {
    pub(super) error: StoreError,
    /// True if a change makes the tables larger.
    pub(super) grows: bool,
    /// True if nothing is changed, so that files without a row belong to no committed change.
    pub(super) is_aborted: bool,
}

impl From<StoreError> for Failure {
    fn from(error: StoreError) -> Self {
        Failure { error, grows: false, is_aborted: false }
    }
}

/// The back ends that batches work on.
pub(super) struct Batches<'a, M, B> {
    pub(super) metadata: M,
    pub(super) blobs: B,
    pub(super) feed: &'a Feed,
}

impl<M: MetadataStore, B: BlobStore> Batches<'_, &M, &B> {
    /// Commits jobs in one transaction. Returns true if `index.json` is out of date afterwards.
    pub(super) fn commit(&self, jobs: &mut [Job], wall_time: u64) -> Result<bool, Failure> {
        let _changing = self.blobs.begin_changes()?;
        self.admit(jobs)?;
        self.establish_facts(jobs)?;
        let ready: Vec<usize> = (0..jobs.len()).filter(|number| jobs[*number].result.is_none()).collect();
        let applied = self.apply(jobs, &ready, wall_time)?;
        let Applied { results, files, unused, events, days } = applied;
        self.feed.committed(&events, &days);
        for (number, result) in ready.into_iter().zip(results) {
            jobs[number].result = Some(result);
        }
        self.give_back(jobs, &unused);
        for digest in &files.unlink {
            after_commit(digest, self.blobs.remove(digest));
        }
        for digest in &files.set_aside {
            after_commit(digest, self.blobs.set_aside(digest));
        }
        Ok(files.names_changed)
    }

    /// Does a part of the work that commits have left for later. Returns true if there is more that may be done now.
    pub(super) fn work_deferred(&self) -> bool {
        // A store that is read-only, or has no room, keeps it until it is opened again or the next commit needs it.
        let Ok(_changing) = self.blobs.begin_changes() else { return false };
        self.metadata.work_deferred().unwrap_or_else(|error| {
            log::debug!("work on the index waits: {error}");
            self.blobs.latch_on(error);
            false
        })
    }

    fn apply(&self, jobs: &[Job], ready: &[usize], wall_time: u64) -> Result<Applied, Failure> {
        let jobs = || ready.iter().map(|number| &jobs[*number]);
        let admitted = jobs().filter_map(|job| Some(job.admission.as_ref()?.1.clone())).collect();
        let changes = jobs().map(|job| (&job.change, &job.origin)).collect();
        let feed = self.feed.begin(wall_time);
        let mut transaction = Transaction { changes, admitted, grows: false, wall_time, feed };
        let applied = self.metadata.commit(&mut transaction);
        let grows = transaction.grows;
        applied.map_err(|failed| {
            self.feed.failed();
            let (error, is_aborted) = match failed {
                Failed::Aborted(error) => (error, true),
                Failed::Unknown(error) => (error, false),
            };
            Failure { error: self.blobs.latch_on(error), grows, is_aborted }
        })
    }

    /// Admits the files of the jobs and syncs the touched directories. Jobs for which there is no room are refused
    /// before: their files stay uploads.
    fn admit(&self, jobs: &mut [Job]) -> Result<(), StoreError> {
        let (mut capacity, mut touched) = (None, BTreeSet::<Algorithm>::new());
        for job in jobs.iter_mut() {
            job.result = None;
            let mut is_manifest = false;
            job.admission = match job.change.needs() {
                Needs::Admission(file, digest) => Some((file.clone(), digest.clone())),
                Needs::Manifest(file, digest) => {
                    is_manifest = true;
                    Some((file.clone(), digest.clone()))
                }
                Needs::Nothing | Needs::Facts(_) => None,
            };
            let Some((file, digest)) = &job.admission else { continue };
            let has_room = capacity.get_or_insert_with(|| self.metadata.check_capacity());
            if let Err(error) = has_room
                // The change itself tells a manifest that is refused anyway from one that has no room in the index.
                && !(is_manifest && matches!(error, StoreError::IndexFull))
            {
                if !error.is_lack_of_space() {
                    return Err(copy_error(error));
                }
                job.result = Some(Err(copy_error(error)));
                job.admission = None;
                continue;
            }
            match self.blobs.admit(file, digest) {
                Ok(()) => drop(touched.insert(digest.algorithm())),
                Err(error) if error.ends_transaction() => return Err(error),
                Err(refusal) => {
                    job.result = Some(Err(refusal));
                    job.admission = None;
                }
            }
        }
        touched.into_iter().try_for_each(|algorithm| self.blobs.sync(algorithm))
    }

    /// Fills in the facts that changes need, once all files are admitted.
    fn establish_facts(&self, jobs: &mut [Job]) -> Result<(), StoreError> {
        for job in jobs {
            match job.change.needs() {
                Needs::Facts(facts) => facts.iter_mut().try_for_each(|fact| self.establish(fact))?,
                Needs::Nothing | Needs::Admission(..) | Needs::Manifest(..) => {}
            }
        }
        Ok(())
    }

    fn establish(&self, fact: &mut FileFact) -> Result<(), StoreError> {
        fact.found = self.blobs.file(&fact.digest)?;
        Ok(())
    }

    /// Makes the admitted files of refused jobs uploads again.
    fn give_back(&self, jobs: &[Job], unused: &BTreeSet<Digest>) {
        for job in jobs {
            if let Some((file, digest)) = job.admission.as_ref().filter(|(_, digest)| unused.contains(digest))
            {
                after_commit(digest, self.blobs.give_back(file, digest));
            }
        }
    }

    /// Makes the admitted file of a job that has failed for good an upload again, unless the file has a row. After a
    /// commit of which it is unknown whether it is durable, the file stays: a collection decides later.
    pub(super) fn give_back_failed(&self, job: &Job, failure: &Failure) {
        if let Some((file, digest)) = job.admission.as_ref().filter(|_| failure.is_aborted)
            && let Ok(snapshot) = self.metadata.snapshot()
            && let Ok(false) = metadata_store::has_row(&snapshot, digest)
        {
            after_commit(digest, self.blobs.give_back(file, digest));
        }
    }
}

/// Logs a failure of work on a file that has no row any more.
fn after_commit(digest: &Digest, done: Result<(), StoreError>) {
    if let Err(error) = done {
        // The first collection of a process, or a full one, finds the file as one that the index does not know.
        log::warn!("the file of {digest} is left to the next collection: {error}");
    }
}

/// Copies an error for one of several callers; `io::Error` is not `Clone`.
pub(super) fn copy_error(error: &StoreError) -> StoreError {
    match error {
        StoreError::Full => StoreError::Full,
        StoreError::IndexFull => StoreError::IndexFull,
        StoreError::PagesHeld => StoreError::PagesHeld,
        StoreError::ReadOnly => StoreError::ReadOnly,
        StoreError::OutOfResources { action, source } => StoreError::OutOfResources {
            action: action.clone(),
            source: source
                .raw_os_error()
                .map_or_else(|| std::io::Error::other(source.to_string()), std::io::Error::from_raw_os_error),
        },
        other => StoreError::Io {
            action: "write the index".into(),
            source: std::io::Error::other(other.to_string()),
        },
    }
}

#[cfg(test)]
mod tests;
