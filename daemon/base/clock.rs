//! Time: the wall clock, the monotonic clock, and the seconds since the machine booted.
//!
//! A board without a battery-backed clock may wake in 1970 and jump by decades when it reaches a time server. Durations
//! are therefore measured with the monotonic clocks; the wall clock is only shown and compared with dates of
//! certificates.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};
use std::{fs, io};

use nix::time::{ClockId, clock_gettime};

/// The earliest date of this release, in seconds since 1970: an earlier wall clock is wrong. 2026-01-01.
pub const RELEASED: u64 = 1_767_225_600;

/// The clocks of the system, or in unit tests a clock that the test sets.
#[derive(Clone, Debug, Default)]
pub struct Clock {
    #[cfg(test)]
    manual: Option<std::sync::Arc<super::Lock<Manual>>>,
}

#[cfg(test)]
#[derive(Debug)]
struct Manual {
    instant: Instant,
    wall: Duration,
}

impl Clock {
    /// Returns the clocks of the system.
    pub fn system() -> Self {
        Clock::default()
    }

    /// Returns the monotonic time, which deadlines and intervals are measured with.
    pub fn now(&self) -> Instant {
        #[cfg(test)]
        if let Some(manual) = &self.manual {
            return manual.lock().instant;
        }
        Instant::now()
    }

    /// Returns the wall clock as seconds since 1970; zero for a clock before that.
    pub fn unix_seconds(&self) -> u64 {
        #[cfg(test)]
        if let Some(manual) = &self.manual {
            return manual.lock().wall.as_secs();
        }
        unix_seconds()
    }

    /// Returns a clock that stands still until [`Clock::advance`].
    #[cfg(test)]
    pub fn manual(unix_seconds: u64) -> Self {
        let manual = Manual { instant: Instant::now(), wall: Duration::from_secs(unix_seconds) };
        Clock { manual: Some(std::sync::Arc::new(super::Lock::new(manual))) }
    }

    /// Moves a manual clock, and all its clones, forward. The clocks of the system stay as they are.
    #[cfg(test)]
    pub fn advance(&self, by: Duration) {
        if let Some(manual) = &self.manual {
            let mut manual = manual.lock();
            manual.instant += by;
            manual.wall += by;
        }
    }
}

/// Returns the wall clock of the system as seconds since 1970; zero for a clock before that.
pub fn unix_seconds() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO).as_secs()
}

/// Returns the seconds since the machine booted, including those that it was suspended.
///
/// # Errors
/// If the system has no such clock.
pub fn seconds_since_boot() -> io::Result<u64> {
    let time = clock_gettime(ClockId::CLOCK_BOOTTIME)?;
    Ok(u64::try_from(time.tv_sec()).unwrap_or_default())
}

/// Returns the kernel's random identifier of the running boot; empty if the system does not tell its boots apart.
pub fn boot_id() -> String {
    let id = fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
    id.trim().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn manual_clock_moves_only_when_advanced() {
        let clock = Clock::manual(1_000);
        let (clone, start) = (clock.clone(), clock.now());
        assert_eq!((clock.now(), clock.unix_seconds()), (start, 1_000));
        clock.advance(Duration::from_mins(1));
        assert_eq!((clone.now() - start, clone.unix_seconds()), (Duration::from_mins(1), 1_060));
    }

    #[test]
    fn system_clocks_run() {
        let clock = Clock::system();
        let start = clock.now();
        assert!(clock.now() >= start);
        assert!(clock.unix_seconds() > 1_700_000_000);
        assert!(seconds_since_boot().unwrap() > 0);
        assert_eq!(boot_id(), boot_id());
    }
}
