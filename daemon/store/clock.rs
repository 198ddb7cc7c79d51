//! Store time: the clock of grace periods and expiry.
//!
//! A board without a battery-backed clock may wake in 1970, so that the wall clock may jump by decades during a push.
//! Store time counts the seconds since the index was created by the system's monotonic clock. Time while the machine is
//! off, and between the last commit of the clock and a power cut, does not count. Guarantee: no content ever looks
//! older than it is.
//!
//! On disk: a row of the index has the boot's identifier, the seconds since that boot, and the store time at that
//! moment. In the same boot the clock continues from there by the difference; after another boot it continues from the
//! stored time.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::error::StoreError;
use crate::base::clock::{boot_id, seconds_since_boot};

/// A point in store time, in seconds since the index was created.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(super) struct StoreTime(u64);

impl StoreTime {
    /// Returns the time of this number of seconds, the inverse of [`StoreTime::seconds`].
    pub(super) fn from_seconds(number: u64) -> Self {
        StoreTime(number)
    }

    /// Returns the time in seconds, for files.
    pub(super) fn seconds(self) -> u64 {
        self.0
    }

    /// Returns the time that has passed until `now`; zero if `now` is earlier.
    pub(super) fn age(self, now: StoreTime) -> Duration {
        Duration::from_secs(now.0.saturating_sub(self.0))
    }
}

/// A row of the index, from which the clock continues in the next process.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct ClockRow {
    /// The identifier of the boot.
    boot: String,
    /// Seconds since that boot.
    since_boot: u64,
    /// The store time at `since_boot`.
    store_time: StoreTime,
}

/// The running clock.
#[derive(Debug)]
pub(super) struct StoreClock {
    boot: String,
    /// The seconds since boot at which this clock started.
    started: u64,
    /// The store time at `started`.
    store_time: AtomicU64,
}

impl StoreClock {
    /// Starts the clock from the row of the index; at zero without one.
    pub(super) fn start(kept: Option<&ClockRow>) -> Result<Self, StoreError> {
        let since_boot =
            seconds_since_boot().map_err(|error| StoreError::io("read the system's clock", error))?;
        Ok(Self::start_at(boot_id(), since_boot, kept))
    }

    fn start_at(boot: String, started: u64, kept: Option<&ClockRow>) -> Self {
        let store_time = match kept {
            Some(row) if row.boot == boot && !boot.is_empty() => {
                StoreTime(row.store_time.0 + started.saturating_sub(row.since_boot))
            }
            Some(row) => row.store_time,
            None => StoreTime(0),
        };
        StoreClock { boot, started, store_time: AtomicU64::new(store_time.0) }
    }

    /// Moves the clock forward to at least `store_time`; never back. For a time that `index.json` has and the index has
    /// lost.
    pub(super) fn advance_to(&self, store_time: StoreTime) {
        self.store_time.fetch_max(store_time.0, Ordering::Relaxed);
    }

    /// Returns the time now.
    pub(super) fn now(&self) -> StoreTime {
        // The call cannot fail after it has worked once; if it did, no time would pass.
        self.at(seconds_since_boot().unwrap_or(self.started))
    }

    fn at(&self, since_boot: u64) -> StoreTime {
        StoreTime(self.store_time.load(Ordering::Relaxed) + since_boot.saturating_sub(self.started))
    }

    /// Returns the row that the index stores from time to time.
    pub(super) fn row(&self) -> ClockRow {
        let since_boot = seconds_since_boot().unwrap_or(self.started);
        ClockRow { boot: self.boot.clone(), since_boot, store_time: self.at(since_boot) }
    }
}

impl ClockRow {
    /// Returns the row of a clock that stands at this time, for tests.
    #[cfg(test)]
    pub(super) fn at(store_time: StoreTime) -> Self {
        ClockRow { boot: String::new(), since_boot: 0, store_time }
    }

    /// Returns the store time of the row.
    pub(super) fn time(&self) -> StoreTime {
        self.store_time
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn clock(boot: &str, started: u64, kept: Option<&ClockRow>) -> StoreClock {
        StoreClock::start_at(boot.into(), started, kept)
    }

    fn kept(clock: &StoreClock, since_boot: u64) -> ClockRow {
        ClockRow { boot: clock.boot.clone(), since_boot, store_time: clock.at(since_boot) }
    }

    #[test]
    fn continues_within_a_boot() {
        let first = clock("a", 100, None);
        assert_eq!((first.at(100), first.at(160)), (StoreTime(0), StoreTime(60)));
        let second = clock("a", 500, Some(&kept(&first, 160)));
        assert_eq!(second.at(501), StoreTime(401));
        assert_eq!(StoreTime(60).age(second.at(501)), Duration::from_secs(341));
    }

    #[test]
    fn adds_no_time_across_boots() {
        let first = clock("a", 100, None);
        let row = kept(&first, 160);
        // A card may move to a machine that has been up for years.
        assert_eq!(clock("b", 1_000_000, Some(&row)).at(1_000_007), StoreTime(67));
        assert_eq!(clock("", 5, Some(&ClockRow { boot: String::new(), ..row })).at(5), StoreTime(60));
    }

    #[test]
    fn never_goes_back() {
        let clock = clock("a", 100, None);
        assert_eq!(clock.at(50), StoreTime(0));
        assert_eq!(StoreTime(9).age(StoreTime(3)), Duration::ZERO);
        assert!(clock.now() >= StoreTime(0));
        clock.advance_to(StoreTime(70));
        clock.advance_to(StoreTime(60));
        assert_eq!(clock.at(101), StoreTime(71));
    }
}
