//! A table of bytes to bytes whose rows carry a checksum, since LMDB has none.
//!
//! A flipped bit on the card would be another tag, another digest or another size. So each value is followed by four
//! bytes, little-endian: the CRC-32 of the table's name, the length of the key, the key and the value. Reading a row
//! with a wrong checksum is an error.

use std::ops::Bound;

use heed::types::Bytes;
use heed::{Database, DatabaseStat, Env, Error, RoTxn, RwTxn};
use serde::Deserialize;

use crate::store::index_failure::IndexFailure;

const CHECKSUM: usize = 4;

/// A row: its key and its value without the checksum.
pub(in crate::store) type Row<'txn> = (&'txn [u8], &'txn [u8]);

/// A table; cheap to copy.
#[derive(Clone, Copy)]
pub(in crate::store) struct Table {
    database: Database<Bytes, Bytes>,
    name: &'static str,
    /// The mark of the index that this table belongs to.
    failure: Option<&'static IndexFailure>,
}

impl Table {
    /// Opens a table, and creates it if it is missing.
    pub(in crate::store) fn create(env: &Env, txn: &mut RwTxn, name: &'static str) -> heed::Result<Self> {
        Ok(Table { database: env.create_database(txn, Some(name))?, name, failure: None })
    }

    /// Opens an existing table.
    pub(in crate::store) fn open(env: &Env, txn: &RoTxn, name: &'static str) -> heed::Result<Self> {
        let database = env.open_database(txn, Some(name))?;
        let database =
            database.ok_or_else(|| Error::Decoding(format!("the table {name} is missing").into()))?;
        Ok(Table { database, name, failure: None })
    }

    /// Marks `failure` when an access to this table meets corruption.
    pub(in crate::store) fn reporting_to(self, failure: &'static IndexFailure) -> Self {
        Table { failure: Some(failure), ..self }
    }

    /// Returns true if an access to a table of this index met corruption.
    pub(in crate::store) fn has_failed(&self) -> bool {
        self.failure.is_some_and(IndexFailure::is_set)
    }

    /// Sets the mark of the index if the result is an error that may come from corruption; returns the result.
    pub(super) fn noted<T>(&self, result: heed::Result<T>) -> heed::Result<T> {
        if let Err(error) = &result {
            self.note(error);
        }
        result
    }

    /// Sets the mark of the index if the error may come from corruption.
    pub(super) fn note(&self, error: &Error) {
        if let Some(failure) = self.failure {
            failure.note(error);
        }
    }

    /// Decodes the value of a row of this table.
    pub(super) fn decode<'row, T: Deserialize<'row>>(&self, value: &'row [u8]) -> heed::Result<T> {
        self.noted(postcard::from_bytes(value).map_err(|error| Error::Decoding(error.into())))
    }

    pub(in crate::store) fn name(&self) -> &'static str {
        self.name
    }

    pub(in crate::store) fn get<'txn>(
        &self,
        txn: &'txn RoTxn,
        key: &[u8],
    ) -> heed::Result<Option<&'txn [u8]>> {
        self.noted(self.database.get(txn, key))?.map(|stored| self.checked(key, stored)).transpose()
    }

    pub(in crate::store) fn put(&self, txn: &mut RwTxn, key: &[u8], value: &[u8]) -> heed::Result<()> {
        let mut stored = Vec::with_capacity(value.len() + CHECKSUM);
        stored.extend_from_slice(value);
        stored.extend_from_slice(&self.checksum(key, value));
        self.noted(self.database.put(txn, key, &stored))
    }

    /// Removes a row; returns false if there was none.
    pub(in crate::store) fn delete(&self, txn: &mut RwTxn, key: &[u8]) -> heed::Result<bool> {
        self.noted(self.database.delete(txn, key))
    }

    pub(in crate::store) fn rows<'txn>(
        &self,
        txn: &'txn RoTxn,
    ) -> heed::Result<impl Iterator<Item = heed::Result<Row<'txn>>> + use<'txn>> {
        let table = *self;
        Ok(self.noted(self.database.iter(txn))?.map(move |row| table.checked_row(row)))
    }

    pub(in crate::store) fn prefix_iter<'txn>(
        &self,
        txn: &'txn RoTxn,
        prefix: &[u8],
    ) -> heed::Result<impl Iterator<Item = heed::Result<Row<'txn>>> + use<'txn>> {
        let table = *self;
        Ok(self.noted(self.database.prefix_iter(txn, prefix))?.map(move |row| table.checked_row(row)))
    }

    pub(in crate::store) fn range<'txn>(
        &self,
        txn: &'txn RoTxn,
        range: &(Bound<&[u8]>, Bound<&[u8]>),
    ) -> heed::Result<impl Iterator<Item = heed::Result<Row<'txn>>> + use<'txn>> {
        let table = *self;
        Ok(self.noted(self.database.range(txn, range))?.map(move |row| table.checked_row(row)))
    }

    /// Returns the first row whose key is not smaller than `key`.
    pub(in crate::store) fn at_or_after<'txn>(
        &self,
        txn: &'txn RoTxn,
        key: &[u8],
    ) -> heed::Result<Option<Row<'txn>>> {
        let row = self.noted(self.database.get_greater_than_or_equal_to(txn, key))?;
        row.map(|row| self.checked_row(Ok(row))).transpose()
    }

    pub(in crate::store) fn len(&self, txn: &RoTxn) -> heed::Result<u64> {
        self.noted(self.database.len(txn))
    }

    pub(in crate::store) fn stat(&self, txn: &RoTxn) -> heed::Result<DatabaseStat> {
        self.noted(self.database.stat(txn))
    }

    fn checked_row<'txn>(&self, row: heed::Result<Row<'txn>>) -> heed::Result<Row<'txn>> {
        let (key, stored) = self.noted(row)?;
        Ok((key, self.checked(key, stored)?))
    }

    fn checked<'txn>(&self, key: &[u8], stored: &'txn [u8]) -> heed::Result<&'txn [u8]> {
        match stored.split_last_chunk::<CHECKSUM>() {
            Some((value, checksum)) if *checksum == self.checksum(key, value) => Ok(value),
            _ => self
                .noted(Err(Error::Decoding(format!("a row of the table {} is corrupt", self.name).into()))),
        }
    }

    fn checksum(&self, key: &[u8], value: &[u8]) -> [u8; CHECKSUM] {
        let mut hasher = crc32fast::Hasher::new();
        hasher.update(self.name.as_bytes());
        // The length fixes where the key ends and the value begins.
        hasher.update(&(key.len() as u64).to_le_bytes());
        hasher.update(key);
        hasher.update(value);
        hasher.finalize().to_le_bytes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::sys;

    #[test]
    fn changed_row_is_an_error() {
        let directory = tempfile::tempdir().unwrap();
        let env = sys::open_environment(directory.path(), 1 << 20, false).unwrap();
        let mut txn = env.write_txn().unwrap();
        let table = Table::create(&env, &mut txn, "tags").unwrap();
        table.put(&mut txn, b"a", b"one").unwrap();
        table.put(&mut txn, b"b", b"").unwrap();
        assert_eq!(table.get(&txn, b"a").unwrap(), Some(&b"one"[..]));
        assert_eq!(table.get(&txn, b"b").unwrap(), Some(&b""[..]));
        assert_eq!(table.get(&txn, b"c").unwrap(), None);
        let rows: Vec<_> = table.rows(&txn).unwrap().map(|row| row.unwrap().0.to_vec()).collect();
        assert_eq!(rows, [b"a", b"b"]);
        let stored = table.database.get(&txn, b"a").unwrap().unwrap().to_vec();
        // The same stored bytes under another key, and another value under the same key.
        table.database.put(&mut txn, b"c", &stored).unwrap();
        let mut other = stored;
        other[0] ^= 1;
        table.database.put(&mut txn, b"a", &other).unwrap();
        assert!(table.get(&txn, b"c").is_err() && table.get(&txn, b"a").is_err());
        assert!(table.prefix_iter(&txn, b"a").unwrap().next().unwrap().is_err());
        table.database.put(&mut txn, b"b", b"x").unwrap();
        assert!(table.get(&txn, b"b").is_err());
    }
}
