//! Stages of a request: [`Parsed`] has only its route; a permit turns it into [`Permitted`], which has the body.
//!
//! The body enforces the time and rate limits of the sender. A body that is dropped unread is drained (lingering
//! close).

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::request::Parts;
use http_body::{Body, Frame};
use hyper::body::Incoming;

use super::error::ApiError;
use super::pace::Pace;
use super::route::{Query, Route};
use crate::access::Permit;

/// The longest time for which an unread body is drained, so that the client receives the response.
const DRAIN_TIME: Duration = Duration::from_secs(10);
/// The most bytes of an unread body that are drained.
const DRAIN_BYTES: usize = 64 << 20;

/// Request with a known route and without a permit: it gives access neither to the body nor to the store.
pub struct Parsed {
    route: Route,
    parts: Parts,
    body: RequestBody,
}

impl Parsed {
    /// Makes the first stage of a request.
    pub fn new(route: Route, parts: Parts, body: RequestBody) -> Self {
        Parsed { route, parts, body }
    }

    /// Returns the route.
    pub fn route(&self) -> &Route {
        &self.route
    }

    /// Returns the second stage, in exchange for a permit. `peer` is the other end of the connection.
    pub fn permitted(self, permit: Permit, peer: IpAddr) -> Permitted {
        let query = Query::parse(self.parts.uri.query());
        Permitted { route: self.route, parts: self.parts, query, body: self.body, permit, peer }
    }
}

/// Request with a permit.
pub struct Permitted {
    /// The route.
    pub route: Route,
    /// Method, URL and headers.
    pub parts: Parts,
    /// The query parameters.
    pub query: Query,
    /// The body.
    pub body: RequestBody,
    /// The permit: the identity, and its rights.
    pub permit: Permit,
    /// The other end of the connection: the client, or a proxy.
    pub peer: IpAddr,
}

impl Permitted {
    /// Returns the first value of a header; `None` if it is missing or not ASCII text.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.parts.headers.get(name)?.to_str().ok()
    }
}

/// Body of a request.
///
/// Lingering close: a body that is dropped unread is drained in the background for up to ten seconds or 64 MiB. Closing
/// the connection while the client is still sending would reset it before the client reads the response.
pub struct RequestBody {
    incoming: Option<Incoming>,
    waits_for_continue: bool,
    announced: Option<u64>,
    stall: Duration,
    pace: Pace,
    received: Option<[Arc<AtomicU64>; 2]>,
}

impl RequestBody {
    /// Makes the body of a request. The client may pause for at most `stall`, and has to send at least `minimum_rate`
    /// bytes per second, averaged over windows of `stall` of waiting; zero is no minimum.
    pub fn new(parts: &Parts, incoming: Incoming, stall: Duration, minimum_rate: u64) -> Self {
        let announced = incoming.size_hint().exact();
        let waits_for_continue = parts.headers.contains_key(http::header::EXPECT);
        let pace = Pace::new(minimum_rate, stall);
        RequestBody { incoming: Some(incoming), waits_for_continue, announced, stall, pace, received: None }
    }

    /// Adds the bytes that are read to counters.
    #[must_use]
    pub fn counted_by(mut self, received: [Arc<AtomicU64>; 2]) -> Self {
        self.received = Some(received);
        self
    }

    /// Returns the announced length (`Content-Length`); `None` if the body is chunked.
    pub fn announced(&self) -> Option<u64> {
        self.announced
    }

    /// Receives the next bytes; returns `None` at the end.
    ///
    /// # Errors
    /// Returns [`ApiError::stalled`] (408) if the client pauses too long or is too slow, and [`ApiError::size_invalid`]
    /// (400) if the body ends early.
    pub async fn chunk(&mut self) -> Result<Option<Bytes>, ApiError> {
        self.waits_for_continue = false;
        let Some(incoming) = &mut self.incoming else { return Ok(None) };
        let mut paused = Duration::ZERO;
        loop {
            let patience = self.stall.saturating_sub(paused).min(self.pace.remaining());
            let began = Instant::now();
            let next = tokio::time::timeout(patience, next_frame(incoming)).await;
            let waited = began.elapsed();
            let bytes = match &next {
                Ok(Some(Ok(frame))) => frame.data_ref().map_or(0, Bytes::len) as u64,
                Ok(None | Some(Err(_))) | Err(_) => 0,
            };
            for received in self.received.iter().flatten() {
                received.fetch_add(bytes, Ordering::Relaxed);
            }
            paused += waited;
            let keeps_up = self.pace.keeps_up(waited, bytes);
            match next {
                // Bytes that have arrived are delivered in any case; the next wait of a client that is too slow ends at
                // once.
                Err(_) if keeps_up && paused < self.stall => {}
                Err(_) => return Err(ApiError::stalled()),
                Ok(None) => {
                    self.incoming = None;
                    return Ok(None);
                }
                Ok(Some(Ok(frame))) => {
                    if let Ok(bytes) = frame.into_data() {
                        return Ok(Some(bytes));
                    }
                }
                Ok(Some(Err(_))) => {
                    self.incoming = None;
                    return Err(ApiError::size_invalid("the body ended before its announced length"));
                }
            }
        }
    }

    /// Receives the whole body into memory.
    ///
    /// # Errors
    /// Returns [`ApiError::too_large`] (413) for a body of more than `limit` bytes, and the errors of
    /// [`RequestBody::chunk`].
    pub async fn collect(&mut self, limit: usize) -> Result<Bytes, ApiError> {
        if self.announced.is_some_and(|length| length > limit as u64) {
            return Err(ApiError::too_large(limit));
        }
        // Allocated at once, since a growing vector needs twice the memory for a moment. The limit bounds a false
        // announcement.
        let announced = self.announced.and_then(|length| usize::try_from(length).ok()).unwrap_or(0);
        let mut collected = Vec::with_capacity(announced.min(limit));
        while let Some(chunk) = self.chunk().await? {
            if collected.len() + chunk.len() > limit {
                return Err(ApiError::too_large(limit));
            }
            collected.extend_from_slice(&chunk);
        }
        Ok(collected.into())
    }
}

impl Drop for RequestBody {
    fn drop(&mut self) {
        let Some(mut incoming) = self.incoming.take() else { return };
        // With `Expect: 100-continue` polling the body makes hyper send `100 Continue`, and the client has sent nothing
        // yet.
        if incoming.is_end_stream() || self.waits_for_continue {
            return;
        }
        let Ok(runtime) = tokio::runtime::Handle::try_current() else { return };
        runtime.spawn(async move {
            let drained = async {
                let mut read = 0;
                while let Some(Ok(frame)) = next_frame(&mut incoming).await {
                    read += frame.data_ref().map_or(0, Bytes::len);
                    if read > DRAIN_BYTES {
                        break;
                    }
                }
            };
            // After this time a client has read the response, or does not want it.
            let _ = tokio::time::timeout(DRAIN_TIME, drained).await;
        });
    }
}

async fn next_frame(incoming: &mut Incoming) -> Option<Result<Frame<Bytes>, hyper::Error>> {
    std::future::poll_fn(|context| std::pin::Pin::new(&mut *incoming).poll_frame(context)).await
}
