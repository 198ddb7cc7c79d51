//! Throttle for wrong passwords that locks out no right one.
//!
//! Attempts are counted when they begin, for each address and for each pair of an address and a user name; a right password
//! costs nothing. Beyond the budget an attempt waits, and only then is refused. No budget is shared between addresses: the
//! guesses of one address cost the others nothing. What all addresses together can have verified is bounded by the number of
//! turns (`turns.rs`).

use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::IdentifyError;
use super::budget::{Budget, Exhausted};

/// Wrong passwords of an address at once, and the interval between further ones.
const OF_ADDRESS: (u32, Duration) = (40, Duration::from_secs(1));
/// The same for one user name from one address.
pub(super) const OF_NAME: (u32, Duration) = (20, Duration::from_secs(3));
/// How long an attempt waits for its turn in a budget that is used up.
const RESERVE: Duration = Duration::from_secs(3);
/// How long an attempt for which nothing can be reserved tries again before it is refused.
const HOLD: Duration = Duration::from_secs(6);
/// The same where no attempt has failed, and only many of them have no outcome yet.
const HOLD_BLAMELESS: Duration = Duration::from_mins(1);
/// How long an address counts as one that has logged in.
const KNOWN: Duration = Duration::from_hours(24);
/// The number of addresses that are known.
const MOST_KNOWN: usize = 4096;

/// Counts attempts to log in.
pub(super) struct Throttle {
    state: Mutex<State>,
    names: RandomState,
}

struct State {
    addresses: Budget<IpAddr>,
    names: Budget<(IpAddr, u64)>,
    /// When an address had a right password last.
    known: HashMap<IpAddr, Instant>,
}

impl Throttle {
    pub(super) fn new() -> Arc<Self> {
        let state = State {
            addresses: Budget::new(OF_ADDRESS.0, OF_ADDRESS.1),
            names: Budget::new(OF_NAME.0, OF_NAME.1),
            known: HashMap::new(),
        };
        Arc::new(Throttle { state: Mutex::new(state), names: RandomState::new() })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Counts an attempt of an address, and waits until there is budget for it.
    ///
    /// # Errors
    /// [`IdentifyError::Throttled`].
    pub(super) async fn admit(
        self: &Arc<Self>,
        address: IpAddr,
        name: &str,
    ) -> Result<Attempt, IdentifyError> {
        let name = self.names.hash_one(name);
        let began = Instant::now();
        loop {
            let now = Instant::now();
            let charged = self.state().charge(address, name, now);
            match charged {
                Ok(wait) => {
                    // From here on it is given back if its client goes away.
                    let attempt = Attempt { throttle: Arc::clone(self), address, name, outcome: None };
                    if !wait.is_zero() {
                        tokio::time::sleep(wait).await;
                    }
                    return Ok(attempt);
                }
                Err(exhausted) => {
                    let hold = if exhausted.has_failed { HOLD } else { HOLD_BLAMELESS };
                    if now - began >= hold {
                        let retry_after = exhausted.after + Duration::from_secs(1);
                        return Err(IdentifyError::Throttled { retry_after });
                    }
                    // All that wait behind one address have the same chance, however often they ask.
                    tokio::time::sleep(jitter()).await;
                }
            }
        }
    }

    /// Notes that a password from an address was right.
    pub(super) fn note_success(&self, address: IpAddr) {
        let (mut state, now) = (self.state(), Instant::now());
        let known = &mut state.known;
        if known.len() >= MOST_KNOWN && !known.contains_key(&address) {
            known.retain(|_, since| now - *since < KNOWN);
            if known.len() >= MOST_KNOWN {
                let oldest = known.iter().min_by_key(|(_, since)| **since).map(|(address, _)| *address);
                oldest.map(|oldest| known.remove(&oldest));
            }
        }
        known.insert(address, now);
    }

    /// Returns true for an address that had a right password lately.
    pub(super) fn is_known(&self, address: IpAddr) -> bool {
        self.state().known.get(&address).is_some_and(|since| since.elapsed() < KNOWN)
    }
}

impl State {
    fn charge(&mut self, address: IpAddr, name: u64, now: Instant) -> Result<Duration, Exhausted> {
        let of_name = self.names.charge((address, name), now, RESERVE)?;
        match self.addresses.charge(address, now, RESERVE) {
            Ok(of_address) => Ok(of_name.max(of_address)),
            Err(exhausted) => {
                self.names.settle(&(address, name), false);
                Err(exhausted)
            }
        }
    }
}

/// An attempt that was counted. Without an outcome it is given back when it is dropped.
pub(super) struct Attempt {
    throttle: Arc<Throttle>,
    address: IpAddr,
    name: u64,
    outcome: Option<bool>,
}

impl Attempt {
    /// Notes whether the password was right. From the moment that it is being verified this has to be called.
    pub(super) fn settle(mut self, right: bool) {
        self.outcome = Some(right);
    }
}

impl Drop for Attempt {
    fn drop(&mut self) {
        let failed = self.outcome == Some(false);
        let mut state = self.throttle.state();
        state.names.settle(&(self.address, self.name), failed);
        state.addresses.settle(&self.address, failed);
    }
}

/// Returns half a second to one and a half.
fn jitter() -> Duration {
    let random = RandomState::new().hash_one(0u8) % 1000;
    Duration::from_millis(500 + random)
}

/// Returns the address that a client is counted by: one home has a /64 of IPv6 addresses.
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

    /// Fails as often as it can without waiting; returns how often that was.
    fn guess(throttle: &Arc<Throttle>, from: IpAddr, name: u64, now: Instant) -> u32 {
        let mut count = 0;
        loop {
            let charged = throttle.state().charge(from, name, now);
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
    fn guesses_of_one_address_cost_no_other_address() {
        let (throttle, now) = (Throttle::new(), Instant::now());
        for number in 0..100 {
            assert_eq!(guess(&throttle, address(number), 1, now), OF_NAME.0);
        }
        assert_eq!(throttle.state().charge(address(200), 1, now), Ok(Duration::ZERO));
    }

    #[test]
    fn one_name_uses_up_half_of_an_address_and_many_names_all_of_it() {
        let (throttle, now) = (Throttle::new(), Instant::now());
        assert_eq!(guess(&throttle, address(1), 1, now), OF_NAME.0);
        assert_eq!(throttle.state().charge(address(1), 2, now), Ok(Duration::ZERO));
        let all: u32 = (10..200).map(|name| guess(&throttle, address(2), name, now)).sum();
        assert_eq!(all, OF_ADDRESS.0);
        // Time pays.
        let later = now + Duration::from_mins(1);
        assert_eq!(throttle.state().charge(address(2), 300, later), Ok(Duration::ZERO));
    }

    #[tokio::test]
    async fn an_attempt_without_an_outcome_and_a_right_one_cost_nothing() {
        let throttle = Throttle::new();
        for number in 0..200 {
            let attempt = throttle.admit(address(1), "alice").await.unwrap();
            if number % 2 == 0 {
                attempt.settle(true);
            }
        }
        assert_eq!(guess(&throttle, address(1), throttle.names.hash_one("alice"), Instant::now()), OF_NAME.0);
    }

    #[test]
    fn only_so_many_addresses_are_known() {
        let throttle = Throttle::new();
        for number in 0..5000u32 {
            throttle.note_success(IpAddr::from(number.to_be_bytes()));
        }
        assert_eq!(throttle.state().known.len(), MOST_KNOWN);
        assert!(throttle.is_known(IpAddr::from(4999u32.to_be_bytes())) && !throttle.is_known(address(1)));
    }
}
