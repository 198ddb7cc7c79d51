//! Responses and their bodies: none, a few bytes in memory, or a stream of chunks.
//!
//! A stream that fails after its head was sent ends the connection, so that the client sees a body that is too short.

use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http::header::{CONTENT_LENGTH, CONTENT_TYPE, HeaderValue};
use http::{HeaderMap, StatusCode};
use http_body::{Body, Frame, SizeHint};

/// Response of the registry.
pub type Response = http::Response<ResponseBody>;

/// The body ends early: the daemon logs the reason and closes the connection, so that the client notices.
#[derive(Clone, Copy, Debug, thiserror::Error)]
#[error("the body of the response ended early")]
pub struct BodyError;

/// Content that is sent in chunks.
pub trait Chunks: Send {
    /// Returns the next chunk; `None` at the end.
    ///
    /// # Errors
    /// Returns [`BodyError`]; no chunk follows it.
    fn poll_chunk(&mut self, context: &mut Context<'_>) -> Poll<Option<Result<Bytes, BodyError>>>;

    /// Returns the number of bytes that are left.
    fn remaining(&self) -> u64;
}

/// Body of a response.
pub enum ResponseBody {
    /// No body.
    Empty,
    /// A small body in memory; `None` once it is sent.
    Whole(Option<Bytes>),
    /// Content in chunks, which is never in memory as a whole.
    Stream(Box<dyn Chunks>),
}

impl Body for ResponseBody {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        match &mut *self {
            ResponseBody::Empty => Poll::Ready(None),
            ResponseBody::Whole(bytes) => Poll::Ready(bytes.take().map(|bytes| Ok(Frame::data(bytes)))),
            ResponseBody::Stream(chunks) => {
                chunks.poll_chunk(context).map(|chunk| chunk.map(|chunk| chunk.map(Frame::data)))
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            ResponseBody::Empty | ResponseBody::Whole(None) => true,
            ResponseBody::Whole(Some(_)) => false,
            ResponseBody::Stream(chunks) => chunks.remaining() == 0,
        }
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(match self {
            ResponseBody::Empty | ResponseBody::Whole(None) => 0,
            ResponseBody::Whole(Some(bytes)) => bytes.len() as u64,
            ResponseBody::Stream(chunks) => chunks.remaining(),
        })
    }
}

/// Returns a response without a body.
pub fn empty(status: StatusCode) -> Response {
    let mut response = Response::new(ResponseBody::Empty);
    *response.status_mut() = status;
    // These two never have a body; a length would describe the content that is not sent (RFC 9110 section 8.6).
    if !matches!(status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED) {
        response.headers_mut().insert(CONTENT_LENGTH, HeaderValue::from_static("0"));
    }
    response
}

/// Returns a response with a small body.
pub fn with_bytes(status: StatusCode, content_type: &str, bytes: Bytes) -> Response {
    let length = bytes.len() as u64;
    let mut response = Response::new(ResponseBody::Whole(Some(bytes)));
    *response.status_mut() = status;
    set_content_headers(response.headers_mut(), content_type, length);
    response
}

fn set_content_headers(headers: &mut HeaderMap, content_type: &str, length: u64) {
    let content_type = HeaderValue::from_str(content_type)
        .unwrap_or_else(|_| HeaderValue::from_static("application/octet-stream"));
    headers.insert(CONTENT_TYPE, content_type);
    headers.insert(CONTENT_LENGTH, length.into());
}

/// Returns a response with a JSON body.
pub fn json(status: StatusCode, value: &impl serde::Serialize) -> Response {
    // Serialisation of strings, numbers, lists and maps with string keys cannot fail.
    with_bytes(status, "application/json", serde_json::to_vec(value).unwrap_or_default().into())
}
