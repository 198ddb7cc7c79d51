//! The writer: the one thread that changes the index.
//!
//! It takes all queued changes into one transaction (group commit), so that many pushes share the syncs of one, and
//! answers each caller after the commit. A refused change has written nothing. A change that fails for lack of room
//! or by the disk aborts the transaction; then each change of the batch is retried alone, so that a push without room
//! does not fail a delete that would make room. A change that finds no free page is retried; see
//! [`super::free_pages`].

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::mpsc::SyncSender;
use std::thread::JoinHandle;

use tokio::sync::{mpsc, oneshot};

use super::batch::Attempt;
pub(in crate::store) use super::batch::Batch;
use super::database::Index;
use super::free_pages::PageRetry;
use super::keys;
use crate::base::clock::unix_seconds;
use crate::oci::Digest;
use crate::store::disk::Disk;
use crate::store::error::StoreError;

/// The capacity of the queue, and the most changes in one transaction.
const QUEUE: usize = 256;

/// A queued change.
trait Job: Send {
    /// Applies the change; an error aborts the transaction.
    fn apply(&mut self, batch: &mut Batch) -> Result<(), StoreError>;
    /// Answers the caller: with the result of the change if it is committed, otherwise with the error.
    fn answer(self: Box<Self>, committed: Result<(), StoreError>);
}

/// A message to the writer thread.
enum Task {
    Change(Box<dyn Job>),
    /// The liveness probe asks for a heartbeat.
    Ping(SyncSender<()>),
}

struct Change<F, T> {
    apply: F,
    outcome: Option<Result<T, StoreError>>,
    reply: oneshot::Sender<Result<T, StoreError>>,
}

impl<F, T> Job for Change<F, T>
where
    F: FnMut(&mut Batch) -> Result<T, StoreError> + Send,
    T: Send,
{
    fn apply(&mut self, batch: &mut Batch) -> Result<(), StoreError> {
        match (self.apply)(batch) {
            Err(error) if error.ends_transaction() => Err(error),
            outcome => {
                self.outcome = Some(outcome);
                Ok(())
            }
        }
    }

    fn answer(self: Box<Self>, committed: Result<(), StoreError>) {
        let answer = match (committed, self.outcome) {
            (Ok(()), Some(outcome)) => outcome,
            (Ok(()), None) => Err(StoreError::Closing),
            (Err(error), _) => Err(error),
        };
        // The caller may be gone; the change is committed all the same.
        let _ = self.reply.send(answer);
    }
}

/// The handle by which changes are queued; cheap to clone.
#[derive(Clone)]
pub(in crate::store) struct Writer {
    queue: mpsc::Sender<Task>,
}

impl Writer {
    /// Starts the thread. `changed` is called after each transaction that made `index.json` out of date.
    pub(in crate::store) fn start(
        index: Arc<Index>,
        disk: Arc<Disk>,
        changed: impl Fn() + Send + 'static,
    ) -> Result<(Self, JoinHandle<()>), StoreError> {
        let (queue, receiver) = mpsc::channel(QUEUE);
        let thread = std::thread::Builder::new().name("index-writer".into());
        let thread = thread.spawn(move || run(&index, &disk, receiver, &changed));
        let thread = thread.map_err(|error| StoreError::io("start the index writer", error))?;
        Ok((Writer { queue }, thread))
    }

    /// Applies a change in the next transaction and returns its result after the commit. Once this future is polled
    /// the change is carried out, even if the caller is dropped.
    pub(in crate::store) async fn submit<T, F>(&self, change: F) -> Result<T, StoreError>
    where
        F: FnMut(&mut Batch) -> Result<T, StoreError> + Send + 'static,
        T: Send + 'static,
    {
        let (reply, answer) = oneshot::channel();
        let job = Box::new(Change { apply: change, outcome: None, reply });
        self.queue.send(Task::Change(job)).await.map_err(|_| StoreError::Closing)?;
        answer.await.map_err(|_| StoreError::Closing)?
    }

    /// Queues a change without waiting for its result; drops it if the queue is full.
    pub(in crate::store) fn try_submit<F>(&self, change: F)
    where
        F: FnMut(&mut Batch) -> Result<(), StoreError> + Send + 'static,
    {
        let (reply, _) = oneshot::channel();
        let job = Box::new(Change { apply: change, outcome: None, reply });
        let _ = self.queue.try_send(Task::Change(job));
    }

    /// Makes the thread answer with a heartbeat when it reaches the message; a full queue drops the message.
    pub(in crate::store) fn ping(&self, answer: SyncSender<()>) {
        let _ = self.queue.try_send(Task::Ping(answer));
    }

    /// Saves the store's clock.
    pub(in crate::store) async fn save_clock(&self) -> Result<(), StoreError> {
        #[expect(
            clippy::redundant_closure_for_method_calls,
            reason = "the method alone is not general enough"
        )]
        self.submit(|batch| batch.save_clock()).await
    }

    /// Marks the index as complete.
    pub(in crate::store) async fn mark_complete(&self) -> Result<(), StoreError> {
        #[expect(
            clippy::redundant_closure_for_method_calls,
            reason = "the method alone is not general enough"
        )]
        self.submit(|batch| batch.mark_complete()).await
    }
}

fn run(index: &Index, disk: &Disk, mut queue: mpsc::Receiver<Task>, changed: &dyn Fn()) {
    let (mut tasks, mut jobs) = (Vec::with_capacity(QUEUE), Vec::with_capacity(QUEUE));
    let mut retry = PageRetry::default();
    while queue.blocking_recv_many(&mut tasks, QUEUE) > 0 {
        for task in tasks.drain(..) {
            match task {
                Task::Change(job) => jobs.push(job),
                // The liveness probe may have stopped waiting.
                Task::Ping(answer) => drop(answer.try_send(())),
            }
        }
        if jobs.is_empty() {
            continue;
        }
        let mut attempt = Attempt::default();
        match commit(index, disk, &mut jobs, changed, &mut attempt) {
            Ok(()) => jobs.drain(..).for_each(|job| job.answer(Ok(()))),
            // A failed sync is not retried for the same renames: it may have dropped them, and the next sync would
            // succeed without having written them.
            Err(error @ StoreError::OutOfResources { .. }) => {
                jobs.drain(..).for_each(|job| job.answer(Err(copy_error(&error))));
            }
            Err(error) if jobs.len() == 1 && !PageRetry::applies_to(&error, attempt.grows) => {
                jobs.drain(..).for_each(|job| job.answer(Err(copy_error(&error))));
            }
            Err(_) => commit_each(index, disk, &mut jobs, changed, &mut retry),
        }
    }
}

/// Commits each change of a batch in a transaction of its own.
fn commit_each(
    index: &Index,
    disk: &Disk,
    jobs: &mut Vec<Box<dyn Job>>,
    changed: &dyn Fn(),
    retry: &mut PageRetry,
) {
    retry.begin();
    for job in jobs.drain(..) {
        let (mut alone, mut attempts) = ([job], 0);
        let committed = loop {
            let mut attempt = Attempt::default();
            match commit(index, disk, &mut alone, changed, &mut attempt) {
                Err(error) if retry.try_again(index, disk, (&error, attempt.grows), attempts) => {
                    attempts += 1;
                }
                outcome => break outcome,
            }
        };
        let [job] = alone;
        job.answer(committed);
    }
}

fn commit(
    index: &Index,
    disk: &Disk,
    jobs: &mut [Box<dyn Job>],
    changed: &dyn Fn(),
    attempt: &mut Attempt,
) -> Result<(), StoreError> {
    match apply(index, disk, jobs, attempt) {
        Ok(true) => changed(),
        Ok(false) => {}
        Err(error) => {
            // The rows of these blobs still exist. If a restore fails, the next collection repeats it.
            let _ = attempt.trashed.iter().try_for_each(|digest| disk.restore_from_trash(digest));
            return Err(error);
        }
    }
    if !attempt.unlink.is_empty()
        && let Err(error) = remove_trash_overflow(index, disk, &attempt.unlink)
    {
        // The next collection finds them as files that the index does not know.
        log::warn!(
            "cannot remove the files of collected blobs; the next collection will remove them: {error}"
        );
    }
    Ok(())
}

/// Removes the files of blobs that have no row any more. The write transaction keeps out pushes by other processes:
/// one of the same digest would replace the file.
fn remove_trash_overflow(index: &Index, disk: &Disk, digests: &[Digest]) -> Result<(), StoreError> {
    let txn = index.write_txn()?;
    for digest in digests {
        if index.tables.blobs.get(&txn, &keys::digest_key(digest))?.is_none() {
            disk.remove_blob(digest)?;
        }
    }
    Ok(())
}

/// Applies and commits changes. Returns true if `index.json` is out of date afterwards.
fn apply(
    index: &Index,
    disk: &Disk,
    jobs: &mut [Box<dyn Job>],
    attempt: &mut Attempt,
) -> Result<bool, StoreError> {
    disk.check_writable()?;
    let held = disk.pin_index_file()?;
    if held.is_some() {
        disk.mark_changing()?;
    }
    index.preallocation.refill(&index.env);
    let wall_time = unix_seconds();
    let txn = index.write_txn().map_err(|error| disk.latch_on(error))?;
    let _write = disk.begin_write();
    let (store_time, unsynced) = (index.clock.now(), BTreeSet::new());
    let mut batch = Batch {
        index,
        disk,
        txn,
        wall_time,
        store_time,
        unsynced,
        names_changed: false,
        names_set: 0,
        attempt,
    };
    // A corrupt index makes the store read-only.
    let damaged = |error| if matches!(error, StoreError::Index(_)) { disk.latch_on(error) } else { error };
    batch.save_clock_if_due().map_err(damaged)?;
    for job in jobs {
        job.apply(&mut batch).map_err(damaged)?;
    }
    if batch.names_changed {
        batch.increment_change().map_err(damaged)?;
        // After a power cut, no name is younger than the saved clock, and names that are set then are newer than all
        // others.
        batch.save_clock().map_err(damaged)?;
    }
    batch.reserve_free_pages().map_err(damaged)?;
    for algorithm in batch.unsynced {
        disk.sync_blobs(algorithm)?;
    }
    index.commit(batch.txn).map_err(|error| {
        let error = disk.latch_on(error);
        // A failed write of the meta page closes LMDB's environment for writes until it is opened again, whatever the
        // error was; a failed sync of that page does not. Opening a transaction tells which it was.
        let may_pass = error.is_lack_of_resources() || error.is_lack_of_space();
        let refused = index.write_txn().err().filter(|_| may_pass);
        refused.map_or(error, |refused| disk.latch_on(refused))
    })?;
    Ok(batch.names_changed)
}

/// Copies an error for one of several callers; `io::Error` is not `Clone`.
fn copy_error(error: &StoreError) -> StoreError {
    match error {
        StoreError::Full => StoreError::Full,
        StoreError::IndexFull => StoreError::IndexFull,
        StoreError::PagesHeld => StoreError::PagesHeld,
        StoreError::ReadOnly => StoreError::ReadOnly,
        StoreError::Replaced => StoreError::Replaced,
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
