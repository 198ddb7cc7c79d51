//! The note of whether the index was left in good order; without it the index is read to its end before it is used.
//!
//! `index/clean` is there while no process uses the index and the last one ended in good order. It binds the index that it
//! vouches for: its size and a digest of its meta pages and of a sample of the others. An index that was cut short,
//! replaced or damaged while the machine was off is inspected although the note is there; damage outside of the sample is
//! found by the inspection that comes before a collection (`gc`). The daemon removes the note when it begins. A command
//! line that changes the index where no daemon runs writes the boot of the machine into it: if it is killed the index is
//! in order all the same, after a power cut it may not be. `index/suspect` says that a process beside the daemon met
//! damage.

use std::fs::File;
use std::hash::{BuildHasher, RandomState};
use std::io::{self, Write};
use std::os::unix::fs::FileExt;

use super::clock;
use super::disk::{Directory, Disk};
use super::error::StoreError;
use super::obstacles::open_regular;
use crate::oci::{Algorithm, Hasher};

const CLEAN: &str = "index/clean";
pub(super) const SUSPECT: &str = "index/suspect";

/// The unit of the sample in bytes: a page of LMDB on nearly every machine.
const PAGE: u64 = 4096;
/// An index of at most so many pages is digested as a whole (4 MiB).
const WHOLE: u64 = 1024;
/// The pages of the sample of a larger one; a slow card reads so many in a fifth of a second.
const SAMPLE: u64 = 256;

/// How the index was left.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Order {
    /// By a process that ended in good order.
    Good,
    /// By a command line that was killed, while the machine was on.
    Killed,
    /// Unknown: the index has to be inspected.
    Unknown,
}

/// What the note in `index/clean` says.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Note {
    /// The index ended in good order and had this fingerprint.
    Ended(Fingerprint),
    /// A command line changes the index, in this boot of the machine.
    Changing { boot: String },
}

/// The size of the index file and a digest of a sample of it.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Fingerprint {
    /// In bytes.
    size: u64,
    /// A number that shifts the sample, so that not the same pages are looked at each time.
    phase: u64,
    /// The SHA-256 of the sample.
    digest: String,
}

impl Fingerprint {
    fn of(data: &File, phase: u64) -> io::Result<Self> {
        let size = data.metadata()?.len();
        let mut hasher = Hasher::new(Algorithm::Sha256);
        let mut page = [0; 4096];
        for number in sample(size.div_ceil(PAGE), phase) {
            let at = number * PAGE;
            let length = usize::try_from(PAGE.min(size - at)).unwrap_or_default();
            data.read_exact_at(&mut page[..length], at)?;
            hasher.update(&page[..length]);
        }
        Ok(Fingerprint { size, phase, digest: hasher.finish().hex() })
    }
}

/// Returns the numbers of the pages that are digested: all of them, or the two meta pages, one of each stretch, and the
/// last.
fn sample(pages: u64, phase: u64) -> Box<dyn Iterator<Item = u64>> {
    if pages <= WHOLE {
        return Box::new(0..pages);
    }
    let step = pages / SAMPLE;
    let one_of_each = (0..SAMPLE).map(move |number| number * step + phase % step);
    Box::new([0, 1].into_iter().chain(one_of_each).chain([pages - 1]))
}

impl Note {
    fn parse(text: &str) -> Option<Self> {
        let mut words = text.split_whitespace();
        let note = match words.next()? {
            "ended" => Note::Ended(Fingerprint {
                size: words.next()?.parse().ok()?,
                phase: words.next()?.parse().ok()?,
                digest: words.next()?.to_owned(),
            }),
            "changing" => Note::Changing { boot: words.next()?.to_owned() },
            _ => return None,
        };
        Some(note)
    }

    fn text(&self) -> String {
        match self {
            Note::Ended(Fingerprint { size, phase, digest }) => format!("ended {size} {phase} {digest}\n"),
            Note::Changing { boot } => format!("changing {boot}\n"),
        }
    }
}

impl Disk {
    /// Returns how the index was left.
    pub(super) fn order(&self) -> Order {
        if self.top(SUSPECT).exists() {
            return Order::Unknown;
        }
        let note = open_regular(&self.top(CLEAN)).and_then(io::read_to_string).ok();
        match note.as_deref().and_then(Note::parse) {
            Some(Note::Ended(noted)) if self.fingerprint(noted.phase).is_ok_and(|found| found == noted) => {
                Order::Good
            }
            Some(Note::Changing { boot }) if boot == clock::boot() => Order::Killed,
            Some(Note::Ended(_) | Note::Changing { .. }) | None => Order::Unknown,
        }
    }

    fn fingerprint(&self, phase: u64) -> io::Result<Fingerprint> {
        Fingerprint::of(&File::open(self.index_directory().join("data.mdb"))?, phase)
    }

    /// Returns how the index was left, and forgets it for good.
    pub(super) fn take_order(&self) -> Result<Order, StoreError> {
        let order = self.order();
        if order == Order::Unknown && self.top(CLEAN).exists() {
            log::warn!("the index is not as the registry left it; reading it to its end before it is used");
        }
        let forget = || -> io::Result<()> {
            self.remove(&self.top(CLEAN))?;
            self.remove(&self.top(SUSPECT))?;
            self.sync_directory(Directory::Index)
        };
        forget().map_err(|error| StoreError::io("forget how the index was left", error))?;
        Ok(order)
    }

    /// Notes that the index was left in good order. No process may write to it until the next one has taken the note.
    pub(super) fn note_good_order(&self) {
        let phase = RandomState::new().hash_one(CLEAN);
        let note = || {
            let text = Note::Ended(self.fingerprint(phase)?).text();
            self.create_anew(&self.top(CLEAN))?.write_all(text.as_bytes())
        };
        // Without the note the index is inspected, which costs a moment.
        if let Err(error) = note() {
            log::debug!("the end in good order is not noted: {error}");
        }
    }

    /// Notes, before a command line changes the index, that it does, if the note says anything.
    pub(super) fn note_change(&self) -> Result<(), StoreError> {
        if self.order() != Order::Good {
            return Ok(());
        }
        let boot = clock::boot();
        let has_boot = !boot.is_empty();
        let note = || -> io::Result<()> {
            let mut file = self.create_anew(&self.top(CLEAN))?;
            file.write_all(Note::Changing { boot }.text().as_bytes())?;
            file.sync_all()
        };
        if has_boot && note().is_ok() {
            return Ok(());
        }
        // A full disk takes no note, and collects all the same.
        let forget = || -> io::Result<()> {
            self.remove(&self.top(CLEAN))?;
            self.sync_directory(Directory::Index)
        };
        forget().map_err(|error| StoreError::io("note that the index is changed", error))
    }

    /// Notes that a command line which has changed the index ended in good order.
    pub(super) fn note_end_of_change(&self) {
        if self.order() == Order::Killed {
            self.note_good_order();
        }
    }

    /// Notes that a command line met damage in the index.
    pub(super) fn note_damage(&self) {
        if let Err(error) = self.open_or_create(&self.top(SUSPECT)) {
            log::warn!("the damage to the index is not noted: {error}");
        }
    }
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "tests damage the index")]
mod tests {
    use std::fs;

    use super::*;

    fn disk_with_index(bytes: &[u8]) -> (tempfile::TempDir, Disk) {
        let directory = tempfile::tempdir().unwrap();
        let disk = Disk::open(directory.path(), |_| {}).unwrap();
        fs::write(disk.index_directory().join("data.mdb"), bytes).unwrap();
        (directory, disk)
    }

    #[test]
    fn only_a_good_end_is_believed() {
        let (_directory, disk) = disk_with_index(b"index");
        assert_eq!(disk.take_order().unwrap(), Order::Unknown);
        disk.note_good_order();
        assert_eq!(disk.order(), Order::Good);
        disk.note_change().unwrap();
        assert_eq!(disk.order(), Order::Killed);
        disk.note_end_of_change();
        assert_eq!(disk.order(), Order::Good);
        disk.note_change().unwrap();
        fs::write(disk.top(CLEAN), Note::Changing { boot: "another".into() }.text()).unwrap();
        assert_eq!(disk.order(), Order::Unknown);
        disk.note_good_order();
        disk.note_damage();
        assert_eq!(disk.take_order().unwrap(), Order::Unknown);
        disk.note_end_of_change();
        assert_eq!(disk.order(), Order::Unknown, "nothing is noted where nothing was");
    }

    #[test]
    fn an_empty_note_is_not_believed() {
        let (_directory, disk) = disk_with_index(b"index");
        fs::write(disk.top(CLEAN), "").unwrap();
        assert_eq!(disk.order(), Order::Unknown);
    }

    #[test]
    fn an_index_that_changed_since_the_note_is_not_believed() {
        let page_size = usize::try_from(PAGE).unwrap();
        for pages in [4, 3 * usize::try_from(WHOLE).unwrap()] {
            let bytes: Vec<u8> =
                (0..=250).cycle().flat_map(|fill| vec![fill; page_size]).take(pages * page_size).collect();
            let (_directory, disk) = disk_with_index(&bytes);
            let data = disk.index_directory().join("data.mdb");
            disk.note_good_order();
            assert_eq!(disk.order(), Order::Good);
            fs::write(&data, &bytes[..bytes.len() - page_size]).unwrap();
            assert_eq!(disk.order(), Order::Unknown, "cut short");
            for page in [0, 1, pages - 1] {
                let mut changed = bytes.clone();
                changed[page * page_size + 7] ^= 1;
                fs::write(&data, changed).unwrap();
                assert_eq!(disk.order(), Order::Unknown, "page {page}");
            }
            fs::write(&data, bytes).unwrap();
            assert_eq!(disk.order(), Order::Good);
        }
    }

    #[test]
    fn a_sample_is_small_and_within_the_file() {
        for pages in [WHOLE + 1, 10 * WHOLE, 1 << 40] {
            for phase in [0, 1, u64::MAX] {
                let numbers: Vec<u64> = sample(pages, phase).collect();
                assert!(numbers.len() as u64 <= SAMPLE + 3 && numbers.iter().all(|number| *number < pages));
            }
        }
    }
}
