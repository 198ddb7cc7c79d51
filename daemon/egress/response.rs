//! Answers, whose bodies are read in bounded memory and time.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::CONTENT_LENGTH;
use http::{HeaderMap, StatusCode};
use http_body_util::BodyExt;
use hyper::body::Incoming;

use super::error::{EgressError, chain};
use super::pool::{IdlePool, Sender};
use super::target::Origin;

/// Time without a byte after which a body counts as broken.
const STALL: Duration = Duration::from_mins(1);
/// Bytes that are read to keep the connection.
const DRAINED: usize = 64 << 10;

/// The head of an answer, and its body.
pub struct Response {
    /// The host that answered, after redirects.
    pub origin: Origin,
    /// The status.
    pub status: StatusCode,
    /// The headers.
    pub headers: HeaderMap,
    body: Incoming,
    /// The connection, until the body has been read.
    connection: Option<(Sender, Arc<IdlePool>)>,
}

impl Response {
    pub(super) fn new(
        origin: Origin,
        (status, headers): (StatusCode, HeaderMap),
        body: Incoming,
        connection: Option<(Sender, Arc<IdlePool>)>,
    ) -> Self {
        Response { origin, status, headers, body, connection }
    }

    /// Returns the text of a header.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }

    /// Returns the length that the answer states.
    pub fn length(&self) -> Option<u64> {
        self.header(CONTENT_LENGTH.as_str())?.parse().ok()
    }

    /// Returns the next bytes; `None` at the end, after which the connection is kept.
    ///
    /// # Errors
    /// [`EgressError::Broken`] if the body ends too early or stalls.
    pub async fn chunk(&mut self) -> Result<Option<Bytes>, EgressError> {
        loop {
            let broken = |reason| EgressError::Broken { host: self.origin.authority(), reason };
            match tokio::time::timeout(STALL, self.body.frame()).await {
                Ok(Some(Ok(frame))) => {
                    if let Ok(bytes) = frame.into_data() {
                        return Ok(Some(bytes));
                    }
                }
                Ok(Some(Err(error))) => return Err(broken(chain(&error))),
                Ok(None) => {
                    if let Some((sender, idle)) = self.connection.take() {
                        idle.put(&self.origin, sender);
                    }
                    return Ok(None);
                }
                Err(_) => return Err(broken(format!("no byte came for {} seconds", STALL.as_secs()))),
            }
        }
    }

    /// Reads the whole body.
    ///
    /// # Errors
    /// As [`Response::chunk`]; [`EgressError::Protocol`] if it is longer than `limit`.
    pub async fn bytes(mut self, limit: usize) -> Result<Bytes, EgressError> {
        let mut whole = Vec::new();
        while let Some(bytes) = self.chunk().await? {
            if whole.len() + bytes.len() > limit {
                let reason = format!("its answer has more than {limit} bytes");
                return Err(EgressError::Protocol { host: self.origin.authority(), reason });
            }
            whole.extend_from_slice(&bytes);
        }
        Ok(whole.into())
    }

    /// Reads a short body without keeping it, so that the connection can be used again; a long one ends the connection.
    ///
    /// # Errors
    /// As [`Response::chunk`].
    pub async fn drain(mut self) -> Result<(), EgressError> {
        let mut read = 0;
        while let Some(bytes) = self.chunk().await? {
            read += bytes.len();
            if read > DRAINED {
                break;
            }
        }
        Ok(())
    }
}
