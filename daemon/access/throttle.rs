//! Slows down whoever guesses passwords: so many wrong ones from an address, or for a user, then a pause.
//!
//! The pause of a user keeps those out who guess from many addresses. Whoever is logged in, and whose password is
//! remembered, does not notice it.

use std::collections::HashMap;
use std::hash::Hash;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::IdentifyError;

/// How many wrong passwords an address has before it must wait.
pub(super) const ALLOWED: u32 = 20;
/// How many wrong passwords a user may be given, from wherever they come.
const ALLOWED_FOR_USER: u32 = 60;
/// How long it waits, counted from its first wrong one.
const PAUSE: Duration = Duration::from_mins(1);
/// How many addresses, and how many users, are kept in mind.
const KEPT: usize = 4096;
/// No user has a longer name.
const LONGEST_NAME: usize = 64;

/// Counts wrong passwords.
#[derive(Default)]
pub(super) struct Throttle {
    addresses: Failures<IpAddr>,
    users: Failures<String>,
}

impl Throttle {
    /// Refuses an address that has had too many wrong passwords, and anyone for a user who has been given too many.
    pub(super) fn check(&self, client: IpAddr, user: &str) -> Result<(), IdentifyError> {
        self.addresses.check(&network(client), ALLOWED)?;
        self.users.check(&name(user), ALLOWED_FOR_USER)
    }

    /// Notes a wrong password.
    pub(super) fn note_failure(&self, client: IpAddr, user: &str) {
        self.addresses.note(network(client));
        self.users.note(name(user));
    }
}

struct Failures<K>(Mutex<HashMap<K, (Instant, u32)>>);

impl<K> Default for Failures<K> {
    fn default() -> Self {
        Failures(Mutex::default())
    }
}

impl<K: Hash + Eq> Failures<K> {
    fn check(&self, key: &K, allowed: u32) -> Result<(), IdentifyError> {
        let failures = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let Some((since, count)) = failures.get(key) else { return Ok(()) };
        match PAUSE.checked_sub(since.elapsed()) {
            Some(retry_after) if *count >= allowed => {
                Err(IdentifyError::Throttled { retry_after: retry_after + Duration::from_secs(1) })
            }
            _ => Ok(()),
        }
    }

    fn note(&self, key: K) {
        let mut failures = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if failures.len() >= KEPT {
            failures.retain(|_, (since, _)| since.elapsed() < PAUSE);
        }
        if failures.len() >= KEPT {
            failures.clear();
        }
        let entry = failures.entry(key).or_insert((Instant::now(), 0));
        if entry.0.elapsed() >= PAUSE {
            *entry = (Instant::now(), 0);
        }
        entry.1 += 1;
    }
}

/// Returns the address that a client is counted by: one home has a /64 of IPv6 addresses.
pub fn network(client: IpAddr) -> IpAddr {
    match client.to_canonical() {
        IpAddr::V6(address) => IpAddr::V6(Ipv6Addr::from_bits(address.to_bits() >> 64 << 64)),
        address @ IpAddr::V4(_) => address,
    }
}

/// What is longer than any name is all the same.
fn name(user: &str) -> String {
    if user.len() > LONGEST_NAME { String::new() } else { user.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn guessing_from_many_addresses_is_slowed_down_too() {
        let throttle = Throttle::default();
        let address = |number: u8| IpAddr::from([10, 0, 0, number]);
        for number in 0..60 {
            assert!(throttle.check(address(number), "alice").is_ok());
            throttle.note_failure(address(number), "alice");
        }
        assert!(throttle.check(address(99), "alice").is_err());
        assert!(throttle.check(address(99), "bob").is_ok());
    }
}
