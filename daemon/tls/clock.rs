//! The time that certificates are issued by: a high-water mark of the wall clock, kept in a file.
//!
//! A small machine has no clock when it boots, so time never goes back behind the highest time that was recorded. A
//! clock that is wrong for a moment must not push that mark ahead: a time far ahead of the mark is used, but recorded
//! only after the clock has run from there for an hour without a reboot and without being set.
//!
//! The file `clock` has the mark in seconds since 1970. A second line describes a clock that is far ahead: the
//! identifier of the boot, the difference between the wall clock and the time since boot, and the time since boot at
//! the first observation, in seconds. A file that cannot be parsed counts as empty.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::MutexGuard;

use time::{Duration, OffsetDateTime};

use super::error::TlsError;
use crate::base::clock::{boot_id, seconds_since_boot};
use crate::base::{Durability, Lock, replace_file};

/// The earliest start of validity of a certificate: long past for any client with a clock.
pub(super) const EPOCH: OffsetDateTime = time::macros::datetime!(2024-01-01 0:00 UTC);
/// Lower bound of the time: the date of this release, unless `SOURCE_DATE_EPOCH` was set in the build.
const RELEASED: OffsetDateTime = time::macros::datetime!(2026-11-24 0:00 UTC);
const BUILT: Option<&str> = option_env!("SOURCE_DATE_EPOCH");
/// The delay after which a newer time is written to the file, to spare SD cards.
const WRITE_INTERVAL: Duration = Duration::days(1);
/// The largest step ahead of the mark that is recorded at once; a larger one has to be confirmed.
const JUMP: Duration = Duration::days(7);
/// The time for which a clock has to run without being set to confirm a jump, in seconds.
const CONFIRMATION: i64 = 3600;
/// The largest adjustment that does not count as setting the clock, in seconds.
const TOLERANCE: i64 = 300;
const FILE: &str = "clock";

/// Clock for the validity of certificates.
pub(super) struct CertificateClock {
    directory: PathBuf,
    recorded: Lock<Record>,
}

/// The content of the file.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Record {
    high_water_mark: OffsetDateTime,
    /// A clock that is far ahead of the mark and not confirmed yet.
    jump: Option<Jump>,
}

/// First observation of a clock that is far ahead.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Jump {
    boot: String,
    /// Wall clock less time since boot, in seconds. Constant until the clock is set.
    offset: i64,
    /// Time since boot, in seconds.
    first_seen: i64,
}

/// One reading of the clocks of the machine.
struct Reading {
    wall: OffsetDateTime,
    boot: String,
    /// Time since boot, in seconds.
    uptime: i64,
}

impl Reading {
    fn now() -> Self {
        // Without a boot clock no jump is ever confirmed.
        let uptime = seconds_since_boot().unwrap_or_default();
        Reading {
            wall: OffsetDateTime::now_utc(),
            boot: boot_id(),
            uptime: i64::try_from(uptime).unwrap_or(i64::MAX),
        }
    }

    fn jump(&self) -> Jump {
        let offset = self.wall.unix_timestamp() - self.uptime;
        Jump { boot: self.boot.clone(), offset, first_seen: self.uptime }
    }
}

impl CertificateClock {
    /// Reads the record of a directory; a missing or invalid file counts as empty.
    pub(super) fn open(directory: &Path) -> Self {
        let text = fs::read_to_string(directory.join(FILE)).unwrap_or_default();
        let clock =
            CertificateClock { directory: directory.to_owned(), recorded: Lock::new(Record::parse(&text)) };
        if clock.is_behind() {
            log::warn!(
                "the clock shows {}, but has already shown {}: certificates are issued for the later time until the clock \
                 catches up; if the later time is wrong, remove the file tls/{FILE} of the data directory and restart",
                OffsetDateTime::now_utc().date(),
                clock.earliest().date()
            );
        }
        clock
    }

    /// Returns the wall clock, but never a time before the high-water mark or this release.
    pub(super) fn now(&self) -> OffsetDateTime {
        OffsetDateTime::now_utc().max(self.earliest())
    }

    /// Returns the most likely time. A wall clock that is behind the mark may be right, since the mark may be wrong;
    /// one from before this release is certainly wrong.
    pub(super) fn likely(&self) -> OffsetDateTime {
        let now = OffsetDateTime::now_utc();
        if now < released() { self.earliest() } else { now }
    }

    /// Returns true if the wall clock is behind the high-water mark. Then the time is unknown, and no certificate can
    /// be said to have expired.
    pub(super) fn is_behind(&self) -> bool {
        OffsetDateTime::now_utc() < self.earliest()
    }

    fn earliest(&self) -> OffsetDateTime {
        released().max(self.record_of_file().high_water_mark)
    }

    fn record_of_file(&self) -> MutexGuard<'_, Record> {
        self.recorded.lock()
    }

    /// Records the wall clock in the file, if it is a day later than the mark and plausible.
    pub(super) fn record(&self) -> Result<(), TlsError> {
        self.record_reading(&Reading::now())
    }

    fn record_reading(&self, now: &Reading) -> Result<(), TlsError> {
        let mut recorded = self.record_of_file();
        let new = recorded.after(now);
        if *recorded == new {
            return Ok(());
        }
        let path = self.directory.join(FILE);
        let text = new.format();
        replace_file(&path, 0o644, Durability::Synced, |file| file.write_all(text.as_bytes()))
            .map_err(|error| TlsError::Io("write", path, error))?;
        *recorded = new;
        Ok(())
    }
}

impl Record {
    fn parse(text: &str) -> Self {
        let mut lines = text.lines();
        let high_water_mark = lines.next().and_then(seconds).unwrap_or(EPOCH).max(EPOCH);
        let jump = lines.next().and_then(|line| {
            let mut words = line.split(' ');
            let (boot, offset, first_seen) = (words.next()?, words.next()?, words.next()?);
            let (offset, first_seen) = (offset.parse().ok()?, first_seen.parse().ok()?);
            Some(Jump { boot: boot.to_owned(), offset, first_seen })
        });
        Record { high_water_mark, jump }
    }

    fn format(&self) -> String {
        let jump = self.jump.as_ref();
        let jump = jump.map(|jump| format!("{} {} {}\n", jump.boot, jump.offset, jump.first_seen));
        format!("{}\n{}", self.high_water_mark.unix_timestamp(), jump.unwrap_or_default())
    }

    /// Returns the record after a reading of the clocks.
    fn after(&self, now: &Reading) -> Self {
        let earliest = released().max(self.high_water_mark);
        if now.wall <= earliest + JUMP {
            let is_due = now.wall >= earliest && now.wall >= self.high_water_mark + WRITE_INTERVAL;
            let high_water_mark = if is_due { now.wall } else { self.high_water_mark };
            return Record { high_water_mark, jump: None };
        }
        match &self.jump {
            // Another boot, or the clock was set again: the confirmation starts over.
            Some(jump) if !jump.runs_on(now) => Record { jump: Some(now.jump()), ..self.clone() },
            Some(jump) if now.uptime - jump.first_seen >= CONFIRMATION => {
                Record { high_water_mark: now.wall, jump: None }
            }
            Some(_) => self.clone(),
            None => Record { jump: Some(now.jump()), ..self.clone() },
        }
    }
}

impl Jump {
    /// Returns true if the machine has not been rebooted and the clock not been set since the first observation.
    fn runs_on(&self, now: &Reading) -> bool {
        let is_same_boot = !now.boot.is_empty() && self.boot == now.boot;
        is_same_boot && (now.jump().offset - self.offset).abs() <= TOLERANCE
    }
}

/// Returns the date of this release.
fn released() -> OffsetDateTime {
    BUILT.and_then(seconds).unwrap_or(RELEASED)
}

/// Parses seconds since 1970.
fn seconds(text: &str) -> Option<OffsetDateTime> {
    OffsetDateTime::from_unix_timestamp(text.trim().parse().ok()?).ok()
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "tests write the file that a clock left")]
mod tests {
    use super::*;

    fn reading(wall: OffsetDateTime, boot: &str, uptime: i64) -> Reading {
        Reading { wall, boot: boot.into(), uptime }
    }

    #[test]
    fn time_never_goes_back_behind_the_high_water_mark() {
        let directory = tempfile::tempdir().unwrap();
        let clock = CertificateClock::open(directory.path());
        assert!(!clock.is_behind());
        let soon = released() + Duration::days(2);
        clock.record_reading(&reading(soon, "boot", 10)).unwrap();
        let kept = || fs::read_to_string(directory.path().join(FILE)).unwrap();
        assert_eq!(seconds(&kept()).unwrap(), soon);
        clock.record_reading(&reading(EPOCH, "boot", 20)).unwrap();
        assert_eq!(seconds(&kept()).unwrap(), soon);
        // The recorded time is right, and the wall clock is behind.
        let later = OffsetDateTime::now_utc() + Duration::days(300);
        fs::write(directory.path().join(FILE), later.unix_timestamp().to_string()).unwrap();
        let behind = CertificateClock::open(directory.path());
        assert!(behind.is_behind() && behind.now() > later - Duration::days(1));
        behind.record().unwrap();
        assert_eq!(kept(), later.unix_timestamp().to_string(), "a clock that is behind is not recorded");
        fs::write(directory.path().join(FILE), "nonsense").unwrap();
        assert!(!CertificateClock::open(directory.path()).is_behind());
    }

    #[test]
    fn jump_ahead_is_recorded_after_an_hour_of_one_boot() {
        let directory = tempfile::tempdir().unwrap();
        let (right, wrong) = (released() + Duration::days(1), released() + Duration::days(3650));
        let after = |seconds| wrong + Duration::seconds(seconds);
        let record = |time, boot: &str, running| {
            // A new instance for each reading: the record survives an idle exit.
            let clock = CertificateClock::open(directory.path());
            clock.record_reading(&reading(time, boot, running)).unwrap();
            clock.record_of_file().high_water_mark
        };
        record(right, "first", 0);
        assert_eq!(record(wrong, "first", 10), right);
        assert_eq!(record(after(1800), "first", 1810), right);
        assert_eq!(record(right + Duration::seconds(1900), "first", 1910), right, "the clock is set right");
        assert_eq!(record(after(3600), "first", 3610), right, "the confirmation starts over");
        assert_eq!(record(after(9000), "second", 10), right, "also after a reboot");
        assert_eq!(record(after(9000 + 7200), "second", 20), right, "and after another jump");
        assert_eq!(record(after(9000 + 7200 + 3600), "second", 3620), after(9000 + 7200 + 3600));
    }
}
