//! The identity of the registry: an id that stays with its content over rebuilds of the index, and the epoch of the
//! event feed, which is new with each index.

use uuid::{Builder, Uuid};

use super::error::StoreError;
use super::index::changes::identity::Identify;
use super::index::writer::Writer;
use super::random::random_bytes;

/// Gives a new index its identity. `known` is the id that `index.json` has.
pub(super) async fn identify(writer: &Writer, known: Option<Uuid>) -> Result<(), StoreError> {
    let (id, epoch) = (random_bytes()?, u64::from_be_bytes(random_bytes()?));
    let id = known.unwrap_or_else(|| Builder::from_random_bytes(id).into_uuid());
    writer.submit(Identify { id, epoch }).await
}
