//! The moment at which a change is applied, and the work on files that it causes.

use crate::oci::Digest;
use crate::store::clock::{ClockRow, StoreTime};

/// The moment of a transaction, the same for all of its changes.
#[derive(Clone, Debug)]
pub(in crate::store) struct Now {
    /// Wall-clock time, in seconds since 1970.
    pub(in crate::store) wall_time: u64,
    /// Store time.
    pub(in crate::store) store_time: StoreTime,
    /// The row from which the clock continues in the next process.
    pub(in crate::store) clock: ClockRow,
    /// The number of names that earlier changes of the transaction set; sequence numbers continue from there.
    pub(in crate::store) names_set: u64,
}

/// The work on the files of blobs once the transaction is committed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(in crate::store) struct FileActions {
    /// Blobs without a row, whose files are removed.
    pub(in crate::store) unlink: Vec<Digest>,
    /// Corrupt blobs without a row, whose files are moved to `damaged/`.
    pub(in crate::store) set_aside: Vec<Digest>,
    /// True if `index.json` is out of date: a name, a link exception or the collection hold has changed.
    pub(in crate::store) names_changed: bool,
}
