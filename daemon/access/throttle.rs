//! Slows down whoever guesses passwords: so many wrong ones from an address, then a pause.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::IdentifyError;

/// How many wrong passwords an address has before it must wait.
pub(super) const ALLOWED: u32 = 20;
/// How long it waits, counted from its first wrong one.
const PAUSE: Duration = Duration::from_mins(1);
/// How many addresses are kept in mind.
const ADDRESSES: usize = 4096;

#[derive(Default)]
pub(super) struct Throttle(Mutex<HashMap<IpAddr, (Instant, u32)>>);

impl Throttle {
    /// Refuses an address that has had too many wrong passwords.
    pub(super) fn check(&self, client: IpAddr) -> Result<(), IdentifyError> {
        let failures = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let Some((since, count)) = failures.get(&network(client)) else { return Ok(()) };
        match PAUSE.checked_sub(since.elapsed()) {
            Some(retry_after) if *count >= ALLOWED => {
                Err(IdentifyError::Throttled { retry_after: retry_after + Duration::from_secs(1) })
            }
            _ => Ok(()),
        }
    }

    /// Notes a wrong password.
    pub(super) fn note_failure(&self, client: IpAddr) {
        let mut failures = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if failures.len() >= ADDRESSES {
            failures.retain(|_, (since, _)| since.elapsed() < PAUSE);
        }
        if failures.len() >= ADDRESSES {
            failures.clear();
        }
        let entry = failures.entry(network(client)).or_insert((Instant::now(), 0));
        if entry.0.elapsed() >= PAUSE {
            *entry = (Instant::now(), 0);
        }
        entry.1 += 1;
    }
}

/// One home has a /64 of IPv6 addresses.
fn network(client: IpAddr) -> IpAddr {
    match client.to_canonical() {
        IpAddr::V6(address) => IpAddr::V6(Ipv6Addr::from_bits(address.to_bits() >> 64 << 64)),
        address @ IpAddr::V4(_) => address,
    }
}
