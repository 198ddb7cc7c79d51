//! Entry points of the fuzzer into private parsers.

use super::index::{is_sound, wal};
use super::layout_format::Entry;
use super::layout_journal::Journal;
use super::layout_reader::parse;

/// Returns the number of manifests that the bytes of an `index.json` name.
pub fn names_in_layout(bytes: &[u8]) -> usize {
    let mut names = 0;
    // A truncated file still yields the names before the damage.
    let _ = parse(bytes, &mut |entry| {
        names += usize::from(matches!(entry, Entry::Name(_)));
        Ok(())
    });
    names
}

/// Returns true if the bytes are a journal of names with a whole batch.
pub fn journal_has_batches(bytes: &[u8]) -> bool {
    !Journal::parse(bytes).is_empty()
}

/// Returns the number of rows in a record of the index's log, as if its checksum were right, and `None` for other bytes.
pub fn rows_in_log(bytes: &[u8]) -> Option<usize> {
    wal::count_rows(bytes)
}

/// Returns true if the bytes are an LMDB file whose structure is sound.
pub fn is_sound_index(bytes: &[u8]) -> bool {
    is_sound(bytes)
}
