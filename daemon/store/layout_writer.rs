//! The thread that keeps `index.json` current.
//!
//! Soon after changes of names settle, a small `index.json` is rewritten as a whole, and the changes of a large one are
//! appended to its journal, so that the bytes written for a push do not grow with the registry. The whole file is
//! written when the journal is long, after an hour without changes, when the daemon stops, and after any error.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::{Duration, Instant};

use super::disk::{Disk, JournalEnd};
use super::error::StoreError;
use super::index::Index;
use super::index::changed_names::ChangedKey;
use super::index::tables::link_exceptions::LinkExceptions;
use super::index::tables::meta::Meta;
use super::index::tables::names::Names;
use super::index::tables::{ReadTables, Table, keys};
use super::layout;
use super::layout_format::Head;
use super::layout_journal::{self, Batch, Condition};
use super::layout_reader;
use super::top_files::JOURNAL;
use crate::oci::Reference;

/// The time that names must not change before `index.json` or its journal is written (debounce).
const SETTLED: Duration = Duration::from_secs(1);
/// The maximum delay while names keep changing, and the interval of retries after a failed write.
const MAX_DELAY: Duration = Duration::from_secs(10);
/// The time without changes after which the journal is merged into `index.json`.
const QUIET: Duration = Duration::from_hours(1);
/// The largest `index.json` that is rewritten for each change, in bytes: it costs no more than the journal.
const SMALL: u64 = 16 << 10;
/// The bounds of the journal's length, in bytes. Between them it is a quarter of `index.json`.
const JOURNAL_LENGTH: (u64, u64) = (64 << 10, 2 << 20);
/// The factor by which the journal may exceed that length where the index waits for it: a whole file takes seconds.
const EXCESS_OF_CATCHING_UP: u64 = 4;
// What a start does not read would be lost.
const _: () = assert!(JOURNAL_LENGTH.1 * EXCESS_OF_CATCHING_UP <= layout_journal::MAX_LENGTH);
/// The largest `index.json` that is rewritten at an idle exit whatever the journal has, in bytes.
const MERGED_WHEN_IDLE: u64 = 256 << 10;
/// At an idle exit the journal of a larger one is merged if `index.json` has at most so many times its length.
const MERGED_RATIO: u64 = 16;

/// The writer of `index.json` and its journal.
pub(super) struct LayoutWriter<'a> {
    disk: &'a Disk,
    index: &'a Index,
    /// Set until a whole `index.json` has been written.
    needs_whole: bool,
    /// The largest `index.json` that is rewritten for each change, in bytes.
    small: u64,
    /// The factor by which the journal may exceed its length.
    excess: u64,
}

impl<'a> LayoutWriter<'a> {
    /// Returns a writer; `is_stale` if `index.json` may lack changes of an earlier process.
    pub(super) fn new(disk: &'a Disk, index: &'a Index, is_stale: bool) -> Self {
        // What an earlier process has left is read before something is appended.
        *disk.journal_end.lock() = None;
        LayoutWriter { disk, index, needs_whole: is_stale, small: SMALL, excess: 1 }
    }

    /// Writes after names have changed, until the sender is dropped. Returns true if `index.json` and its journal have
    /// everything then. With `exits_idle` the journal of a large `index.json` stays at the end.
    pub(super) fn keep_current(mut self, changed: &Receiver<()>, exits_idle: &AtomicBool) -> bool {
        let mut current = true;
        loop {
            let is_open = match self.wait(changed, current) {
                Ok(()) => {
                    debounce(changed);
                    true
                }
                Err(RecvTimeoutError::Timeout) => {
                    self.needs_whole = true;
                    true
                }
                Err(RecvTimeoutError::Disconnected) => {
                    if current && !self.has_to_merge(exits_idle.load(Ordering::Relaxed)) {
                        return true;
                    }
                    self.needs_whole = true;
                    false
                }
            };
            let written = self.write();
            match &written {
                Ok(()) | Err(StoreError::ReadOnly) => {}
                Err(error) if current => {
                    log::error!("index.json could not be written and will be retried: {error}");
                }
                Err(error) => log::debug!("index.json still cannot be written: {error}"),
            }
            current = written.is_ok();
            if !is_open {
                return current;
            }
        }
    }

    /// Waits for a change; after a failed write only until the next attempt, and with a journal until it is merged.
    fn wait(&self, changed: &Receiver<()>, current: bool) -> Result<(), RecvTimeoutError> {
        if !current {
            changed.recv_timeout(MAX_DELAY)
        } else if self.disk.has_file(JOURNAL) {
            changed.recv_timeout(QUIET)
        } else {
            changed.recv().map_err(|_| RecvTimeoutError::Disconnected)
        }
    }

    fn write(&mut self) -> Result<(), StoreError> {
        if !self.needs_whole {
            // What was taken for a batch that failed is only in a whole file.
            self.needs_whole = true;
            if self.append()? {
                self.needs_whole = false;
                return Ok(());
            }
        }
        *self.disk.journal_end.lock() = None;
        layout::write(self.disk, self.index)?;
        self.needs_whole = false;
        Ok(())
    }

    /// Appends the changes to the journal. Returns false if a whole `index.json` has to be written instead.
    fn append(&mut self) -> Result<bool, StoreError> {
        let _lock = self.disk.lock_layout();
        let Ok(Some((file, length))) = layout_reader::read_head_of_file(self.disk) else { return Ok(false) };
        if length <= self.small {
            return Ok(false);
        }
        let Some(end) = self.journal_end(&file)? else { return Ok(false) };
        // First the snapshot, then the names that it may have changed.
        let tables = self.index.read()?;
        let change = tables.change()?;
        if change <= self.index.changed_names.saved().max(file.change) {
            // A write that was due already has had these changes.
            return Ok(true);
        }
        let Some(names) = self.index.changed_names.take(change) else { return Ok(false) };
        let appended = self.append_batch(tables, &names, change, (end, length));
        if !matches!(appended, Ok(true)) {
            // Names that were taken and not written are only in a whole file.
            self.index.changed_names.lose(change);
        }
        appended
    }

    /// Appends these names as the snapshot `tables` has them, unless the journal of an `index.json` of this length would
    /// be too long.
    fn append_batch(
        &mut self,
        tables: impl ReadTables,
        names: &[ChangedKey],
        change: u64,
        (end, length): (JournalEnd, u64),
    ) -> Result<bool, StoreError> {
        let Ok(batch) = batch_of(&tables, names) else { return Ok(false) };
        let (hold, id) = (tables.collection_is_held()?, tables.registry_id()?);
        drop(tables);
        let batch = batch.end(end.base, Head { change, now: self.index.clock.now(), hold, id })?;
        let (least, most) = JOURNAL_LENGTH;
        if end.length + batch.len() as u64 > (length / 4).clamp(least, most) * self.excess {
            return Ok(false);
        }
        self.disk.append_to_journal(&batch, end.length)?;
        *self.disk.journal_end.lock() = self.end_on_disk(end.base);
        self.index.changed_names.set_saved(change);
        Ok(true)
    }

    /// Returns the end of the journal of this `index.json`, with the length zero before its first batch; `None` if nothing
    /// can be appended to it.
    fn journal_end(&self, file: &Head) -> Result<Option<JournalEnd>, StoreError> {
        let new = JournalEnd { base: file.change, inode: 0, length: 0 };
        let Some(found) = self.end_on_disk(file.change) else { return Ok(Some(new)) };
        if *self.disk.journal_end.lock() == Some(found) {
            return Ok(Some(found));
        }
        let Some(journal) = layout_reader::read_journal(self.disk)? else { return Ok(None) };
        if journal.condition != Condition::Whole {
            return Ok(None);
        }
        if !journal.is_newer_than(file) {
            return Ok(Some(new));
        }
        Ok((journal.base == file.change).then_some(found))
    }

    fn end_on_disk(&self, base: u64) -> Option<JournalEnd> {
        let file = fs::symlink_metadata(self.disk.path(JOURNAL)).ok()?;
        Some(JournalEnd { base, inode: file.ino(), length: file.len() })
    }

    /// Returns true if the journal has to be merged into `index.json` before the process ends.
    fn has_to_merge(&self, exits_idle: bool) -> bool {
        let Ok(journal) = fs::symlink_metadata(self.disk.path(JOURNAL)) else { return false };
        let length = fs::metadata(self.disk.path("index.json")).map_or(0, |file| file.len());
        !exits_idle || length <= MERGED_WHEN_IDLE.max(journal.len().saturating_mul(MERGED_RATIO))
    }
}

/// Writes the names that `index.json` and its journal lack, on the thread that writes the index, because the log is about to
/// lose them. If that fails, they are in the index alone until the layout thread writes them.
pub(super) fn catch_up(disk: &Disk, index: &Index) {
    // The layout thread merges a journal that gets too long by this.
    let excess = EXCESS_OF_CATCHING_UP;
    let mut writer = LayoutWriter { disk, index, needs_whole: false, small: 0, excess };
    if matches!(writer.append(), Ok(true)) {
        return;
    }
    if let Err(error) = layout::write(disk, index) {
        log::debug!("index.json could not be written before the log of the index continues: {error}");
    }
}

/// Makes a batch of the present state of names and link exceptions.
pub(super) fn batch_of(tables: &impl ReadTables, changed: &[ChangedKey]) -> Result<Batch, StoreError> {
    let mut batch = Batch::default();
    for (table, key) in changed {
        if *table == Table::Tags {
            let Some((repository, tag)) = keys::split_tag(key) else { continue };
            let reference = Reference::Tag(tag);
            match tables.name_of(&repository, &reference)? {
                Some(name) => batch.set(&name)?,
                None => batch.remove(&repository, &reference)?,
            }
            continue;
        }
        let Some((repository, digest)) = keys::split_content(key) else { continue };
        if *table == Table::LinkExceptions {
            batch.link(&repository, &digest, tables.link_exception(&repository, &digest)?)?;
            continue;
        }
        match tables.untagged_name_of(&repository, &digest)? {
            Some(name) => batch.set(&name)?,
            None => batch.remove(&repository, &Reference::Digest(digest))?,
        }
    }
    Ok(batch)
}

/// Waits until changes have settled, or for [`MAX_DELAY`].
fn debounce(changed: &Receiver<()>) {
    let first = Instant::now();
    while first.elapsed() < MAX_DELAY && changed.recv_timeout(SETTLED).is_ok() {}
}

#[cfg(test)]
mod tests;
