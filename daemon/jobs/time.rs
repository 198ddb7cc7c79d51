//! The two clocks of the schedule: the wall clock, and the time that the machine was on.

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// 2020-01-01. A machine without a battery-backed clock wakes in 1970, so that earlier times say nothing.
const LEAST_PLAUSIBLE: u64 = 1_577_836_800;

/// A moment by both clocks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Now {
    /// The wall clock, in seconds since 1970.
    pub(super) wall: u64,
    /// The time that the machine was on since the store was created.
    pub(super) machine: Duration,
}

/// A moment in a record.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stamp {
    /// The wall clock, in seconds since 1970.
    pub wall: u64,
    /// The milliseconds that the machine was on since the store was created.
    pub machine: u64,
}

impl Now {
    pub(super) fn stamp(self) -> Stamp {
        Stamp { wall: self.wall, machine: u64::try_from(self.machine.as_millis()).unwrap_or(u64::MAX) }
    }
}

impl Stamp {
    /// Returns how long it takes from `now` until `length` has passed since this moment, by the clock that gets there
    /// first. The wall clock counts only if `wall_counts`.
    pub(super) fn wait(self, length: Duration, now: Now, wall_counts: bool) -> Duration {
        let machine = Duration::from_millis(self.machine).saturating_add(length).saturating_sub(now.machine);
        if !wall_counts || self.wall < LEAST_PLAUSIBLE {
            return machine;
        }
        // Whole seconds: the moment may have been at the end of its second.
        let end = Duration::from_secs(self.wall.saturating_add(1)).saturating_add(length);
        machine.min(end.saturating_sub(Duration::from_secs(now.wall)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: Duration = Duration::from_hours(1);

    fn now(wall: u64, machine: u64) -> Now {
        Now { wall, machine: Duration::from_secs(machine) }
    }

    #[test]
    fn the_clock_that_is_first_decides() {
        let begin = now(1_700_000_000, 100).stamp();
        assert_eq!(begin.wait(HOUR, now(1_700_000_000, 100), true), HOUR);
        assert_eq!(begin.wait(HOUR, now(1_700_000_000, 100 + 3600), true), Duration::ZERO);
        assert_eq!(begin.wait(HOUR, now(1_700_003_601, 100), true), Duration::ZERO);
        assert_eq!(begin.wait(HOUR, now(1_700_003_601, 100), false), HOUR);
    }

    #[test]
    fn a_moment_in_1970_counts_by_the_machine_only() {
        let begin = now(60, 100).stamp();
        assert_eq!(begin.wait(HOUR, now(1_700_000_000, 160), true), Duration::from_mins(59));
    }

    #[test]
    fn a_clock_of_the_machine_that_lost_time_waits_longer_and_never_overflows() {
        let begin = now(60, 100).stamp();
        assert_eq!(begin.wait(HOUR, now(60, 40), true), HOUR + Duration::from_mins(1));
        assert!(begin.wait(Duration::MAX, now(60, 40), true) > HOUR);
    }
}
