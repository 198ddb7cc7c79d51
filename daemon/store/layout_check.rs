//! Checking `index.json` against the index while the daemon runs.
//!
//! The file is replaced atomically and contains its change number; its checksum shows damage at any time. If the
//! index has had no change since, both must have the same names and link exceptions. While names change, the file is
//! behind by up to eleven seconds and the time that it takes to write it; then only its checksum is compared.

use std::hash::{BuildHasher, Hash, RandomState};
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::disk::Disk;
use super::error::StoreError;
use super::index::Index;
use super::index::tables::link_exceptions::{LinkException, LinkExceptions};
use super::index::tables::meta::Meta;
use super::index::tables::names::{Name, Names};
use super::layout;
use super::layout_checksum::Checksum;
use super::layout_format::{Entry, Head};
use super::layout_reader::{LayoutRead, read_existing, read_head};
use super::{Inner, Role, Store, blocking};
use crate::oci::Reference;

/// The link exceptions that one read of the index returns.
const PAGE: usize = 1000;
/// The maximum time that a check waits for a running daemon to write the latest changes.
const CATCH_UP: Duration = Duration::from_mins(1);
/// The polling interval of that wait.
const RETRY_INTERVAL: Duration = Duration::from_millis(250);
/// The interval at which collections of the daemon check the file.
const EVERY: Duration = Duration::from_hours(24);

/// The result of a comparison.
enum Outcome {
    /// The file agrees with the index.
    Current,
    /// The file is intact but older than this change number.
    Behind(u64),
    /// The file is corrupt or contradicts the index; the text says how.
    Damaged(String),
}

/// A set of entries as a sum of keyed hashes, which does not depend on their order and takes constant memory.
#[derive(Clone, Default, PartialEq, Eq)]
struct EntrySum {
    hashes: u64,
    names: u64,
    exceptions: u64,
}

impl EntrySum {
    fn add_name(&mut self, state: &RandomState, name: &Name) {
        // The timestamp of an untagged manifest may change without a new change number.
        let timestamps = name.timestamps.filter(|_| matches!(name.reference, Reference::Tag(_)));
        let timestamps = timestamps.map(|timestamps| (timestamps.pushed, timestamps.since.seconds()));
        let (repository, digest) = (name.repository.as_str(), name.digest.to_string());
        let about = (name.reference.to_string(), digest, name.size, name.media_type.as_str(), timestamps);
        let about = (about, name.is_sparse);
        self.names += 1;
        self.add(state, &("name", repository, about));
    }

    fn add_exception(&mut self, state: &RandomState, exception: &LinkException) {
        self.exceptions += 1;
        self.add(
            state,
            &("link", exception.repository.as_str(), exception.digest.to_string(), exception.kind),
        );
    }

    fn add(&mut self, state: &RandomState, entry: &impl Hash) {
        self.hashes = self.hashes.wrapping_add(state.hash_one(entry));
    }
}

/// Reads `index.json` to its end and compares it with the index. With a corrupt index only the checksum is compared.
fn compare(disk: &Disk, index: &Index, index_is_healthy: bool) -> Result<Outcome, StoreError> {
    let (state, mut listed) = (RandomState::new(), EntrySum::default());
    let read = read_existing(disk, &mut |entry| {
        match entry {
            Entry::Name(name) => listed.add_name(&state, &name),
            Entry::Exception(exception) => listed.add_exception(&state, &exception),
        }
        Ok(())
    });
    let LayoutRead { head, checksum, is_cut } = match read {
        Ok(Some(read)) => read,
        Ok(None) => return Ok(Outcome::Behind(index.change()?)),
        Err(error) if error.is_lack_of_resources() => return Err(error),
        Err(error) => return Ok(Outcome::Damaged(error.to_string())),
    };
    if checksum == Checksum::Wrong {
        return Ok(Outcome::Damaged("its checksum does not match".into()));
    }
    if !index_is_healthy {
        return Ok(Outcome::Current);
    }
    // The snapshot is newer than the open file, so that it has every change that the file has.
    let (head_now, indexed) = sum_of(index, &state)?;
    if is_cut {
        return Ok(Outcome::Damaged("the end of names.journal is damaged".into()));
    }
    Ok(match head.change.cmp(&head_now.change) {
        std::cmp::Ordering::Less => Outcome::Behind(head_now.change),
        std::cmp::Ordering::Greater => Outcome::Damaged(format!(
            "its change number is {}, but the index is at {}",
            head.change, head_now.change
        )),
        std::cmp::Ordering::Equal if listed == indexed && agrees(&head, &head_now) => Outcome::Current,
        std::cmp::Ordering::Equal => Outcome::Damaged(difference(&listed, &indexed)),
    })
}

/// Compares the annotations of a file with those that it would get now. A file of an older release has no id.
fn agrees(file: &Head, now: &Head) -> bool {
    file.hold == now.hold && (file.id.is_none() || file.id == now.id)
}

fn difference(listed: &EntrySum, indexed: &EntrySum) -> String {
    let counts = |sum: &EntrySum| (sum.names, sum.exceptions);
    if counts(listed) == counts(indexed) {
        return "its entries differ from those of the index".into();
    }
    format!(
        "it has {} names and {} link exceptions, the index has {} and {}",
        listed.names, listed.exceptions, indexed.names, indexed.exceptions
    )
}

/// Adds up all names and link exceptions of one snapshot of the index.
fn sum_of(index: &Index, state: &RandomState) -> Result<(Head, EntrySum), StoreError> {
    let tables = index.read()?;
    let mut sum = EntrySum::default();
    let mut after = None;
    loop {
        let page = tables.link_exceptions_after(after.as_ref(), PAGE)?;
        for exception in &page {
            sum.add_exception(state, exception);
        }
        after = page.into_iter().next_back();
        if after.is_none() {
            break;
        }
    }
    let named = tables.for_each_name(&mut |name| {
        sum.add_name(state, name);
        Ok(())
    })?;
    let hold = tables.collection_is_held()?;
    let id = tables.registry_id()?;
    let head = Head { change: named.change, now: index.clock.now(), hold, id };
    named.damage.map_or(Ok((head, sum)), Err)
}

impl Inner {
    /// Returns the fault of `index.json`, if it has one. Waits for a running daemon to write the latest changes, so
    /// that the file can be compared with the index.
    fn find_layout_fault(&self, index_is_healthy: bool) -> Result<Option<String>, StoreError> {
        let began = Instant::now();
        let mut wanted = None;
        loop {
            let change = match self.compare_layout(index_is_healthy)? {
                Outcome::Current => return Ok(None),
                Outcome::Behind(change) => change,
                // A daemon that writes the file moves aside the directory or symbolic link in its place.
                Outcome::Damaged(_) if !self.disk.has_file("index.json") && self.layout_is_written() => {
                    self.index.change()?
                }
                Outcome::Damaged(_) => break,
            };
            // While names change the file is always behind: it suffices that it catches up with one change.
            if wanted.is_some_and(|wanted| self.layout_has(wanted)) || !self.layout_is_written() {
                return Ok(None);
            }
            let wanted = *wanted.get_or_insert(change);
            while !self.layout_has(wanted) && self.layout_is_written() {
                if began.elapsed() >= CATCH_UP {
                    return Ok(Some("the daemon has not written the latest changes to it".into()));
                }
                std::thread::sleep(RETRY_INTERVAL);
            }
        }
        // A second comparison, since the file may have been replaced after the first, for example by a repair, and the
        // journal may have been read while the daemon appended to it.
        std::thread::sleep(RETRY_INTERVAL);
        Ok(match self.compare_layout(index_is_healthy)? {
            Outcome::Damaged(why) => Some(why),
            Outcome::Current | Outcome::Behind(_) => None,
        })
    }

    fn compare_layout(&self, index_is_healthy: bool) -> Result<Outcome, StoreError> {
        compare(&self.disk, &self.index, index_is_healthy)
    }

    /// Returns true if `index.json` has reached a change number; reads only its head.
    fn layout_has(&self, change: u64) -> bool {
        self.disk.has_file("index.json") && read_head(&self.disk).is_ok_and(|head| head.change >= change)
    }

    /// Returns true if this process writes `index.json`.
    fn layout_is_written(&self) -> bool {
        self.disk.read_only_reason().is_none()
    }
}

impl Store {
    /// Returns the fault of `index.json`, if it has one; may wait for a running daemon to write it.
    pub(super) async fn layout_fault(&self, index_is_healthy: bool) -> Result<Option<String>, StoreError> {
        let inner = Arc::clone(&self.0);
        blocking(move || inner.find_layout_fault(index_is_healthy)).await
    }

    /// Writes `index.json` from the index, which must be healthy. Returns false if the store is read-only or has no
    /// room.
    pub(super) async fn rewrite_layout(&self) -> Result<bool, StoreError> {
        let inner = Arc::clone(&self.0);
        match blocking(move || layout::write(&inner.disk, &inner.index)).await {
            Ok(()) => Ok(true),
            Err(error @ StoreError::ReadOnly) => {
                log::warn!("index.json could not be rewritten: {error}");
                Ok(false)
            }
            Err(error) if error.is_lack_of_space() => {
                log::warn!("index.json could not be rewritten: {error}");
                Ok(false)
            }
            Err(error) => Err(error),
        }
    }

    /// Checks `index.json` before a collection of the daemon, at most once a day, and rewrites it if it is damaged.
    /// The index is inspected before that: the file may be the only place that has the names.
    pub(super) async fn keep_layout_healthy(&self) -> Result<(), StoreError> {
        let is_due = self.0.layout_checked.lock().is_none_or(|checked| checked.elapsed() >= EVERY);
        if self.0.role != Role::Daemon || !is_due {
            return Ok(());
        }
        let inner = Arc::clone(&self.0);
        if let Outcome::Damaged(why) = blocking(move || inner.compare_layout(true)).await? {
            log::warn!("index.json is damaged: {why}");
            self.verify_index().await?;
            if self.rewrite_layout().await? {
                log::warn!("index.json has been rewritten from the index");
            }
        }
        *self.0.layout_checked.lock() = Some(Instant::now());
        Ok(())
    }
}

#[cfg(test)]
mod tests;
