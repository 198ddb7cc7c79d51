//! The identity of a new index: the id of the registry and the epoch of its event feed.

use uuid::Uuid;

use super::applier::Applier;
use super::apply::Apply;
use crate::store::error::StoreError;
use crate::store::index::tables::meta::{self, Meta};
use crate::store::index::tables::{Table, WriteTables};

/// Gives a new index its identity, unless it has one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::store) struct Identify {
    /// The id of the registry, which `index.json` carries to a rebuilt index.
    pub(in crate::store) id: Uuid,
    /// The epoch of the event feed.
    pub(in crate::store) epoch: u64,
}

impl Apply for Identify {
    type Reply = ();

    fn apply<T: WriteTables>(&self, to: &mut Applier<'_, T>) -> Result<(), StoreError> {
        if to.tables.registry_id()?.is_some() {
            return Ok(());
        }
        to.tables.put_row(Table::Meta, meta::ID, self.id.as_bytes())?;
        to.tables.put_row(Table::Meta, meta::EPOCH, &self.epoch)?;
        // `index.json` has the id.
        to.names_changed();
        Ok(())
    }
}
