//! The queue for bcrypt: two passwords are verified at once, and client addresses take turns.
//!
//! Recognised credentials, and addresses that logged in lately, wait in the preferred lane, so that a flood of guesses
//! delays known clients least. Each waiting request is a connection, so the limit of connections bounds the queue.

use std::net::IpAddr;
use std::sync::Arc;

use crate::queue::{AcquireError, FairPermit, FairPool, Lane, Limits};

/// The number of passwords that are verified at once. With more, bcrypt would take both cores of a small board from all
/// other requests.
const AT_ONCE: usize = 2;
/// An address may use all permits, and any number of addresses and requests may wait.
const LIMITS: Limits = Limits {
    places: AT_ONCE,
    places_per_holder: AT_ONCE,
    reserved: 0,
    waiting_per_holder: usize::MAX,
    holders: usize::MAX,
};

/// Hands out permits to verify a password.
pub(super) struct VerifyQueue(Arc<FairPool<IpAddr>>);

/// Permit to verify a password, released on drop.
pub(super) type VerifyPermit = FairPermit<IpAddr>;

impl VerifyQueue {
    pub(super) fn new() -> Self {
        VerifyQueue(Arc::new(FairPool::new(LIMITS)))
    }

    /// Waits for a permit. A request that is dropped meanwhile leaves the queue. The queue is never closed and refuses
    /// no entry, so the error does not occur.
    pub(super) async fn acquire(
        &self,
        address: IpAddr,
        is_preferred: bool,
    ) -> Result<VerifyPermit, AcquireError> {
        let lane = if is_preferred { Lane::Preferred } else { Lane::Ordinary };
        self.0.acquire_in(lane, address).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn preferred_request_overtakes_many_waiting_guesses() {
        let queue = VerifyQueue::new();
        let address = |last: u8| IpAddr::from([10, 0, 0, last]);
        let held = (queue.acquire(address(1), false).await, queue.acquire(address(1), false).await);
        let mut guesses: Vec<_> = (0..1000).map(|_| Box::pin(queue.acquire(address(1), false))).collect();
        let mut known = Box::pin(queue.acquire(address(2), true));
        let mut context = std::task::Context::from_waker(std::task::Waker::noop());
        for guess in &mut guesses {
            assert!(guess.as_mut().poll(&mut context).is_pending(), "no entry is refused");
        }
        assert!(known.as_mut().poll(&mut context).is_pending());
        drop(held.0);
        assert!(known.as_mut().poll(&mut context).is_ready());
    }
}
