//! A record of the log: the rows that one transaction has changed.
//!
//! A record begins at a multiple of [`BLOCK`] and is filled up with zeros to the next one, so that no write touches a block
//! that has an acknowledged record. Its header, little-endian: eight bytes `HFLOG` and the version, the 16 bytes of the
//! log's id, the sequence number (eight bytes), the length of the rows (four) and the CRC-32 of the id, the number, the
//! length and the rows (four). The id is random and unknown to clients: no content that a client has stored in a row can
//! pass for a record.

use serde::{Deserialize, Serialize};

use crate::store::index::tables::Table;
use crate::store::index_error::IndexError;

/// The unit of the log in bytes.
pub(in crate::store) const BLOCK: usize = 4096;
/// The first bytes of a record.
const MAGIC: [u8; 8] = *b"HFLOG\0\0\x01";
/// The length of the header in bytes.
pub(in crate::store) const HEADER: usize = 40;

/// The id of a log, which an index gets at its creation.
pub(in crate::store) type LogId = [u8; 16];

/// A row that a transaction has changed.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
struct StoredRow<'a> {
    /// The place of the table in [`Table::ALL`].
    table: u8,
    key: &'a [u8],
    /// `None` if the row was deleted.
    value: Option<&'a [u8]>,
}

/// The rows of a record that is being made.
#[derive(Debug, Default)]
pub(in crate::store) struct RecordRows {
    bytes: Vec<u8>,
    count: usize,
}

impl RecordRows {
    /// Adds the new state of a row.
    pub(in crate::store) fn add(
        &mut self,
        table: Table,
        key: &[u8],
        value: Option<&[u8]>,
    ) -> Result<(), postcard::Error> {
        let row = StoredRow { table: table as u8, key, value };
        self.bytes = postcard::to_extend(&row, std::mem::take(&mut self.bytes))?;
        self.count += 1;
        Ok(())
    }

    pub(in crate::store) fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// Returns the number of rows.
    pub(in crate::store) fn count(&self) -> usize {
        self.count
    }

    /// Returns the length of the record in bytes: a multiple of [`BLOCK`].
    pub(in crate::store) fn length(&self) -> usize {
        (HEADER + self.bytes.len()).next_multiple_of(BLOCK)
    }

    /// Returns the bytes of the record.
    pub(in crate::store) fn encode(&self, id: &LogId, sequence: u64) -> Vec<u8> {
        let mut record = Vec::with_capacity(self.length());
        record.extend_from_slice(&MAGIC);
        record.extend_from_slice(id);
        record.extend_from_slice(&sequence.to_le_bytes());
        let length = u32::try_from(self.bytes.len()).unwrap_or(u32::MAX);
        record.extend_from_slice(&length.to_le_bytes());
        record.extend_from_slice(&checksum(&record[MAGIC.len()..], &self.bytes).to_le_bytes());
        record.extend_from_slice(&self.bytes);
        record.resize(self.length(), 0);
        record
    }
}

fn checksum(header: &[u8], rows: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(header);
    hasher.update(rows);
    hasher.finalize()
}

/// The header of a record; its checksum is not verified yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::store) struct Header {
    pub(in crate::store) id: LogId,
    pub(in crate::store) sequence: u64,
    /// The length of the rows in bytes.
    rows: u32,
    checksum: u32,
}

impl Header {
    /// Reads the header of a record; `None` if the bytes do not begin one.
    pub(in crate::store) fn parse(bytes: &[u8]) -> Option<Self> {
        let rest = bytes.strip_prefix(&MAGIC)?;
        let (id, rest) = rest.split_first_chunk()?;
        let (sequence, rest) = rest.split_first_chunk()?;
        let (rows, rest) = rest.split_first_chunk()?;
        let (checksum, _) = rest.split_first_chunk()?;
        Some(Header {
            id: *id,
            sequence: u64::from_le_bytes(*sequence),
            rows: u32::from_le_bytes(*rows),
            checksum: u32::from_le_bytes(*checksum),
        })
    }

    /// Returns the length of the whole record in bytes.
    pub(in crate::store) fn length(&self) -> u64 {
        (HEADER as u64 + u64::from(self.rows)).next_multiple_of(BLOCK as u64)
    }

    /// Returns the rows of the record that these bytes begin with; `None` if it is not whole.
    pub(in crate::store) fn rows<'a>(&self, record: &'a [u8]) -> Option<&'a [u8]> {
        let rows = record.get(HEADER..HEADER + usize::try_from(self.rows).ok()?)?;
        (checksum(&record[MAGIC.len()..HEADER - 4], rows) == self.checksum).then_some(rows)
    }
}

/// Receives the table and the key of a row, and its value unless the row was deleted.
type Visitor<'a> = dyn FnMut(Table, &[u8], Option<&[u8]>) -> Result<(), IndexError> + 'a;

/// Calls `visit` with each row of a record. Returns false if the rows cannot be decoded.
///
/// # Errors
/// That of `visit`, which ends it.
pub(in crate::store) fn visit_rows(mut rows: &[u8], visit: &mut Visitor<'_>) -> Result<bool, IndexError> {
    while !rows.is_empty() {
        let Ok((row, rest)) = postcard::take_from_bytes::<StoredRow<'_>>(rows) else { return Ok(false) };
        let Some(table) = Table::ALL.get(usize::from(row.table)) else { return Ok(false) };
        visit(*table, row.key, row.value)?;
        rows = rest;
    }
    Ok(true)
}

/// Returns the number of rows after a header, whatever its checksum is; `None` without one. For the fuzzer.
#[cfg(fuzzing)]
pub(in crate::store) fn count_rows(bytes: &[u8]) -> Option<usize> {
    let header = Header::parse(bytes)?;
    let _ = (header.length(), header.rows(bytes));
    let mut count = 0;
    visit_rows(&bytes[HEADER..], &mut |_, _, _| {
        count += 1;
        Ok(())
    })
    .ok()?;
    Some(count)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const ID: LogId = [7; 16];

    /// A row: its table, its key, and its value if it is not deleted.
    type TestRow = (Table, Vec<u8>, Option<Vec<u8>>);

    fn record(rows: &[TestRow], sequence: u64) -> Vec<u8> {
        let mut record = RecordRows::default();
        for (table, key, value) in rows {
            record.add(*table, key, value.as_deref()).unwrap();
        }
        record.encode(&ID, sequence)
    }

    fn decode(record: &[u8]) -> Option<Vec<TestRow>> {
        let mut found = Vec::new();
        let rows = Header::parse(record)?.rows(record)?;
        visit_rows(rows, &mut |table, key, value| {
            found.push((table, key.to_vec(), value.map(<[u8]>::to_vec)));
            Ok(())
        })
        .unwrap()
        .then_some(found)
    }

    #[test]
    fn every_changed_byte_is_noticed() {
        let record = record(
            &[(Table::Tags, b"a".to_vec(), Some(b"one".to_vec())), (Table::Blobs, b"b".to_vec(), None)],
            5,
        );
        assert_eq!(record.len(), BLOCK);
        assert_eq!(Header::parse(&record).unwrap().sequence, 5);
        assert_eq!(decode(&record).unwrap().len(), 2);
        let end = HEADER + 4 + 3 + 4;
        for at in 0..end {
            let mut changed = record.clone();
            changed[at] ^= 1;
            assert_eq!(decode(&changed), None, "byte {at}");
        }
    }

    proptest! {
        #[test]
        fn rows_are_read_as_they_were_written(
            rows in proptest::collection::vec((0..Table::ALL.len(), proptest::collection::vec(any::<u8>(), 0..200),
                proptest::option::of(proptest::collection::vec(any::<u8>(), 0..3000))), 0..20),
            sequence: u64,
        ) {
            let rows: Vec<TestRow> = rows.into_iter().map(|(table, key, value)| (Table::ALL[table], key, value)).collect();
            let bytes = record(&rows, sequence);
            prop_assert_eq!(bytes.len() as u64, Header::parse(&bytes).unwrap().length());
            prop_assert_eq!(decode(&bytes), Some(rows));
        }

        #[test]
        fn any_bytes_are_read_without_a_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            let mut record = MAGIC.to_vec();
            record.extend(&bytes);
            let _ = decode(&record);
            visit_rows(&bytes, &mut |_, _, _| Ok(())).unwrap();
        }
    }
}
