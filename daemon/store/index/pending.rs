//! Rows that are durable in the write-ahead log, and not yet in the back end below it.
//!
//! Reads see these rows before those of the back end. The maps share their structure (`rpds`), so that a transaction works on
//! a copy of its own, and a reader keeps the rows of its moment, without copying them.

use std::ops::{Bound, RangeBounds};

use rpds::RedBlackTreeMapSync;

use super::tables::{Bounds, Row, Table};
use crate::store::index_error::IndexError;

/// The state of a row: its value, or that it was deleted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Version {
    /// The sequence number of the transaction that set it.
    pub(super) sequence: u64,
    /// `None` if the row was deleted.
    pub(super) value: Option<Box<[u8]>>,
}

type Rows = RedBlackTreeMapSync<Box<[u8]>, Version>;

/// The bytes that the back end needs for a row beside its key and value, about: its header and checksum.
const ROW_OVERHEAD: u64 = 16;

/// The pending rows of all tables at one moment. A clone is cheap.
#[derive(Clone, Debug)]
pub(super) struct Pending {
    /// In the order of [`Table::ALL`].
    tables: [Rows; Table::ALL.len()],
    /// By table, the number of rows that the pending rows add to the back end's.
    added: [i64; Table::ALL.len()],
    /// The number of the back end's snapshot that `added` refers to.
    pub(super) base: usize,
    /// The sequence number of the last transaction.
    pub(super) sequence: u64,
    bytes: u64,
}

impl Pending {
    /// Returns no rows, over the back end's snapshot `base`, after the transaction `sequence`.
    pub(super) fn empty(base: usize, sequence: u64) -> Self {
        let tables = std::array::from_fn(|_| Rows::new_sync());
        Pending { tables, added: [0; Table::ALL.len()], base, sequence, bytes: 0 }
    }

    /// Returns the same rows over another snapshot of the back end.
    pub(super) fn over(&self, base: usize) -> Self {
        Pending { base, ..self.clone() }
    }

    /// Returns the number of rows.
    pub(super) fn count(&self) -> usize {
        self.tables.iter().map(Rows::size).sum()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.tables.iter().all(Rows::is_empty)
    }

    /// Returns the bytes of all keys and values, with what the back end needs beside them.
    pub(super) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Returns the pending state of a row; `None` if only the back end knows it.
    pub(super) fn get(&self, table: Table, key: &[u8]) -> Option<&Version> {
        self.tables[table as usize].get(key)
    }

    /// Returns the number of rows of a table that has `below` of them in the back end.
    pub(super) fn len(&self, table: Table, below: u64) -> u64 {
        below.saturating_add_signed(self.added[table as usize])
    }

    /// Sets the state of a row in the transaction `sequence`. `existed` tells whether the row exists until now.
    pub(super) fn set(&mut self, table: Table, key: &[u8], value: Option<&[u8]>, existed: bool) {
        self.added[table as usize] += i64::from(value.is_some()) - i64::from(existed);
        let version = Version { sequence: self.sequence, value: value.map(Box::from) };
        self.forget(table, key);
        self.bytes += size_of_row(key, &version);
        self.tables[table as usize].insert_mut(key.into(), version);
    }

    /// Counts a row that the back end has got from here: `existed` tells whether it had the row before.
    pub(super) fn merged(&mut self, table: Table, version: &Version, existed: bool) {
        self.added[table as usize] -= i64::from(version.value.is_some()) - i64::from(existed);
    }

    /// Removes a row of which the back end has this state or a newer one.
    pub(super) fn forget_until(&mut self, table: Table, key: &[u8], sequence: u64) {
        if self.get(table, key).is_some_and(|version| version.sequence <= sequence) {
            self.forget(table, key);
        }
    }

    fn forget(&mut self, table: Table, key: &[u8]) {
        if let Some(version) = self.get(table, key) {
            self.bytes -= size_of_row(key, version);
            self.tables[table as usize].remove_mut(key);
        }
    }

    /// Returns the rows after a position, table by table and in key order; from the first row without one.
    pub(super) fn after<'a>(
        &'a self,
        position: Option<&'a (Table, Box<[u8]>)>,
    ) -> impl Iterator<Item = (Table, &'a [u8], &'a Version)> {
        let first = position.map_or(0, |(table, _)| *table as usize);
        Table::ALL[first..].iter().flat_map(move |table| {
            let start = match position {
                Some((of, key)) if of == table => Bound::Excluded(key.clone()),
                _ => Bound::Unbounded,
            };
            let rows = self.tables[*table as usize].range(OwnedBounds(start, Bound::Unbounded));
            rows.map(move |(key, version)| (*table, &**key, version))
        })
    }

    /// Returns the rows of the last transaction.
    pub(super) fn of_last(&self) -> impl Iterator<Item = (Table, &[u8], &Version)> {
        self.after(None).filter(|(_, _, version)| version.sequence == self.sequence)
    }

    /// Returns the pending states of the rows in a range, in key order; `None` if the table has none at all.
    fn range(&self, table: Table, bounds: OwnedBounds) -> Option<impl Iterator<Item = (&[u8], &Version)>> {
        let rows = &self.tables[table as usize];
        (!rows.is_empty() && !bounds.is_inverted())
            .then(|| rows.range(bounds).map(|(key, version)| (&**key, version)))
    }

    /// Returns the rows of a range: those of the back end, with the pending ones in their place.
    pub(super) fn merge_range<'a, I: Iterator<Item = Result<Row<'a>, IndexError>>>(
        &'a self,
        table: Table,
        bounds: &Bounds<'_>,
        below: I,
    ) -> impl Iterator<Item = Result<Row<'a>, IndexError>> + use<'a, I> {
        merge(self.range(table, OwnedBounds::of(bounds)), below)
    }

    /// As [`Pending::merge_range`], for the rows whose keys begin with `prefix`.
    pub(super) fn merge_prefix<'a, I: Iterator<Item = Result<Row<'a>, IndexError>>>(
        &'a self,
        table: Table,
        prefix: &[u8],
        below: I,
    ) -> impl Iterator<Item = Result<Row<'a>, IndexError>> + use<'a, I> {
        let prefix: Box<[u8]> = prefix.into();
        let pending = self.range(table, OwnedBounds(Bound::Included(prefix.clone()), Bound::Unbounded));
        merge(pending.map(|rows| rows.take_while(move |(key, _)| key.starts_with(&prefix))), below)
    }

    /// Returns true if the table has pending rows.
    pub(super) fn has_rows(&self, table: Table) -> bool {
        !self.tables[table as usize].is_empty()
    }
}

fn size_of_row(key: &[u8], version: &Version) -> u64 {
    let value = version.value.as_ref().map_or(0, |value| value.len());
    (key.len() + value) as u64 + ROW_OVERHEAD
}

/// Merges pending rows with those below them, both in key order.
fn merge<'a>(
    pending: Option<impl Iterator<Item = (&'a [u8], &'a Version)>>,
    below: impl Iterator<Item = Result<Row<'a>, IndexError>>,
) -> impl Iterator<Item = Result<Row<'a>, IndexError>> {
    let mut pending = pending.into_iter().flatten().peekable();
    let mut below = below.peekable();
    std::iter::from_fn(move || {
        loop {
            let next_below = match below.peek() {
                Some(Err(_)) => return below.next(),
                Some(Ok((key, _))) => Some(*key),
                None => None,
            };
            let is_first = match (pending.peek(), next_below) {
                (Some((key, _)), Some(other)) => *key <= other,
                (Some(_), None) => true,
                (None, _) => false,
            };
            if !is_first {
                return below.next();
            }
            let (key, version) = pending.next()?;
            if next_below == Some(key) {
                below.next();
            }
            if let Some(value) = &version.value {
                return Some(Ok((key, &**value)));
            }
        }
    })
}

/// The bounds of a range, which an iterator keeps.
struct OwnedBounds(Bound<Box<[u8]>>, Bound<Box<[u8]>>);

impl OwnedBounds {
    fn of(bounds: &Bounds<'_>) -> Self {
        OwnedBounds(bounds.0.map(Box::from), bounds.1.map(Box::from))
    }

    /// Returns true if no key can be in the range because its end is before its start.
    fn is_inverted(&self) -> bool {
        use Bound::{Excluded, Included, Unbounded};
        match (&self.0, &self.1) {
            (Unbounded, _) | (_, Unbounded) => false,
            (Included(start), Included(end)) => start > end,
            (Included(start) | Excluded(start), Included(end) | Excluded(end)) => start >= end,
        }
    }
}

impl RangeBounds<[u8]> for OwnedBounds {
    fn start_bound(&self) -> Bound<&[u8]> {
        self.0.as_ref().map(|key| &**key)
    }

    fn end_bound(&self) -> Bound<&[u8]> {
        self.1.as_ref().map(|key| &**key)
    }
}

#[cfg(test)]
mod tests;
