//! Reading the log: the records that an opened index lacks, and the search for records after a damaged one.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;

use super::place::{LogRow, Position, SEGMENT_LENGTH};
use super::record::{BLOCK, HEADER, Header, LogId, visit_rows};
use crate::store::error::StoreError;
use crate::store::index::tables::Table;
use crate::store::index_error::IndexError;
use crate::store::index_files::SEGMENTS;
use crate::store::regular_file::{if_exists, open_regular};

/// The records after those that the back end contains.
#[derive(Debug, PartialEq, Eq)]
pub(in crate::store) struct Replayed {
    /// The place after the last record.
    pub(in crate::store) end: Position,
    /// The sequence number of the last record, or of the last transaction of the back end.
    pub(in crate::store) last: u64,
}

/// Receives a row of a record, with the sequence number of its transaction.
pub(in crate::store) type RowVisitor<'a> =
    dyn FnMut(u64, Table, &[u8], Option<&[u8]>) -> Result<(), IndexError> + 'a;

fn failed(error: io::Error) -> StoreError {
    StoreError::io("read the log of the index", error)
}

fn open(directory: &Path, segment: u8) -> Result<Option<File>, StoreError> {
    let name = SEGMENTS[usize::from(segment.min(1))];
    if_exists(open_regular(&directory.join(name))).map_err(failed)
}

/// Reads the record at an offset into `buffer`; returns its header, or `None` if no whole record is there.
fn read_record(file: &File, offset: u64, buffer: &mut Vec<u8>) -> Result<Option<Header>, StoreError> {
    buffer.resize(BLOCK, 0);
    if !read_exact(file, buffer, offset)? {
        return Ok(None);
    }
    let Some(header) = Header::parse(buffer) else { return Ok(None) };
    if header.length() > SEGMENT_LENGTH.1 {
        return Ok(None);
    }
    let length = usize::try_from(header.length()).unwrap_or(BLOCK);
    buffer.resize(length, 0);
    let is_whole =
        read_exact(file, &mut buffer[BLOCK..], offset + BLOCK as u64)? && header.rows(buffer).is_some();
    Ok(is_whole.then_some(header))
}

/// Returns false if the file ends before.
fn read_exact(file: &File, buffer: &mut [u8], offset: u64) -> Result<bool, StoreError> {
    match file.read_exact_at(buffer, offset) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(false),
        Err(error) => Err(failed(error)),
    }
}

/// Calls `visit` with the rows of all records after those that the back end contains, in their order.
///
/// # Errors
/// [`StoreError::Index`] if a record cannot be decoded although its checksum matches.
pub(in crate::store) fn replay(
    directory: &Path,
    row: &LogRow,
    visit: &mut RowVisitor<'_>,
) -> Result<Replayed, StoreError> {
    let mut replayed = Replayed { end: row.next, last: row.applied };
    let first = replay_segment(directory, &row.id, &mut replayed, visit)?;
    let here = replayed.end;
    replayed.end = here.other();
    let second = replay_segment(directory, &row.id, &mut replayed, visit)?;
    // Without a record there the log still ends in the first segment.
    if second == 0 {
        replayed.end = here;
    }
    log::debug!("the index takes {first} and {second} transactions from its log");
    Ok(replayed)
}

/// Returns the number of records that follow in this segment.
fn replay_segment(
    directory: &Path,
    id: &LogId,
    replayed: &mut Replayed,
    visit: &mut RowVisitor<'_>,
) -> Result<u64, StoreError> {
    let Some(file) = open(directory, replayed.end.segment)? else { return Ok(0) };
    let (mut buffer, mut count) = (Vec::new(), 0);
    while let Some(header) = read_record(&file, replayed.end.offset, &mut buffer)? {
        if header.id != *id || header.sequence != replayed.last + 1 {
            break;
        }
        let rows = header.rows(&buffer).unwrap_or_default();
        if !visit_rows(rows, &mut |table, key, value| visit(header.sequence, table, key, value))? {
            return Err(IndexError::Corrupt("a record of the log cannot be decoded".into()).into());
        }
        replayed.last = header.sequence;
        replayed.end.offset += header.length();
        count += 1;
    }
    Ok(count)
}

/// Returns the highest number of a record in the log, also after damage; zero without one. Since records are written one
/// after the other, a replay that ends before it has met a damaged or missing one.
pub(in crate::store) fn last_record(directory: &Path, id: &LogId) -> Result<u64, StoreError> {
    let mut last = 0;
    for segment in [0, 1] {
        let Some(file) = open(directory, segment)? else { continue };
        scan(&file, &mut |header, _| {
            if header.id == *id {
                last = last.max(header.sequence);
            }
        })?;
    }
    Ok(last)
}

/// Calls `visit` with all whole records of a segment, also with those after damage.
fn scan(file: &File, visit: &mut dyn FnMut(&Header, &[u8])) -> Result<(), StoreError> {
    let length = file.metadata().map_err(failed)?.len().min(SEGMENT_LENGTH.1);
    let (mut offset, mut buffer) = (0, Vec::new());
    while offset + HEADER as u64 <= length {
        match read_record(file, offset, &mut buffer)? {
            Some(header) => {
                visit(&header, header.rows(&buffer).unwrap_or_default());
                offset += header.length();
            }
            None => offset += BLOCK as u64,
        }
    }
    Ok(())
}

/// Calls `visit` with the rows of all records of the newest log, in the order of their numbers, whatever the back end
/// contains. Returns false if the log has no record. The rows of up to two segments are held in memory.
pub(in crate::store) fn read_all(directory: &Path, visit: &mut RowVisitor<'_>) -> Result<bool, StoreError> {
    let files = [open(directory, 0)?, open(directory, 1)?];
    // Only the first block of a segment is certain to be the beginning of a record: it tells the id.
    let (mut newest, mut buffer) = (None::<Header>, Vec::new());
    for file in files.iter().flatten() {
        let first = read_record(file, 0, &mut buffer)?;
        newest = newest.into_iter().chain(first).max_by_key(|header| header.sequence);
    }
    let Some(newest) = newest else { return Ok(false) };
    let mut records = std::collections::BTreeMap::new();
    for file in files.iter().flatten() {
        scan(file, &mut |header, rows| {
            if header.id == newest.id {
                records.insert(header.sequence, rows.to_vec());
            }
        })?;
    }
    for (sequence, rows) in records {
        visit_rows(&rows, &mut |table, key, value| visit(sequence, table, key, value))?;
    }
    Ok(true)
}
