//! Rate limiter with a budget for each key: a burst, then one attempt per interval (GCRA). Pure; time is a parameter.
//!
//! Not an LRU cache: evicting the least recently used key would let a client reset its budget by using many other keys.
//! At the limit, keys without debt are evicted first, then the key with the least debt.

use std::collections::HashMap;
use std::hash::Hash;
use std::time::{Duration, Instant};

/// The largest number of keys.
const KEYS: usize = 4096;

/// A token bucket for each key, kept as the time at which all attempts will be paid for (the theoretical arrival time
/// of GCRA).
pub(super) struct RateLimiter<K> {
    burst: u32,
    interval: Duration,
    entries: HashMap<K, Entry>,
}

struct Entry {
    /// The time at which all attempts that were charged are paid for.
    paid: Instant,
    /// Attempts that were charged and have no outcome yet.
    pending: u32,
}

/// An attempt does not fit into the budget of its key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Exhausted {
    /// The time from now after which it would fit.
    pub(super) after: Duration,
    /// True if failed attempts used up the budget, false if attempts without an outcome did.
    pub(super) has_failed: bool,
}

impl<K: Hash + Eq + Copy> RateLimiter<K> {
    pub(super) fn new(burst: u32, interval: Duration) -> Self {
        RateLimiter { burst, interval, entries: HashMap::new() }
    }

    /// Charges an attempt, and returns how long it has to wait, at most `max_wait`.
    ///
    /// # Errors
    /// Returns [`Exhausted`]; then nothing is charged.
    pub(super) fn charge(&mut self, key: K, now: Instant, max_wait: Duration) -> Result<Duration, Exhausted> {
        self.evict_for(&key, now);
        let entry = self.entries.entry(key).or_insert(Entry { paid: now, pending: 0 });
        let before = entry.paid.max(now);
        let paid = before + self.interval;
        let wait = (paid - now).saturating_sub(self.interval * self.burst);
        if let Some(after) = wait.checked_sub(max_wait).filter(|after| !after.is_zero()) {
            // Pending attempts may still be refunded: debt that remains without them is from failures.
            let failed = before.checked_sub(self.interval * entry.pending).is_some_and(|failed| failed > now);
            return Err(Exhausted { after, has_failed: failed });
        }
        (entry.paid, entry.pending) = (paid, entry.pending + 1);
        Ok(wait)
    }

    /// Notes the outcome of an attempt that was charged. The charge is refunded unless the attempt failed.
    pub(super) fn settle(&mut self, key: &K, failed: bool) {
        let Some(entry) = self.entries.get_mut(key) else { return };
        entry.pending = entry.pending.saturating_sub(1);
        if !failed {
            entry.paid = entry.paid.checked_sub(self.interval).unwrap_or(entry.paid);
        }
    }

    /// Makes space for a new key. Keys with pending attempts stay; the limit of connections bounds their number.
    fn evict_for(&mut self, key: &K, now: Instant) {
        if self.entries.len() < KEYS || self.entries.contains_key(key) {
            return;
        }
        self.entries.retain(|_, entry| entry.pending > 0 || entry.paid > now);
        if self.entries.len() >= KEYS {
            let settled = self.entries.iter().filter(|(_, entry)| entry.pending == 0);
            let least = settled.min_by_key(|(_, entry)| entry.paid).map(|(key, _)| *key);
            least.map(|key| self.entries.remove(&key));
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn limiter() -> (RateLimiter<u32>, Instant) {
        (RateLimiter::new(3, SECOND), Instant::now())
    }

    #[test]
    fn failures_are_charged_and_successes_are_not() {
        let (mut limiter, now) = limiter();
        for _ in 0..100 {
            assert_eq!(limiter.charge(1, now, SECOND), Ok(Duration::ZERO));
            limiter.settle(&1, false);
        }
        for _ in 0..3 {
            assert_eq!(limiter.charge(1, now, SECOND), Ok(Duration::ZERO));
            limiter.settle(&1, true);
        }
        assert_eq!(limiter.charge(1, now, SECOND), Ok(SECOND));
        limiter.settle(&1, true);
        assert_eq!(limiter.charge(1, now, SECOND), Err(Exhausted { after: SECOND, has_failed: true }));
        // Another key has a budget of its own, and the budget refills with time.
        assert_eq!(limiter.charge(2, now, SECOND), Ok(Duration::ZERO));
        assert_eq!(limiter.charge(1, now + SECOND, SECOND), Ok(SECOND));
    }

    #[test]
    fn pending_attempts_are_charged_but_do_not_count_as_failures() {
        let (mut limiter, now) = limiter();
        for _ in 0..3 {
            assert!(limiter.charge(1, now, Duration::ZERO).is_ok());
        }
        let full = limiter.charge(1, now, Duration::ZERO);
        assert_eq!(full, Err(Exhausted { after: SECOND, has_failed: false }));
        limiter.settle(&1, true);
        assert!(limiter.charge(1, now, Duration::ZERO).unwrap_err().has_failed);
        limiter.settle(&1, false);
        assert!(limiter.charge(1, now, Duration::ZERO).is_ok());
    }

    #[test]
    fn many_keys_evict_neither_the_largest_debts_nor_pending_attempts() {
        let (mut limiter, now) = limiter();
        for _ in 0..3 {
            assert!(limiter.charge(0, now, Duration::ZERO).is_ok());
            limiter.settle(&0, true);
        }
        assert!(limiter.charge(1, now, Duration::ZERO).is_ok());
        for key in 2..10_000 {
            assert!(limiter.charge(key, now, Duration::ZERO).is_ok());
            limiter.settle(&key, true);
        }
        assert!(limiter.entries.len() <= KEYS);
        assert!(limiter.charge(0, now, Duration::ZERO).is_err());
        assert!(limiter.entries.contains_key(&1));
    }

    proptest! {
        #[test]
        fn failures_never_exceed_burst_and_rate(steps in proptest::collection::vec((0u64..2000, any::<bool>()), 1..200)) {
            let (mut limiter, begin) = limiter();
            let (mut now, mut failures) = (begin, 0);
            for (pause, failed) in steps {
                now += Duration::from_millis(pause);
                if limiter.charge(1, now, Duration::ZERO).is_ok() {
                    limiter.settle(&1, failed);
                    failures += u64::from(failed);
                }
            }
            prop_assert!(failures <= 3 + (now - begin).as_secs() + 1);
        }
    }
}
