//! Pulls that are not in the index yet.
//!
//! A pull writes nothing to the disk: it is noted here, once for each manifest and day, and `usage` records it later
//! together with others. The memory is bounded; pulls beyond that leave a gap, after which everything counts as pulled.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};

use super::index::changes::uses::NoteUses;
use super::index::tables::keys;
use super::index::tables::uses::StoreDay;
use crate::base::Lock;
use crate::oci::{Digest, RepositoryName};

/// The maximum number of manifests in memory, about 150 bytes each.
const MAX_MANIFESTS: usize = 10_000;
/// The maximum number of pulls in one transaction.
const MAX_PER_TRANSACTION: usize = 256;
/// The length of the longest key of a manifest.
const LONGEST_KEY: usize = 255 + 1 + 65;

/// The pulls of this process.
#[derive(Default)]
pub(super) struct Pulls {
    /// True if a retention rule needs to know them.
    is_recording: AtomicBool,
    noted: Lock<Noted>,
}

#[derive(Default)]
struct Noted {
    /// The last pulls, by the keys of the manifests.
    last: HashMap<Box<[u8]>, Pull>,
    /// The number of pulls that are not recorded yet.
    pending: usize,
    /// True if pulls were dropped.
    has_gap: bool,
}

/// The last pull of a manifest.
#[derive(Clone, Copy)]
struct Pull {
    day: StoreDay,
    is_recorded: bool,
}

impl Pulls {
    /// Switches the record on or off. Returns true if it was on before.
    pub(super) fn set_recording(&self, is_recording: bool) -> bool {
        self.is_recording.swap(is_recording, Ordering::Relaxed)
    }

    /// Returns true if pulls are recorded.
    pub(super) fn is_recording(&self) -> bool {
        self.is_recording.load(Ordering::Relaxed)
    }

    /// Notes a pull. One that was noted on the same day already costs a lookup and no allocation.
    pub(super) fn note(&self, repository: &RepositoryName, digest: &Digest, day: StoreDay) {
        let mut buffer = [0; LONGEST_KEY];
        let Some(key) = key_in(&mut buffer, repository, digest) else { return };
        let noted = &mut *self.noted.lock();
        match noted.last.get_mut(key) {
            Some(pull) if pull.day >= day => return,
            Some(pull) => {
                noted.pending += usize::from(pull.is_recorded);
                *pull = Pull { day, is_recorded: false };
                return;
            }
            None => {}
        }
        if noted.last.len() >= MAX_MANIFESTS && noted.pending < noted.last.len() {
            noted.last.retain(|_, pull| !pull.is_recorded);
        }
        if noted.last.len() >= MAX_MANIFESTS {
            noted.has_gap = true;
            return;
        }
        noted.last.insert(key.into(), Pull { day, is_recorded: false });
        noted.pending += 1;
    }

    /// Returns true if there are pulls to record.
    pub(super) fn is_pending(&self) -> bool {
        let noted = self.noted.lock();
        noted.pending > 0 || noted.has_gap
    }

    /// Returns pulls for the next transaction; `None` if all are recorded.
    pub(super) fn pending(&self) -> Option<NoteUses> {
        let noted = self.noted.lock();
        if noted.pending == 0 && !noted.has_gap {
            return None;
        }
        let pending = noted.last.iter().filter(|(_, pull)| !pull.is_recorded);
        let pulls = pending.take(MAX_PER_TRANSACTION).map(|(key, pull)| (key.clone(), pull.day)).collect();
        Some(NoteUses { pulls, has_gap: noted.has_gap })
    }

    /// Notes that pulls are recorded.
    pub(super) fn recorded(&self, uses: &NoteUses) {
        let noted = &mut *self.noted.lock();
        for (key, day) in &uses.pulls {
            let Some(pull) = noted.last.get_mut(key) else { continue };
            if pull.day == *day && !pull.is_recorded {
                pull.is_recorded = true;
                noted.pending -= 1;
            }
        }
        noted.has_gap &= !uses.has_gap;
    }

    /// Returns the day of the last pull of a manifest that is in memory.
    pub(super) fn last(&self, repository: &RepositoryName, digest: &Digest) -> Option<StoreDay> {
        let mut buffer = [0; LONGEST_KEY];
        let key = key_in(&mut buffer, repository, digest)?;
        self.noted.lock().last.get(key).map(|pull| pull.day)
    }

    /// Returns true if pulls were dropped that the index does not know of.
    pub(super) fn has_gap(&self) -> bool {
        self.noted.lock().has_gap
    }
}

/// Writes the key of a manifest into a buffer, as `keys::content_key` makes it.
fn key_in<'a>(
    buffer: &'a mut [u8; LONGEST_KEY],
    repository: &RepositoryName,
    digest: &Digest,
) -> Option<&'a [u8]> {
    let (name, hash) = (repository.as_str().as_bytes(), digest.bytes());
    let length = name.len() + 2 + hash.len();
    let key = buffer.get_mut(..length)?;
    key[..name.len()].copy_from_slice(name);
    key[name.len() + 1] = keys::code_of(digest.algorithm());
    key[name.len() + 2..].copy_from_slice(hash);
    Some(key)
}

#[cfg(test)]
mod tests;
