//! The pools that blocking work of the store runs in, and its cancellation.
//!
//! All of it runs on tokio's blocking threads, of which a process has a fixed number. A semaphore for each kind of work
//! bounds how many of them it holds: syncs that hang never take the threads that reads need, and reads whose cost is
//! decided by stored content never take those of plain pulls. A request that waits for its turn costs no thread and no
//! buffer, and leaves the queue when its client disconnects.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::JoinHandle;

use super::error::StoreError;

/// The number of blocking threads that the pools may hold together. The runtime needs more than that: passwords are
/// verified, certificates read and long jobs run on the rest.
pub const POOLED_THREADS: usize = 44;

const READERS: usize = 16;
const LISTERS: usize = 2;
const PAGES: usize = 2;
const WRITERS: usize = POOLED_THREADS - READERS - LISTERS - PAGES;

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

/// The pools.
pub(super) struct Work {
    readers: Arc<Semaphore>,
    listers: Arc<Semaphore>,
    pages: Arc<Semaphore>,
    writers: Arc<Semaphore>,
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
        let pool = |size| Arc::new(Semaphore::new(size));
        Work {
            readers: pool(READERS),
            listers: pool(LISTERS),
            pages: pool(PAGES),
            writers: pool(WRITERS),
            stopped: Arc::default(),
        }
    }
}

impl Work {
    fn pool(&self, kind: Kind) -> &Arc<Semaphore> {
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
        let permit = acquire(self.pool(kind)).await?;
        joined(start(permit, work).await)
    }

    /// Runs work whose cost depends on stored content. It is cancelled when the future is dropped, and when the daemon
    /// stops.
    pub(super) async fn run_cancellable<T: Send + 'static>(
        &self,
        kind: Kind,
        work: impl FnOnce(&Cancel) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        let permit = acquire(self.pool(kind)).await?;
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
        if let Ok(permit) = Arc::clone(&self.writers).try_acquire_owned() {
            return start(permit, work);
        }
        let writers = Arc::clone(&self.writers);
        tokio::spawn(async move {
            let permit = acquire(&writers).await?;
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

async fn acquire(pool: &Arc<Semaphore>) -> Result<OwnedSemaphorePermit, StoreError> {
    Arc::clone(pool).acquire_owned().await.map_err(|_| StoreError::Closing)
}

/// Runs work on a blocking thread. The permit goes with the work: a client that leaves frees no place while its work
/// still runs.
fn start<T: Send + 'static>(
    permit: OwnedSemaphorePermit,
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
        let all = work.listers.acquire_many(u32::try_from(LISTERS).unwrap());
        let _all = tokio::time::timeout(Duration::from_secs(20), all).await.unwrap().unwrap();
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
