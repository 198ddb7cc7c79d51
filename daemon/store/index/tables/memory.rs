//! Tables in memory, for tests: no disk, and a transaction that can be aborted.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use super::port::{Bounds, ReadTables, Row, Table, WriteTables};
use crate::store::index_error::IndexError;

/// Tables as sorted maps. A clone is a snapshot.
#[derive(Clone, Debug, Default)]
pub(in crate::store) struct Memory {
    rows: BTreeMap<(Table, Vec<u8>), Vec<u8>>,
    /// The maximum number of rows that a change which grows the tables may find; unlimited if `None`.
    pub(in crate::store) limit: Option<usize>,
    /// The number of rows that were read, also by snapshots.
    read: Arc<AtomicU64>,
}

impl Memory {
    /// Returns true if both have the same rows.
    pub(in crate::store) fn has_same_rows(&self, other: &Memory) -> bool {
        self.rows == other.rows
    }

    /// Returns the number of rows that were read so far.
    pub(in crate::store) fn rows_read(&self) -> u64 {
        self.read.load(Ordering::Relaxed)
    }

    fn count_read(&self) {
        self.read.fetch_add(1, Ordering::Relaxed);
    }
}

fn owned(bound: Bound<&[u8]>, table: Table, unbounded: Bound<(Table, Vec<u8>)>) -> Bound<(Table, Vec<u8>)> {
    match bound {
        Bound::Included(key) => Bound::Included((table, key.to_vec())),
        Bound::Excluded(key) => Bound::Excluded((table, key.to_vec())),
        Bound::Unbounded => unbounded,
    }
}

impl ReadTables for Memory {
    fn get(&self, table: Table, key: &[u8]) -> Result<Option<&[u8]>, IndexError> {
        self.count_read();
        Ok(self.rows.get(&(table, key.to_vec())).map(Vec::as_slice))
    }

    fn range(
        &self,
        table: Table,
        range: &Bounds<'_>,
    ) -> Result<impl Iterator<Item = Result<Row<'_>, IndexError>> + use<'_>, IndexError> {
        let start = owned(range.0, table, Bound::Included((table, Vec::new())));
        let end = owned(range.1, table, Bound::Unbounded);
        let rows = self.rows.range((start, end)).take_while(move |((of, _), _)| *of == table);
        let rows = rows.inspect(|_| self.count_read());
        Ok(rows.map(|((_, key), value)| Ok((key.as_slice(), value.as_slice()))))
    }

    fn prefix(
        &self,
        table: Table,
        prefix: &[u8],
    ) -> Result<impl Iterator<Item = Result<Row<'_>, IndexError>> + use<'_>, IndexError> {
        let prefix = prefix.to_vec();
        let rows = self.rows.range((table, prefix.clone())..);
        let rows = rows.take_while(move |((of, key), _)| *of == table && key.starts_with(&prefix));
        let rows = rows.inspect(|_| self.count_read());
        Ok(rows.map(|((_, key), value)| Ok((key.as_slice(), value.as_slice()))))
    }

    fn at_or_after(&self, table: Table, key: &[u8]) -> Result<Option<Row<'_>>, IndexError> {
        self.range(table, &(Bound::Included(key), Bound::Unbounded))?.next().transpose()
    }

    fn len(&self, table: Table) -> Result<u64, IndexError> {
        Ok(self.rows.keys().filter(|(of, _)| *of == table).count() as u64)
    }

    fn note(&self, _: &IndexError) {}
}

impl WriteTables for Memory {
    fn put(&mut self, table: Table, key: &[u8], value: &[u8]) -> Result<(), IndexError> {
        self.rows.insert((table, key.to_vec()), value.to_vec());
        Ok(())
    }

    fn delete(&mut self, table: Table, key: &[u8]) -> Result<bool, IndexError> {
        Ok(self.rows.remove(&(table, key.to_vec())).is_some())
    }

    fn check_capacity(&mut self) -> Result<(), IndexError> {
        let is_full = self.limit.is_some_and(|limit| self.rows.len() >= limit);
        if is_full { Err(IndexError::Full) } else { Ok(()) }
    }

    fn is_nearly_full(&self) -> Result<bool, IndexError> {
        Ok(self.limit.is_some_and(|limit| self.rows.len() >= limit))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_stay_within_their_table() {
        let mut memory = Memory::default();
        for (table, key) in
            [(Table::Tags, "b"), (Table::Tags, "a"), (Table::Manifests, "ab"), (Table::Repositories, "c")]
        {
            memory.put(table, key.as_bytes(), b"").unwrap();
        }
        let keys = |range: &Bounds| -> Vec<Vec<u8>> {
            memory.range(Table::Tags, range).unwrap().map(|row| row.unwrap().0.to_vec()).collect()
        };
        assert_eq!(keys(&(Bound::Unbounded, Bound::Unbounded)), [b"a", b"b"]);
        assert_eq!(keys(&(Bound::Excluded(b"a"), Bound::Unbounded)), [b"b"]);
        assert_eq!(keys(&(Bound::Unbounded, Bound::Excluded(b"b"))), [b"a"]);
        assert_eq!(memory.prefix(Table::Manifests, b"a").unwrap().count(), 1);
        assert_eq!(memory.at_or_after(Table::Tags, b"c").unwrap(), None);
        assert_eq!((memory.len(Table::Tags).unwrap(), memory.len(Table::Blobs).unwrap()), (2, 0));
        assert!(memory.delete(Table::Tags, b"a").unwrap() && !memory.delete(Table::Tags, b"a").unwrap());
    }
}
