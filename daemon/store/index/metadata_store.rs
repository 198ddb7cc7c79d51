//! The port of the metadata: snapshots for reads, and transactions that apply changes.

#[cfg(test)]
pub(in crate::store) mod memory;

use std::collections::BTreeSet;

use super::changes::daily::{self, RecordedDays};
use super::changes::feed::{FeedInput, FeedWriter, Written};
use super::changes::{self, Change, FileActions, Now, Origin, Reply};
use super::tables::{ReadTables, Table, WriteTables, keys};
use crate::oci::Digest;
use crate::store::error::StoreError;

/// A store of the tables.
pub(in crate::store) trait MetadataStore: Send + Sync + 'static {
    /// A consistent view.
    type Snapshot<'a>: ReadTables
    where
        Self: 'a;

    /// Begins a read.
    fn snapshot(&self) -> Result<Self::Snapshot<'_>, StoreError>;

    /// Applies changes and commits them in one transaction. Once it returns `Ok`, they survive a power cut.
    ///
    /// # Errors
    /// [`Failed::Aborted`] if nothing is changed, [`Failed::Unknown`] if the commit itself failed.
    fn commit(&self, changes: &mut Transaction<'_>) -> Result<Applied, Failed>;

    /// Refuses changes that make the tables larger if there is no room for them.
    fn check_capacity(&self) -> Result<(), StoreError>;

    /// Does a bounded part of the work that earlier commits have left for later. Returns true if there is more.
    fn work_deferred(&self) -> Result<bool, StoreError>;

    /// Commits a small change, so that the space which the previous commit freed can be used by the next.
    fn release_freed_space(&self) -> Result<(), StoreError>;

    /// Releases what processes that were killed hold.
    fn release_dead_readers(&self);
}

/// The changes of one transaction.
pub(in crate::store) struct Transaction<'a> {
    /// The changes, in their order.
    pub(in crate::store) changes: Vec<(&'a Change, &'a Origin)>,
    /// The blobs whose files were admitted for the changes.
    pub(in crate::store) admitted: BTreeSet<Digest>,
    /// Set as soon as a change makes the tables larger.
    pub(in crate::store) grows: bool,
    /// Wall-clock time, in seconds since 1970.
    pub(in crate::store) wall_time: u64,
    /// The bounds of the event feed, and events and counts that wait for a transaction.
    pub(in crate::store) feed: FeedInput,
}

/// A transaction that was applied.
#[derive(Debug, Default)]
pub(in crate::store) struct Applied {
    /// The reply or the refusal of each change.
    pub(in crate::store) results: Vec<Result<Reply, StoreError>>,
    /// The events that were written.
    pub(in crate::store) events: Written,
    /// The outcome for the daily totals.
    pub(in crate::store) days: RecordedDays,
    /// The work on files after the commit: only on blobs that have no row at the end of the transaction.
    pub(in crate::store) files: FileActions,
    /// The admitted blobs that have no row at the end of the transaction.
    pub(in crate::store) unused: BTreeSet<Digest>,
}

/// Reason why a transaction failed.
#[derive(Debug)]
pub(in crate::store) enum Failed {
    /// It was aborted: nothing is changed.
    Aborted(StoreError),
    /// The commit failed: the change may be durable or not, as after a power cut.
    Unknown(StoreError),
}

impl Failed {
    /// Returns the error.
    pub(in crate::store) fn into_error(self) -> StoreError {
        match self {
            Failed::Aborted(error) | Failed::Unknown(error) => error,
        }
    }
}

impl From<StoreError> for Failed {
    fn from(error: StoreError) -> Self {
        Failed::Aborted(error)
    }
}

/// Applies all changes of a transaction to its tables.
///
/// # Errors
/// An error that ends the transaction ([`StoreError::ends_transaction`]).
pub(super) fn apply_all(
    tables: &mut impl WriteTables,
    transaction: &Transaction<'_>,
    mut now: Now,
) -> Result<Applied, StoreError> {
    let mut applied = Applied::default();
    let moment = now.clone();
    let mut feed = FeedWriter::new(&moment, transaction.feed.bounds);
    let mut trims_feed = false;
    changes::begin(tables, &now)?;
    for (change, origin) in &transaction.changes {
        match changes::apply(change, origin, tables, &now) {
            Ok(outcome) => {
                now.names_set = outcome.names_set;
                // Not collected: many changes of one transaction may each have many events.
                feed.append(tables, &outcome.events)?;
                trims_feed |= outcome.trims_feed;
                applied.files.unlink.extend(outcome.files.unlink);
                applied.files.set_aside.extend(outcome.files.set_aside);
                applied.files.names_changed |= outcome.files.names_changed;
                applied.results.push(Ok(outcome.result));
            }
            Err(error) if error.ends_transaction() => return Err(error),
            Err(refusal) => applied.results.push(Err(refusal)),
        }
    }
    if applied.files.names_changed {
        changes::end_with_names(tables, &now)?;
    }
    feed.append(tables, &transaction.feed.pending)?;
    applied.events = feed.finish(tables, trims_feed)?;
    applied.days = daily::record(tables, &transaction.feed.days)?;
    // A later change of the same transaction may have brought a blob back.
    for list in [&mut applied.files.unlink, &mut applied.files.set_aside] {
        for digest in std::mem::take(list) {
            if !has_row(tables, &digest)? {
                list.push(digest);
            }
        }
    }
    for digest in &transaction.admitted {
        if !has_row(tables, digest)? {
            applied.unused.insert(digest.clone());
        }
    }
    Ok(applied)
}

/// Returns true if the tables have a row for the file of a blob.
pub(super) fn has_row(tables: &impl ReadTables, digest: &Digest) -> Result<bool, StoreError> {
    Ok(tables.get(Table::Blobs, &keys::digest_key(digest))?.is_some())
}
