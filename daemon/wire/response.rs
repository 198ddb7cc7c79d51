//! Responses and their bodies.

use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http::header::{CONTENT_LENGTH, CONTENT_TYPE, HeaderValue};
use http::{HeaderMap, StatusCode};
use http_body::{Body, Frame, SizeHint};

/// An answer.
pub type Response = http::Response<ResponseBody>;

/// The body broke off; the log of the daemon has the reason, and the client sees the connection end.
#[derive(Clone, Copy, Debug, thiserror::Error)]
#[error("the body broke off")]
pub struct BodyError;

/// Content that arrives piece by piece.
pub trait Chunks: Send {
    /// The next piece, or nothing at the end.
    ///
    /// # Errors
    /// [`BodyError`]; there is nothing more after it.
    fn poll_chunk(&mut self, context: &mut Context<'_>) -> Poll<Option<Result<Bytes, BodyError>>>;

    /// How many bytes are still to come.
    fn remaining(&self) -> u64;
}

/// What is sent.
pub enum ResponseBody {
    /// Nothing.
    Empty,
    /// A few bytes, until they are sent.
    Whole(Option<Bytes>),
    /// What is too much for that.
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

/// An answer without a body.
pub fn empty(status: StatusCode) -> Response {
    let mut response = Response::new(ResponseBody::Empty);
    *response.status_mut() = status;
    // These two never have a body, and a length would be one about the content that is not sent.
    if !matches!(status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED) {
        response.headers_mut().insert(CONTENT_LENGTH, HeaderValue::from_static("0"));
    }
    response
}

/// An answer with a few bytes.
pub fn with_bytes(status: StatusCode, content_type: &str, bytes: Bytes) -> Response {
    let length = bytes.len() as u64;
    let mut response = Response::new(ResponseBody::Whole(Some(bytes)));
    *response.status_mut() = status;
    describe(response.headers_mut(), content_type, length);
    response
}

fn describe(headers: &mut HeaderMap, content_type: &str, length: u64) {
    let content_type = HeaderValue::from_str(content_type)
        .unwrap_or_else(|_| HeaderValue::from_static("application/octet-stream"));
    headers.insert(CONTENT_TYPE, content_type);
    headers.insert(CONTENT_LENGTH, length.into());
}

/// An answer in JSON.
pub fn json(status: StatusCode, value: &impl serde::Serialize) -> Response {
    // Values made of text, numbers, lists and maps always serialise.
    with_bytes(status, "application/json", serde_json::to_vec(value).unwrap_or_default().into())
}
