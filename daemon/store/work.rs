//! The pools that blocking work of the store runs in, and its cancellation.
//!
//! All of it runs on tokio's blocking threads, of which a process has a fixed number. A pool for each kind of work
//! bounds how many of them it holds: syncs that hang never take the threads that reads need, and reads whose cost is
//! decided by stored content never take those of plain pulls. A request that waits for its turn costs no thread and no
//! buffer, and leaves the queue when its client disconnects.
//!
//! Holders take turns in each pool ([`super::holder`]): many requests of one client delay those of another by one. A
//! client that has too many waiting lists is refused.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tokio::task::JoinHandle;

use super::error::StoreError;
use super::holder::Holder;
use crate::queue::{AcquireError, FairPermit, FairPool, Limits};

/// The number of blocking threads that the pools may hold together. The runtime needs more than that: passwords are
/// verified, certificates read and long jobs run on the rest.
pub const POOLED_THREADS: usize = 44;

const READERS: usize = 16;
const LISTERS: usize = 2;
const PAGES: usize = 2;
const WRITERS: usize = POOLED_THREADS - READERS - LISTERS - PAGES;

/// Waiting lists of one holder; more are refused with 429.
const WAITING_LISTS: usize = 160;
/// Waiting writes of one holder. Writes outlive their connections, so that connections do not bound them.
const WAITING_WRITES: usize = 4096;
/// Waiting reads of one holder: not bounded here, since a refused one would cut off a transfer. Each belongs to a
/// connection, of which there are `limits.connections`.
const WAITING_READS: usize = usize::MAX;
/// Holders that one pool knows at once.
pub(super) const HOLDERS: usize = 1 << 16;

/// A kind of blocking work, with a pool of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// A read of bounded cost, such as a manifest, a chunk of a blob or a page of tags.
    Read,
    /// A list of the API whose cost depends on what is stored.
    List,
    /// A list of the admin page.
    Page,
    /// Everything that may wait for a sync.
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

/// Tells work that is under way that its result is no longer wanted.
#[derive(Clone, Debug, Default)]
pub(super) struct Cancel {
    disconnected: Arc<AtomicBool>,
    stopped: Arc<AtomicBool>,
}

impl Cancel {
    /// Fails once the request has been dropped or the daemon stops. Loops over stored content call this.
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

    /// Runs work that ends by itself soon. Dropping the future before it has begun leaves it undone.
    pub(super) async fn run<T: Send + 'static>(
        &self,
        kind: Kind,
        work: impl FnOnce() -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        let permit = acquire(self.pool(kind), Holder::current()).await?;
        joined(start(permit, work).await)
    }

    /// Runs work whose cost depends on stored content. It is cancelled when the future is dropped, and when the daemon
    /// stops.
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

    /// Starts a write that goes on even if its handle is dropped.
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

    /// Refuses lists from now on, cancels those that run, and empties their queues. Reads and writes go on.
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

/// Runs work on a blocking thread. The permit goes with the work: a client that leaves frees no place while its work
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
    async fn work_stops_when_its_future_is_dropped() {
        let work = Work::default();
        let (began, begins) = channel();
        let running = work.run_cancellable(Kind::List, move |cancel| {
            began.send(()).unwrap();
            loop {
                cancel.check()?;
                std::thread::sleep(Duration::from_millis(1));
            }
            #[expect(unreachable_code, reason = "says of which type the result is")]
            Ok(())
        });
        let dropped = tokio::time::timeout(Duration::from_millis(50), running).await;
        assert!(dropped.is_err());
        begins.recv().unwrap();
        until_idle(&work).await;
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 1)]
    async fn writes_that_hang_leave_reads_their_threads() {
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
    async fn a_list_waits_for_one_list_of_another_holder_and_not_for_all() {
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
        // All of them run, wait or are refused.
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
    async fn a_stop_cancels_lists_and_those_that_wait_and_leaves_reads() {
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
                        #[expect(unreachable_code, reason = "says of which type the result is")]
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
