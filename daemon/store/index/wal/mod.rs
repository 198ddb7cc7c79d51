//! The write-ahead log of the index: the durable record of each small transaction.
//!
//! A transaction is appended with one sync, as one record of a few blocks, whatever the size of the index. Its rows wait in
//! memory ([`super::pending`]) until a checkpoint writes those of many transactions into the back end at once. The log has two
//! segments, `index/wal.0` and `index/wal.1`: one grows while the rows of the other are written to the back end. The back
//! end has a row with the number of the last transaction that it contains, and the place of the record after it
//! ([`LogRow`]): from there an opened index takes the rest from the log.

mod log;
mod place;
mod read;
mod record;

pub(super) use self::log::{AppendError, Log};
pub(super) use self::place::{Limits, LogRow, Position};
pub(super) use self::read::{Replayed, last_record, read_all, replay};
pub(super) use self::record::RecordRows;
#[cfg(fuzzing)]
pub(in crate::store) use self::record::count_rows;
