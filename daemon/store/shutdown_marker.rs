//! The shutdown marker: whether the index was closed cleanly. Without it the index is inspected before it is used.
//!
//! `index/clean` exists while no process uses the index and the last one has closed it cleanly. It contains a
//! fingerprint of the index that it vouches for: the size, and a digest of the meta pages and of a sample of the
//! others. An index that was truncated, replaced or damaged while the machine was off is inspected although the
//! marker exists; damage outside of the sample is found by the inspection before a collection (`gc`). The owner
//! of the store removes the marker when it opens the index. `index/suspect` exists after a memory fault (`faults`).

use std::fs::File;
use std::hash::{BuildHasher, RandomState};
use std::io::{self, Write};
use std::os::unix::fs::FileExt;

use super::disk::{Directory, Disk};
use super::error::StoreError;
use super::regular_file::open_regular;
use crate::oci::{Algorithm, Hasher};

pub(super) const CLEAN: &str = "index/clean";
pub(super) const SUSPECT: &str = "index/suspect";

/// The first word of `index/clean`.
const ENDED: &str = "ended";

/// The unit of the sample in bytes: LMDB's page size on nearly every machine.
const PAGE: u64 = 4096;
/// An index of at most so many pages (4 MiB) is digested as a whole.
const WHOLE_PAGES: u64 = 1024;
/// The sampled pages of a larger index, which a slow card reads in a fifth of a second.
const SAMPLED_PAGES: u64 = 256;

/// The way in which the index was last closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ShutdownMarker {
    /// A process closed it cleanly, after this transaction if the marker tells.
    Clean(Option<u64>),
    /// Unknown: the index has to be inspected.
    Unknown,
}

impl ShutdownMarker {
    /// Returns the sequence number of the last transaction of an index that was closed cleanly; zero if it is not known.
    pub(super) fn ended_at(self) -> u64 {
        match self {
            ShutdownMarker::Clean(sequence) => sequence.unwrap_or_default(),
            ShutdownMarker::Unknown => 0,
        }
    }
}

/// The size of the index file and a digest of a sample of its pages.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Fingerprint {
    /// In bytes.
    size: u64,
    /// An offset of the sample, so that each shutdown samples other pages.
    phase: u64,
    /// The SHA-256 of the sample.
    digest: String,
    /// The sequence number of the last transaction, which may be in the log. Earlier releases did not write it.
    sequence: Option<u64>,
}

impl Fingerprint {
    fn of(data: &File, phase: u64, sequence: Option<u64>) -> io::Result<Self> {
        let size = data.metadata()?.len();
        let mut hasher = Hasher::new(Algorithm::Sha256);
        let mut page = [0; 4096];
        for number in sample(size.div_ceil(PAGE), phase) {
            let at = number * PAGE;
            let length = usize::try_from(PAGE.min(size - at)).unwrap_or_default();
            data.read_exact_at(&mut page[..length], at)?;
            hasher.update(&page[..length]);
        }
        Ok(Fingerprint { size, phase, digest: hasher.finish().hex(), sequence })
    }
}

/// Returns the page numbers of the sample: all pages, or the two meta pages, one page of each stretch, and the last
/// page.
fn sample(pages: u64, phase: u64) -> Box<dyn Iterator<Item = u64>> {
    if pages <= WHOLE_PAGES {
        return Box::new(0..pages);
    }
    let step = pages / SAMPLED_PAGES;
    let one_of_each = (0..SAMPLED_PAGES).map(move |number| number * step + phase % step);
    Box::new([0, 1].into_iter().chain(one_of_each).chain([pages - 1]))
}

impl Fingerprint {
    /// Parses the content of `index/clean`. That of a command of an earlier release, which was killed while it changed the
    /// index, is no fingerprint.
    fn parse(text: &str) -> Option<Self> {
        let mut words = text.split_whitespace();
        (words.next()? == ENDED).then_some(())?;
        Some(Fingerprint {
            size: words.next()?.parse().ok()?,
            phase: words.next()?.parse().ok()?,
            digest: words.next()?.to_owned(),
            sequence: words.next().map(str::parse).transpose().ok()?,
        })
    }

    fn text(&self) -> String {
        let Fingerprint { size, phase, digest, sequence } = self;
        let sequence = sequence.map(|sequence| format!(" {sequence}")).unwrap_or_default();
        format!("{ENDED} {size} {phase} {digest}{sequence}\n")
    }
}

impl Disk {
    /// Returns the way in which the index was last closed.
    pub(super) fn shutdown_marker(&self) -> ShutdownMarker {
        if self.path(SUSPECT).exists() {
            return ShutdownMarker::Unknown;
        }
        let text = open_regular(&self.path(CLEAN)).and_then(io::read_to_string).ok();
        match text.as_deref().and_then(Fingerprint::parse) {
            Some(noted)
                if self.fingerprint(noted.phase, noted.sequence).is_ok_and(|found| found == noted) =>
            {
                ShutdownMarker::Clean(noted.sequence)
            }
            Some(_) | None => ShutdownMarker::Unknown,
        }
    }

    fn fingerprint(&self, phase: u64, sequence: Option<u64>) -> io::Result<Fingerprint> {
        Fingerprint::of(&File::open(self.index_directory().join("data.mdb"))?, phase, sequence)
    }

    /// Returns the way in which the index was last closed, and removes the marker durably.
    pub(super) fn take_shutdown_marker(&self) -> Result<ShutdownMarker, StoreError> {
        let marker = self.shutdown_marker();
        if marker == ShutdownMarker::Unknown && self.path(CLEAN).exists() {
            log::warn!("the index has changed since the registry closed it; inspecting it before it is used");
        }
        let remove_marker = || -> io::Result<()> {
            self.remove(&self.path(CLEAN))?;
            self.remove(&self.path(SUSPECT))?;
            self.sync_directory(Directory::Index)
        };
        remove_marker().map_err(|error| StoreError::io("remove the shutdown marker of the index", error))?;
        Ok(marker)
    }

    /// Records that the index was closed cleanly after the transaction with this sequence number. No process may write to
    /// it until the next one has taken the marker.
    pub(super) fn mark_clean(&self, sequence: Option<u64>) {
        let phase = RandomState::new().hash_one(CLEAN);
        let write = || {
            let text = self.fingerprint(phase, sequence)?.text();
            self.create_anew(&self.path(CLEAN))?.write_all(text.as_bytes())
        };
        // Without the marker the next start inspects the index, which costs a moment.
        if let Err(error) = write() {
            log::debug!("the shutdown marker could not be written: {error}");
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
    fn only_a_clean_shutdown_is_trusted() {
        let (_directory, disk) = disk_with_index(b"index");
        assert_eq!(disk.take_shutdown_marker().unwrap(), ShutdownMarker::Unknown);
        disk.mark_clean(None);
        assert_eq!(disk.shutdown_marker(), ShutdownMarker::Clean(None));
        // As a command of an earlier release left it.
        fs::write(disk.path(CLEAN), "changing 5f6e\n").unwrap();
        assert_eq!(disk.shutdown_marker(), ShutdownMarker::Unknown);
        disk.mark_clean(None);
        fs::write(disk.path(SUSPECT), "").unwrap();
        assert_eq!(disk.take_shutdown_marker().unwrap(), ShutdownMarker::Unknown);
        assert!(!disk.path(SUSPECT).exists());
    }

    #[test]
    fn empty_marker_is_not_trusted() {
        let (_directory, disk) = disk_with_index(b"index");
        fs::write(disk.path(CLEAN), "").unwrap();
        assert_eq!(disk.shutdown_marker(), ShutdownMarker::Unknown);
    }

    #[test]
    fn changed_index_is_not_trusted() {
        let page_size = usize::try_from(PAGE).unwrap();
        for pages in [4, 3 * usize::try_from(WHOLE_PAGES).unwrap()] {
            let bytes: Vec<u8> =
                (0..=250).cycle().flat_map(|fill| vec![fill; page_size]).take(pages * page_size).collect();
            let (_directory, disk) = disk_with_index(&bytes);
            let data = disk.index_directory().join("data.mdb");
            disk.mark_clean(None);
            assert_eq!(disk.shutdown_marker(), ShutdownMarker::Clean(None));
            fs::write(&data, &bytes[..bytes.len() - page_size]).unwrap();
            assert_eq!(disk.shutdown_marker(), ShutdownMarker::Unknown, "cut short");
            for page in [0, 1, pages - 1] {
                let mut changed = bytes.clone();
                changed[page * page_size + 7] ^= 1;
                fs::write(&data, changed).unwrap();
                assert_eq!(disk.shutdown_marker(), ShutdownMarker::Unknown, "page {page}");
            }
            fs::write(&data, bytes).unwrap();
            assert_eq!(disk.shutdown_marker(), ShutdownMarker::Clean(None));
        }
    }

    #[test]
    fn sample_is_small_and_within_the_file() {
        for pages in [WHOLE_PAGES + 1, 10 * WHOLE_PAGES, 1 << 40] {
            for phase in [0, 1, u64::MAX] {
                let numbers: Vec<u64> = sample(pages, phase).collect();
                assert!(
                    numbers.len() as u64 <= SAMPLED_PAGES + 3 && numbers.iter().all(|number| *number < pages)
                );
            }
        }
    }
}
