//! The queue for bcrypt: few passwords are verified at once, and addresses take turns.
//!
//! Addresses that have logged in lately are in a lane of their own, which goes first, but every fourth turn belongs to the
//! others. Each lane is a round robin of addresses, so that many attempts from one address delay another address by one
//! attempt only. Each waiting request is a connection; their limit bounds the queue.

use std::collections::{HashMap, VecDeque};
use std::hash::Hash;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::oneshot;

/// The number of passwords that are verified at once.
const AT_ONCE: usize = 2;
/// How many turns in a row the first lane has while requests wait in the second.
const IN_A_ROW: u32 = 3;

/// Items of several holders, taken round robin.
struct Lane<H, T> {
    waiting: HashMap<H, VecDeque<T>>,
    order: VecDeque<H>,
}

impl<H: Hash + Eq + Copy, T> Lane<H, T> {
    fn new() -> Self {
        Lane { waiting: HashMap::new(), order: VecDeque::new() }
    }

    fn push(&mut self, holder: H, item: T) {
        let items = self.waiting.entry(holder).or_insert_with(|| {
            self.order.push_back(holder);
            VecDeque::new()
        });
        items.push_back(item);
    }

    fn pop(&mut self) -> Option<T> {
        let holder = self.order.pop_front()?;
        let items = self.waiting.get_mut(&holder)?;
        let item = items.pop_front();
        if items.is_empty() {
            self.waiting.remove(&holder);
        } else {
            self.order.push_back(holder);
        }
        item
    }

    /// Removes the items of a holder for which `keep` returns false.
    fn retain(&mut self, holder: &H, keep: impl Fn(&T) -> bool) {
        let Some(items) = self.waiting.get_mut(holder) else { return };
        items.retain(keep);
        if items.is_empty() {
            self.waiting.remove(holder);
            self.order.retain(|known| known != holder);
        }
    }

    fn is_empty(&self) -> bool {
        self.order.is_empty()
    }
}

/// Both lanes, and who is next.
struct Queue<H, T> {
    preferred: Lane<H, T>,
    others: Lane<H, T>,
    /// Turns of the preferred lane since the last one of the others.
    in_a_row: u32,
}

impl<H: Hash + Eq + Copy, T> Queue<H, T> {
    fn new() -> Self {
        Queue { preferred: Lane::new(), others: Lane::new(), in_a_row: 0 }
    }

    fn push(&mut self, holder: H, preferred: bool, item: T) {
        if preferred { self.preferred.push(holder, item) } else { self.others.push(holder, item) }
    }

    fn pop(&mut self) -> Option<T> {
        if !self.preferred.is_empty() && (self.in_a_row < IN_A_ROW || self.others.is_empty()) {
            self.in_a_row += 1;
            return self.preferred.pop();
        }
        self.in_a_row = 0;
        self.others.pop()
    }
}

struct State {
    running: usize,
    queue: Queue<IpAddr, oneshot::Sender<()>>,
}

/// Hands out turns.
pub(super) struct Turns(Mutex<State>);

impl Turns {
    pub(super) fn new() -> Arc<Self> {
        Arc::new(Turns(Mutex::new(State { running: 0, queue: Queue::new() })))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits for a turn. A request that is dropped meanwhile leaves the queue.
    pub(super) async fn take(self: &Arc<Self>, holder: IpAddr, preferred: bool) -> Turn {
        let receiver = {
            let mut state = self.state();
            if state.running < AT_ONCE {
                state.running += 1;
                return Turn(Arc::clone(self));
            }
            let (sender, receiver) = oneshot::channel();
            state.queue.push(holder, preferred, sender);
            receiver
        };
        let mut waiting = Waiting { turns: self, holder, receiver: Some(receiver) };
        if let Some(receiver) = &mut waiting.receiver {
            // The sender is only dropped with this queue, or after it has sent.
            let _ = receiver.await;
        }
        waiting.receiver = None;
        Turn(Arc::clone(self))
    }

    /// Gives a turn that has ended to the next request that still waits.
    fn release(&self) {
        let mut state = self.state();
        while let Some(next) = state.queue.pop() {
            if next.send(()).is_ok() {
                return;
            }
        }
        state.running -= 1;
    }
}

/// A place in the queue. If it is dropped after the turn has come, the turn goes to the next one.
struct Waiting<'a> {
    turns: &'a Turns,
    holder: IpAddr,
    receiver: Option<oneshot::Receiver<()>>,
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        let Some(mut receiver) = self.receiver.take() else { return };
        receiver.close();
        if receiver.try_recv().is_ok() {
            return self.turns.release();
        }
        let queue = &mut self.turns.state().queue;
        for lane in [&mut queue.preferred, &mut queue.others] {
            lane.retain(&self.holder, |sender| !sender.is_closed());
        }
    }
}

/// The right to verify a password, until it is dropped.
pub(super) struct Turn(Arc<Turns>);

impl Drop for Turn {
    fn drop(&mut self) {
        self.0.release();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn holders_take_turns_and_the_others_get_every_fourth() {
        let mut queue = Queue::new();
        for number in 0..5 {
            queue.push('a', false, ('a', number));
            queue.push('p', true, ('p', number));
        }
        queue.push('b', false, ('b', 0));
        queue.push('q', true, ('q', 0));
        let order: String = std::iter::from_fn(|| queue.pop()).map(|(holder, _)| holder).collect();
        assert_eq!(order, "pqpapppbaaaa");
        assert!(queue.preferred.waiting.is_empty() && queue.others.waiting.is_empty());
    }

    #[tokio::test]
    async fn requests_that_are_gone_leave_the_queue() {
        let turns = Turns::new();
        let address = IpAddr::from([10, 0, 0, 1]);
        let (_first, _second) = (turns.take(address, false).await, turns.take(address, false).await);
        for preferred in [false, true] {
            for _ in 0..100 {
                let taken = turns.take(address, preferred);
                assert!(tokio::time::timeout(std::time::Duration::ZERO, taken).await.is_err());
            }
        }
        let state = turns.state();
        for lane in [&state.queue.preferred, &state.queue.others] {
            assert!(lane.waiting.is_empty() && lane.order.is_empty());
        }
    }

    #[tokio::test]
    async fn a_turn_of_a_request_that_is_gone_goes_to_the_next() {
        let turns = Turns::new();
        let address = |last: u8| IpAddr::from([10, 0, 0, last]);
        let (first, second) = (turns.take(address(1), false).await, turns.take(address(1), false).await);
        let (mut gone, mut also_gone) =
            (Box::pin(turns.take(address(1), false)), Box::pin(turns.take(address(2), true)));
        let poll = |future: std::pin::Pin<&mut dyn Future<Output = Turn>>| {
            let mut context = std::task::Context::from_waker(std::task::Waker::noop());
            future.poll(&mut context).is_ready()
        };
        assert!(!poll(gone.as_mut()) && !poll(also_gone.as_mut()));
        drop(first);
        // Its turn has come, but it never notices.
        drop(also_gone);
        assert!(poll(gone.as_mut()));
        drop(second);
        assert_eq!(turns.state().running, 0, "the turn that was taken is dropped with its future");
        let is_empty = {
            let queue = &turns.state().queue;
            queue.preferred.waiting.is_empty() && queue.others.order.is_empty()
        };
        assert!(is_empty);
        let mut left = Vec::new();
        for _ in 0..AT_ONCE {
            left.push(turns.take(address(3), false).await);
        }
        assert_eq!(turns.state().running, AT_ONCE);
    }
}
