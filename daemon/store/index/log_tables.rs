//! The rows of the write-ahead log alone, for an index whose back end cannot be read.

use std::collections::BTreeSet;
use std::path::Path;

use super::changed_names::{self, ChangedKey};
use super::pending::Pending;
use super::tables::{Bounds, ReadTables, Row, Table, meta};
use super::wal;
use crate::store::error::StoreError;
use crate::store::index_error::IndexError;

/// The rows of a log, as tables.
pub(in crate::store) struct LogTables {
    rows: Pending,
    /// The keys of the names that the log changes after a change number, so far as it has their rows.
    pub(in crate::store) names: Vec<ChangedKey>,
}

impl LogTables {
    /// Reads the log in `directory`, and finds the names that it changes after this change number; `None` without a log.
    ///
    /// # Errors
    /// [`StoreError::Io`] if the log cannot be read.
    pub(in crate::store) fn read(directory: &Path, change: u64) -> Result<Option<Self>, StoreError> {
        let (mut rows, mut names) = (Pending::empty(0, 0), Vec::new());
        // The transaction whose rows are being read, if it has changed names after that number. The row of the change number
        // is among the first of a record: they are in the order of the tables.
        let mut newer = None;
        let has_records = wal::read_all(directory, &mut |sequence, table, key, value| {
            rows.sequence = sequence;
            if (table, key) == (Table::Meta, meta::CHANGE) {
                let number = value.and_then(|value| postcard::from_bytes::<u64>(value).ok());
                newer = number.filter(|number| *number > change).map(|_| sequence);
            }
            if newer == Some(sequence) {
                let before = rows.get(table, key).and_then(|version| version.value.as_deref());
                changed_names::note_row(&mut names, table, key, [before, value]);
            }
            rows.set(table, key, value, false);
            Ok(())
        })?;
        let names: BTreeSet<ChangedKey> = names.into_iter().collect();
        let names = names.into_iter().filter(|(table, key)| rows.get(*table, key).is_some()).collect();
        Ok(has_records.then_some(LogTables { rows, names }))
    }

    /// Returns true if the log has set or deleted a row.
    pub(in crate::store) fn has_state_of(&self, table: Table, key: &[u8]) -> bool {
        self.rows.get(table, key).is_some()
    }
}

impl ReadTables for LogTables {
    fn get(&self, table: Table, key: &[u8]) -> Result<Option<&[u8]>, IndexError> {
        Ok(self.rows.get(table, key).and_then(|version| version.value.as_deref()))
    }

    fn range(
        &self,
        table: Table,
        range: &Bounds<'_>,
    ) -> Result<impl Iterator<Item = Result<Row<'_>, IndexError>> + use<'_>, IndexError> {
        Ok(self.rows.merge_range(table, range, std::iter::empty()))
    }

    fn prefix(
        &self,
        table: Table,
        prefix: &[u8],
    ) -> Result<impl Iterator<Item = Result<Row<'_>, IndexError>> + use<'_>, IndexError> {
        Ok(self.rows.merge_prefix(table, prefix, std::iter::empty()))
    }

    fn at_or_after(&self, table: Table, key: &[u8]) -> Result<Option<Row<'_>>, IndexError> {
        use std::ops::Bound::{Included, Unbounded};
        self.range(table, &(Included(key), Unbounded))?.next().transpose()
    }

    fn len(&self, table: Table) -> Result<u64, IndexError> {
        Ok(self.rows(table)?.count() as u64)
    }

    // A log of which the rest is lost is not inspected again.
    fn note(&self, _error: &IndexError) {}
}
