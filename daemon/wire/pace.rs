//! Minimum rate of request bodies and responses (`limits.minimum_rate`). Pure: time is a parameter.

use std::time::Duration;

/// Measures the average rate of a transfer over windows of waiting.
///
/// Only the time in which the daemon waits for the client counts, so that a slow disk is not held against the client.
/// Bytes beyond the minimum are credit for one more window: a client that was fast may pause.
#[derive(Clone, Copy, Debug)]
pub struct Pace {
    /// Bytes per second; zero switches the minimum off.
    rate: u64,
    window: Duration,
    waited: Duration,
    bytes: u64,
}

impl Pace {
    /// Starts the first window. No client is too slow before it has passed.
    pub fn new(rate: u64, window: Duration) -> Self {
        Pace { rate, window, waited: Duration::ZERO, bytes: 0 }
    }

    /// Returns the waiting time that is left in the window.
    pub fn remaining(&self) -> Duration {
        if self.rate == 0 { Duration::MAX } else { self.window.saturating_sub(self.waited) }
    }

    /// Counts a wait and the bytes that arrived or left at its end; returns false once the client is too slow.
    #[must_use]
    pub fn keeps_up(&mut self, waited: Duration, bytes: u64) -> bool {
        if self.rate == 0 {
            return true;
        }
        self.waited += waited;
        self.bytes = self.bytes.saturating_add(bytes);
        if self.waited < self.window {
            return true;
        }
        let needed = self.needed(self.waited);
        if self.bytes < needed {
            return false;
        }
        self.bytes = (self.bytes - needed).min(self.needed(self.window));
        self.waited = Duration::ZERO;
        true
    }

    /// Returns the bytes that the minimum rate demands in `time`.
    fn needed(&self, time: Duration) -> u64 {
        let bytes = u128::from(self.rate) * time.as_millis() / 1000;
        u64::try_from(bytes).unwrap_or(u64::MAX)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const WINDOW: Duration = Duration::from_mins(1);

    fn seconds(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[test]
    fn a_dripping_client_is_too_slow_after_one_window() {
        let mut pace = Pace::new(256, WINDOW);
        assert!((0..3).all(|_| pace.keeps_up(seconds(15), 1)));
        assert!(!pace.keeps_up(seconds(15), 1));
        let mut reader = Pace::new(256, WINDOW);
        assert!((0..3).all(|_| reader.keeps_up(seconds(15), 2000)));
        assert!(!reader.keeps_up(seconds(15), 2000));
    }

    #[test]
    fn a_fast_client_may_pause_for_one_window() {
        let mut pace = Pace::new(256, WINDOW);
        assert!(pace.keeps_up(seconds(59), 10 << 20));
        assert!(pace.keeps_up(seconds(1), 0) && pace.keeps_up(WINDOW, 0));
        assert!(!pace.keeps_up(WINDOW, 0), "credit lasts for one window");
    }

    #[test]
    fn a_rate_of_zero_has_no_minimum() {
        let mut pace = Pace::new(0, WINDOW);
        assert!(pace.keeps_up(seconds(1_000_000), 0));
        assert_eq!(pace.remaining(), Duration::MAX);
    }

    proptest! {
        #[test]
        fn a_client_at_the_minimum_is_never_too_slow(
            rate in 1u64..1_000_000,
            steps in proptest::collection::vec(1u64..100_000, 1..200),
        ) {
            let mut pace = Pace::new(rate, WINDOW);
            for milliseconds in steps {
                let bytes = (rate * milliseconds).div_ceil(1000);
                prop_assert!(pace.keeps_up(Duration::from_millis(milliseconds), bytes));
            }
        }

        #[test]
        fn a_client_below_the_minimum_ends_within_two_windows(rate in 1u64..1_000_000, step in 1u64..10_000) {
            let mut pace = Pace::new(rate, WINDOW);
            let bytes = rate * step / 1000 / 2;
            let steps = 2 * 60_000_u64.div_ceil(step);
            prop_assert!((0..steps).any(|_| !pace.keeps_up(Duration::from_millis(step), bytes)));
        }
    }
}
