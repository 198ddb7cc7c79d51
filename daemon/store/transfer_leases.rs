//! Leases of transfers: imports and exports lease the content that they need or have delivered, so that no collection takes
//! it before they have named or read it.
//!
//! The leases are in memory only, because only one process opens the store; after a restart the grace time protects loose
//! blobs as it protects those of pushes. A lease ends when its transfer is ended, or [`EXPIRY`] after its last request.
//!
//! **Order.** A transfer first leases a digest, then waits for the writer, and only then looks whether the store has the
//! content. A sweep looks at the leases on the writer's thread, so that it either came before and its removal is seen, or it
//! spares the content.

use std::collections::{HashMap, HashSet};
use std::time::{Duration, Instant};

use uuid::Uuid;

use super::error::StoreError;
use super::random::random_bytes;
use super::signed::{Signed, SignedList, SignedPush};
use crate::base::Lock;
use crate::oci::{Algorithm, Digest, RepositoryName, Tag};

/// The time after the last request of a transfer after which its lease ends.
const EXPIRY: Duration = Duration::from_mins(15);
/// The maximum number of open transfers.
const MAX_TRANSFERS: usize = 32;
/// The maximum number of digests that all transfers lease.
const MAX_DIGESTS: usize = 1_000_000;
/// The part of the reserve that also a transfer leaves free that moves content from the same disk.
pub(super) const MOVE_RESERVE: u64 = 16 << 20;

/// The purpose of a transfer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// Content comes in.
    Import,
    /// As [`Purpose::Import`], and each blob is removed from the same disk once it is admitted: the transfer may use the
    /// reserve of the disk down to 16 MiB.
    Move,
    /// Content is read.
    Export,
}

/// Reason why a request of a transfer failed.
#[derive(Debug, thiserror::Error)]
pub enum TransferError {
    /// The transfer does not exist, or its lease has ended.
    #[error("there is no such transfer; it has ended, or {} minutes have passed since its last request", EXPIRY.as_secs() / 60)]
    Unknown,
    /// Too many transfers are open.
    #[error("{MAX_TRANSFERS} transfers are open already; try again later")]
    TooMany,
    /// The transfers lease too many digests.
    #[error(
        "the open transfers would hold more than {MAX_DIGESTS} digests; import or export fewer images at a time"
    )]
    TooManyDigests,
    /// The missing content exceeds the room.
    #[error("the missing content needs {needed} bytes, but {}", if *by_quota { format!("storage.quota leaves {free}") } else { format!("the disk has {free} bytes free above the reserve (storage.reserve)") })]
    Full {
        /// The bytes that are missing.
        needed: u64,
        /// The bytes that can be stored.
        free: u64,
        /// True if the quota sets the limit.
        by_quota: bool,
    },
    /// An operation of the store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// The open transfers.
#[derive(Debug, Default)]
pub(super) struct TransferLeases(Lock<Table>);

#[derive(Debug, Default)]
struct Table {
    open: HashMap<Uuid, Entry>,
    /// The number of digests that all of them lease.
    digests: usize,
}

#[derive(Debug)]
struct Entry {
    purpose: Purpose,
    leased: HashSet<Key>,
    /// The number of its requests that run.
    active: usize,
    /// The end of its last request.
    last: Instant,
    /// The number of requests that lease new digests and wait for the writer.
    waiting: usize,
    /// The signed lists that were given.
    signed: Option<Signed>,
}

/// The first 16 bytes of a hash, which no other content can be made to have.
type Key = [u8; 16];

fn key(digest: &Digest) -> Key {
    let mut key = [0; 16];
    key.copy_from_slice(&digest.bytes()[..16]);
    if digest.algorithm() == Algorithm::Sha512 {
        key[0] ^= 1;
    }
    key
}

impl Entry {
    /// Returns the number of digests in memory.
    fn len(&self) -> usize {
        self.leased.len() + self.signed.as_ref().map_or(0, Signed::len)
    }
}

impl TransferLeases {
    /// Returns true if an open transfer leases the content.
    pub(super) fn contains(&self, digest: &Digest) -> bool {
        let table = self.0.lock();
        !table.open.is_empty() && {
            let key = key(digest);
            table.open.values().any(|entry| entry.leased.contains(&key))
        }
    }

    /// Ends the leases that have expired.
    pub(super) fn expire(&self, now: Instant) {
        let mut table = self.0.lock();
        let Table { open, digests } = &mut *table;
        open.retain(|_, entry| {
            let stays = entry.active > 0 || now.saturating_duration_since(entry.last) < EXPIRY;
            if !stays {
                *digests -= entry.len();
            }
            stays
        });
    }

    /// Opens a transfer.
    pub(super) fn open(&self, purpose: Purpose, now: Instant) -> Result<Uuid, TransferError> {
        self.expire(now);
        let mut table = self.0.lock();
        if table.open.len() >= MAX_TRANSFERS {
            return Err(TransferError::TooMany);
        }
        let id = uuid::Builder::from_random_bytes(random_bytes()?).into_uuid();
        let (leased, signed) = (HashSet::new(), None);
        table.open.insert(id, Entry { purpose, leased, active: 0, last: now, waiting: 0, signed });
        Ok(id)
    }

    /// Ends a transfer.
    pub(super) fn end(&self, id: Uuid) -> Result<(), TransferError> {
        let mut table = self.0.lock();
        let entry = table.open.remove(&id).ok_or(TransferError::Unknown)?;
        table.digests -= entry.len();
        Ok(())
    }

    /// Begins a request: the lease stays until it ends.
    pub(super) fn begin(&self, id: Uuid) -> Result<(), TransferError> {
        self.with(id, |entry| entry.active += 1)
    }

    /// Ends a request. A transfer that was ended has nothing to count.
    pub(super) fn finish(&self, id: Uuid, now: Instant) {
        let _ = self.with(id, |entry| {
            entry.active -= 1;
            entry.last = now;
        });
    }

    /// Ends the wait of a request for the writer.
    pub(super) fn has_waited(&self, id: Uuid) {
        // A transfer that was ended has nothing to count.
        let _ = self.with(id, |entry| entry.waiting -= 1);
    }

    /// Returns the purpose of a transfer.
    pub(super) fn purpose(&self, id: Uuid) -> Result<Purpose, TransferError> {
        self.with(id, |entry| entry.purpose)
    }

    /// Returns true if this transfer leases the content.
    pub(super) fn is_leased_by(&self, id: Uuid, digest: &Digest) -> Result<bool, TransferError> {
        self.with(id, |entry| entry.leased.contains(&key(digest)))
    }

    /// Adds a signed list. From now on the transfer may name only what its signed lists have.
    pub(super) fn permit(&self, id: Uuid, list: SignedList) -> Result<(), TransferError> {
        let mut table = self.0.lock();
        let Table { open, digests: count } = &mut *table;
        let entry = open.get_mut(&id).ok_or(TransferError::Unknown)?;
        let none = Signed::default();
        let new = entry.signed.as_ref().unwrap_or(&none).count_new(&list);
        if count.saturating_add(new) > MAX_DIGESTS {
            return Err(TransferError::TooManyDigests);
        }
        let signed = entry.signed.get_or_insert_default();
        let before = signed.len();
        signed.add(list);
        *count += signed.len() - before;
        Ok(())
    }

    /// Returns true if a signed list names the digest.
    pub(super) fn is_signed(&self, id: Uuid, digest: &Digest) -> Result<bool, TransferError> {
        self.with(id, |entry| entry.signed.as_ref().is_some_and(|signed| signed.contains(digest)))
    }

    /// Returns the pushes of an image by the signed lists; none if they do not have it under this name.
    pub(super) fn signed_pushes(
        &self,
        id: Uuid,
        name: &(RepositoryName, Option<Tag>, Digest),
    ) -> Result<Vec<SignedPush>, TransferError> {
        self.with(id, |entry| entry.signed.as_ref().map(|signed| signed.pushes(name)).unwrap_or_default())
    }

    /// Returns true if a signed export was given.
    pub(super) fn has_signature(&self, id: Uuid) -> Result<bool, TransferError> {
        self.with(id, |entry| entry.signed.is_some())
    }

    /// Returns what `read` returns of an open transfer.
    fn with<T>(&self, id: Uuid, read: impl FnOnce(&mut Entry) -> T) -> Result<T, TransferError> {
        Ok(read(self.0.lock().open.get_mut(&id).ok_or(TransferError::Unknown)?))
    }

    /// Leases digests. Returns true if the caller has to wait for the writer before it looks for the content.
    pub(super) fn lease<'a>(
        &self,
        id: Uuid,
        digests: impl Iterator<Item = &'a Digest>,
    ) -> Result<bool, TransferError> {
        let mut table = self.0.lock();
        let Table { open, digests: count } = &mut *table;
        let entry = open.get_mut(&id).ok_or(TransferError::Unknown)?;
        let mut is_new = false;
        for digest in digests {
            let key = key(digest);
            if entry.leased.contains(&key) {
                continue;
            }
            if *count >= MAX_DIGESTS {
                return Err(TransferError::TooManyDigests);
            }
            entry.leased.insert(key);
            *count += 1;
            is_new = true;
        }
        let must_wait = is_new || entry.waiting > 0;
        entry.waiting += usize::from(must_wait);
        Ok(must_wait)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::oci::Hasher;
    use crate::store::signed::SignedRoot;

    fn digest(content: &[u8]) -> Digest {
        Hasher::digest(Algorithm::Sha256, content)
    }

    #[test]
    fn leases_end_after_their_last_request() {
        let (leases, began) = (TransferLeases::default(), Instant::now());
        let id = leases.open(Purpose::Import, began).unwrap();
        let content = digest(b"content");
        assert!(leases.lease(id, [&content].into_iter()).unwrap());
        assert!(leases.contains(&content) && !leases.contains(&digest(b"other")));
        leases.begin(id).unwrap();
        leases.expire(began + 2 * EXPIRY);
        assert!(leases.contains(&content), "a request runs");
        leases.finish(id, began);
        leases.expire(began + EXPIRY / 2);
        assert!(leases.contains(&content));
        leases.expire(began + EXPIRY);
        assert!(!leases.contains(&content));
        assert!(matches!(leases.end(id), Err(TransferError::Unknown)));
        assert_eq!(leases.0.lock().digests, 0);
    }

    #[test]
    fn open_transfers_and_their_digests_are_bounded() {
        let (leases, now) = (TransferLeases::default(), Instant::now());
        let ids: Vec<_> = (0..MAX_TRANSFERS).map(|_| leases.open(Purpose::Export, now).unwrap()).collect();
        assert!(matches!(leases.open(Purpose::Export, now), Err(TransferError::TooMany)));
        leases.0.lock().digests = MAX_DIGESTS - 1;
        let (first, second) = (digest(b"1"), digest(b"2"));
        assert!(leases.lease(ids[0], [&first].into_iter()).unwrap());
        assert!(
            leases.lease(ids[0], [&first].into_iter()).unwrap(),
            "another request still waits for the writer"
        );
        assert!(matches!(leases.lease(ids[1], [&second].into_iter()), Err(TransferError::TooManyDigests)));
        leases.end(ids[0]).unwrap();
        assert!(leases.lease(ids[1], [&second].into_iter()).unwrap());
    }

    #[test]
    fn signed_lists_add_up() {
        let (leases, now) = (TransferLeases::default(), Instant::now());
        let id = leases.open(Purpose::Import, now).unwrap();
        let (first, second) = (digest(b"1"), digest(b"2"));
        assert!(!leases.has_signature(id).unwrap() && !leases.is_signed(id, &first).unwrap());
        let name = |digest: &Digest| ("a".parse().unwrap(), Some("1".parse().unwrap()), digest.clone());
        let list = |digest: &Digest, pushed| {
            let (repository, tag, digest) = name(digest);
            let root = SignedRoot { repository, tag, digest: digest.clone(), pushed };
            SignedList { registry: None, roots: vec![root], content: vec![digest] }
        };
        let push = |pushed| SignedPush { registry: None, pushed };
        for (digest, pushed, count) in [(&first, Some(9), 2), (&second, None, 4), (&first, Some(7), 5)] {
            for _ in 0..2 {
                leases.permit(id, list(digest, pushed)).unwrap();
                assert_eq!(leases.0.lock().digests, count);
            }
        }
        assert!(leases.has_signature(id).unwrap());
        assert!(leases.is_signed(id, &first).unwrap() && !leases.is_signed(id, &digest(b"3")).unwrap());
        assert_eq!(leases.signed_pushes(id, &name(&first)).unwrap(), [push(Some(7)), push(Some(9))]);
        let other = ("b".parse().unwrap(), Some("1".parse().unwrap()), first.clone());
        assert_eq!(leases.signed_pushes(id, &other).unwrap(), []);
        leases.0.lock().digests += MAX_DIGESTS - 5;
        leases.permit(id, list(&first, Some(7))).unwrap();
        assert!(matches!(leases.permit(id, list(&first, Some(8))), Err(TransferError::TooManyDigests)));
        leases.0.lock().digests -= MAX_DIGESTS - 5;
        leases.end(id).unwrap();
        assert_eq!(leases.0.lock().digests, 0);
    }
}
