//! The identity of the registry: an id that stays with its content over rebuilds of the index, and the epoch of the
//! event feed, which is new with each index.

use ring::rand::{SecureRandom, SystemRandom};
use uuid::{Builder, Uuid};

use super::error::StoreError;
use super::index::changes::identity::Identify;
use super::index::writer::Writer;

/// Gives a new index its identity. `known` is the id that `index.json` has.
pub(super) async fn identify(writer: &Writer, known: Option<Uuid>) -> Result<(), StoreError> {
    let random = || StoreError::io("get random bytes", std::io::Error::other("getrandom failed"));
    let mut bytes = [0; 24];
    SystemRandom::new().fill(&mut bytes).map_err(|_| random())?;
    let (id, epoch) = bytes.split_first_chunk::<16>().ok_or_else(random)?;
    let epoch = epoch.first_chunk().copied().map(u64::from_be_bytes).ok_or_else(random)?;
    let id = known.unwrap_or_else(|| Builder::from_random_bytes(*id).into_uuid());
    writer.submit(Identify { id, epoch }).await
}
