//! Requests of transfers: imports and exports. `transfer_leases.rs` has their leases.

use std::ops::Deref;
use std::time::Instant;

use uuid::Uuid;

use super::inner::Store;
use super::signed::{SignedList, SignedPush};
use super::transfer_leases::{MOVE_RESERVE, Purpose, TransferError};
use crate::oci::{Digest, RepositoryName, Tag};

/// A running request of a transfer, which keeps its lease.
pub struct Transfer {
    pub(super) store: Store,
    id: Uuid,
}

/// A transfer with one request, both of which end when it is dropped.
pub struct OwnTransfer(Transfer);

impl Deref for OwnTransfer {
    type Target = Transfer;

    fn deref(&self) -> &Transfer {
        &self.0
    }
}

impl Drop for OwnTransfer {
    fn drop(&mut self) {
        // It may have ended with the store.
        let _ = self.0.store.end_transfer(self.0.id);
    }
}

impl Store {
    /// Opens a transfer that ends with the returned value. Its lease does not expire, however long its content takes.
    ///
    /// # Errors
    /// [`TransferError::TooMany`].
    pub fn own_transfer(&self, purpose: Purpose) -> Result<OwnTransfer, TransferError> {
        let id = self.open_transfer(purpose)?;
        self.transfer(id).map(OwnTransfer)
    }

    /// Opens a transfer.
    ///
    /// # Errors
    /// [`TransferError::TooMany`].
    pub fn open_transfer(&self, purpose: Purpose) -> Result<Uuid, TransferError> {
        self.0.leases.open(purpose, Instant::now())
    }

    /// Begins a request of a transfer.
    ///
    /// # Errors
    /// [`TransferError::Unknown`].
    pub fn transfer(&self, id: Uuid) -> Result<Transfer, TransferError> {
        self.0.leases.expire(Instant::now());
        self.0.leases.begin(id)?;
        Ok(Transfer { store: self.clone(), id })
    }

    /// Ends a transfer; its running requests continue without a lease.
    ///
    /// # Errors
    /// [`TransferError::Unknown`].
    pub fn end_transfer(&self, id: Uuid) -> Result<(), TransferError> {
        self.0.leases.end(id)
    }
}

impl Transfer {
    /// Returns the purpose of the transfer.
    ///
    /// # Errors
    /// [`TransferError::Unknown`] if it was ended.
    pub fn purpose(&self) -> Result<Purpose, TransferError> {
        self.store.0.leases.purpose(self.id)
    }

    /// Returns the reserve that the transfer leaves free at least, if it may use the rest.
    pub(super) fn reserve(&self) -> Result<Option<u64>, TransferError> {
        Ok(match self.purpose()? {
            Purpose::Move => Some(MOVE_RESERVE),
            Purpose::Import | Purpose::Export => None,
        })
    }

    /// Returns true if the transfer leases the content.
    ///
    /// # Errors
    /// [`TransferError::Unknown`] if it was ended.
    pub fn leases(&self, digest: &Digest) -> Result<bool, TransferError> {
        self.store.0.leases.is_leased_by(self.id, digest)
    }

    /// Adds a signed list: from now on the transfer names only what its signed lists have.
    ///
    /// # Errors
    /// [`TransferError::TooManyDigests`], or [`TransferError::Unknown`] if it was ended.
    pub fn permit(&self, list: SignedList) -> Result<(), TransferError> {
        self.store.0.leases.permit(self.id, list)
    }

    /// Returns true if a signed export was given.
    ///
    /// # Errors
    /// [`TransferError::Unknown`] if it was ended.
    pub fn has_signature(&self) -> Result<bool, TransferError> {
        self.store.0.leases.has_signature(self.id)
    }

    /// Returns true if a signed list names the digest.
    ///
    /// # Errors
    /// [`TransferError::Unknown`] if it was ended.
    pub fn is_signed(&self, digest: &Digest) -> Result<bool, TransferError> {
        self.store.0.leases.is_signed(self.id, digest)
    }

    /// Returns the pushes of an image by the signed lists, in the order of their times; none if they do not have it under this
    /// name.
    ///
    /// # Errors
    /// [`TransferError::Unknown`] if it was ended.
    pub fn signed_pushes(
        &self,
        name: &(RepositoryName, Option<Tag>, Digest),
    ) -> Result<Vec<SignedPush>, TransferError> {
        self.store.0.leases.signed_pushes(self.id, name)
    }

    /// Leases content from now on; see `transfer_leases.rs` about the order.
    pub(super) async fn lease<'a>(
        &self,
        digests: impl Iterator<Item = &'a Digest>,
    ) -> Result<(), TransferError> {
        if !self.store.0.leases.lease(self.id, digests)? {
            return Ok(());
        }
        let waiting = Waiting(self);
        // Any answer comes after all earlier sweeps, also an error; a store that is read-only sweeps nothing.
        if let Ok(writer) = self.store.writer() {
            let _ = writer.barrier().await;
        }
        drop(waiting);
        Ok(())
    }
}

/// A request that waits for the writer.
struct Waiting<'a>(&'a Transfer);

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.store.0.leases.has_waited(self.0.id);
    }
}

impl Drop for Transfer {
    fn drop(&mut self) {
        self.store.0.leases.finish(self.id, Instant::now());
    }
}
