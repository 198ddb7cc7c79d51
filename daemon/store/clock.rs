//! The time that grace and expiry are measured in.
//!
//! A small box has no clock while it is off and may wake in 1970, so that the wall clock may jump by decades
//! while a push goes on. This time counts seconds since the index was made and only those that have certainly
//! passed: the system's monotonic clock, carried on by the index from run to run within one boot. What passes
//! while the machine is off, or between the last note in the index and a power cut, does not count. Nothing ever
//! looks older than it is.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use nix::time::{ClockId, clock_gettime};
use serde::{Deserialize, Serialize};

use super::error::StoreError;

/// A moment in the life of the store.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(super) struct Moment(u64);

impl Moment {
    /// The moment of this number, as [`Moment::number`] gave it.
    pub(super) fn of(number: u64) -> Self {
        Moment(number)
    }

    /// The moment as a number, for a file.
    pub(super) fn number(self) -> u64 {
        self.0
    }

    /// How much time has passed from this moment until `now`, at least.
    pub(super) fn age(self, now: Moment) -> Duration {
        Duration::from_secs(now.0.saturating_sub(self.0))
    }
}

/// What the index keeps so that the next run goes on from there.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct ClockRow {
    /// Which boot of which machine it was.
    boot: String,
    /// Seconds since that boot.
    since_boot: u64,
    /// The moment that it was.
    moment: Moment,
}

/// The running clock.
#[derive(Debug)]
pub(super) struct Clock {
    boot: String,
    /// The seconds of the system's clock at which this one began.
    started: u64,
    /// The moment that it was then.
    moment: AtomicU64,
}

impl Clock {
    /// Goes on from what the index has kept.
    pub(super) fn start(kept: Option<&ClockRow>) -> Result<Self, StoreError> {
        Ok(Self::start_at(boot(), since_boot()?, kept))
    }

    fn start_at(boot: String, started: u64, kept: Option<&ClockRow>) -> Self {
        let moment = match kept {
            Some(row) if row.boot == boot && !boot.is_empty() => {
                Moment(row.moment.0 + started.saturating_sub(row.since_boot))
            }
            Some(row) => row.moment,
            None => Moment(0),
        };
        Clock { boot, started, moment: AtomicU64::new(moment.0) }
    }

    /// Goes on from a moment that it has been already, as something else than the index remembers.
    pub(super) fn advance_to(&self, moment: Moment) {
        self.moment.fetch_max(moment.0, Ordering::Relaxed);
    }

    /// The moment that it is now.
    pub(super) fn now(&self) -> Moment {
        // The call cannot fail where it has worked once; if it did, no time would pass.
        self.at(since_boot().unwrap_or(self.started))
    }

    fn at(&self, since_boot: u64) -> Moment {
        Moment(self.moment.load(Ordering::Relaxed) + since_boot.saturating_sub(self.started))
    }

    /// What the index is to keep, so that no more than what comes after it is lost.
    pub(super) fn row(&self) -> ClockRow {
        let since_boot = since_boot().unwrap_or(self.started);
        ClockRow { boot: self.boot.clone(), since_boot, moment: self.at(since_boot) }
    }
}

impl ClockRow {
    /// The moment at which it was kept.
    pub(super) fn moment(&self) -> Moment {
        self.moment
    }
}

/// Which boot of which machine this is. A system that does not tell its boots apart says nothing, and is taken for a new
/// one each time.
pub(super) fn boot() -> String {
    let boot = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
    boot.trim().to_owned()
}

/// Seconds since the machine was started, those that it slept among them.
fn since_boot() -> Result<u64, StoreError> {
    let time = clock_gettime(ClockId::CLOCK_BOOTTIME)
        .map_err(|error| StoreError::io("read the system's clock", error.into()))?;
    Ok(u64::try_from(time.tv_sec()).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn clock(boot: &str, started: u64, kept: Option<&ClockRow>) -> Clock {
        Clock::start_at(boot.into(), started, kept)
    }

    fn kept(clock: &Clock, since_boot: u64) -> ClockRow {
        ClockRow { boot: clock.boot.clone(), since_boot, moment: clock.at(since_boot) }
    }

    #[test]
    fn goes_on_within_a_boot() {
        let first = clock("a", 100, None);
        assert_eq!((first.at(100), first.at(160)), (Moment(0), Moment(60)));
        let second = clock("a", 500, Some(&kept(&first, 160)));
        assert_eq!(second.at(501), Moment(401));
        assert_eq!(Moment(60).age(second.at(501)), Duration::from_secs(341));
    }

    #[test]
    fn does_not_guess_across_boots() {
        let first = clock("a", 100, None);
        let row = kept(&first, 160);
        // Another machine may have run for years when the card is put into it.
        assert_eq!(clock("b", 1_000_000, Some(&row)).at(1_000_007), Moment(67));
        assert_eq!(clock("", 5, Some(&ClockRow { boot: String::new(), ..row })).at(5), Moment(60));
    }

    #[test]
    fn never_goes_back() {
        let clock = clock("a", 100, None);
        assert_eq!(clock.at(50), Moment(0));
        assert_eq!(Moment(9).age(Moment(3)), Duration::ZERO);
        assert!(clock.now() >= Moment(0));
        clock.advance_to(Moment(70));
        clock.advance_to(Moment(60));
        assert_eq!(clock.at(101), Moment(71));
    }
}
