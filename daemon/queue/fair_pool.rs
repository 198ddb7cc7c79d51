//! Semaphore that shares its places fairly between holders.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::oneshot;

use super::fair_queue::{Entered, FairQueue, Limits, Ticket};

/// Semaphore over a [`FairQueue`]. A waiting future that is dropped leaves the queue.
pub struct FairPool<H: Clone + Eq + Hash> {
    state: Mutex<State<H>>,
}

struct State<H: Clone + Eq + Hash> {
    queue: FairQueue<H>,
    waiting: HashMap<Ticket, oneshot::Sender<FairPermit<H>>>,
    closed: bool,
}

/// Place in a [`FairPool`], given back on drop.
pub struct FairPermit<H: Clone + Eq + Hash> {
    pool: Arc<FairPool<H>>,
    holder: H,
}

/// Reason why [`FairPool::acquire`] returned no permit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AcquireError {
    /// The holder has as many waiting entries as it may, or there are too many holders.
    Refused,
    /// The pool is closed.
    Closed,
}

/// Waiting entry, which leaves the queue on drop.
struct Waiting<'a, H: Clone + Eq + Hash> {
    pool: &'a FairPool<H>,
    holder: &'a H,
    ticket: Ticket,
}

impl<H: Clone + Eq + Hash> FairPool<H> {
    /// Creates a pool whose places are all free.
    pub fn new(limits: Limits) -> Self {
        let state = State { queue: FairQueue::new(limits), waiting: HashMap::new(), closed: false };
        FairPool { state: Mutex::new(state) }
    }

    /// Waits for a place for a holder.
    ///
    /// # Errors
    /// [`AcquireError`].
    pub async fn acquire(self: &Arc<Self>, holder: H) -> Result<FairPermit<H>, AcquireError> {
        let (ticket, receiver) = {
            let mut state = self.lock();
            if state.closed {
                return Err(AcquireError::Closed);
            }
            match state.queue.enter(&holder) {
                Entered::Admitted => {
                    return Ok(FairPermit { pool: Arc::clone(self), holder: holder.clone() });
                }
                Entered::Refused => return Err(AcquireError::Refused),
                Entered::Waiting(ticket) => {
                    let (sender, receiver) = oneshot::channel();
                    state.waiting.insert(ticket, sender);
                    (ticket, receiver)
                }
            }
        };
        let _waiting = Waiting { pool: self, holder: &holder, ticket };
        receiver.await.map_err(|_| AcquireError::Closed)
    }

    /// Takes a place for a holder if that needs no waiting.
    pub fn try_acquire(self: &Arc<Self>, holder: &H) -> Option<FairPermit<H>> {
        let mut state = self.lock();
        if state.closed {
            return None;
        }
        match state.queue.enter(holder) {
            Entered::Admitted => Some(FairPermit { pool: Arc::clone(self), holder: holder.clone() }),
            Entered::Refused => None,
            Entered::Waiting(ticket) => {
                state.queue.leave(holder, ticket);
                None
            }
        }
    }

    /// Refuses all that wait and all that come from now on. Places that are held stay valid.
    pub fn close(&self) {
        let mut state = self.lock();
        state.closed = true;
        let waiting = std::mem::take(&mut state.waiting);
        drop(state);
        drop(waiting);
    }

    /// Returns how many places are held.
    pub fn used(&self) -> usize {
        self.lock().queue.used()
    }

    /// Gives free places to waiting entries. Permits are sent without the lock: one whose receiver is gone comes back
    /// here through its drop.
    fn admit(self: &Arc<Self>, mut state: MutexGuard<'_, State<H>>) {
        let mut admitted = Vec::new();
        while let Some((holder, ticket)) = state.queue.admit() {
            let permit = FairPermit { pool: Arc::clone(self), holder };
            admitted.push((permit, state.waiting.remove(&ticket)));
        }
        drop(state);
        for (permit, sender) in admitted {
            if let Some(sender) = sender {
                // A permit that is not received is given back by its drop.
                let _ = sender.send(permit);
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, State<H>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<H: Clone + Eq + Hash> Drop for FairPermit<H> {
    fn drop(&mut self) {
        let mut state = self.pool.lock();
        state.queue.release(&self.holder);
        self.pool.admit(state);
    }
}

impl<H: Clone + Eq + Hash> Drop for Waiting<'_, H> {
    fn drop(&mut self) {
        let mut state = self.pool.lock();
        // Without a sender the entry has its permit already, or the pool is closed.
        let sender = state.waiting.remove(&self.ticket);
        if sender.is_some() || state.closed {
            state.queue.leave(self.holder, self.ticket);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn pool() -> Arc<FairPool<char>> {
        let limits =
            Limits { places: 1, places_per_holder: 1, reserved: 0, waiting_per_holder: 2, holders: 3 };
        Arc::new(FairPool::new(limits))
    }

    /// Runs other tasks until all of them wait.
    async fn settle() {
        for _ in 0..20 {
            tokio::task::yield_now().await;
        }
    }

    #[tokio::test]
    async fn a_single_entry_overtakes_the_queue_of_another_holder() {
        let pool = pool();
        let held = pool.acquire('a').await.unwrap();
        let (done, mut order) = tokio::sync::mpsc::unbounded_channel();
        for holder in ['a', 'a', 'b'] {
            let (pool, done) = (Arc::clone(&pool), done.clone());
            tokio::spawn(async move {
                let _permit = pool.acquire(holder).await.unwrap();
                done.send(holder).unwrap();
            });
            settle().await;
        }
        assert!(matches!(pool.acquire('a').await, Err(AcquireError::Refused)));
        assert!(pool.try_acquire(&'b').is_none());
        drop(held);
        let mut found = String::new();
        for _ in 0..3 {
            found.push(order.recv().await.unwrap());
        }
        assert_eq!(found, "aba");
        settle().await;
        assert_eq!(pool.used(), 0);
        assert!(pool.try_acquire(&'b').is_some());
    }

    #[tokio::test]
    async fn a_dropped_future_frees_its_place_in_the_queue() {
        let pool = pool();
        let held = pool.acquire('a').await.unwrap();
        for _ in 0..10 {
            let waits = tokio::time::timeout(Duration::from_millis(1), pool.acquire('b'));
            assert!(waits.await.is_err());
        }
        let waiting = tokio::spawn({
            let pool = Arc::clone(&pool);
            async move { pool.acquire('c').await.is_ok() }
        });
        settle().await;
        drop(held);
        assert!(waiting.await.unwrap());
        assert_eq!(pool.used(), 0);
        assert!(pool.lock().waiting.is_empty());
    }

    #[tokio::test]
    async fn a_permit_that_nothing_receives_goes_to_the_next_entry() {
        let pool = pool();
        let held = pool.acquire('a').await.unwrap();
        let mut first = Box::pin(pool.acquire('b'));
        let mut second = Box::pin(pool.acquire('c'));
        assert!(futures_pending(first.as_mut()).await && futures_pending(second.as_mut()).await);
        // The first entry has its permit, and is dropped before it sees that.
        drop(held);
        drop(first);
        assert!(second.await.is_ok());
        assert_eq!(pool.used(), 0);
    }

    async fn futures_pending<F: Future>(mut future: std::pin::Pin<&mut F>) -> bool {
        std::future::poll_fn(|context| std::task::Poll::Ready(future.as_mut().poll(context).is_pending()))
            .await
    }

    #[tokio::test]
    async fn a_closed_pool_refuses_those_that_wait() {
        let pool = pool();
        let held = pool.acquire('a').await.unwrap();
        let waiting = tokio::spawn({
            let pool = Arc::clone(&pool);
            async move { pool.acquire('b').await.err() }
        });
        settle().await;
        pool.close();
        assert_eq!(waiting.await.unwrap(), Some(AcquireError::Closed));
        assert!(matches!(pool.acquire('c').await, Err(AcquireError::Closed)));
        drop(held);
        assert_eq!(pool.used(), 0);
    }
}
