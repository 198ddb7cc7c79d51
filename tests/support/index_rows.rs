//! Direct access to the rows of the index, and the clock of the store, which tests move forward.
//!
//! Rows are postcard, followed by a CRC-32 of the name of the table, the key and the value; see docs/reference/format.md.

use std::path::Path;
use std::time::Duration;

use heed::types::Bytes;
use heed::{Env, RoTxn};

use super::Daemon;

/// Opens the index, beside a daemon or without one.
fn open(data: &Path) -> Env {
    let mut options = heed::EnvOpenOptions::new();
    let options = options.max_dbs(32).map_size(64 << 20);
    // SAFETY: each test has a directory of its own and opens its index once at a time, and the file is one of LMDB.
    #[expect(unsafe_code, reason = "there is no other way to open an index")]
    unsafe { options.open(data.join("index")) }.unwrap()
}

/// Reads the index in a transaction.
pub fn with_index<T>(data: &Path, read: impl FnOnce(&Env, &RoTxn) -> T) -> T {
    let index = open(data);
    let result = {
        let txn = index.read_txn().unwrap();
        read(&index, &txn)
    };
    index.prepare_for_closing().wait();
    result
}

/// Returns the rows of a table without their checksums.
pub fn rows(index: &Env, txn: &RoTxn, table: &str) -> Vec<(Vec<u8>, Vec<u8>)> {
    let table = index.open_database::<Bytes, Bytes>(txn, Some(table)).unwrap().unwrap();
    let row = |row: heed::Result<(&[u8], &[u8])>| {
        let (key, value) = row.unwrap();
        (key.to_vec(), value[..value.len() - 4].to_vec())
    };
    table.iter(txn).unwrap().map(row).collect()
}

/// Changes the row of a key, and its checksum.
pub fn change_row(data: &Path, table: &str, key: &[u8], change: impl FnOnce(&mut Vec<u8>)) {
    let index = open(data);
    let mut txn = index.write_txn().unwrap();
    let rows = index.open_database::<Bytes, Bytes>(&txn, Some(table)).unwrap().unwrap();
    let stored = rows.get(&txn, key).unwrap().expect("the table has a row of this key");
    let mut value = stored[..stored.len() - 4].to_vec();
    change(&mut value);
    let mut hasher = crc32fast::Hasher::new();
    for part in [table.as_bytes(), &(key.len() as u64).to_le_bytes(), key, &value] {
        hasher.update(part);
    }
    value.extend(hasher.finalize().to_le_bytes());
    rows.put(&mut txn, key, &value).unwrap();
    txn.commit().unwrap();
    index.prepare_for_closing().wait();
}

/// Reads a number as postcard writes it: seven bits in each byte, the lowest first.
pub fn read_number(bytes: &mut &[u8]) -> u64 {
    let (mut number, mut shift) = (0, 0);
    loop {
        let (byte, rest) = bytes.split_first().unwrap();
        *bytes = rest;
        number |= u64::from(byte & 127) << shift;
        shift += 7;
        if byte & 128 == 0 {
            return number;
        }
    }
}

fn write_number(bytes: &mut Vec<u8>, mut number: u64) {
    while number > 127 {
        bytes.push(number as u8 | 128);
        number >>= 7;
    }
    bytes.push(number as u8);
}

/// Moves the clock of the store forward for processes that open the store afterwards, such as `holdfast gc`. A running
/// daemon has read the row of the clock and does not notice.
pub fn advance_store_clock(data: &Path, by: Duration) {
    change_row(data, "meta", b"clock", |row| {
        let mut rest = &row[..];
        let boot_id = read_number(&mut rest) as usize;
        rest = &rest[boot_id..];
        let _seconds_since_boot = read_number(&mut rest);
        let start = row.len() - rest.len();
        let store_time = read_number(&mut rest);
        row.truncate(start);
        write_number(row, store_time + by.as_secs());
    });
}

impl Daemon {
    /// Restarts the daemon with the clock of its store moved forward, so that no test waits for a grace period.
    pub fn advance_clock(&mut self, by: Duration) {
        self.stop();
        advance_store_clock(&self.data, by);
        self.start_again();
    }
}
