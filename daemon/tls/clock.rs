//! The time that certificates go by: a small machine has no clock when it wakes, so the highest time it was ever seen
//! to be is kept in a file, and time does not go back behind that.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use time::{Duration, OffsetDateTime};

use super::TlsError;
use super::authority::write;

/// From when on certificates are valid, and no time is before it.
pub(super) const EPOCH: OffsetDateTime = time::macros::datetime!(2024-01-01 0:00 UTC);
/// The file is written when it is so much behind: a card does not like to be written to.
const STEP: Duration = Duration::days(1);
const FILE: &str = "clock";

/// The clock.
pub(super) struct Clock {
    directory: PathBuf,
    highest: Mutex<OffsetDateTime>,
}

impl Clock {
    /// Reads the highest time that was seen; a file that says nothing counts as none.
    pub(super) fn open(directory: &Path) -> Self {
        let text = fs::read_to_string(directory.join(FILE)).unwrap_or_default();
        let seen =
            text.trim().parse().ok().and_then(|seconds| OffsetDateTime::from_unix_timestamp(seconds).ok());
        let highest = seen.unwrap_or(EPOCH).max(EPOCH);
        if OffsetDateTime::now_utc() < highest {
            log::warn!(
                "the clock says {}, and it was {} already: certificates go by that until the clock has come so \
                 far; if that was wrong, remove the file tls/{FILE} of the data directory and restart",
                OffsetDateTime::now_utc().date(),
                highest.date()
            );
        }
        Clock { directory: directory.to_owned(), highest: Mutex::new(highest) }
    }

    /// The time, which is never before the highest that was kept.
    pub(super) fn now(&self) -> OffsetDateTime {
        OffsetDateTime::now_utc().max(*self.highest())
    }

    /// Whether the system's clock is behind what it was already, so that it says nothing about what has expired.
    pub(super) fn is_behind(&self) -> bool {
        OffsetDateTime::now_utc() < *self.highest()
    }

    fn highest(&self) -> MutexGuard<'_, OffsetDateTime> {
        self.highest.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Keeps the time, if it is a day later than what was kept.
    pub(super) fn keep(&self) -> Result<(), TlsError> {
        let mut highest = self.highest();
        let now = OffsetDateTime::now_utc();
        if now < *highest + STEP {
            return Ok(());
        }
        *highest = now;
        write(&self.directory, FILE, 0o644, &format!("{}\n", now.unix_timestamp()))
    }
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "a test plays the card")]
mod tests {
    use super::*;

    #[test]
    fn time_does_not_go_back() {
        let directory = tempfile::tempdir().unwrap();
        let clock = Clock::open(directory.path());
        assert!(!clock.is_behind());
        clock.keep().unwrap();
        let kept = fs::read_to_string(directory.path().join(FILE)).unwrap();
        assert!(kept.trim().parse::<i64>().unwrap() > EPOCH.unix_timestamp());
        // The clock was right then, and is not now.
        let later = OffsetDateTime::now_utc() + Duration::days(300);
        fs::write(directory.path().join(FILE), later.unix_timestamp().to_string()).unwrap();
        let behind = Clock::open(directory.path());
        assert!(behind.is_behind() && behind.now() > later - Duration::days(1));
        behind.keep().unwrap();
        let kept = fs::read_to_string(directory.path().join(FILE)).unwrap();
        assert_eq!(kept, later.unix_timestamp().to_string(), "a clock that is behind is not kept");
        fs::write(directory.path().join(FILE), "nonsense").unwrap();
        assert!(!Clock::open(directory.path()).is_behind());
    }
}
