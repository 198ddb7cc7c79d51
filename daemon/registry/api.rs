//! The state that all handlers of the API share.

use std::net::IpAddr;
use std::sync::Arc;

use http::header::{HeaderValue, USER_AGENT};

use super::upload_slots::UploadSlots;
use crate::access::{self, Action, CurrentAccess, Identity, Operation};
use crate::oci::{Problem, RepositoryName};
use crate::store::{Cause, FailedLogin, Holder, Origin, Store, StoreError};
use crate::wire::{Addresses, ApiError, Permitted, Query};

/// The API: the store, and the settings that its handlers follow.
pub struct Registry {
    /// The store.
    pub store: Store,
    /// The addresses of the registry, for `Location`, and of its clients.
    pub addresses: Addresses,
    /// `storage.delete`: true if deletes are enabled.
    pub delete: bool,
    /// `registry.read_only`: true if pushes and deletes are refused.
    pub read_only: bool,
    /// `registry.sparse`: true if content that a manifest references may be missing.
    pub sparse: bool,
    /// The most items in one page of a list.
    pub list_max: usize,
    /// `limits.manifest_descriptors`: the most descriptors in a pushed manifest, and the most entries that a page of
    /// referrers reads.
    pub manifest_descriptors: usize,
    /// The slots of uploads whose bodies are being received.
    pub upload_slots: Arc<UploadSlots>,
    /// The access control in effect, for pushes that took long.
    pub access: CurrentAccess,
}

impl Registry {
    pub(super) fn check_delete(&self) -> Result<(), ApiError> {
        if self.delete {
            return Ok(());
        }
        Err(ApiError::disabled("deletes are disabled; set storage.delete to enable them"))
    }

    /// Refuses changes where the configuration switches them off.
    ///
    /// # Errors
    /// Returns the [`ApiError`] that names the key.
    pub fn check_may_push(&self) -> Result<(), ApiError> {
        self.check_writable()
    }

    /// Refuses deletes where the configuration switches them off.
    ///
    /// # Errors
    /// Returns the [`ApiError`] that names the key.
    pub fn check_may_delete(&self) -> Result<(), ApiError> {
        self.check_writable().and_then(|()| self.check_delete())
    }

    /// Refuses changes in a registry that is read-only by its configuration.
    pub(super) fn check_writable(&self) -> Result<(), ApiError> {
        if !self.read_only {
            return Ok(());
        }
        Err(ApiError::disabled(
            "the registry is read-only: pushes and deletes are disabled (registry.read_only)",
        ))
    }

    /// Checks the right to push once more, after the body: the rules or the users may have changed while it came.
    pub(super) async fn check_still_may_push(
        &self,
        name: &RepositoryName,
        request: &Permitted,
    ) -> Result<(), ApiError> {
        let wanted = Operation::Repository { name: name.clone(), action: Action::Push };
        let renewed = self.access.renew(&request.permit, &wanted).await;
        renewed.map(drop).map_err(|_| {
            let user = request.permit.identity();
            ApiError::denied(format!("user {user} may no longer {wanted}: the rights have changed"))
        })
    }

    /// Returns the largest number of items in a page of a list, from the query parameter `n`.
    pub(super) fn page_size(&self, query: &Query) -> Result<usize, ApiError> {
        let Some(text) = query.get("n") else { return Ok(self.list_max) };
        let is_number = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
        if !is_number {
            return Err(ApiError::parameter(format!("the parameter n is {text:?}; it has to be a number")));
        }
        // A number that does not fit is larger than any page.
        Ok(text.parse().unwrap_or(usize::MAX).min(self.list_max))
    }

    /// Returns the value of `Location` for a path.
    pub(super) fn location(&self, path: &str) -> String {
        self.addresses.location(path)
    }

    /// Returns the address of the client, behind trusted proxies, too.
    pub(super) fn client(&self, request: &Permitted) -> IpAddr {
        self.addresses.client_address(&request.parts.headers, request.peer)
    }

    /// Returns the origin of the changes that a request makes.
    pub(super) fn origin(&self, request: &Permitted) -> Origin {
        let agent = request.parts.headers.get(USER_AGENT).map(HeaderValue::as_bytes);
        Origin::of_client(Cause::Api, request.permit.identity().actor(), self.client(request), agent)
    }

    /// Records a failed log-in in the event feed. `user` is the user of the name that was given, if there is one.
    pub fn record_failed_login(&self, user: Option<String>, client: IpAddr) {
        let client = access::network(client);
        self.store.record_failed_login(FailedLogin { user, client, cause: Cause::Api });
    }

    /// Returns the holder that blocking work of the request is counted for.
    pub(super) fn holder(&self, request: &Permitted) -> Holder {
        match request.permit.identity() {
            Identity::User(name) => Holder::User(name.as_str().into()),
            Identity::Local(_) => Holder::User(request.permit.identity().to_string().into()),
            Identity::Anonymous => Holder::Network(access::network(self.client(request))),
        }
    }
}

impl From<StoreError> for ApiError {
    fn from(error: StoreError) -> Self {
        Problem::from(error).into()
    }
}
