//! Random bytes for ids.

use std::io;

use ring::rand::{SecureRandom, SystemRandom};

use super::error::StoreError;

/// Returns random bytes that clients cannot guess.
pub(super) fn random_bytes<const COUNT: usize>() -> Result<[u8; COUNT], StoreError> {
    let mut bytes = [0; COUNT];
    let failed = |_| StoreError::io("get random bytes", io::Error::other("getrandom failed"));
    SystemRandom::new().fill(&mut bytes).map_err(failed)?;
    Ok(bytes)
}
