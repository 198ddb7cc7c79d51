//! The pools of blocking work, and its cancellation.
//!
//! Blocking work runs on tokio's blocking threads, of which a process has a fixed number. One pool per kind of work
//! bounds its threads: syncs that hang never take the threads of reads, and reads whose cost depends on stored content
//! never take those of plain pulls. A request that waits for a pool holds no thread and no buffer, and leaves the queue
//! when its client disconnects.
//!
//! Each pool serves holders round robin ([`super::holder`]): many requests of one client delay those of another by one.
//! A client with too many waiting lists is refused.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tokio::task::JoinHandle;

use super::error::StoreError;
use super::holder::Holder;
use crate::queue::{AcquireError, FairPermit, FairPool, Limits};

/// The blocking threads of all pools together. The runtime needs more: password verification, certificates and long
/// jobs run on threads outside of the pools.
pub const POOLED_THREADS: usize = 44;

const READERS: usize = 16;
const LISTERS: usize = 2;
const PAGES: usize = 2;
const WRITERS: usize = POOLED_THREADS - READERS - LISTERS - PAGES;

/// The maximum number of waiting lists of one holder; more are refused.
const WAITING_LISTS: usize = 160;
/// The maximum number of waiting writes of one holder. A write outlives its connection, so that the limit of
/// connections does not bound writes.
const WAITING_WRITES: usize = 4096;
/// Waiting reads of one holder are not bounded here: a refused read would cut off a transfer. Each belongs to a
/// connection, which `limits.connections` bounds.
const WAITING_READS: usize = usize::MAX;
/// The maximum number of holders in one pool at once.
pub(super) const HOLDERS: usize = 1 << 16;

/// A kind of blocking work, with a pool of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// A read of bounded cost: a manifest, a chunk of a blob, a page of tags.
    Read,
    /// A list of the API, whose cost depends on stored content.
    List,
    /// A list of the admin page.
    Page,
    /// Work that may wait for a sync.
    Write,
}

type Pool = FairPool<Holder>;
type Permit = FairPermit<Holder>;

/// The pools.
pub(super) struct Work {
    readers: Arc<Pool>,
    listers: Arc<Pool>,
    pages: Arc<Pool>,
    writers: Arc<Pool>,
    stopped: Arc<AtomicBool>,
}

/// The cancellation token of running work.
#[derive(Clone, Debug, Default)]
pub(super) struct Cancel {
    disconnected: Arc<AtomicBool>,
    stopped: Arc<AtomicBool>,
}

impl Cancel {
    /// Fails once the client has disconnected or the daemon stops. Loops over stored content call this.
    pub(super) fn check(&self) -> Result<(), StoreError> {
        let cancelled = self.disconnected.load(Ordering::Relaxed) || self.stopped.load(Ordering::Relaxed);
        if cancelled { Err(StoreError::Closing) } else { Ok(()) }
    }
}

/// Cancels work when the future that waits for it is dropped.
struct CancelOnDrop(Arc<AtomicBool>);

impl Drop for CancelOnDrop {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

impl Default for Work {
    fn default() -> Self {
        let pool = |places, waiting_per_holder| {
            let limits = Limits {
                places,
                places_per_holder: places,
                reserved: 0,
                waiting_per_holder,
                holders: HOLDERS,
            };
            Arc::new(FairPool::new(limits))
        };
        Work {
            readers: pool(READERS, WAITING_READS),
            listers: pool(LISTERS, WAITING_LISTS),
            pages: pool(PAGES, WAITING_LISTS),
            writers: pool(WRITERS, WAITING_WRITES),
            stopped: Arc::default(),
        }
    }
}

impl Work {
    fn pool(&self, kind: Kind) -> &Arc<Pool> {
        match kind {
            Kind::Read => &self.readers,
            Kind::List => &self.listers,
            Kind::Page => &self.pages,
            Kind::Write => &self.writers,
        }
    }

    /// Runs short work. Dropping the future before a thread has started it cancels it.
    pub(super) async fn run<T: Send + 'static>(
        &self,
        kind: Kind,
        work: impl FnOnce() -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        let permit = acquire(self.pool(kind), Holder::current()).await?;
        joined(start(permit, work).await)
    }

    /// Runs work whose cost depends on stored content. It is cancelled when the future is dropped or the daemon stops.
    pub(super) async fn run_cancellable<T: Send + 'static>(
        &self,
        kind: Kind,
        work: impl FnOnce(&Cancel) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        let permit = acquire(self.pool(kind), Holder::current()).await?;
        let cancel = Cancel { disconnected: Arc::default(), stopped: Arc::clone(&self.stopped) };
        let _guard = CancelOnDrop(Arc::clone(&cancel.disconnected));
        let running = start(permit, move || {
            cancel.check()?;
            work(&cancel)
        });
        joined(running.await)
    }

    /// Starts a write that is completed even if its handle is dropped.
    pub(super) fn spawn_write<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> Result<T, StoreError> + Send + 'static,
    ) -> JoinHandle<Result<T, StoreError>> {
        let holder = Holder::current();
        if let Some(permit) = self.writers.try_acquire(&holder) {
            return start(permit, work);
        }
        let writers = Arc::clone(&self.writers);
        tokio::spawn(async move {
            let permit = acquire(&writers, holder).await?;
            joined(start(permit, work).await)
        })
    }

    /// Refuses new lists, cancels running ones and empties their queues. Reads and writes continue.
    pub(super) fn stop_lists(&self) {
        self.stopped.store(true, Ordering::Relaxed);
        self.listers.close();
        self.pages.close();
    }
}

async fn acquire(pool: &Arc<Pool>, holder: Holder) -> Result<Permit, StoreError> {
    Ok(pool.acquire(holder).await?)
}

impl From<AcquireError> for StoreError {
    fn from(error: AcquireError) -> Self {
        match error {
            AcquireError::Refused => StoreError::TooManyWaiting,
            AcquireError::Closed => StoreError::Closing,
        }
    }
}

/// Runs work on a blocking thread. The permit moves along: a client that disconnects frees no place while its work
/// still runs.
fn start<T: Send + 'static>(
    permit: Permit,
    work: impl FnOnce() -> Result<T, StoreError> + Send + 'static,
) -> JoinHandle<Result<T, StoreError>> {
    tokio::task::spawn_blocking(move || {
        let result = work();
        drop(permit);
        result
    })
}

fn joined<T>(result: Result<Result<T, StoreError>, tokio::task::JoinError>) -> Result<T, StoreError> {
    result.map_err(|_| StoreError::Closing)?
}

/// Runs work on a blocking thread outside of the pools: for opening and closing the store, and for long jobs, of which
/// few run at once. Work of requests runs in a pool of [`Work`].
pub(super) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, StoreError> + Send + 'static,
) -> Result<T, StoreError> {
    joined(tokio::task::spawn_blocking(work).await)
}

/// Completes the work even if the caller is dropped, so that a client that disconnects stops no commit half-way.
pub(super) async fn detached<T: Send + 'static>(
    work: impl Future<Output = Result<T, StoreError>> + Send + 'static,
) -> Result<T, StoreError> {
    joined(tokio::spawn(Holder::current().run(work)).await)
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::channel;
    use std::time::Duration;

    use super::*;

    /// Waits until the pool of lists has all its places back.
    async fn until_idle(work: &Work) {
        let idle = async {
            while work.listers.used() > 0 {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(20), idle).await.unwrap();
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 1)]
    async fn dropping_the_future_cancels_the_work() {
        let work = Work::default();
        let (began, begins) = channel();
        let running = work.run_cancellable(Kind::List, move |cancel| {
            began.send(()).unwrap();
            loop {
                cancel.check()?;
                std::thread::sleep(Duration::from_millis(1));
            }
            #[expect(unreachable_code, reason = "gives the result its type")]
            Ok(())
        });
        let dropped = tokio::time::timeout(Duration::from_millis(50), running).await;
        assert!(dropped.is_err());
        begins.recv().unwrap();
        until_idle(&work).await;
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 1)]
    async fn hanging_writes_leave_threads_to_reads() {
        let work = Work::default();
        let (end, ends) = channel::<()>();
        let ends = Arc::new(std::sync::Mutex::new(ends));
        let writes: Vec<_> = (0..3 * WRITERS)
            .map(|_| {
                let ends = Arc::clone(&ends);
                work.spawn_write(move || {
                    // Ends with the sender.
                    let _ = ends.lock().unwrap().recv();
                    Ok(())
                })
            })
            .collect();
        for kind in [Kind::Read, Kind::List, Kind::Page] {
            let read = tokio::time::timeout(Duration::from_secs(20), work.run(kind, || Ok(1)));
            assert_eq!(read.await.unwrap().unwrap(), 1, "{kind:?}");
        }
        drop(end);
        for write in writes {
            write.await.unwrap().unwrap();
        }
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 1)]
    async fn lists_of_one_holder_delay_another_holder_by_one() {
        let work = Arc::new(Work::default());
        let (done, mut order) = tokio::sync::mpsc::unbounded_channel();
        let list = |name: &'static str, number: usize| {
            let (work, done) = (Arc::clone(&work), done.clone());
            let holder = Holder::User(name.into());
            tokio::spawn(holder.run(async move {
                let listed = work.run(Kind::List, move || {
                    std::thread::sleep(Duration::from_millis(2));
                    Ok(())
                });
                let listed = listed.await.map_err(|error| error.to_string());
                done.send((name, number, listed)).unwrap();
            }))
        };
        let many: Vec<_> = (0..2 * WAITING_LISTS).map(|number| list("many", number)).collect();
        // Let every list of the first holder run, queue or be refused.
        while work.listers.used() < LISTERS {
            tokio::task::yield_now().await;
        }
        for _ in 0..4 * WAITING_LISTS {
            tokio::task::yield_now().await;
        }
        list("one", 0).await.unwrap();
        for task in many {
            task.await.unwrap();
        }
        drop(done);
        let (mut before, mut refused) = (None, 0);
        let mut listed = 0;
        while let Ok((name, _, result)) = order.try_recv() {
            match (name, result) {
                ("one", result) => {
                    result.unwrap();
                    before = Some(listed);
                }
                (_, Ok(())) => listed += 1,
                (_, Err(_)) => refused += 1,
            }
        }
        assert!(before.unwrap() < listed / 2, "{before:?} of {listed} came first");
        assert!(refused > 0 && listed >= WAITING_LISTS, "{refused} of {listed} are refused");
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 1)]
    async fn stop_cancels_running_and_waiting_lists_and_leaves_reads() {
        let work = Arc::new(Work::default());
        let lists: Vec<_> = (0..2 * LISTERS)
            .map(|_| {
                let work = Arc::clone(&work);
                tokio::spawn(async move {
                    let list = work.run_cancellable(Kind::List, |cancel| {
                        loop {
                            cancel.check()?;
                            std::thread::sleep(Duration::from_millis(1));
                        }
                        #[expect(unreachable_code, reason = "gives the result its type")]
                        Ok(())
                    });
                    list.await
                })
            })
            .collect();
        tokio::time::sleep(Duration::from_millis(20)).await;
        work.stop_lists();
        for list in lists {
            assert!(matches!(list.await.unwrap(), Err(StoreError::Closing)));
        }
        assert_eq!(work.run(Kind::Read, || Ok(1)).await.unwrap(), 1);
    }
}
