//! The names of an index that is lost: those that its write-ahead log has and `index.json` lacks are appended to the journal
//! of names before the index is rebuilt from both.

use super::clock::ClockRow;
use super::disk::Disk;
use super::error::StoreError;
use super::index::log_tables::LogTables;
use super::index::tables::{ReadTables, Table, meta};
use super::layout_format::Head;
use super::layout_journal::Condition;
use super::layout_reader;
use super::layout_writer::batch_of;

/// Appends the names that only the log has to the journal of names. Returns the number of names that changed.
///
/// # Errors
/// [`StoreError::Io`] if a file cannot be read or written.
pub(super) fn save_names_of_log(disk: &Disk) -> Result<usize, StoreError> {
    // Without a head in Holdfast's form the journal would belong to no file.
    let Ok(Some((file, _))) = layout_reader::read_head_of_file(disk) else { return Ok(0) };
    let journal = layout_reader::read_journal(disk)?.filter(|journal| journal.is_newer_than(&file));
    let (known, end) = match &journal {
        Some(journal) if journal.base != file.change || journal.condition == Condition::Damaged => {
            return Ok(0);
        }
        Some(journal) => (journal.head, journal.length),
        None => (file, 0),
    };
    let Some(tables) = LogTables::read(&disk.index_directory(), known.change)? else { return Ok(0) };
    let change: u64 = tables.row(Table::Meta, meta::CHANGE)?.unwrap_or_default();
    if change <= known.change {
        return Ok(0);
    }
    let saved: Option<ClockRow> = tables.row(Table::Meta, meta::CLOCK)?;
    let now = saved.map_or(known.now, |row| row.time().max(known.now));
    let hold = if tables.has_state_of(Table::Meta, meta::HOLD) {
        tables.get(Table::Meta, meta::HOLD)?.is_some()
    } else {
        known.hold
    };
    let batch =
        batch_of(&tables, &tables.names)?.end(file.change, Head { change, now, hold, id: known.id })?;
    disk.append_to_journal(&batch, end)?;
    Ok(tables.names.len())
}
