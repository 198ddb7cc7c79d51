//! A table that is read from its first row to its last.

use super::super::port::{ReadTables, Row, Table};
use crate::store::error::StoreError;
use crate::store::index_error::IndexError;

type Rows<'a> = Box<dyn Iterator<Item = Result<Row<'a>, IndexError>> + 'a>;

/// The rows of a table that have not been read yet.
pub(super) struct Cursor<'a> {
    table: Table,
    rows: Rows<'a>,
    following: Option<Row<'a>>,
    seen: u64,
    count: u64,
}

impl<'a> Cursor<'a> {
    /// Begins at the first row.
    pub(super) fn open(tables: &'a impl ReadTables, table: Table) -> Result<Self, StoreError> {
        let rows = Box::new(tables.rows(table)?);
        let mut cursor = Cursor { table, rows, following: None, seen: 0, count: tables.len(table)? };
        cursor.advance(None)?;
        Ok(cursor)
    }

    /// Returns the key of the next row.
    pub(super) fn key(&self) -> Option<&'a [u8]> {
        self.following.map(|(key, _)| key)
    }

    /// Returns the next row.
    ///
    /// # Errors
    /// [`StoreError::Index`] if the row behind it is corrupt or out of order, or if the number of rows is not that of
    /// the table: pages that link to each other in a circle would never end.
    pub(super) fn next(&mut self) -> Result<Option<Row<'a>>, StoreError> {
        let Some(row) = self.following else { return Ok(None) };
        self.advance(Some(row.0))?;
        Ok(Some(row))
    }

    fn advance(&mut self, before: Option<&[u8]>) -> Result<(), StoreError> {
        self.following = self.rows.next().transpose()?;
        let is_valid = if let Some(key) = self.key() {
            self.seen += 1;
            self.seen <= self.count && before.is_none_or(|before| before < key)
        } else {
            self.seen == self.count
        };
        if is_valid { Ok(()) } else { Err(corrupt(self.table)) }
    }

    /// Returns the next row if `select` finds in its key the part that it belongs to; the key is reduced to the rest.
    pub(super) fn next_if(
        &mut self,
        select: impl FnOnce(&'a [u8]) -> Option<&'a [u8]>,
    ) -> Result<Option<Row<'a>>, StoreError> {
        let Some(rest) = self.key().and_then(select) else { return Ok(None) };
        Ok(self.next()?.map(|(_, value)| (rest, value)))
    }

    /// Checks that all rows have been read.
    pub(super) fn is_read(&self) -> Result<(), StoreError> {
        if self.following.is_none() { Ok(()) } else { Err(corrupt(self.table)) }
    }
}

/// Returns the error of a table with corrupt rows.
pub(super) fn corrupt(table: Table) -> StoreError {
    IndexError::Row(format!("the table {} is corrupt", table.name())).into()
}
