//! Bodies of responses: of the registry, in memory, or a stream of lines.

use std::any::Any;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use http::StatusCode;
use http::header::{CONTENT_TYPE, HeaderValue};
use http_body::{Frame, SizeHint};
use tokio::sync::mpsc;

use crate::wire::{BodyError, ResponseBody, with_bytes};

/// The media type of a stream of lines, each a JSON object.
pub(super) const NDJSON: &str = "application/x-ndjson";

/// Body of a response.
pub struct Body {
    content: Content,
    /// Counts the request as activity until the body is sent or dropped.
    _activity: Option<Arc<dyn Any + Send + Sync>>,
}

enum Content {
    Known(ResponseBody),
    /// Lines of unknown number; the stream ends with its senders.
    Lines(mpsc::Receiver<Bytes>),
    /// Text of unknown length; an error ends the connection, so that the peer notices.
    Text(mpsc::Receiver<Result<Bytes, BodyError>>),
}

impl Body {
    /// Returns a response with bytes in memory.
    pub(super) fn whole(status: StatusCode, content_type: &str, bytes: Bytes) -> http::Response<Self> {
        with_bytes(status, content_type, bytes).map(Body::from)
    }

    /// Returns a response with a JSON body.
    pub(super) fn json(value: &impl serde::Serialize) -> http::Response<Self> {
        crate::wire::json(StatusCode::OK, value).map(Body::from)
    }

    /// Returns a response that sends lines as they come.
    pub(super) fn lines(lines: mpsc::Receiver<Bytes>) -> http::Response<Self> {
        let mut response = http::Response::new(Body { content: Content::Lines(lines), _activity: None });
        response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(NDJSON));
        response
    }

    /// Returns a response that sends text as it comes.
    pub(super) fn text(text: mpsc::Receiver<Result<Bytes, BodyError>>) -> http::Response<Self> {
        let mut response = http::Response::new(Body { content: Content::Text(text), _activity: None });
        response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
        response
    }

    /// Holds the activity of the request until the body is sent.
    pub(super) fn during(self, activity: Arc<dyn Any + Send + Sync>) -> Self {
        Body { _activity: Some(activity), ..self }
    }
}

impl From<ResponseBody> for Body {
    fn from(body: ResponseBody) -> Self {
        Body { content: Content::Known(body), _activity: None }
    }
}

impl http_body::Body for Body {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        match &mut self.content {
            Content::Known(body) => Pin::new(body).poll_frame(context),
            Content::Lines(lines) => {
                lines.poll_recv(context).map(|line| line.map(|line| Ok(Frame::data(line))))
            }
            Content::Text(text) => text.poll_recv(context).map(|part| part.map(|part| part.map(Frame::data))),
        }
    }

    fn is_end_stream(&self) -> bool {
        match &self.content {
            Content::Known(body) => body.is_end_stream(),
            Content::Lines(_) | Content::Text(_) => false,
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.content {
            Content::Known(body) => body.size_hint(),
            Content::Lines(_) | Content::Text(_) => SizeHint::default(),
        }
    }
}
