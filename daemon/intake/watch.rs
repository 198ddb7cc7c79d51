//! The archives of the import folder that are ready. Pure: time and free space are parameters.
//!
//! An archive is tried again after a failure that may pass. One that only an operator can help is remembered until it changes,
//! also by later daemons: it was imported and cannot be moved, or the registry has no space for it.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use super::folder::{Archive, FileEntry};
use crate::base::Lock;

/// The time for which an archive has to be unchanged before it is imported.
const SETTLED: Duration = Duration::from_mins(1);
/// The pause after the first failure that may pass, such as a broken connection, and the longest one.
const FIRST_PAUSE: Duration = Duration::from_mins(1);
const LONGEST_PAUSE: Duration = Duration::from_hours(1);
/// The archives that are remembered. No other archive is imported while there are so many.
const REMEMBERED: usize = 100;
/// The longest reason that is remembered, in bytes.
const REASON: usize = 400;
/// The least growth of the space after which an archive is tried again: a part of the space at the last attempt (a divisor), and
/// a number of bytes.
const GROWTH: (u64, u64) = (16, 1 << 20);

/// The archives that were seen by this process. The wall clock does not count, because it may jump: an archive is ready once it
/// was seen unchanged for a minute.
#[derive(Debug, Default)]
pub struct Watch(Lock<State>);

#[derive(Debug, Default)]
struct State {
    seen: BTreeMap<String, Seen>,
    remembered: BTreeMap<String, Remembered>,
    /// True if the remembered archives differ from those that were saved.
    has_changed: bool,
    /// The reason why the folder cannot be used.
    folder_error: Option<String>,
}

#[derive(Debug)]
struct Seen {
    files: Vec<FileEntry>,
    since: Instant,
    failures: u32,
    held_until: Instant,
    /// The reason of the last failure.
    reason: String,
}

/// An archive that is not imported again until it changes, or until there is more space for it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Remembered {
    fingerprint: String,
    reason: String,
    /// The bytes for which the registry had space at the last attempt; `None` if space is not the reason.
    space: Option<u64>,
}

/// A pause after a failure that may pass.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pause {
    /// Its length.
    pub length: Duration,
    /// True if the last failure of the archive had another reason.
    pub is_new: bool,
}

impl Remembered {
    fn is_of(&self, archive: &Archive) -> bool {
        self.fingerprint == archive.fingerprint()
    }

    /// Returns true if there is so much space more that another attempt is worthwhile.
    fn may_fit(&self, space: u64) -> bool {
        self.space.is_some_and(|before| space.saturating_sub(before) >= (before / GROWTH.0).max(GROWTH.1))
    }
}

impl State {
    fn is_remembered(&self, archive: &Archive) -> bool {
        self.remembered.get(archive.name()).is_some_and(|known| known.is_of(archive))
    }

    /// Forgets the archives that have gone or changed.
    fn forget(&mut self, archives: &[Archive]) {
        let find = |name: &str| {
            archives.binary_search_by(|archive| archive.name().cmp(name)).ok().map(|at| &archives[at])
        };
        let before = self.remembered.len();
        self.remembered.retain(|name, known| find(name).is_some_and(|archive| known.is_of(archive)));
        self.has_changed |= self.remembered.len() != before;
        self.seen.retain(|name, _| find(name).is_some());
    }
}

impl Watch {
    /// Restores the archives that an earlier process remembered. A text of another release is ignored.
    pub fn restore(&self, text: &str) {
        let Ok(mut remembered) = serde_json::from_str::<BTreeMap<String, Remembered>>(text) else { return };
        while remembered.len() > REMEMBERED {
            remembered.pop_last();
        }
        self.0.lock().remembered = remembered;
    }

    /// Returns the remembered archives as text if they have changed since the last call.
    pub fn take_changed(&self) -> Option<String> {
        let mut state = self.0.lock();
        // Strings and numbers always have a JSON form.
        std::mem::take(&mut state.has_changed)
            .then(|| serde_json::to_string(&state.remembered).unwrap_or_default())
    }

    /// Notes the archives that are there, sorted by name, and returns those that are ready. `space` is the number of bytes that the
    /// registry can store.
    pub fn ready(&self, archives: Vec<Archive>, now: Instant, space: u64) -> Vec<Archive> {
        let mut state = self.0.lock();
        state.forget(&archives);
        let mut ready = Vec::new();
        for archive in archives {
            let fresh = || Seen {
                files: archive.files.clone(),
                since: now,
                failures: 0,
                held_until: now,
                reason: String::new(),
            };
            let known = state.seen.entry(archive.name().to_owned()).or_insert_with(fresh);
            if known.files != archive.files {
                *known = fresh();
            }
            let is_settled = now.saturating_duration_since(known.since) >= SETTLED;
            let is_ready = is_settled && known.held_until <= now;
            if is_ready && state.remembered.get(archive.name()).is_none_or(|known| known.may_fit(space)) {
                ready.push(archive);
            }
        }
        ready
    }

    /// Holds an archive back after a failure that may pass.
    pub fn hold(&self, archive: &Archive, reason: &str, now: Instant) -> Pause {
        let mut state = self.0.lock();
        let known = state.seen.get(archive.name());
        let failures = known.map_or(0, |seen| seen.failures);
        let is_new = known.is_none_or(|seen| seen.reason != reason);
        let length = FIRST_PAUSE.saturating_mul(2_u32.saturating_pow(failures)).min(LONGEST_PAUSE);
        let held = Seen {
            files: archive.files.clone(),
            since: now,
            failures: failures.saturating_add(1),
            held_until: now + length,
            reason: reason.to_owned(),
        };
        state.seen.insert(archive.name().to_owned(), held);
        Pause { length, is_new }
    }

    /// Remembers an archive that is not imported again until it changes, or, with `space`, until the registry can store more than
    /// so many bytes.
    pub fn remember(&self, archive: &Archive, reason: &str, space: Option<u64>) {
        let reason = reason[..reason.floor_char_boundary(REASON)].to_owned();
        let known = Remembered { fingerprint: archive.fingerprint(), reason, space };
        let mut state = self.0.lock();
        state.remembered.insert(archive.name().to_owned(), known);
        state.has_changed = true;
    }

    /// Forgets an archive that was imported and moved.
    pub fn forget(&self, archive: &Archive) {
        let mut state = self.0.lock();
        let was_known = state.remembered.remove(archive.name()).is_some();
        state.has_changed |= was_known;
    }

    /// Returns true if the archive can be remembered after its import.
    pub fn may_import(&self, archive: &Archive) -> bool {
        let state = self.0.lock();
        state.remembered.len() < REMEMBERED || state.remembered.contains_key(archive.name())
    }

    /// Returns the names of the archives that are held back, with the reasons.
    pub fn held(&self, now: Instant) -> Vec<(String, String)> {
        let state = self.0.lock();
        let waiting = state.seen.iter().filter(|(_, seen)| seen.held_until > now);
        let waiting = waiting.map(|(name, seen)| (name, &seen.reason));
        let remembered = state.remembered.iter().map(|(name, known)| (name, &known.reason));
        let held: BTreeMap<&String, &String> = waiting.chain(remembered).collect();
        held.into_iter().map(|(name, reason)| (name.clone(), reason.clone())).collect()
    }

    /// Returns the fingerprints of the archives that wait for a change.
    pub fn held_until_changed(&self) -> Vec<String> {
        let state = self.0.lock();
        let of = |known: &Remembered| known.space.is_none().then(|| known.fingerprint.clone());
        state.remembered.values().filter_map(of).collect()
    }

    /// Notes whether the folder can be used; returns true if it cannot, for another reason than before.
    pub fn note_folder(&self, error: Option<String>) -> bool {
        let mut state = self.0.lock();
        let is_new = error.is_some() && state.folder_error != error;
        state.folder_error = error;
        is_new
    }

    /// Returns true if one of these archives is waiting, and not held back.
    pub fn is_waiting(&self, archives: &[Archive], now: Instant) -> bool {
        let state = self.0.lock();
        let is_held = |archive: &Archive| {
            let known = state.seen.get(archive.name()).filter(|seen| seen.files == archive.files);
            state.is_remembered(archive) || known.is_some_and(|seen| seen.held_until > now)
        };
        state.folder_error.is_none() && archives.iter().any(|archive| !is_held(archive))
    }
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "the tests act as the user of the folder")]
mod tests {
    use std::path::Path;

    use super::super::folder::Folder;
    use super::*;

    const SPACE: u64 = 64 << 20;

    /// A folder with a watch over it.
    struct Watched {
        folder: tempfile::TempDir,
        watch: Watch,
        start: Instant,
    }

    impl Watched {
        fn new(names: &[&str]) -> Self {
            let watched = Watched {
                folder: tempfile::tempdir().unwrap(),
                watch: Watch::default(),
                start: Instant::now(),
            };
            for name in names {
                watched.write(name, name);
            }
            watched
        }

        fn write(&self, name: &str, text: &str) {
            std::fs::write(self.folder.path().join(name), text).unwrap();
        }

        fn archives(&self) -> Vec<Archive> {
            Folder::open(self.folder.path(), Path::new("/data")).unwrap().archives().unwrap()
        }

        fn at(&self, seconds: u64) -> Instant {
            self.start + Duration::from_secs(seconds)
        }

        fn ready_with(&self, seconds: u64, space: u64) -> usize {
            self.watch.ready(self.archives(), self.at(seconds), space).len()
        }

        fn ready(&self, seconds: u64) -> usize {
            self.ready_with(seconds, SPACE)
        }

        fn held(&self, seconds: u64) -> Vec<(String, String)> {
            self.watch.held(self.at(seconds))
        }

        fn is_waiting(&self, seconds: u64) -> bool {
            self.watch.is_waiting(&self.archives(), self.at(seconds))
        }

        /// Goes on as another process.
        fn restart(&mut self) {
            let saved = self.watch.take_changed().unwrap();
            self.watch = Watch::default();
            self.watch.restore(&saved);
        }
    }

    #[test]
    fn archives_are_ready_after_a_minute_without_a_change() {
        let watched = Watched::new(&["a.tar"]);
        assert_eq!((watched.ready(0), watched.ready(59), watched.ready(60)), (0, 0, 1));
        watched.write("a.tar", "ab");
        watched.write("b.tar", "b");
        assert_eq!((watched.ready(61), watched.ready(120), watched.ready(121)), (0, 0, 2));
        // A new part belongs to the same archive.
        watched.write("c.tar.001", "c");
        assert_eq!(watched.ready(130), 2);
        watched.write("c.tar.002", "c");
        assert_eq!((watched.ready(190), watched.ready(250)), (2, 3));
    }

    #[test]
    fn archives_are_held_back_after_failures_and_each_reason_is_new_once() {
        let watched = Watched::new(&["a.tar"]);
        let archive = watched.archives().remove(0);
        let hold = |reason: &str, seconds| watched.watch.hold(&archive, reason, watched.at(seconds));
        let pause = |minutes, is_new| Pause { length: Duration::from_mins(minutes), is_new };
        assert_eq!((watched.ready(0), watched.ready(60)), (0, 1));
        assert!(watched.is_waiting(60));
        assert_eq!(hold("broken", 60), pause(1, true));
        assert_eq!(watched.held(61), [("a.tar".to_owned(), "broken".to_owned())]);
        assert_eq!(watched.held(120), []);
        assert!(!watched.is_waiting(61));
        assert_eq!((watched.ready(119), watched.ready(120)), (0, 1));
        assert_eq!(hold("broken", 120), pause(2, false));
        assert_eq!(hold("slow", 240), pause(4, true));
        assert_eq!(watched.watch.take_changed(), None);
    }

    #[test]
    fn an_archive_that_cannot_be_moved_is_remembered_until_it_changes_also_by_later_processes() {
        let mut watched = Watched::new(&["a.tar", "b.tar"]);
        assert_eq!((watched.ready(0), watched.ready(60)), (0, 2));
        watched.watch.remember(&watched.archives()[0], "cannot be moved", None);
        assert_eq!(watched.ready(100), 1);
        watched.restart();
        assert_eq!(watched.watch.held_until_changed(), [watched.archives()[0].fingerprint()]);
        assert_eq!((watched.ready(0), watched.ready(100_000)), (0, 1));
        assert_eq!(watched.held(0), [("a.tar".to_owned(), "cannot be moved".to_owned())]);
        assert!(watched.is_waiting(100_000), "b.tar is waiting");
        std::fs::remove_file(watched.folder.path().join("b.tar")).unwrap();
        assert!(!watched.is_waiting(100_000));
        // Another content has another length.
        watched.write("a.tar", "changed");
        assert!(watched.is_waiting(100_000));
        assert_eq!((watched.ready(100_000), watched.ready(100_060)), (0, 1));
        assert_eq!(watched.watch.take_changed().as_deref(), Some("{}"));
    }

    #[test]
    fn an_archive_without_space_is_tried_again_when_there_is_more() {
        let mut watched = Watched::new(&["a.tar"]);
        watched.ready(0);
        watched.watch.remember(&watched.archives()[0], "no space", Some(SPACE));
        watched.restart();
        watched.ready(0);
        let ready = |space| watched.ready_with(60, space);
        assert_eq!([SPACE / 2, SPACE, SPACE + (4 << 20) - 1, SPACE + (4 << 20)].map(ready), [0, 0, 0, 1]);
        assert!(!watched.is_waiting(60) && watched.watch.held_until_changed().is_empty());
        watched.watch.forget(&watched.archives()[0]);
        assert_eq!(watched.watch.take_changed().as_deref(), Some("{}"));
    }

    #[test]
    fn the_memory_is_bounded_and_no_archive_is_imported_that_it_could_not_hold() {
        let names: Vec<String> = (0..=REMEMBERED).map(|number| format!("{number:03}.tar")).collect();
        let watched = Watched::new(&names.iter().map(String::as_str).collect::<Vec<_>>());
        let archives = watched.archives();
        for archive in &archives[..REMEMBERED] {
            assert!(watched.watch.may_import(archive));
            watched.watch.remember(archive, &"ä".repeat(REASON), None);
        }
        assert!(!watched.watch.may_import(&archives[REMEMBERED]) && watched.watch.may_import(&archives[0]));
        let saved = watched.watch.take_changed().unwrap();
        assert!(saved.len() < 64 << 10, "{}", saved.len());
        for text in ["", "nonsense", "[]"] {
            watched.watch.restore(text);
            assert_eq!(watched.held(0).len(), REMEMBERED);
        }
    }

    #[test]
    fn a_folder_that_cannot_be_used_is_reported_once_and_keeps_no_daemon_awake() {
        let watched = Watched::new(&["a.tar"]);
        let note = |error: Option<&str>| watched.watch.note_folder(error.map(str::to_owned));
        assert!(watched.is_waiting(0));
        assert_eq!(
            [note(Some("read-only")), note(Some("read-only")), note(Some("gone"))],
            [true, false, true]
        );
        assert!(!watched.is_waiting(0));
        assert_eq!([note(None), note(Some("gone"))], [false, true]);
    }
}
