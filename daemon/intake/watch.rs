//! The archives of the import folder that are ready. Pure: time is a parameter.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use super::folder::{Archive, FileEntry};
use crate::base::Lock;

/// The time for which an archive has to be unchanged before it is imported.
const SETTLED: Duration = Duration::from_mins(1);
/// The pause after the first failure that may pass, such as a full disk, and the longest one.
const FIRST_PAUSE: Duration = Duration::from_mins(1);
const LONGEST_PAUSE: Duration = Duration::from_hours(1);

/// The archives that were seen by this process. The wall clock does not count, because it may jump: an archive is ready once it
/// was seen unchanged for a minute.
#[derive(Debug, Default)]
pub struct Watch(Lock<BTreeMap<String, Seen>>);

#[derive(Debug)]
struct Seen {
    files: Vec<FileEntry>,
    since: Instant,
    failures: u32,
    /// The time until which it is held back; `None`: until it changes.
    held_until: Option<Instant>,
}

impl Watch {
    /// Notes the archives that are there, and returns those that are ready.
    pub fn ready(&self, archives: Vec<Archive>, now: Instant) -> Vec<Archive> {
        let mut seen = self.0.lock();
        seen.retain(|name, _| archives.iter().any(|archive| archive.name() == name));
        let mut ready = Vec::new();
        for archive in archives {
            let fresh =
                || Seen { files: archive.files.clone(), since: now, failures: 0, held_until: Some(now) };
            let known = seen.entry(archive.name().to_owned()).or_insert_with(fresh);
            if known.files != archive.files {
                *known = fresh();
            }
            let is_settled = now.saturating_duration_since(known.since) >= SETTLED;
            if is_settled && known.held_until.is_some_and(|until| until <= now) {
                ready.push(archive);
            }
        }
        ready
    }

    /// Holds an archive back after a failure that may pass; returns the pause.
    pub fn hold(&self, archive: &Archive, now: Instant) -> Duration {
        let mut seen = self.0.lock();
        let failures = seen.get(archive.name()).map_or(0, |seen| seen.failures);
        let pause = FIRST_PAUSE.saturating_mul(2_u32.saturating_pow(failures)).min(LONGEST_PAUSE);
        let files = archive.files.clone();
        let held = Seen { files, since: now, failures: failures + 1, held_until: Some(now + pause) };
        seen.insert(archive.name().to_owned(), held);
        pause
    }

    /// Passes over an archive until it changes, because it cannot be moved.
    pub fn pass_over(&self, archive: &Archive, now: Instant) {
        let held = Seen { files: archive.files.clone(), since: now, failures: 0, held_until: None };
        self.0.lock().insert(archive.name().to_owned(), held);
    }

    /// Returns true if one of these archives is waiting, and not held back.
    pub fn is_waiting(&self, archives: &[Archive], now: Instant) -> bool {
        let seen = self.0.lock();
        let is_held = |archive: &Archive| {
            let known = seen.get(archive.name()).filter(|seen| seen.files == archive.files);
            known.is_some_and(|seen| seen.held_until.is_none_or(|until| until > now))
        };
        archives.iter().any(|archive| !is_held(archive))
    }
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "the tests act as the user of the folder")]
mod tests {
    use std::path::Path;

    use super::super::folder::Folder;
    use super::*;

    #[test]
    fn archives_are_ready_after_a_minute_without_a_change() {
        let folder = tempfile::tempdir().unwrap();
        let (watch, start) = (Watch::default(), Instant::now());
        let at = |seconds| start + Duration::from_secs(seconds);
        let archives = || Folder::open(folder.path(), Path::new("/data")).unwrap().archives().unwrap();
        let ready = |seconds| watch.ready(archives(), at(seconds)).len();
        std::fs::write(folder.path().join("a.tar"), "a").unwrap();
        assert_eq!((ready(0), ready(59), ready(60)), (0, 0, 1));
        std::fs::write(folder.path().join("a.tar"), "ab").unwrap();
        std::fs::write(folder.path().join("b.tar"), "b").unwrap();
        assert_eq!((ready(61), ready(120), ready(121)), (0, 0, 2));
        // A new part belongs to the same archive.
        std::fs::write(folder.path().join("c.tar.001"), "c").unwrap();
        assert_eq!(ready(130), 2);
        std::fs::write(folder.path().join("c.tar.002"), "c").unwrap();
        assert_eq!((ready(190), ready(250)), (2, 3));
    }

    #[test]
    fn archives_are_held_back_after_failures() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("a.tar"), "a").unwrap();
        let archives = Folder::open(folder.path(), Path::new("/data")).unwrap().archives().unwrap();
        let (watch, start) = (Watch::default(), Instant::now());
        let at = |seconds| start + Duration::from_secs(seconds);
        let ready = |seconds| watch.ready(archives.clone(), at(seconds)).len();
        assert_eq!((ready(0), ready(60)), (0, 1));
        assert!(watch.is_waiting(&archives, at(60)));
        assert_eq!(watch.hold(&archives[0], at(60)), Duration::from_mins(1));
        assert!(!watch.is_waiting(&archives, at(61)));
        assert_eq!((ready(119), ready(120)), (0, 1));
        assert_eq!(watch.hold(&archives[0], at(120)), Duration::from_mins(2));
        watch.pass_over(&archives[0], at(240));
        assert_eq!(ready(100_000), 0);
        assert!(!watch.is_waiting(&archives, at(100_000)));
    }
}
