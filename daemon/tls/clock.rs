//! The time that certificates go by: a small machine has no clock when it wakes, so the highest time it was ever seen
//! to be is kept in a file, and time does not go back behind that.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use time::{Duration, OffsetDateTime};

use super::TlsError;
use super::authority::write;

/// From when on certificates are valid.
pub(super) const EPOCH: OffsetDateTime = time::macros::datetime!(2024-01-01 0:00 UTC);
/// No time is before this release, which packages say the date of.
const RELEASED: OffsetDateTime = time::macros::datetime!(2026-11-24 0:00 UTC);
const BUILT: Option<&str> = option_env!("SOURCE_DATE_EPOCH");
/// The file is written when it is so much behind: a card does not like to be written to.
const STEP: Duration = Duration::days(1);
const FILE: &str = "clock";

/// The clock.
pub(super) struct Clock {
    directory: PathBuf,
    /// The highest time that was seen, as the file has it.
    highest: Mutex<OffsetDateTime>,
}

impl Clock {
    /// Reads the highest time that was seen; a file that says nothing counts as none.
    pub(super) fn open(directory: &Path) -> Self {
        let text = fs::read_to_string(directory.join(FILE)).unwrap_or_default();
        let clock = Clock {
            directory: directory.to_owned(),
            highest: Mutex::new(seconds(&text).unwrap_or(EPOCH).max(EPOCH)),
        };
        if clock.is_behind() {
            log::warn!(
                "the clock says {}, and it cannot be earlier than {}: certificates go by that until the clock has come \
                 so far; if that is wrong, remove the file tls/{FILE} of the data directory and restart",
                OffsetDateTime::now_utc().date(),
                clock.earliest().date()
            );
        }
        clock
    }

    /// The time, which is never before the highest that was kept, nor before this release.
    pub(super) fn now(&self) -> OffsetDateTime {
        OffsetDateTime::now_utc().max(self.earliest())
    }

    /// Whether the system's clock is behind what it was already, so that it says nothing about what has expired, and
    /// nobody knows what time it is.
    pub(super) fn is_behind(&self) -> bool {
        OffsetDateTime::now_utc() < self.earliest()
    }

    fn earliest(&self) -> OffsetDateTime {
        BUILT.and_then(seconds).unwrap_or(RELEASED).max(*self.highest())
    }

    fn highest(&self) -> MutexGuard<'_, OffsetDateTime> {
        self.highest.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Keeps the time, if it is a day later than what was kept.
    pub(super) fn keep(&self) -> Result<(), TlsError> {
        let now = OffsetDateTime::now_utc();
        if self.is_behind() {
            return Ok(());
        }
        let mut highest = self.highest();
        if now < *highest + STEP {
            return Ok(());
        }
        *highest = now;
        write(&self.directory, FILE, 0o644, &format!("{}\n", now.unix_timestamp()))
    }
}

/// A time written as seconds since 1970.
fn seconds(text: &str) -> Option<OffsetDateTime> {
    OffsetDateTime::from_unix_timestamp(text.trim().parse().ok()?).ok()
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
        assert!(seconds(&kept).unwrap() > RELEASED);
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
