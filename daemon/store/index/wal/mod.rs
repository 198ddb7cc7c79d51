//! The write-ahead log of the index: the durable record of each small transaction.
//!
//! A transaction is appended with one sync, as one record of a few blocks, whatever the size of the index. Its rows wait in
//! memory ([`super::pending`]) until a checkpoint writes those of many transactions into the back end at once. The log has two
//! segments, `index/wal.0` and `index/wal.1`: one grows while the rows of the other are written to the back end. The back
//! end has a row with the number of the last transaction that it contains, and the place of the record after it
//! ([`LogRow`]): from there an opened index takes the rest from the log.

mod log;
mod read;
mod record;

pub(super) use self::log::{AppendError, Log};
pub(super) use self::read::{Replayed, last_record, read_all, replay};
#[cfg(fuzzing)]
pub(in crate::store) use self::record::count_rows;
pub(super) use self::record::{LogId, RecordRows};

use serde::{Deserialize, Serialize};

/// The paths of the segments in `index/`.
pub(in crate::store) const SEGMENTS: [&str; 2] = ["wal.0", "wal.1"];
/// The bounds of a segment's length in bytes.
const SEGMENT_LENGTH: (u64, u64) = (64 << 10, 4 << 20);
/// The size limit of an index by the length of its segments: no checkpoint needs more pages than the map has free.
const MAP_BY_SEGMENT: u64 = 1024;
/// The bytes of a segment for each row: limits the rows in memory, and the pages that a checkpoint changes.
const BYTES_PER_ROW: u64 = 680;

/// The limits of a log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Limits {
    /// The maximum length of a segment in bytes.
    pub(super) segment: u64,
    /// The maximum number of rows in a segment.
    pub(super) rows: usize,
    /// The maximum length of a record in bytes. A larger transaction is committed by the back end.
    pub(super) record: u64,
}

impl Limits {
    /// Returns the limits of an index of this size.
    pub(super) fn of(map_size: usize) -> Self {
        let segment = (map_size as u64 / MAP_BY_SEGMENT).clamp(SEGMENT_LENGTH.0, SEGMENT_LENGTH.1);
        let rows = usize::try_from(segment / BYTES_PER_ROW).unwrap_or(usize::MAX);
        Limits { segment, rows, record: segment / 4 }
    }
}

/// The place of a record.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Position {
    /// The place of the segment in [`SEGMENTS`].
    pub(super) segment: u8,
    /// The offset in bytes.
    pub(super) offset: u64,
}

impl Position {
    /// Returns the beginning of the other segment.
    pub(super) fn other(self) -> Self {
        Position { segment: 1 - self.segment.min(1), offset: 0 }
    }
}

/// The row of the back end that tells which transactions it contains.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct LogRow {
    /// The id of the log. Records with another id belong to another index.
    pub(super) id: LogId,
    /// The sequence number of the last transaction that the back end contains.
    pub(super) applied: u64,
    /// The place of the record after that one.
    pub(super) next: Position,
}
