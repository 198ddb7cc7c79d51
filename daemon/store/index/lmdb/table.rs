//! The tables as LMDB databases whose rows carry a checksum, since LMDB has none.
//!
//! A flipped bit on the card would be another tag, another digest or another size. So each value is followed by four
//! bytes, little-endian: the CRC-32 of the table's name, the length of the key, the key and the value. Reading a row
//! with a wrong checksum is an error.

use std::ops::Bound;
use std::sync::Arc;

use heed::types::Bytes;
use heed::{Database, Error, RoTxn, RwTxn, WithoutTls};
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::mapping::Env;
use crate::store::index::pending::Pending;
use crate::store::index::tables::{Bounds, ReadTables, Row, Table, meta};
use crate::store::index_error::IndexError;
use crate::store::index_failure::IndexFailure;

const CHECKSUM: usize = 4;

/// The tables that were added to an index that stayed readable: one of an earlier build lacks them until it is opened.
const ADDED: [Table; 5] =
    [Table::Daily, Table::Synced, Table::TagsByDigest, Table::TagsByTime, Table::BlobCandidates];

/// The databases of all tables, and the mark of their index.
pub(super) struct Databases {
    /// In the order of [`Table::ALL`]. `None` for a table that this index has no room for yet, which has no rows.
    list: [Option<Database<Bytes, Bytes>>; Table::ALL.len()],
    failure: IndexFailure,
    /// The format version that a commit may write: the present one, unless the index still waits for room to be taken over.
    pub(super) version: u32,
    #[cfg(test)]
    reads: RowsRead,
}

impl Databases {
    fn with(list: &[Option<Database<Bytes, Bytes>>; Table::ALL.len()], version: u32) -> Self {
        Databases {
            list: *list,
            failure: IndexFailure::default(),
            version,
            #[cfg(test)]
            reads: RowsRead::default(),
        }
    }

    /// Opens the tables, and creates those that are missing.
    pub(super) fn create(env: &Env, txn: &mut RwTxn) -> heed::Result<Self> {
        let mut list = [None; Table::ALL.len()];
        for (database, table) in list.iter_mut().zip(Table::ALL) {
            *database = Some(create(env, txn, table)?);
        }
        Ok(Databases::with(&list, meta::VERSION))
    }

    /// Opens the tables of an existing index; writes nothing. One that was added later may be missing until the index is
    /// opened with room for it.
    pub(super) fn find(env: &Env, txn: &RoTxn) -> heed::Result<Self> {
        let mut list = [None; Table::ALL.len()];
        for (database, table) in list.iter_mut().zip(Table::ALL) {
            *database = match table {
                table if ADDED.contains(&table) => env.open_database(txn, Some(table.name()))?,
                table => Some(open(env, txn, table)?),
            };
        }
        // An unreadable version fails where it is needed.
        let version = Self::meta_row(env, txn, meta::FORMAT).ok().flatten();
        let version = version.filter(|version| *version == meta::VERSION).unwrap_or(meta::WITHOUT_TAG_INDEX);
        Ok(Databases::with(&list, version))
    }

    /// Returns the value of a row of `meta`, for an index whose other tables may be those of another version.
    pub(super) fn meta_row<T: DeserializeOwned>(
        env: &Env,
        txn: &RoTxn,
        key: &[u8],
    ) -> Result<Option<T>, IndexError> {
        let stored = open(env, txn, Table::Meta)?.get(txn, key)?;
        let Some(stored) = stored else { return Ok(None) };
        let value = value_of(Table::Meta, key, stored).ok_or_else(|| corrupt(Table::Meta))?;
        postcard::from_bytes(value).map(Some).map_err(|error| IndexError::Row(error.to_string()))
    }

    /// Returns true if an access to a table met corruption.
    pub(super) fn have_failed(&self) -> bool {
        self.failure.is_set()
    }

    /// Sets the mark of the index if the error may come from corruption.
    pub(super) fn note(&self, error: &IndexError) {
        self.failure.note(error);
    }

    /// Sets the mark of the index if the result is an error that may come from corruption; returns the result.
    pub(super) fn noted<T>(&self, result: Result<T, IndexError>) -> Result<T, IndexError> {
        if let Err(error) = &result {
            self.note(error);
        }
        result
    }

    fn of(&self, table: Table) -> Option<&Database<Bytes, Bytes>> {
        self.list[table as usize].as_ref()
    }

    /// Returns true if the index has a table.
    pub(super) fn has(&self, table: Table) -> bool {
        self.of(table).is_some()
    }

    /// Returns a table for a write; an index without it has no room.
    fn writable(&self, table: Table) -> Result<&Database<Bytes, Bytes>, IndexError> {
        self.of(table).ok_or(IndexError::Full)
    }

    pub(super) fn get<'txn>(
        &self,
        txn: &'txn RoTxn,
        table: Table,
        key: &[u8],
    ) -> Result<Option<&'txn [u8]>, IndexError> {
        let Some(database) = self.of(table) else { return Ok(None) };
        let Some(stored) = self.noted(database.get(txn, key).map_err(IndexError::from))? else {
            return Ok(None);
        };
        self.checked(table, key, stored).map(Some)
    }

    pub(super) fn put(
        &self,
        txn: &mut RwTxn,
        table: Table,
        key: &[u8],
        value: &[u8],
    ) -> Result<(), IndexError> {
        self.noted(put(*self.writable(table)?, txn, table, (key, value)).map_err(IndexError::from))
    }

    /// Encodes and stores one row.
    pub(super) fn put_row<T: Serialize>(
        &self,
        txn: &mut RwTxn,
        table: Table,
        key: &[u8],
        row: &T,
    ) -> Result<(), IndexError> {
        let bytes = postcard::to_allocvec(row).map_err(|error| IndexError::Row(error.to_string()))?;
        self.put(txn, table, key, &bytes)
    }

    /// Returns true if LMDB has a row, whatever its checksum is.
    pub(super) fn has_row(&self, txn: &RoTxn, table: Table, key: &[u8]) -> Result<bool, IndexError> {
        let Some(database) = self.of(table) else { return Ok(false) };
        Ok(self.noted(database.get(txn, key).map_err(IndexError::from))?.is_some())
    }

    pub(super) fn delete(&self, txn: &mut RwTxn, table: Table, key: &[u8]) -> Result<bool, IndexError> {
        self.noted(self.writable(table)?.delete(txn, key).map_err(IndexError::from))
    }

    fn len(&self, txn: &RoTxn, table: Table) -> Result<u64, IndexError> {
        let Some(database) = self.of(table) else { return Ok(0) };
        self.noted(database.len(txn).map_err(IndexError::from))
    }

    /// Returns the bytes of the index that are in use.
    pub(super) fn used(&self, txn: &RoTxn) -> Result<u64, IndexError> {
        let mut bytes = 0;
        for database in self.list.iter().flatten() {
            let stat = self.noted(database.stat(txn).map_err(IndexError::from))?;
            let pages = stat.branch_pages + stat.leaf_pages + stat.overflow_pages;
            bytes += pages as u64 * u64::from(stat.page_size);
        }
        Ok(bytes)
    }

    fn checked_row<'txn>(&self, table: Table, row: heed::Result<Row<'txn>>) -> Result<Row<'txn>, IndexError> {
        let (key, stored) = self.noted(row.map_err(IndexError::from))?;
        Ok((key, self.checked(table, key, stored)?))
    }

    fn checked<'txn>(&self, table: Table, key: &[u8], stored: &'txn [u8]) -> Result<&'txn [u8], IndexError> {
        #[cfg(test)]
        self.reads.add(table);
        match value_of(table, key, stored) {
            Some(value) => Ok(value),
            None => self.noted(Err(corrupt(table))),
        }
    }
}

/// The rows that were read, by table, but for those that the writer of `index.json` reads at its own time.
#[cfg(test)]
#[derive(Default)]
struct RowsRead([std::sync::atomic::AtomicU64; Table::ALL.len()]);

#[cfg(test)]
impl RowsRead {
    fn add(&self, table: Table) {
        if std::thread::current().name() != Some("layout") {
            self.0[table as usize].fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        }
    }
}

#[cfg(test)]
impl Databases {
    /// Returns the number of rows that were read of each table.
    pub(super) fn rows_read(&self) -> Vec<(Table, u64)> {
        let count = |table: Table| self.reads.0[table as usize].load(std::sync::atomic::Ordering::Relaxed);
        Table::ALL.into_iter().map(|table| (table, count(table))).collect()
    }
}

fn corrupt(table: Table) -> IndexError {
    IndexError::Row(format!("a row of the table {} is corrupt", table.name()))
}

/// Opens a table, and creates it if it is missing.
pub(super) fn create(env: &Env, txn: &mut RwTxn, table: Table) -> heed::Result<Database<Bytes, Bytes>> {
    env.create_database(txn, Some(table.name()))
}

/// Opens an existing table.
fn open(env: &Env, txn: &RoTxn, table: Table) -> heed::Result<Database<Bytes, Bytes>> {
    let missing = || Error::Decoding(format!("the table {} is missing", table.name()).into());
    env.open_database(txn, Some(table.name()))?.ok_or_else(missing)
}

/// Stores a row with its checksum.
pub(super) fn put(
    database: Database<Bytes, Bytes>,
    txn: &mut RwTxn,
    table: Table,
    (key, value): Row<'_>,
) -> heed::Result<()> {
    let mut stored = Vec::with_capacity(value.len() + CHECKSUM);
    stored.extend_from_slice(value);
    stored.extend_from_slice(&checksum(table, key, value));
    database.put(txn, key, &stored)
}

/// Returns the value of a stored row; `None` if its checksum is wrong.
fn value_of<'txn>(table: Table, key: &[u8], stored: &'txn [u8]) -> Option<&'txn [u8]> {
    let (value, found) = stored.split_last_chunk::<CHECKSUM>()?;
    (*found == checksum(table, key, value)).then_some(value)
}

fn checksum(table: Table, key: &[u8], value: &[u8]) -> [u8; CHECKSUM] {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(table.name().as_bytes());
    // The length fixes where the key ends and the value begins.
    hasher.update(&(key.len() as u64).to_le_bytes());
    hasher.update(key);
    hasher.update(value);
    hasher.finalize().to_le_bytes()
}

/// The bytes that LMDB's pages need for each byte of a pending row: a page that is split is half empty.
const PENDING_FACTOR: u64 = 2;

/// A read transaction: the tables as they were when it began, with the rows that only the write-ahead log has. A thread has
/// one at a time.
pub(in crate::store) struct Snapshot<'index> {
    txn: RoTxn<'index, WithoutTls>,
    databases: &'index Databases,
    pending: Arc<Pending>,
}

impl<'index> Snapshot<'index> {
    /// Returns the tables of a transaction alone.
    pub(super) fn new(txn: RoTxn<'index, WithoutTls>, databases: &'index Databases) -> Self {
        let pending = Arc::new(Pending::empty(txn.id(), 0));
        Self::with(txn, databases, pending)
    }

    /// Returns the tables of a transaction with pending rows that belong to it.
    pub(super) fn with(
        txn: RoTxn<'index, WithoutTls>,
        databases: &'index Databases,
        pending: Arc<Pending>,
    ) -> Self {
        Snapshot { txn, databases, pending }
    }

    /// Returns the number of LMDB's snapshot.
    pub(super) fn base(&self) -> usize {
        self.txn.id()
    }

    /// Returns true if LMDB has a row, whatever its checksum is.
    pub(super) fn has_row(&self, table: Table, key: &[u8]) -> Result<bool, IndexError> {
        self.databases.has_row(&self.txn, table, key)
    }

    /// Returns the same tables with other pending rows.
    pub(super) fn over(self, pending: &Pending) -> Self {
        Snapshot { pending: Arc::new(pending.clone()), ..self }
    }

    /// Returns the pending rows.
    pub(super) fn pending(&self) -> &Arc<Pending> {
        &self.pending
    }
}

/// A transaction of either kind.
pub(super) trait Parts {
    /// Returns the transaction as a reader, its tables, and the pending rows above them.
    fn parts(&self) -> (&RoTxn<'_>, &Databases, &Pending);

    /// Returns the bytes of the index that are in use, with those that the pending rows will need.
    fn used(&self) -> Result<u64, IndexError> {
        let (txn, databases, pending) = self.parts();
        Ok(databases.used(txn)? + pending.bytes() * PENDING_FACTOR)
    }
}

impl Parts for Snapshot<'_> {
    fn parts(&self) -> (&RoTxn<'_>, &Databases, &Pending) {
        (&self.txn, self.databases, &self.pending)
    }
}

impl<T: Parts> ReadTables for T {
    fn get(&self, table: Table, key: &[u8]) -> Result<Option<&[u8]>, IndexError> {
        let (txn, databases, pending) = self.parts();
        match pending.get(table, key) {
            Some(version) => Ok(version.value.as_deref()),
            None => databases.get(txn, table, key),
        }
    }

    fn range(
        &self,
        table: Table,
        range: &Bounds<'_>,
    ) -> Result<impl Iterator<Item = Result<Row<'_>, IndexError>> + use<'_, T>, IndexError> {
        let (txn, databases, pending) = self.parts();
        let rows = databases.of(table).map(|database| database.range(txn, range)).transpose();
        let rows = databases.noted(rows.map_err(IndexError::from))?.into_iter().flatten();
        Ok(pending.merge_range(table, range, rows.map(move |row| databases.checked_row(table, row))))
    }

    fn prefix(
        &self,
        table: Table,
        prefix: &[u8],
    ) -> Result<impl Iterator<Item = Result<Row<'_>, IndexError>> + use<'_, T>, IndexError> {
        let (txn, databases, pending) = self.parts();
        let rows = databases.of(table).map(|database| database.prefix_iter(txn, prefix)).transpose();
        let rows = databases.noted(rows.map_err(IndexError::from))?.into_iter().flatten();
        Ok(pending.merge_prefix(table, prefix, rows.map(move |row| databases.checked_row(table, row))))
    }

    fn at_or_after(&self, table: Table, key: &[u8]) -> Result<Option<Row<'_>>, IndexError> {
        let (txn, databases, pending) = self.parts();
        if pending.has_rows(table) {
            return self.range(table, &(Bound::Included(key), Bound::Unbounded))?.next().transpose();
        }
        let Some(database) = databases.of(table) else { return Ok(None) };
        let row = database.get_greater_than_or_equal_to(txn, key);
        let Some(row) = databases.noted(row.map_err(IndexError::from))? else { return Ok(None) };
        databases.checked_row(table, Ok(row)).map(Some)
    }

    fn len(&self, table: Table) -> Result<u64, IndexError> {
        let (txn, databases, pending) = self.parts();
        Ok(pending.len(table, databases.len(txn, table)?))
    }

    fn note(&self, error: &IndexError) {
        self.parts().1.note(error);
    }
}

#[cfg(test)]
mod tests {
    use super::super::mapping;
    use super::*;

    #[test]
    fn changed_row_is_an_error() {
        let directory = tempfile::tempdir().unwrap();
        let env = mapping::open_environment(directory.path(), 1 << 20, false).unwrap();
        let mut txn = env.write_txn().unwrap();
        let tables = Databases::create(&env, &mut txn).unwrap();
        tables.put(&mut txn, Table::Tags, b"a", b"one").unwrap();
        tables.put(&mut txn, Table::Tags, b"b", b"").unwrap();
        txn.commit().unwrap();
        let snapshot = || Snapshot::new(env.read_txn().unwrap(), &tables);
        assert_eq!(snapshot().get(Table::Tags, b"a").unwrap(), Some(&b"one"[..]));
        assert_eq!(snapshot().get(Table::Tags, b"b").unwrap(), Some(&b""[..]));
        assert_eq!(snapshot().get(Table::Tags, b"c").unwrap(), None);
        let rows: Vec<_> = snapshot().rows(Table::Tags).unwrap().map(|row| row.unwrap().0.to_vec()).collect();
        assert_eq!(rows, [b"a", b"b"]);
        let mut txn = env.write_txn().unwrap();
        let database = tables.of(Table::Tags).unwrap();
        let stored = database.get(&txn, b"a").unwrap().unwrap().to_vec();
        // The same stored bytes under another key, and another value under the same key.
        database.put(&mut txn, b"c", &stored).unwrap();
        let mut other = stored;
        other[0] ^= 1;
        database.put(&mut txn, b"a", &other).unwrap();
        database.put(&mut txn, b"b", b"x").unwrap();
        txn.commit().unwrap();
        assert!(!tables.have_failed());
        for key in [b"a", b"b", b"c"] {
            assert!(snapshot().get(Table::Tags, key).is_err());
        }
        assert!(snapshot().prefix(Table::Tags, b"a").unwrap().next().unwrap().is_err());
        assert!(tables.have_failed());
    }

    #[test]
    fn an_index_without_the_added_table_is_read_and_gets_it_when_it_is_opened() {
        let directory = tempfile::tempdir().unwrap();
        let env = mapping::open_environment(directory.path(), 1 << 20, false).unwrap();
        let mut txn = env.write_txn().unwrap();
        for table in Table::ALL.into_iter().filter(|table| !ADDED.contains(table)) {
            create(&env, &mut txn, table).unwrap();
        }
        txn.commit().unwrap();
        let txn = env.read_txn().unwrap();
        let tables = Databases::find(&env, &txn).unwrap();
        txn.commit().unwrap();
        let snapshot = Snapshot::new(env.read_txn().unwrap(), &tables);
        for added in ADDED {
            assert_eq!((snapshot.get(added, b"a").unwrap(), snapshot.len(added).unwrap()), (None, 0));
            assert_eq!(
                snapshot.rows(added).unwrap().count() + snapshot.prefix(added, b"").unwrap().count(),
                0
            );
            assert!(snapshot.at_or_after(added, b"").unwrap().is_none());
        }
        drop(snapshot);
        let mut txn = env.write_txn().unwrap();
        for added in ADDED {
            assert!(matches!(tables.put(&mut txn, added, b"a", b""), Err(IndexError::Full)));
        }
        let tables = Databases::create(&env, &mut txn).unwrap();
        for added in ADDED {
            tables.put(&mut txn, added, b"a", b"").unwrap();
        }
        txn.commit().unwrap();
        // Any other table that is missing means damage.
        let directory = tempfile::tempdir().unwrap();
        let env = mapping::open_environment(directory.path(), 1 << 20, false).unwrap();
        let mut txn = env.write_txn().unwrap();
        for table in [&[Table::Meta], &ADDED[..]].concat() {
            create(&env, &mut txn, table).unwrap();
        }
        txn.commit().unwrap();
        assert!(Databases::find(&env, &env.read_txn().unwrap()).is_err());
    }
}
