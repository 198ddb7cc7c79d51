//! A request of the local API, as its handlers get it.

use std::any::Any;
use std::sync::Arc;

use serde::de::DeserializeOwned;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::actor::Actor;
use super::error::ControlError;
use super::host::Host;
use crate::wire::{Query, RequestBody};

/// Maximum length of a JSON body, in bytes; an endpoint may set a lower one.
pub(super) const MAX_JSON: usize = 32 << 20;

/// Permits to have a large body in memory; cheap to clone.
#[derive(Clone, Debug)]
pub(super) struct LargeBodies(Arc<Semaphore>);

impl LargeBodies {
    pub(super) fn new() -> Self {
        LargeBodies(Arc::new(Semaphore::new(2)))
    }

    /// Waits for a permit; `None` never comes, because the permits are never closed.
    pub(super) async fn acquire(&self) -> Option<OwnedSemaphorePermit> {
        Arc::clone(&self.0).acquire_owned().await.ok()
    }
}

/// A request for an endpoint of the local API.
pub(super) struct Request {
    /// The process that answers.
    pub(super) host: Arc<dyn Host>,
    /// The local user who sent it.
    pub(super) actor: Actor,
    /// The query parameters.
    pub(super) query: Query,
    /// The body.
    pub(super) body: RequestBody,
    /// The permits for large bodies.
    pub(super) large_bodies: LargeBodies,
    /// Counts the request as activity; work that outlives the response keeps a clone.
    pub(super) activity: Arc<dyn Any + Send + Sync>,
}

impl Request {
    /// Reads a JSON body of at most `limit` bytes.
    ///
    /// # Errors
    /// Returns the error of a body that is too large, too slow or not as expected.
    pub(super) async fn json<T: DeserializeOwned>(&mut self, limit: usize) -> Result<T, ControlError> {
        let bytes = self.body.collect(limit.min(MAX_JSON)).await?;
        serde_json::from_slice(&bytes)
            .map_err(|error| ControlError::malformed(format!("the body is not the expected JSON: {error}")))
    }

    /// Returns true if the work is to go on after the peer has disconnected: `?detach=1`.
    pub(super) fn is_detached(&self) -> bool {
        self.query.get("detach") == Some("1")
    }
}
