//! Places in the log, and its limits.

use serde::{Deserialize, Serialize};

use super::record::LogId;

/// The bounds of a segment's length in bytes.
pub(super) const SEGMENT_LENGTH: (u64, u64) = (64 << 10, 4 << 20);
/// The size limit of an index by the length of its segments: no checkpoint needs more pages than the map has free.
const MAP_BY_SEGMENT: u64 = 1024;
/// The bytes of a segment for each row: limits the rows in memory, and the pages that a checkpoint changes.
const BYTES_PER_ROW: u64 = 680;

/// The limits of a log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::store) struct Limits {
    /// The maximum length of a segment in bytes.
    pub(in crate::store) segment: u64,
    /// The maximum number of rows in a segment.
    pub(in crate::store) rows: usize,
    /// The maximum length of a record in bytes. A larger transaction is committed by the back end.
    pub(in crate::store) record: u64,
}

impl Limits {
    /// Returns the limits of an index of this size.
    pub(in crate::store) fn of(map_size: usize) -> Self {
        let segment = (map_size as u64 / MAP_BY_SEGMENT).clamp(SEGMENT_LENGTH.0, SEGMENT_LENGTH.1);
        let rows = usize::try_from(segment / BYTES_PER_ROW).unwrap_or(usize::MAX);
        Limits { segment, rows, record: segment / 4 }
    }
}

/// The place of a record.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(in crate::store) struct Position {
    /// The place of the segment in [`SEGMENTS`](crate::store::index_files::SEGMENTS).
    pub(in crate::store) segment: u8,
    /// The offset in bytes.
    pub(in crate::store) offset: u64,
}

impl Position {
    /// Returns the beginning of the other segment.
    pub(in crate::store) fn other(self) -> Self {
        Position { segment: 1 - self.segment.min(1), offset: 0 }
    }
}

/// The row of the back end that tells which transactions it contains.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(in crate::store) struct LogRow {
    /// The id of the log. Records with another id belong to another index.
    pub(in crate::store) id: LogId,
    /// The sequence number of the last transaction that the back end contains.
    pub(in crate::store) applied: u64,
    /// The place of the record after that one.
    pub(in crate::store) next: Position,
}
