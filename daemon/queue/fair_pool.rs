//! Semaphore that shares its places fairly between holders.
//!
//! A request that is cancelled while it waits leaves the queue, and a permit that was sent to it but not received goes
//! to the next entry. The lock is held for queue operations only, never across an `.await`.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::{Arc, MutexGuard};

use tokio::sync::oneshot;

use super::fair_queue::{Entered, FairQueue, Lane, Limits, Ticket};
use crate::base::Lock;

/// Semaphore over a [`FairQueue`].
pub struct FairPool<H: Clone + Eq + Hash> {
    state: Lock<State<H>>,
}

struct State<H: Clone + Eq + Hash> {
    queue: FairQueue<H>,
    waiting: HashMap<Ticket, oneshot::Sender<FairPermit<H>>>,
    closed: bool,
}

/// Permit for a place in a [`FairPool`], released on drop.
pub struct FairPermit<H: Clone + Eq + Hash> {
    pool: Arc<FairPool<H>>,
    holder: H,
}

/// Reason why [`FairPool::acquire`] returned no permit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AcquireError {
    /// The limit of waiting entries per holder, or of holders, is reached.
    Refused,
    /// The pool is closed.
    Closed,
}

/// Waiting entry, removed from the queue on drop.
struct Waiting<'a, H: Clone + Eq + Hash> {
    pool: &'a FairPool<H>,
    holder: &'a H,
    ticket: Ticket,
}

impl<H: Clone + Eq + Hash> FairPool<H> {
    /// Creates a pool whose places are all free.
    pub fn new(limits: Limits) -> Self {
        let state = State { queue: FairQueue::new(limits), waiting: HashMap::new(), closed: false };
        FairPool { state: Lock::new(state) }
    }

    /// Waits for a place in the ordinary lane.
    ///
    /// # Errors
    /// [`AcquireError`].
    pub async fn acquire(self: &Arc<Self>, holder: H) -> Result<FairPermit<H>, AcquireError> {
        self.acquire_in(Lane::Ordinary, holder).await
    }

    /// Waits for a place in a lane.
    ///
    /// # Errors
    /// [`AcquireError`].
    pub async fn acquire_in(self: &Arc<Self>, lane: Lane, holder: H) -> Result<FairPermit<H>, AcquireError> {
        let (ticket, receiver) = {
            let mut state = self.state.lock();
            if state.closed {
                return Err(AcquireError::Closed);
            }
            match state.queue.enter(&holder, lane) {
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

    /// Takes a place if one is free for this holder; never waits.
    pub fn try_acquire(self: &Arc<Self>, holder: &H) -> Option<FairPermit<H>> {
        let mut state = self.state.lock();
        if state.closed {
            return None;
        }
        match state.queue.enter(holder, Lane::Ordinary) {
            Entered::Admitted => Some(FairPermit { pool: Arc::clone(self), holder: holder.clone() }),
            Entered::Refused => None,
            Entered::Waiting(ticket) => {
                state.queue.leave(holder, ticket);
                None
            }
        }
    }

    /// Refuses waiting and future requests. Permits in use stay valid.
    pub fn close(&self) {
        let mut state = self.state.lock();
        state.closed = true;
        let waiting = std::mem::take(&mut state.waiting);
        drop(state);
        drop(waiting);
    }

    /// Returns the number of places in use.
    pub fn used(&self) -> usize {
        self.state.lock().queue.used()
    }

    /// Gives free places to waiting entries.
    fn admit(self: &Arc<Self>, mut state: MutexGuard<'_, State<H>>) {
        let mut admitted = Vec::new();
        while let Some((holder, ticket)) = state.queue.admit() {
            let permit = FairPermit { pool: Arc::clone(self), holder };
            admitted.push((permit, state.waiting.remove(&ticket)));
        }
        // Unlocked before sending: the drop of a permit whose receiver is gone takes the lock.
        drop(state);
        for (permit, sender) in admitted {
            if let Some(sender) = sender {
                let _ = sender.send(permit);
            }
        }
    }
}

impl<H: Clone + Eq + Hash> Drop for FairPermit<H> {
    fn drop(&mut self) {
        let mut state = self.pool.state.lock();
        state.queue.release(&self.holder);
        self.pool.admit(state);
    }
}

impl<H: Clone + Eq + Hash> Drop for Waiting<'_, H> {
    fn drop(&mut self) {
        let mut state = self.pool.state.lock();
        // Without a sender the entry was admitted already, or the pool is closed.
        let sender = state.waiting.remove(&self.ticket);
        if sender.is_some() || state.closed {
            state.queue.leave(self.holder, self.ticket);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::pin::Pin;
    use std::task::{Context, Waker};
    use std::time::Duration;

    use super::*;

    const LIMITS: Limits =
        Limits { places: 1, places_per_holder: 1, reserved: 0, waiting_per_holder: 2, holders: 3 };

    fn pool() -> Arc<FairPool<char>> {
        Arc::new(FairPool::new(LIMITS))
    }

    /// Runs other tasks until all of them wait.
    async fn settle() {
        for _ in 0..20 {
            tokio::task::yield_now().await;
        }
    }

    fn is_ready<F: Future>(future: Pin<&mut F>) -> bool {
        future.poll(&mut Context::from_waker(Waker::noop())).is_ready()
    }

    #[tokio::test]
    async fn single_entry_overtakes_the_queue_of_another_holder() {
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
    async fn dropped_future_leaves_the_queue() {
        for lane in [Lane::Preferred, Lane::Ordinary] {
            let pool = pool();
            let held = pool.acquire('a').await.unwrap();
            for _ in 0..100 {
                let waits = tokio::time::timeout(Duration::ZERO, pool.acquire_in(lane, 'b'));
                assert!(waits.await.is_err());
            }
            assert!(pool.state.lock().waiting.is_empty());
            let waiting = tokio::spawn({
                let pool = Arc::clone(&pool);
                async move { pool.acquire('c').await.is_ok() }
            });
            settle().await;
            drop(held);
            assert!(waiting.await.unwrap());
            assert_eq!(pool.used(), 0);
            assert!(pool.state.lock().waiting.is_empty());
        }
    }

    #[tokio::test]
    async fn permit_that_is_not_received_goes_to_the_next_entry() {
        let limits = Limits { places: 2, places_per_holder: 2, ..LIMITS };
        let pool = Arc::new(FairPool::new(limits));
        let (first, second) = (pool.acquire('a').await.unwrap(), pool.acquire('a').await.unwrap());
        let mut ordinary = Box::pin(pool.acquire('a'));
        let mut preferred = Box::pin(pool.acquire_in(Lane::Preferred, 'b'));
        assert!(!is_ready(ordinary.as_mut()) && !is_ready(preferred.as_mut()));
        drop(first);
        // The preferred entry has been sent its permit, and is dropped before it receives it.
        drop(preferred);
        assert!(is_ready(ordinary.as_mut()));
        drop(second);
        assert_eq!(pool.used(), 0, "the received permit was dropped with the poll");
        assert!(pool.state.lock().waiting.is_empty());
        let _all = (pool.acquire('c').await.unwrap(), pool.acquire('c').await.unwrap());
        assert_eq!(pool.used(), 2);
    }

    #[tokio::test]
    async fn closed_pool_refuses_waiting_entries() {
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
