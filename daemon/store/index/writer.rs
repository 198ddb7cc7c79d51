//! The writer: the one thread that changes the index and the blobs.
//!
//! It takes all queued changes into one transaction (group commit), so that many pushes share the syncs of one, and
//! answers each caller after the commit. A refused change has written nothing. A change that fails for lack of room
//! or by the disk aborts the transaction; then each change of the batch is retried alone, so that a push without room
//! does not fail a delete that would make room. A change that finds no free page is retried; see
//! [`super::page_retry`].

use std::sync::Arc;
use std::sync::mpsc::SyncSender;
use std::thread::JoinHandle;

use tokio::sync::{mpsc, oneshot};

use super::batch::{Batches, Failure, Job, copy_error};
use super::changes::link_exceptions::RemoveLinkExceptions;
use super::changes::marks::{MarkComplete, SaveClock};
use super::changes::{Change, Origin, TypedChange};
use super::feed::Feed;
use super::metadata_store::MetadataStore;
use super::page_retry::PageRetry;
use crate::base::clock::unix_seconds;
use crate::store::blob_store::BlobStore;
use crate::store::error::StoreError;

/// The capacity of the queue, and the most changes in one transaction.
const QUEUE: usize = 256;

/// A message to the writer thread.
enum Task {
    Change(Box<Job>),
    /// The liveness probe asks for a heartbeat.
    Ping(SyncSender<()>),
}

/// The handle by which changes are queued; cheap to clone.
#[derive(Clone)]
pub(in crate::store) struct Writer {
    queue: mpsc::Sender<Task>,
}

impl Writer {
    /// Starts the thread. `changed` is called after each transaction that made `index.json` out of date.
    pub(in crate::store) fn start<M, B>(
        metadata: Arc<M>,
        blobs: Arc<B>,
        feed: Arc<Feed>,
        changed: impl Fn() + Send + 'static,
    ) -> Result<(Self, JoinHandle<()>), StoreError>
    where
        M: MetadataStore,
        B: BlobStore + Send + Sync + 'static,
    {
        let (queue, receiver) = mpsc::channel(QUEUE);
        let thread = std::thread::Builder::new().name("index-writer".into());
        let run = move || Thread { metadata, blobs, feed, changed: &changed }.run(receiver);
        let thread = thread.spawn(run).map_err(|error| StoreError::io("start the index writer", error))?;
        Ok((Writer { queue }, thread))
    }

    /// Applies a change in the next transaction and returns its reply after the commit. Once this future is polled
    /// the change is carried out, even if the caller is dropped.
    pub(in crate::store) async fn submit<C: TypedChange>(&self, change: C) -> Result<C::Reply, StoreError> {
        self.submit_by(Origin::system(), change).await
    }

    /// As [`Writer::submit`], for a change of this origin.
    pub(in crate::store) async fn submit_by<C: TypedChange>(
        &self,
        origin: Origin,
        change: C,
    ) -> Result<C::Reply, StoreError> {
        let (reply, answer) = oneshot::channel();
        let job = Job::new(change.into(), origin, move |result| {
            // The caller may be gone; the change is committed all the same.
            let _ = reply.send(result);
        });
        self.queue.send(Task::Change(Box::new(job))).await.map_err(|_| StoreError::Closing)?;
        let reply = answer.await.map_err(|_| StoreError::Closing)??;
        C::typed(reply).ok_or(StoreError::Closing)
    }

    /// Queues a change without waiting for its reply; drops it if the queue is full.
    pub(in crate::store) fn try_submit(&self, change: impl Into<Change>) {
        let job = Job::new(change.into(), Origin::system(), drop);
        let _ = self.queue.try_send(Task::Change(Box::new(job)));
    }

    /// Makes the thread answer with a heartbeat when it reaches the message; a full queue drops the message.
    pub(in crate::store) fn ping(&self, answer: SyncSender<()>) {
        let _ = self.queue.try_send(Task::Ping(answer));
    }

    /// Waits until the changes that are queued now are done.
    pub(in crate::store) async fn barrier(&self) -> Result<(), StoreError> {
        self.submit(RemoveLinkExceptions(Vec::new())).await
    }

    /// Saves the store's clock.
    pub(in crate::store) async fn save_clock(&self) -> Result<(), StoreError> {
        self.submit(SaveClock).await
    }

    /// Marks the index as complete.
    pub(in crate::store) async fn mark_complete(&self) -> Result<(), StoreError> {
        self.submit(MarkComplete).await
    }
}

/// The state of the writer thread.
struct Thread<'a, M, B> {
    metadata: Arc<M>,
    blobs: Arc<B>,
    feed: Arc<Feed>,
    changed: &'a dyn Fn(),
}

impl<M: MetadataStore, B: BlobStore> Thread<'_, M, B> {
    fn run(self, mut queue: mpsc::Receiver<Task>) {
        let (mut tasks, mut jobs) = (Vec::with_capacity(QUEUE), Vec::with_capacity(QUEUE));
        let mut retry = PageRetry::default();
        let mut has_deferred_work = true;
        while has_deferred_work || queue.blocking_recv_many(&mut tasks, QUEUE) > 0 {
            // With work that is left for later, only what waits already.
            while tasks.len() < QUEUE
                && let Ok(task) = queue.try_recv()
            {
                tasks.push(task);
            }
            for task in tasks.drain(..) {
                match task {
                    Task::Change(job) => jobs.push(*job),
                    // The liveness probe may have stopped waiting.
                    Task::Ping(answer) => drop(answer.try_send(())),
                }
            }
            if !jobs.is_empty() {
                self.commit_all(&mut jobs, &mut retry);
            }
            // A store that is being closed leaves the rest to the next start.
            has_deferred_work = self.batches().work_deferred() && !queue.is_closed();
        }
    }

    fn batches(&self) -> Batches<'_, &M, &B> {
        Batches { metadata: &self.metadata, blobs: &self.blobs, feed: &self.feed }
    }

    fn commit_all(&self, jobs: &mut Vec<Job>, retry: &mut PageRetry) {
        match self.commit(jobs) {
            Ok(()) => jobs.drain(..).for_each(|job| job.answer(Ok(()))),
            // A failed sync is not retried for the same renames: it may have dropped them, and the next sync would
            // succeed without having written them.
            Err(Failure { error: error @ StoreError::OutOfResources { .. }, .. }) => {
                jobs.drain(..).for_each(|job| job.answer(Err(copy_error(&error))));
            }
            Err(failure) if jobs.len() == 1 && !PageRetry::applies_to(&failure.error, failure.grows) => {
                for job in jobs.drain(..) {
                    self.batches().give_back_failed(&job, &failure);
                    job.answer(Err(copy_error(&failure.error)));
                }
            }
            Err(_) => self.commit_each(jobs, retry),
        }
    }

    /// Commits each change of a batch in a transaction of its own.
    fn commit_each(&self, jobs: &mut Vec<Job>, retry: &mut PageRetry) {
        retry.begin();
        for job in jobs.drain(..) {
            let (mut alone, mut attempts) = ([job], 0);
            let committed = loop {
                match self.commit(&mut alone) {
                    Err(Failure { error, grows, .. })
                        if retry.try_again(&*self.metadata, &*self.blobs, (&error, grows), attempts) =>
                    {
                        attempts += 1;
                    }
                    outcome => break outcome,
                }
            };
            let [job] = alone;
            if let Err(failure) = &committed {
                self.batches().give_back_failed(&job, failure);
            }
            job.answer(committed.map_err(|failure| failure.error));
        }
    }

    fn commit(&self, jobs: &mut [Job]) -> Result<(), Failure> {
        if self.batches().commit(jobs, unix_seconds())? {
            (self.changed)();
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
