//! The changes that record pulls. Pulls themselves change nothing: they are collected in memory and recorded together.

use super::applier::Applier;
use super::apply::Apply;
use crate::store::error::StoreError;
use crate::store::index::tables::uses::{StoreDay, UseRow, Uses};
use crate::store::index::tables::{Table, WriteTables, meta};

/// Records pulls of manifests that still exist.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(in crate::store) struct NoteUses {
    /// The keys of manifests, as `keys::content_key` makes them, and the days of their last pulls.
    pub(in crate::store) pulls: Vec<(Box<[u8]>, StoreDay)>,
    /// True if pulls were lost, because memory has room for only so many: then everything counts as pulled now.
    pub(in crate::store) has_gap: bool,
}

/// Begins or ends the record of pulls. Rows of an earlier record are older than the beginning of the next one and have
/// no effect.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::store) enum PullRecord {
    /// It begins now, unless it has begun.
    Begin,
    /// It begins now: before, pulls were not recorded.
    BeginAnew,
    /// It ends.
    End,
}

impl Apply for NoteUses {
    type Reply = ();

    fn apply<T: WriteTables>(&self, to: &mut Applier<'_, T>) -> Result<(), StoreError> {
        to.tables.check_capacity()?;
        for (key, pulled) in &self.pulls {
            let known: Option<UseRow> = to.tables.row(Table::Uses, key)?;
            let is_newer = known.is_none_or(|row| row.pulled < *pulled);
            if is_newer && to.tables.get(Table::Manifests, key)?.is_some() {
                to.tables.put_row(Table::Uses, key, &UseRow { pulled: *pulled })?;
            }
        }
        if self.has_gap { to.begin_pull_record() } else { Ok(()) }
    }
}

impl Apply for PullRecord {
    type Reply = ();

    fn apply<T: WriteTables>(&self, to: &mut Applier<'_, T>) -> Result<(), StoreError> {
        match self {
            PullRecord::Begin if to.tables.pulls_recorded_since()?.is_some() => Ok(()),
            PullRecord::Begin | PullRecord::BeginAnew => to.begin_pull_record(),
            PullRecord::End => {
                to.tables.delete(Table::Meta, meta::PULLS_RECORDED_SINCE)?;
                Ok(())
            }
        }
    }
}

impl<T: WriteTables> Applier<'_, T> {
    fn begin_pull_record(&mut self) -> Result<(), StoreError> {
        let now = self.now.store_time;
        Ok(self.tables.put_row(Table::Meta, meta::PULLS_RECORDED_SINCE, &now)?)
    }
}
