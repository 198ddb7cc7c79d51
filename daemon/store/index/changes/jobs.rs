//! The change that records a background job.

use super::applier::Applier;
use super::apply::Apply;
use crate::store::error::StoreError;
use crate::store::index::tables::jobs::JobRow;
use crate::store::index::tables::{Table, WriteTables};

/// Stores the record of a job.
#[derive(Debug)]
pub(in crate::store) struct NoteJob {
    pub(in crate::store) name: String,
    pub(in crate::store) row: JobRow,
}

impl Apply for NoteJob {
    type Reply = ();

    fn apply<T: WriteTables>(&self, to: &mut Applier<'_, T>) -> Result<(), StoreError> {
        Ok(to.tables.put_row(Table::Jobs, self.name.as_bytes(), &self.row)?)
    }
}
