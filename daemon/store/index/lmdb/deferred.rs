//! The state of the log of an open index, and of the checkpoint that writes its rows to LMDB.

use std::sync::Arc;

use crate::store::index::pending::Pending;
use crate::store::index::tables::Table;
use crate::store::index::wal::{Log, LogRow};

/// A running checkpoint.
pub(super) struct Checkpoint {
    /// The rows to write: all that were pending at its begin.
    pub(super) rows: Arc<Pending>,
    /// The row that the last step writes.
    pub(super) row: LogRow,
    /// The last row that was written.
    pub(super) position: Option<(Table, Box<[u8]>)>,
}

/// The log, and the work on it that is left for later.
pub(in crate::store) struct Deferred {
    pub(super) log: Log,
    pub(super) checkpoint: Option<Checkpoint>,
    /// The change number at the end of the other segment.
    pub(super) change_before: u64,
    /// True after a commit of LMDB that may not be durable although readers see it: another one has to come first.
    pub(super) is_unsure: bool,
    /// True while LMDB has no [`LogRow`]: the first commit is one of LMDB.
    pub(super) lacks_row: bool,
}

impl Deferred {
    /// Returns the state after the log was replayed. If it fills both segments, its rows go to LMDB first.
    pub(super) fn new(log: Log, change: u64, pending: &Pending, spans_both: bool) -> Self {
        let mut deferred =
            Deferred { log, checkpoint: None, change_before: change, is_unsure: false, lacks_row: false };
        if spans_both && !pending.is_empty() {
            deferred.begin_checkpoint(Arc::new(pending.clone()));
        }
        deferred
    }

    /// Begins to write these rows, which are all that are pending, to LMDB.
    pub(super) fn begin_checkpoint(&mut self, rows: Arc<Pending>) {
        let row = LogRow { id: self.log.id, applied: rows.sequence, next: self.log.end };
        self.checkpoint = Some(Checkpoint { rows, row, position: None });
    }
}
