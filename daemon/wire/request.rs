//! The stages of a request: parsed, permitted, body.

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

/// How long and how much of a body is read that nobody wants, so that its sender gets the answer.
const DRAIN: (Duration, usize) = (Duration::from_secs(10), 64 << 20);

/// A request whose route is known; neither its body nor the store can be reached with it.
pub struct Parsed {
    route: Route,
    parts: Parts,
    body: RequestBody,
}

impl Parsed {
    /// The request of a route.
    pub fn new(route: Route, parts: Parts, body: RequestBody) -> Self {
        Parsed { route, parts, body }
    }

    /// What it is about.
    pub fn route(&self) -> &Route {
        &self.route
    }

    /// The next stage: a permit is the price.
    pub fn permitted(self, permit: Permit, peer: IpAddr) -> Permitted {
        let query = Query::parse(self.parts.uri.query());
        Permitted { route: self.route, parts: self.parts, query, body: self.body, permit, peer }
    }
}

/// A request that is allowed.
pub struct Permitted {
    /// What it is about.
    pub route: Route,
    /// Method, URL and headers.
    pub parts: Parts,
    /// The parameters of the URL.
    pub query: Query,
    /// What the client sends.
    pub body: RequestBody,
    /// Who may do what.
    pub permit: Permit,
    /// Who sent it: the client, or a proxy.
    pub peer: IpAddr,
}

impl Permitted {
    /// A header as text.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.parts.headers.get(name)?.to_str().ok()
    }
}

/// The body of a request. One that is dropped unread is read a little further in the background: a client that
/// is still sending would see a reset connection instead of its answer.
pub struct RequestBody {
    incoming: Option<Incoming>,
    waits_for_continue: bool,
    announced: Option<u64>,
    stall: Duration,
    pace: Pace,
    received: Option<Arc<AtomicU64>>,
}

impl RequestBody {
    /// The body of a request that may pause for at most `stall`, and has to come with at least `minimum_rate` bytes per
    /// second on average over so much time of waiting; zero is no minimum.
    pub fn new(parts: &Parts, incoming: Incoming, stall: Duration, minimum_rate: u64) -> Self {
        let announced = incoming.size_hint().exact();
        let waits_for_continue = parts.headers.contains_key(http::header::EXPECT);
        let pace = Pace::new(minimum_rate, stall);
        RequestBody { incoming: Some(incoming), waits_for_continue, announced, stall, pace, received: None }
    }

    /// Adds the bytes that are read to a counter.
    #[must_use]
    pub fn counted_by(mut self, received: Arc<AtomicU64>) -> Self {
        self.received = Some(received);
        self
    }

    /// How long the client says it is; nothing when it is chunked.
    pub fn announced(&self) -> Option<u64> {
        self.announced
    }

    /// The next bytes, or nothing at the end.
    ///
    /// # Errors
    /// [`ApiError::Stalled`] when the client pauses too long or is too slow, [`ApiError::SizeInvalid`] when it breaks off.
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
            if let Some(received) = &self.received {
                received.fetch_add(bytes, Ordering::Relaxed);
            }
            paused += waited;
            let keeps_up = self.pace.keeps_up(waited, bytes);
            match next {
                // What has arrived is delivered in any case; the next wait of a client that is too slow ends at once.
                Err(_) if keeps_up && paused < self.stall => {}
                Err(_) => return Err(ApiError::Stalled),
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
                    return Err(ApiError::SizeInvalid("the body broke off".into()));
                }
            }
        }
    }

    /// The whole body, if it has at most `limit` bytes.
    ///
    /// # Errors
    /// [`ApiError::TooLarge`], or as [`RequestBody::chunk`].
    pub async fn collect(&mut self, limit: usize) -> Result<Bytes, ApiError> {
        if self.announced.is_some_and(|length| length > limit as u64) {
            return Err(ApiError::TooLarge(limit));
        }
        // Growing would take twice as much for a moment; what is announced is at most the limit.
        let announced = self.announced.and_then(|length| usize::try_from(length).ok()).unwrap_or(0);
        let mut collected = Vec::with_capacity(announced.min(limit));
        while let Some(chunk) = self.chunk().await? {
            if collected.len() + chunk.len() > limit {
                return Err(ApiError::TooLarge(limit));
            }
            collected.extend_from_slice(&chunk);
        }
        Ok(collected.into())
    }
}

impl Drop for RequestBody {
    fn drop(&mut self) {
        let Some(mut incoming) = self.incoming.take() else { return };
        // A client that waits for leave to send has sent nothing, and reading would give it that leave.
        if incoming.is_end_stream() || self.waits_for_continue {
            return;
        }
        let Ok(runtime) = tokio::runtime::Handle::try_current() else { return };
        runtime.spawn(async move {
            let drained = async {
                let mut read = 0;
                while let Some(Ok(frame)) = next_frame(&mut incoming).await {
                    read += frame.data_ref().map_or(0, Bytes::len);
                    if read > DRAIN.1 {
                        break;
                    }
                }
            };
            // A client that goes on for longer has had its answer long ago.
            let _ = tokio::time::timeout(DRAIN.0, drained).await;
        });
    }
}

async fn next_frame(incoming: &mut Incoming) -> Option<Result<Frame<Bytes>, hyper::Error>> {
    std::future::poll_fn(|context| std::pin::Pin::new(&mut *incoming).poll_frame(context)).await
}
