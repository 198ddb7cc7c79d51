//! Schedules: intervals, the fixed offset that spreads a fleet, and the backoff after failures. Pure.

use std::time::Duration;

use serde::Serialize;

/// The resource that a job uses most. It limits how many run at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Class {
    /// Reads or writes much of the store.
    Disk,
    /// Waits for other machines.
    Network,
}

impl Class {
    /// Returns how many jobs of the class run at once.
    pub(super) fn places(self) -> usize {
        match self {
            Class::Disk => 1,
            Class::Network => 2,
        }
    }
}

/// When a job runs by itself.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Schedule {
    /// The longest time between the end of a run and the next one; `None` runs the job only when it is started.
    pub interval: Option<Duration>,
    /// The longest time between the start of the daemon and the first run, if that is less than the rest of the interval:
    /// for a job that has to run in each daemon, however soon idle exits end it.
    pub first: Option<Duration>,
}

/// The largest offset.
const LARGEST_OFFSET: Duration = Duration::from_mins(30);
/// The backoff after the first failure.
const LEAST_BACKOFF: Duration = Duration::from_mins(1);
/// The largest backoff, before the jitter.
const LARGEST_BACKOFF: Duration = Duration::from_hours(6);

/// Returns a number that differs between registries, jobs and numbers of failures, and is the same in each process
/// (FNV-1a with a final mix).
pub(super) fn seed(registry: &str, job: &str, failures: u32) -> u64 {
    let bytes = registry.bytes().chain([0]).chain(job.bytes()).chain([0]).chain(failures.to_le_bytes());
    let hash = bytes.fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    });
    let mixed = (hash ^ (hash >> 33)).wrapping_mul(0xff51_afd7_ed55_8ccd);
    mixed ^ (mixed >> 33)
}

/// Returns the part of `length` that `seed` is of the largest number.
fn share(length: Duration, seed: u64) -> Duration {
    let nanoseconds = (length.as_nanos() * u128::from(seed >> 32)) >> 32;
    Duration::from_nanos(u64::try_from(nanoseconds).unwrap_or(u64::MAX))
}

/// Returns the interval of a job on one registry: up to a tenth shorter than the configured one, 30 minutes at most, so
/// that machines with the same configuration spread, and the configured interval is the longest.
pub(super) fn shifted(interval: Duration, seed: u64) -> Duration {
    interval.saturating_sub(share((interval / 10).min(LARGEST_OFFSET), seed))
}

/// Returns the pause after a number of failures in a row: 1 minute, 2, 4 and so on up to the interval, 6 hours at most,
/// each 20 % shorter or longer.
pub(super) fn backoff(failures: u32, interval: Duration, seed: u64) -> Duration {
    let factor = 2_u32.saturating_pow(failures.saturating_sub(1));
    let pause = LEAST_BACKOFF.saturating_mul(factor).min(interval).min(LARGEST_BACKOFF);
    pause * 4 / 5 + share(pause * 2 / 5, seed)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_offset_is_fixed_for_a_registry_and_a_job() {
        assert_eq!(seed("a", "gc", 0), seed("a", "gc", 0));
        let seeds = [
            seed("a", "gc", 0),
            seed("b", "gc", 0),
            seed("a", "check", 0),
            seed("a", "gc", 1),
            seed("ag", "c", 0),
        ];
        for (at, one) in seeds.iter().enumerate() {
            assert!(!seeds[at + 1..].contains(one));
        }
    }

    #[test]
    fn a_fleet_spreads_over_the_whole_offset() {
        let hour = Duration::from_hours(1);
        let mut minutes: Vec<u64> = (0..100)
            .map(|machine| shifted(hour, seed(&format!("machine {machine}"), "gc", 0)).as_secs() / 60)
            .collect();
        minutes.sort_unstable();
        assert!(minutes[0] <= 54 && minutes[99] >= 59, "{minutes:?}");
        minutes.dedup();
        assert_eq!(minutes.len(), 6);
    }

    #[test]
    fn the_backoff_doubles_up_to_the_interval() {
        let mean = |failures, interval| (backoff(failures, interval, u64::MAX / 2).as_millis() + 500) / 1000;
        let day = Duration::from_hours(24);
        assert_eq!([1, 2, 3, 4].map(|failures| mean(failures, day)), [60, 120, 240, 480]);
        assert_eq!((mean(30, day), mean(u32::MAX, day)), (21600, 21600));
        assert_eq!((mean(9, Duration::from_hours(1)), mean(1, Duration::from_secs(30))), (3600, 30));
    }

    proptest! {
        #[test]
        fn offsets_and_backoffs_stay_in_their_bounds(
            milliseconds in 1_u64..10_000_000_000, failures in 1_u32.., seed: u64
        ) {
            let interval = Duration::from_millis(milliseconds);
            let shifted = shifted(interval, seed);
            prop_assert!(shifted <= interval && interval.saturating_sub(shifted) <= (interval / 10).min(LARGEST_OFFSET));
            let pause = backoff(failures, interval, seed);
            let most = interval.min(LARGEST_BACKOFF);
            prop_assert!(pause <= most * 6 / 5 && pause >= most.min(LEAST_BACKOFF) * 4 / 5);
        }
    }
}
