//! The end of the log, where records are appended.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use super::place::{Limits, Position};
use super::record::{LogId, RecordRows};
use crate::store::error::StoreError;
use crate::store::files::Files;
use crate::store::index_files::SEGMENTS;
use crate::store::regular_file::open_regular_with;

/// The bytes by which a segment is extended.
const STEP: u64 = 256 << 10;

/// Reason why a record was not appended.
#[derive(Debug)]
pub(in crate::store) enum AppendError {
    /// The segment has no room for it, or the disk has none to extend the segment: the next segment may have.
    NoRoom,
    /// Nothing was appended.
    Aborted(StoreError),
    /// The sync failed: the record may be durable or not, as after a power cut.
    Unknown(StoreError),
}

/// An open segment.
#[derive(Debug)]
struct Segment {
    file: File,
    /// Its length in bytes; all of it has been written.
    length: u64,
}

/// The log of an open index. Only the thread that writes the index uses it.
pub(in crate::store) struct Log {
    directory: PathBuf,
    files: Files,
    pub(in crate::store) id: LogId,
    limits: Limits,
    segments: [Option<Segment>; 2],
    /// The place of the next record.
    pub(in crate::store) end: Position,
    /// The sequence number of the next record.
    pub(in crate::store) next: u64,
    /// The rows in the segment that grows.
    rows: usize,
    /// True while a record that failed may stand at the end, whole: only one in the same place, or a commit of the back end
    /// that passes over it, may follow.
    pub(in crate::store) has_failed_record: bool,
}

impl Log {
    /// Returns the log of the index in `index/` below `root`, which ends at this place with so many rows.
    pub(in crate::store) fn new(
        root: &Path,
        id: LogId,
        limits: Limits,
        (end, next): (Position, u64),
        rows: usize,
    ) -> Self {
        Log {
            directory: root.join("index"),
            files: Files::of(root),
            id,
            limits,
            segments: [None, None],
            end,
            next,
            rows,
            has_failed_record: false,
        }
    }

    /// Returns true if a transaction is small enough for a record.
    pub(in crate::store) fn takes(&self, rows: &RecordRows) -> bool {
        rows.length() as u64 <= self.limits.record && rows.count() <= self.limits.rows / 2
    }

    /// Appends a record and syncs it. Once this returns `Ok`, the record survives a power cut.
    pub(in crate::store) fn append(&mut self, rows: &RecordRows) -> Result<(), AppendError> {
        let length = rows.length() as u64;
        let end = self.end.offset + length;
        if end > self.limits.segment || (self.rows > 0 && self.rows + rows.count() > self.limits.rows) {
            return Err(AppendError::NoRoom);
        }
        let failed = |error| StoreError::io("write the log of the index", error);
        let record = rows.encode(&self.id, self.next);
        let number = usize::from(self.end.segment);
        if self.segments[number].is_none() {
            let opened = self.open(number).map_err(|error| refused(failed(error)))?;
            self.segments[number] = Some(opened);
        }
        let Some(segment) = &mut self.segments[number] else { return Err(AppendError::NoRoom) };
        segment.extend_to(&self.files, end, self.limits.segment).map_err(|error| refused(failed(error)))?;
        let write = || self.files.write_at(&segment.file, &record, self.end.offset);
        let sync = || {
            let synced = self.files.sync_data(&segment.file);
            synced.map_err(|error| StoreError::io("sync the log of the index", error))
        };
        self.has_failed_record = true;
        write().map_err(|error| refused(failed(error)))?;
        if let Err(error) = sync() {
            if !error.is_lack_of_resources() && !error.is_lack_of_space() {
                return Err(AppendError::Unknown(error));
            }
            // The kernel may have dropped the pages and marked them clean, so that a second sync alone would succeed without
            // writing them.
            write().map_err(|error| AppendError::Unknown(failed(error)))?;
            sync().map_err(AppendError::Unknown)?;
        }
        self.end.offset = end;
        self.next += 1;
        self.rows += rows.count();
        self.has_failed_record = false;
        Ok(())
    }

    /// Continues at the beginning of the other segment, whose records are overwritten, with this sequence number.
    pub(in crate::store) fn switch(&mut self, next: u64) {
        (self.end, self.next, self.rows) = (self.end.other(), next, 0);
        self.has_failed_record = false;
    }

    fn open(&self, number: usize) -> io::Result<Segment> {
        let path = self.directory.join(SEGMENTS[number]);
        let open = |path: &Path| open_regular_with(OpenOptions::new().read(true).write(true), path);
        let file = match self.files.open(&path, open) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                let mut options = OpenOptions::new();
                options.read(true).write(true).create_new(true).mode(0o600);
                self.files.create(&path, &options)?
            }
            opened => opened?,
        };
        let length = file.metadata()?.len();
        let segment = Segment { file, length };
        segment.forget_pages();
        if length == 0 {
            // Also for a file whose first sync failed: it has no record yet.
            self.files.sync_directory(&self.directory, &File::open(&self.directory)?)?;
        }
        Ok(segment)
    }
}

/// Returns the error of a write: with no room on the disk, the other segment or the back end may take the transaction.
fn refused(error: StoreError) -> AppendError {
    if error.is_lack_of_space() { AppendError::NoRoom } else { AppendError::Aborted(error) }
}

impl Segment {
    /// Drops the pages of the file from the page cache. Those of a long write or of read-ahead are large, and a record that
    /// is written into such a page counts, and on some file systems is written, as the whole of it.
    fn forget_pages(&self) {
        // Best effort: a file system without a page cache has none to drop.
        let _ = rustix::fs::fadvise(&self.file, 0, None, rustix::fs::Advice::DontNeed);
    }

    /// Fills the segment with zeros up to `end` and some more, at most to `limit`, and syncs it. A record is written only over
    /// blocks that have been written before: then its sync writes the record and no metadata, which costs less, and which
    /// XFS has been seen to lose when it is shut down.
    fn extend_to(&mut self, files: &Files, end: u64, limit: u64) -> io::Result<()> {
        if end <= self.length {
            return Ok(());
        }
        let wanted = end.next_multiple_of(STEP).min(limit).max(end);
        self.fill_to(files, wanted).or_else(|error| match error.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => self.fill_to(files, end),
            _ => Err(error),
        })
    }

    fn fill_to(&mut self, files: &Files, end: u64) -> io::Result<()> {
        let zeros = vec![0; usize::try_from(end - self.length).unwrap_or_default()];
        files.write_at(&self.file, &zeros, self.length)?;
        files.sync_all(&self.file)?;
        self.length = end;
        self.forget_pages();
        Ok(())
    }
}
