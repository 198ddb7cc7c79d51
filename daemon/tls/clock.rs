//! The time that certificates go by: a small machine has no clock when it wakes, so the highest time it was ever seen
//! to be is kept in a file, and time does not go back behind that.
//!
//! Nor does it leap ahead because a clock was wrong for a moment: a time that is far ahead of what is known is used, but
//! kept only when the clock has gone on from there for an hour of one boot.
//!
//! The file has the highest time in seconds since 1970; a second line for a clock that is far ahead: the boot, by how many
//! seconds the time is ahead of that boot's own, and when in it this was seen first.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use nix::time::{ClockId, clock_gettime};
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
/// A clock that is further ahead of what is known has to go on from there for a while.
const LEAP: Duration = Duration::days(7);
/// For how long.
const STEADY: i64 = 3600;
/// A clock that is set right by so many seconds has still gone on.
const SLACK: i64 = 300;
const FILE: &str = "clock";

/// The clock.
pub(super) struct Clock {
    directory: PathBuf,
    kept: Mutex<Kept>,
}

/// What the file has.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Kept {
    /// The highest time that was seen.
    highest: OffsetDateTime,
    /// A clock that is far ahead.
    ahead: Option<Ahead>,
}

/// A clock that is far ahead, and when that was seen first.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Ahead {
    boot: String,
    /// The time less that since the boot, in seconds: the same for as long as nobody sets the clock.
    offset: i64,
    since: i64,
}

/// What the machine says.
struct Moment {
    time: OffsetDateTime,
    boot: String,
    /// Seconds since the boot.
    running: i64,
}

impl Moment {
    fn now() -> Self {
        // Without an answer no time is ever steady.
        let boot = fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
        let running = clock_gettime(ClockId::CLOCK_BOOTTIME).map_or(0, |time| seconds_of(time.into()));
        Moment { time: OffsetDateTime::now_utc(), boot: boot.trim().to_owned(), running }
    }

    fn ahead(&self) -> Ahead {
        let offset = self.time.unix_timestamp() - self.running;
        Ahead { boot: self.boot.clone(), offset, since: self.running }
    }
}

impl Clock {
    /// Reads the highest time that was seen; a file that says nothing counts as none.
    pub(super) fn open(directory: &Path) -> Self {
        let text = fs::read_to_string(directory.join(FILE)).unwrap_or_default();
        let clock = Clock { directory: directory.to_owned(), kept: Mutex::new(Kept::read(&text)) };
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

    /// What time it most likely is. A clock that is behind may be right, if what was kept was not; one from before this
    /// release is not.
    pub(super) fn likely(&self) -> OffsetDateTime {
        let now = OffsetDateTime::now_utc();
        if now < released() { self.earliest() } else { now }
    }

    /// Whether the system's clock is behind what it was already, so that it says nothing about what has expired, and
    /// nobody knows what time it is.
    pub(super) fn is_behind(&self) -> bool {
        OffsetDateTime::now_utc() < self.earliest()
    }

    fn earliest(&self) -> OffsetDateTime {
        released().max(self.kept().highest)
    }

    fn kept(&self) -> MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Keeps the time, if it is a day later than what was kept, and can be believed.
    pub(super) fn keep(&self) -> Result<(), TlsError> {
        self.keep_at(&Moment::now())
    }

    fn keep_at(&self, now: &Moment) -> Result<(), TlsError> {
        let mut kept = self.kept();
        let new = kept.after(now);
        if *kept == new {
            return Ok(());
        }
        write(&self.directory, FILE, 0o644, &new.text())?;
        *kept = new;
        Ok(())
    }
}

impl Kept {
    fn read(text: &str) -> Self {
        let mut lines = text.lines();
        let highest = lines.next().and_then(seconds).unwrap_or(EPOCH).max(EPOCH);
        let ahead = lines.next().and_then(|line| {
            let mut words = line.split(' ');
            let (boot, offset, since) = (words.next()?, words.next()?, words.next()?);
            Some(Ahead { boot: boot.to_owned(), offset: offset.parse().ok()?, since: since.parse().ok()? })
        });
        Kept { highest, ahead }
    }

    fn text(&self) -> String {
        let ahead = self.ahead.as_ref();
        let ahead = ahead.map(|ahead| format!("{} {} {}\n", ahead.boot, ahead.offset, ahead.since));
        format!("{}\n{}", self.highest.unix_timestamp(), ahead.unwrap_or_default())
    }

    /// What is kept after a look at the clock.
    fn after(&self, now: &Moment) -> Self {
        let earliest = released().max(self.highest);
        if now.time <= earliest + LEAP {
            let is_later = now.time >= earliest && now.time >= self.highest + STEP;
            return Kept { highest: if is_later { now.time } else { self.highest }, ahead: None };
        }
        match &self.ahead {
            Some(ahead) if !ahead.goes_on(now) => Kept { ahead: Some(now.ahead()), ..self.clone() },
            Some(ahead) if now.running - ahead.since >= STEADY => Kept { highest: now.time, ahead: None },
            Some(_) => self.clone(),
            None => Kept { ahead: Some(now.ahead()), ..self.clone() },
        }
    }
}

impl Ahead {
    /// Whether it is the same clock, and nobody has set it since.
    fn goes_on(&self, now: &Moment) -> bool {
        !now.boot.is_empty() && self.boot == now.boot && (now.ahead().offset - self.offset).abs() <= SLACK
    }
}

/// When this release was made.
fn released() -> OffsetDateTime {
    BUILT.and_then(seconds).unwrap_or(RELEASED)
}

fn seconds_of(time: std::time::Duration) -> i64 {
    i64::try_from(time.as_secs()).unwrap_or(i64::MAX)
}

/// A time written as seconds since 1970.
fn seconds(text: &str) -> Option<OffsetDateTime> {
    OffsetDateTime::from_unix_timestamp(text.trim().parse().ok()?).ok()
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "a test plays the card")]
mod tests {
    use super::*;

    fn moment(time: OffsetDateTime, boot: &str, running: i64) -> Moment {
        Moment { time, boot: boot.into(), running }
    }

    #[test]
    fn time_does_not_go_back() {
        let directory = tempfile::tempdir().unwrap();
        let clock = Clock::open(directory.path());
        assert!(!clock.is_behind());
        let soon = released() + Duration::days(2);
        clock.keep_at(&moment(soon, "boot", 10)).unwrap();
        let kept = || fs::read_to_string(directory.path().join(FILE)).unwrap();
        assert_eq!(seconds(&kept()).unwrap(), soon);
        clock.keep_at(&moment(EPOCH, "boot", 20)).unwrap();
        assert_eq!(seconds(&kept()).unwrap(), soon);
        // The clock was right then, and is not now.
        let later = OffsetDateTime::now_utc() + Duration::days(300);
        fs::write(directory.path().join(FILE), later.unix_timestamp().to_string()).unwrap();
        let behind = Clock::open(directory.path());
        assert!(behind.is_behind() && behind.now() > later - Duration::days(1));
        behind.keep().unwrap();
        assert_eq!(kept(), later.unix_timestamp().to_string(), "a clock that is behind is not kept");
        fs::write(directory.path().join(FILE), "nonsense").unwrap();
        assert!(!Clock::open(directory.path()).is_behind());
    }

    #[test]
    fn a_clock_that_leaps_ahead_is_believed_after_an_hour_of_one_boot() {
        let directory = tempfile::tempdir().unwrap();
        let (right, wrong) = (released() + Duration::days(1), released() + Duration::days(3650));
        let after = |seconds| wrong + Duration::seconds(seconds);
        let look = |time, boot: &str, running| {
            // Each time another daemon: one that ends when nobody is there remembers it, too.
            let clock = Clock::open(directory.path());
            clock.keep_at(&moment(time, boot, running)).unwrap();
            clock.kept().highest
        };
        look(right, "first", 0);
        assert_eq!(look(wrong, "first", 10), right);
        assert_eq!(look(after(1800), "first", 1810), right);
        assert_eq!(look(right + Duration::seconds(1900), "first", 1910), right, "it is set right");
        assert_eq!(look(after(3600), "first", 3610), right, "it begins anew");
        assert_eq!(look(after(9000), "second", 10), right, "in each boot, too");
        assert_eq!(look(after(9000 + 7200), "second", 20), right, "and when it leaps on");
        assert_eq!(look(after(9000 + 7200 + 3600), "second", 3620), after(9000 + 7200 + 3600));
    }
}
