//! Budgets of log-in attempts: so many at once for each key, then one after each interval. Pure; time is a parameter.

use std::collections::HashMap;
use std::hash::Hash;
use std::time::{Duration, Instant};

/// The largest number of keys that are remembered.
const KEYS: usize = 4096;

/// A token bucket for each key, as the time at which all attempts would be paid for (GCRA).
pub(super) struct Budget<K> {
    burst: u32,
    interval: Duration,
    entries: HashMap<K, Entry>,
}

struct Entry {
    /// When everything that was charged is paid for.
    paid: Instant,
    /// Attempts that were charged and have no outcome yet.
    pending: u32,
}

/// An attempt does not fit into the budget.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Exhausted {
    /// When it would.
    pub(super) after: Duration,
    /// Whether attempts have failed, rather than that too many have no outcome yet.
    pub(super) has_failed: bool,
}

impl<K: Hash + Eq + Copy> Budget<K> {
    pub(super) fn new(burst: u32, interval: Duration) -> Self {
        Budget { burst, interval, entries: HashMap::new() }
    }

    /// Charges an attempt, and returns how long it has to wait: at most `patience`.
    ///
    /// # Errors
    /// [`Exhausted`]; nothing is charged then.
    pub(super) fn charge(&mut self, key: K, now: Instant, patience: Duration) -> Result<Duration, Exhausted> {
        self.make_room(&key, now);
        let entry = self.entries.entry(key).or_insert(Entry { paid: now, pending: 0 });
        let before = entry.paid.max(now);
        let paid = before + self.interval;
        let wait = (paid - now).saturating_sub(self.interval * self.burst);
        if let Some(after) = wait.checked_sub(patience).filter(|after| !after.is_zero()) {
            let failed = before.checked_sub(self.interval * entry.pending).is_some_and(|failed| failed > now);
            return Err(Exhausted { after, has_failed: failed });
        }
        (entry.paid, entry.pending) = (paid, entry.pending + 1);
        Ok(wait)
    }

    /// Notes the outcome of an attempt that was charged. One that did not fail costs nothing.
    pub(super) fn settle(&mut self, key: &K, failed: bool) {
        let Some(entry) = self.entries.get_mut(key) else { return };
        entry.pending = entry.pending.saturating_sub(1);
        if !failed {
            entry.paid = entry.paid.checked_sub(self.interval).unwrap_or(entry.paid);
        }
    }

    /// Forgets a key if there are too many: those that owe nothing, else the one that owes least. Keys with pending attempts
    /// stay; connections bound their number.
    fn make_room(&mut self, key: &K, now: Instant) {
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

    fn budget() -> (Budget<u32>, Instant) {
        (Budget::new(3, SECOND), Instant::now())
    }

    #[test]
    fn failures_cost_and_successes_do_not() {
        let (mut budget, now) = budget();
        for _ in 0..100 {
            assert_eq!(budget.charge(1, now, SECOND), Ok(Duration::ZERO));
            budget.settle(&1, false);
        }
        for _ in 0..3 {
            assert_eq!(budget.charge(1, now, SECOND), Ok(Duration::ZERO));
            budget.settle(&1, true);
        }
        assert_eq!(budget.charge(1, now, SECOND), Ok(SECOND));
        budget.settle(&1, true);
        assert_eq!(budget.charge(1, now, SECOND), Err(Exhausted { after: SECOND, has_failed: true }));
        // Another key has a budget of its own, and time pays.
        assert_eq!(budget.charge(2, now, SECOND), Ok(Duration::ZERO));
        assert_eq!(budget.charge(1, now + SECOND, SECOND), Ok(SECOND));
    }

    #[test]
    fn attempts_without_an_outcome_count_but_are_no_failures() {
        let (mut budget, now) = budget();
        for _ in 0..3 {
            assert!(budget.charge(1, now, Duration::ZERO).is_ok());
        }
        let full = budget.charge(1, now, Duration::ZERO);
        assert_eq!(full, Err(Exhausted { after: SECOND, has_failed: false }));
        budget.settle(&1, true);
        assert!(budget.charge(1, now, Duration::ZERO).unwrap_err().has_failed);
        budget.settle(&1, false);
        assert!(budget.charge(1, now, Duration::ZERO).is_ok());
    }

    #[test]
    fn many_keys_push_out_neither_those_that_owe_most_nor_pending_ones() {
        let (mut budget, now) = budget();
        for _ in 0..3 {
            assert!(budget.charge(0, now, Duration::ZERO).is_ok());
            budget.settle(&0, true);
        }
        assert!(budget.charge(1, now, Duration::ZERO).is_ok());
        for key in 2..10_000 {
            assert!(budget.charge(key, now, Duration::ZERO).is_ok());
            budget.settle(&key, true);
        }
        assert!(budget.entries.len() <= KEYS);
        assert!(budget.charge(0, now, Duration::ZERO).is_err());
        assert!(budget.entries.contains_key(&1));
    }

    proptest! {
        #[test]
        fn no_more_failures_than_burst_and_time_allow(steps in proptest::collection::vec((0u64..2000, any::<bool>()), 1..200)) {
            let (mut budget, begin) = budget();
            let (mut now, mut failures) = (begin, 0);
            for (pause, failed) in steps {
                now += Duration::from_millis(pause);
                if budget.charge(1, now, Duration::ZERO).is_ok() {
                    budget.settle(&1, failed);
                    failures += u64::from(failed);
                }
            }
            prop_assert!(failures <= 3 + (now - begin).as_secs() + 1);
        }
    }
}
