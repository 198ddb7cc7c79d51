//! HTTP to the local API, over any connection.

use std::path::Path;

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};

use bytes::{Bytes, BytesMut};
use http::header::{ACCEPT, CONTENT_TYPE, HOST, USER_AGENT};
use http::{Method, StatusCode};
use http_body_util::{BodyExt, Limited};
use hyper::body::{Body, Frame, Incoming, SizeHint};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::UnixStream;

use crate::client::MANIFEST_TYPES;
use crate::control::{Detail, PREFIX};
use crate::egress::Outgoing;
pub(super) use crate::egress::whole_body;
use crate::oci::MediaType;
use crate::server::OWN_AGENT;
use crate::service::ShortPath;
use crate::transfer::Chunks;

/// Maximum length of an answer that is not a stream, and of a line of a stream, in bytes.
const MAX_ANSWER: usize = 32 << 20;

/// Reason why an exchange failed on its way.
pub(super) type TransportError = Box<dyn std::error::Error + Send + Sync>;
/// The sending side of a connection.
pub(super) type Sender = http1::SendRequest<Outgoing>;

/// Connects to a socket by its path, which may be long.
pub(super) async fn connect(path: &Path) -> std::io::Result<UnixStream> {
    let short = ShortPath::of(path)?;
    UnixStream::connect(short.path()).await
}

/// Begins to speak HTTP on a connection.
pub(super) async fn handshake(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
) -> Result<Sender, TransportError> {
    let (sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
    // Ends when the sender and the response are dropped.
    tokio::spawn(connection);
    Ok(sender)
}

/// Sends a request with a JSON body to an endpoint of the local API, such as `status`.
pub(super) async fn send(
    sender: &mut Sender,
    method: Method,
    path: &str,
    body: Bytes,
) -> Result<http::Response<Incoming>, TransportError> {
    let body = whole_body(body);
    let request =
        request(method, &format!("{PREFIX}{path}")).header(CONTENT_TYPE, "application/json").body(body)?;
    sender.ready().await?;
    Ok(sender.send_request(request).await?)
}

/// Asks for content of the registry, such as `/v2/REPOSITORY/manifests/TAG`.
pub(super) async fn get(sender: &mut Sender, path: &str) -> Result<http::Response<Incoming>, TransportError> {
    let body = whole_body(Bytes::new());
    let request = request(Method::GET, path).header(ACCEPT, MANIFEST_TYPES).body(body)?;
    sender.ready().await?;
    Ok(sender.send_request(request).await?)
}

/// Sends content to an endpoint of the local API. The content ends early when the answer comes before its end.
pub(super) async fn upload(
    sender: &mut Sender,
    method: Method,
    path: &str,
    content: Upload,
) -> Result<http::Response<Incoming>, TransportError> {
    let answered = Arc::clone(&content.answered);
    let request = request(method, &format!("{PREFIX}{path}"))
        .header(CONTENT_TYPE, MediaType::BYTES)
        .body(content.boxed_unsync())?;
    sender.ready().await?;
    let response = sender.send_request(request).await;
    answered.store(true, Ordering::Relaxed);
    Ok(response?)
}

fn request(method: Method, path: &str) -> http::request::Builder {
    http::Request::builder().method(method).uri(path).header(HOST, "localhost").header(USER_AGENT, OWN_AGENT)
}

/// Content as the body of a request.
pub(super) struct Upload {
    chunks: Chunks,
    /// Bytes that are still to come, if their number is known.
    rest: Option<u64>,
    /// True if a failure of the medium ends the content early instead of the connection. The owner of the store then finds
    /// that its digest is wrong.
    keeps_connection: bool,
    answered: Arc<AtomicBool>,
}

impl Upload {
    /// Makes a body. One that has to keep the connection has no length in its header.
    pub(super) fn new(chunks: Chunks, size: Option<u64>, keeps_connection: bool) -> Self {
        let rest = size.filter(|_| !keeps_connection);
        Upload { chunks, rest, keeps_connection, answered: Arc::default() }
    }
}

impl Body for Upload {
    type Data = Bytes;
    type Error = std::io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, std::io::Error>>> {
        let next = std::task::ready!(self.chunks.poll_next(context));
        let is_answered = self.answered.load(Ordering::Relaxed);
        Poll::Ready(match next {
            Some(_) if is_answered && self.keeps_connection => None,
            Some(_) if is_answered => Some(Err(std::io::ErrorKind::ConnectionAborted.into())),
            Some(Err(_)) if self.keeps_connection => None,
            Some(Err(error)) => Some(Err(error)),
            Some(Ok(bytes)) => {
                self.rest = self.rest.map(|rest| rest.saturating_sub(bytes.len() as u64));
                Some(Ok(Frame::data(bytes)))
            }
            None => None,
        })
    }

    fn size_hint(&self) -> SizeHint {
        self.rest.map_or_else(SizeHint::default, SizeHint::with_exact)
    }
}

/// Reads a whole answer; an error status becomes a [`Detail`].
pub(super) async fn read(
    response: http::Response<Incoming>,
) -> Result<Result<Bytes, Detail>, TransportError> {
    let status = response.status();
    let bytes = Limited::new(response.into_body(), MAX_ANSWER).collect().await?.to_bytes();
    Ok(if status.is_success() { Ok(bytes) } else { Err(detail(status, &bytes)) })
}

fn detail(status: StatusCode, bytes: &[u8]) -> Detail {
    if let Ok(parsed) = serde_json::from_slice(bytes) {
        return parsed;
    }
    let message =
        format!("the registry answered with status {status}; it may be of another release, restart it");
    Detail { code: "status".into(), message, hint: None }
}

/// The lines of a stream.
pub(super) struct Lines {
    body: Incoming,
    received: BytesMut,
    ended: bool,
}

impl Lines {
    pub(super) fn new(response: http::Response<Incoming>) -> Self {
        Lines { body: response.into_body(), received: BytesMut::new(), ended: false }
    }

    /// Returns the next line without its end; `None` after the last one.
    pub(super) async fn next(&mut self) -> Result<Option<Bytes>, TransportError> {
        let mut searched = 0;
        loop {
            if let Some(length) = self.received[searched..].iter().position(|byte| *byte == b'\n') {
                let line = self.received.split_to(searched + length + 1).freeze();
                return Ok(Some(line.slice(..line.len() - 1)));
            }
            searched = self.received.len();
            if self.ended || searched > MAX_ANSWER {
                return Ok(None);
            }
            match self.body.frame().await {
                Some(frame) => {
                    if let Ok(bytes) = frame?.into_data() {
                        self.received.extend_from_slice(&bytes);
                    }
                }
                None => self.ended = true,
            }
        }
    }
}
