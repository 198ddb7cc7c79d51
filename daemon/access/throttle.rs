//! Throttle for wrong passwords that never locks out a right one.
//!
//! An attempt is charged when it begins, to its client address and to the pair of address and user name; a right
//! password is refunded. Beyond the budget an attempt waits, and only then is refused. Addresses share no budget:
//! guesses from one address cost the others nothing. The verification queue (`verify_queue.rs`) bounds the bcrypt work
//! of all addresses together.

use std::hash::{BuildHasher, RandomState};
use std::net::{IpAddr, Ipv6Addr};
use std::num::NonZeroUsize;
use std::sync::Arc;
use std::time::{Duration, Instant};

use lru::LruCache;

use super::identity::IdentifyError;
use super::rate_limiter::{Exhausted, RateLimiter};
use crate::base::{Clock, Lock};

/// Burst of wrong passwords of an address, and the interval between further ones.
const PER_ADDRESS: (u32, Duration) = (40, Duration::from_secs(1));
/// The same for one user name from one address.
pub(super) const PER_NAME: (u32, Duration) = (20, Duration::from_secs(3));
/// The longest time for which an attempt waits after its charge, until its budget has refilled.
const MAX_WAIT: Duration = Duration::from_secs(3);
/// The time for which an attempt that would wait longer, and is not charged, retries before it is refused.
const RETRY_FOR: Duration = Duration::from_secs(6);
/// The same if no attempt has failed and the budget is used up by attempts without an outcome, such as a fleet of
/// clients that log in at once.
const RETRY_FOR_BLAMELESS: Duration = Duration::from_mins(1);
/// TTL of a known address, after its last right password.
const KNOWN_TTL: Duration = Duration::from_hours(24);
/// Capacity for known addresses.
const KNOWN: NonZeroUsize = NonZeroUsize::new(4096).expect("not zero");

/// Counts log-in attempts.
pub(super) struct Throttle {
    state: Lock<State>,
    clock: Clock,
    /// Names are counted by their hash, so that long names take no memory.
    names: RandomState,
}

struct State {
    addresses: RateLimiter<IpAddr>,
    names: RateLimiter<(IpAddr, u64)>,
    /// The time of the last right password of each known address. Lookups `peek`: they do not change the order, so that
    /// the address with the oldest log-in is evicted first.
    known: LruCache<IpAddr, Instant>,
}

impl Throttle {
    pub(super) fn new(clock: Clock) -> Arc<Self> {
        let state = State {
            addresses: RateLimiter::new(PER_ADDRESS.0, PER_ADDRESS.1),
            names: RateLimiter::new(PER_NAME.0, PER_NAME.1),
            known: LruCache::new(KNOWN),
        };
        Arc::new(Throttle { state: Lock::new(state), clock, names: RandomState::new() })
    }

    /// Charges an attempt, and waits until the budget allows it.
    ///
    /// # Errors
    /// Returns [`IdentifyError::Throttled`].
    pub(super) async fn admit(
        self: &Arc<Self>,
        address: IpAddr,
        name: &str,
    ) -> Result<Attempt, IdentifyError> {
        let name = self.names.hash_one(name);
        let began = self.clock.now();
        loop {
            let now = self.clock.now();
            let charged = self.state.lock().charge(address, name, now);
            match charged {
                Ok(wait) => {
                    // Before the wait, so that its drop refunds the charge if the client disconnects.
                    let attempt = Attempt { throttle: Arc::clone(self), address, name, outcome: None };
                    if !wait.is_zero() {
                        tokio::time::sleep(wait).await;
                    }
                    return Ok(attempt);
                }
                Err(exhausted) => {
                    let retry_for = if exhausted.has_failed { RETRY_FOR } else { RETRY_FOR_BLAMELESS };
                    if now - began >= retry_for {
                        let retry_after = exhausted.after + Duration::from_secs(1);
                        return Err(IdentifyError::Throttled { retry_after });
                    }
                    // Random, so that all attempts behind one address have the same chance to be charged next.
                    tokio::time::sleep(jitter()).await;
                }
            }
        }
    }

    /// Notes that a password from an address was right.
    pub(super) fn note_success(&self, address: IpAddr) {
        self.state.lock().known.put(address, self.clock.now());
    }

    /// Returns true for an address with a right password within [`KNOWN_TTL`].
    pub(super) fn is_known(&self, address: IpAddr) -> bool {
        self.state.lock().known.peek(&address).is_some_and(|since| self.clock.now() - *since < KNOWN_TTL)
    }
}

impl State {
    fn charge(&mut self, address: IpAddr, name: u64, now: Instant) -> Result<Duration, Exhausted> {
        let for_name = self.names.charge((address, name), now, MAX_WAIT)?;
        match self.addresses.charge(address, now, MAX_WAIT) {
            Ok(for_address) => Ok(for_name.max(for_address)),
            Err(exhausted) => {
                self.names.settle(&(address, name), false);
                Err(exhausted)
            }
        }
    }
}

/// An attempt that was charged. Its drop refunds the charge unless it failed.
pub(super) struct Attempt {
    throttle: Arc<Throttle>,
    address: IpAddr,
    name: u64,
    outcome: Option<bool>,
}

impl Attempt {
    /// Notes whether the password was right. Has to be called once its verification has started.
    pub(super) fn settle(mut self, is_right: bool) {
        self.outcome = Some(is_right);
    }
}

impl Drop for Attempt {
    fn drop(&mut self) {
        let failed = self.outcome == Some(false);
        let mut state = self.throttle.state.lock();
        state.names.settle(&(self.address, self.name), failed);
        state.addresses.settle(&self.address, failed);
    }
}

/// Returns a random duration between 0.5 and 1.5 seconds.
fn jitter() -> Duration {
    let random = RandomState::new().hash_one(0u8) % 1000;
    Duration::from_millis(500 + random)
}

/// Returns the address that a client is counted by. IPv6 clients are counted by /64, the smallest network of a
/// household.
pub fn network(client: IpAddr) -> IpAddr {
    match client.to_canonical() {
        IpAddr::V6(address) => IpAddr::V6(Ipv6Addr::from_bits(address.to_bits() >> 64 << 64)),
        address @ IpAddr::V4(_) => address,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(last: u8) -> IpAddr {
        IpAddr::from([10, 0, 0, last])
    }

    /// Fails until an attempt would have to wait, and returns how often.
    fn exhaust(throttle: &Arc<Throttle>, from: IpAddr, name: u64, now: Instant) -> u32 {
        let mut count = 0;
        loop {
            let charged = throttle.state.lock().charge(from, name, now);
            let outcome = match charged {
                Ok(Duration::ZERO) => Some(false),
                Ok(_) => None,
                Err(_) => return count,
            };
            drop(Attempt { throttle: Arc::clone(throttle), address: from, name, outcome });
            if outcome.is_none() {
                return count;
            }
            count += 1;
            assert!(count < 1000);
        }
    }

    #[test]
    fn budgets_are_per_address_and_per_name() {
        let (throttle, now) = (Throttle::new(Clock::system()), Instant::now());
        // Guesses at one name from many addresses cost no other address.
        for number in 0..100 {
            assert_eq!(exhaust(&throttle, address(number), 1, now), PER_NAME.0);
        }
        assert_eq!(throttle.state.lock().charge(address(200), 1, now), Ok(Duration::ZERO));
        // One name uses up half of the budget of its address, many names all of it.
        assert_eq!(throttle.state.lock().charge(address(1), 2, now), Ok(Duration::ZERO));
        let all: u32 = (10..200).map(|name| exhaust(&throttle, address(201), name, now)).sum();
        assert_eq!(all, PER_ADDRESS.0);
        // The budget refills with time.
        let later = now + Duration::from_mins(1);
        assert_eq!(throttle.state.lock().charge(address(201), 300, later), Ok(Duration::ZERO));
    }

    #[tokio::test]
    async fn right_and_abandoned_attempts_are_refunded() {
        let throttle = Throttle::new(Clock::system());
        for number in 0..200 {
            let attempt = throttle.admit(address(1), "alice").await.unwrap();
            if number % 2 == 0 {
                attempt.settle(true);
            }
        }
        let name = throttle.names.hash_one("alice");
        assert_eq!(exhaust(&throttle, address(1), name, Instant::now()), PER_NAME.0);
    }

    #[test]
    fn known_addresses_are_bounded_and_expire() {
        let clock = Clock::manual(0);
        let throttle = Throttle::new(clock.clone());
        let first = IpAddr::from(0u32.to_be_bytes());
        for number in 0..5000u32 {
            throttle.note_success(IpAddr::from(number.to_be_bytes()));
            // Being looked up keeps no address in the cache.
            throttle.is_known(first);
        }
        assert_eq!(throttle.state.lock().known.len(), KNOWN.get());
        let last = IpAddr::from(4999u32.to_be_bytes());
        assert!(throttle.is_known(last));
        assert!(!throttle.is_known(first) && !throttle.is_known(address(1)));
        clock.advance(KNOWN_TTL);
        assert!(!throttle.is_known(last));
    }
}
