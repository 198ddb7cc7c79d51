//! Rewrites the responses that hyper makes by itself: to a request that it cannot parse (400), or whose head is too long (414,
//! 431). They never reach the service, so they get the JSON of the distribution spec and the sandbox headers where they are
//! written to the connection.

use std::collections::VecDeque;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::task::{Context, Poll, ready};

use http::StatusCode;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::heads::RequestHeads;
use crate::base::Lock;
use crate::oci::ProblemKind;
use crate::wire::{ApiError, ResponseBody, confine};

/// The requests of a connection whose responses are not written yet.
#[derive(Default)]
pub(super) struct PendingResponses {
    /// Requests that the service has received and whose responses have not begun; true for HEAD requests.
    expected: Lock<VecDeque<bool>>,
    /// True from the complete head of a request until its response is written and flushed.
    is_busy: AtomicBool,
    /// Bytes read since the last complete head.
    read: AtomicUsize,
}

impl PendingResponses {
    /// Records that the service has received a request.
    pub(super) fn request_received(&self, method: &http::Method) {
        self.is_busy.store(true, Ordering::Relaxed);
        self.read.store(0, Ordering::Relaxed);
        self.expected.lock().push_back(method == http::Method::HEAD);
    }

    /// Returns true while a request is in progress: false between requests, and while a head is incomplete.
    pub(super) fn is_busy(&self) -> bool {
        self.is_busy.load(Ordering::Relaxed)
    }

    /// Returns true if bytes of another head, or of a body, have arrived since the last complete head.
    pub(super) fn has_partial_head(&self) -> bool {
        self.read.load(Ordering::Relaxed) > 0
    }
}

/// A stream that replaces responses which are not from the service. It follows the message boundaries of the bytes written:
/// hyper writes responses in the order of the requests, and its own after them.
pub(super) struct RefusalRewriter<S> {
    stream: S,
    pending: Arc<PendingResponses>,
    heads: RequestHeads,
    /// Bytes of the current message that are still to be written unchanged.
    passing: u64,
    /// Unwritten bytes of a replacement.
    rest: Vec<u8>,
    /// Length of the head that `rest` replaces, in bytes.
    replaced: usize,
}

impl<S> RefusalRewriter<S> {
    pub(super) fn new(stream: S, pending: Arc<PendingResponses>) -> Self {
        let heads = RequestHeads::default();
        RefusalRewriter { stream, pending, heads, passing: 0, rest: Vec::new(), replaced: 0 }
    }

    /// Decides at the start of a message whether it passes unchanged or is replaced.
    fn begin_message(&mut self, bytes: &[u8]) {
        if self.passing > 0 || !self.rest.is_empty() || bytes.is_empty() {
            return;
        }
        // hyper writes a head in one piece. If these bytes are none, the rest of the connection passes unchanged.
        let Some(head) = Head::parse(bytes) else {
            self.passing = u64::MAX;
            return;
        };
        if head.status.is_informational() {
            self.passing = head.length;
            return;
        }
        let expected = self.pending.expected.lock().pop_front();
        if expected.is_some() {
            self.heads.response_started();
        }
        match expected {
            Some(is_head_only) if is_head_only || head.has_no_body() => self.passing = head.length,
            Some(_) => {
                self.passing = head.body.map_or(u64::MAX, |body| head.length.saturating_add(body));
            }
            None => {
                self.rest = self.refusal(&head);
                // A head is in memory, so its length fits.
                self.replaced = usize::try_from(head.length).unwrap_or(bytes.len());
            }
        }
    }

    /// Returns the replacement of a response of hyper.
    fn refusal(&self, own: &Head<'_>) -> Vec<u8> {
        let (kind, why) = match own.status {
            // hyper also answers 431 to a `Content-Length` near 2^64.
            StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE if self.heads.have_oversized_length() => {
                (ProblemKind::ContentTooLarge, "the Content-Length is too large")
            }
            StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE => (
                ProblemKind::HeadersTooLarge,
                "the request head is longer than limits.header_bytes, or has more than 100 header fields",
            ),
            StatusCode::URI_TOO_LONG => (ProblemKind::TargetTooLong, "the request target is too long"),
            _ => (ProblemKind::Malformed, "the request is malformed"),
        };
        let mut response = ApiError::http(kind, why).into_response();
        confine(response.headers_mut());
        let status = response.status();
        let (parts, body) = response.into_parts();
        let mut bytes = format!("HTTP/1.1 {status}\r\n").into_bytes();
        for (name, value) in &parts.headers {
            bytes.extend([name.as_str().as_bytes(), b": ", value.as_bytes(), b"\r\n"].concat());
        }
        if let Some(date) = own.date {
            bytes.extend(format!("date: {date}\r\n").bytes());
        }
        bytes.extend(b"\r\n");
        if let ResponseBody::Whole(Some(body)) = body
            && !self.heads.is_head_request()
        {
            bytes.extend(body);
        }
        bytes
    }

    fn count_written(&mut self, written: &Poll<io::Result<usize>>) {
        if let Poll::Ready(Ok(written)) = written {
            self.passing = self.passing.saturating_sub(*written as u64);
        }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for RefusalRewriter<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let polled = Pin::new(&mut self.stream).poll_read(context, buffer);
        let this = &mut *self;
        let bytes = &buffer.filled()[before..];
        this.pending.read.fetch_add(bytes.len(), Ordering::Relaxed);
        this.heads.observe(bytes, this.pending.is_busy());
        polled
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for RefusalRewriter<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let this = &mut *self;
        this.begin_message(bytes);
        if this.rest.is_empty() {
            let end = usize::try_from(this.passing).unwrap_or(usize::MAX).min(bytes.len());
            let written = Pin::new(&mut this.stream).poll_write(context, &bytes[..end]);
            this.count_written(&written);
            return written;
        }
        // After `Pending` the caller polls with the same bytes again, which count as written once the replacement is.
        while !this.rest.is_empty() {
            let written = ready!(Pin::new(&mut this.stream).poll_write(context, &this.rest))?;
            if written == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            this.rest.drain(..written);
        }
        Poll::Ready(Ok(this.replaced))
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let first = slices.iter().find(|slice| !slice.is_empty()).map_or(&[][..], |slice| slice);
        self.begin_message(first);
        let all: u64 = slices.iter().map(|slice| slice.len() as u64).sum();
        if self.rest.is_empty() && all <= self.passing {
            let written = Pin::new(&mut self.stream).poll_write_vectored(context, slices);
            self.count_written(&written);
            return written;
        }
        self.poll_write(context, first)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    /// hyper flushes when it has written everything that it has.
    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(Pin::new(&mut self.stream).poll_flush(context))?;
        if self.passing == 0 && self.rest.is_empty() && self.pending.expected.lock().is_empty() {
            self.pending.is_busy.store(false, Ordering::Relaxed);
        }
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

/// The head of a response.
struct Head<'a> {
    status: StatusCode,
    /// Length of the head with its empty line, in bytes.
    length: u64,
    /// `Content-Length`, in bytes.
    body: Option<u64>,
    date: Option<&'a str>,
}

impl<'a> Head<'a> {
    /// Parses the head at the start of these bytes.
    fn parse(bytes: &'a [u8]) -> Option<Self> {
        let length = bytes.windows(4).position(|four| four == b"\r\n\r\n")?;
        let mut lines = std::str::from_utf8(&bytes[..length]).ok()?.split("\r\n");
        let status = lines.next()?.split(' ').nth(1)?.parse().ok()?;
        let mut head = Head { status, length: length as u64 + 4, body: None, date: None };
        for (name, value) in lines.filter_map(|line| line.split_once(':')) {
            match name {
                _ if name.eq_ignore_ascii_case("content-length") => head.body = value.trim().parse().ok(),
                _ if name.eq_ignore_ascii_case("date") => head.date = Some(value.trim()),
                _ => {}
            }
        }
        Some(head)
    }

    fn has_no_body(&self) -> bool {
        matches!(self.status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED)
    }
}

#[cfg(test)]
mod tests {
    use http::Method;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;

    const REFUSAL: &[u8] = b"HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\ndate: today\r\n\r\n";
    /// A response whose body looks like a refusal.
    const LOOKALIKE: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 47\r\n\r\n\
        HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\n\r\n";
    const NO_BODY: &[u8] = b"HTTP/1.1 200 OK\r\ncontent-length: 1000\r\n\r\n";
    const CONTINUE: &[u8] = b"HTTP/1.1 100 Continue\r\n\r\n";

    async fn written(requests: &[Method], vectored: bool) -> (Vec<u8>, bool) {
        // A small pipe, so that responses are written in parts.
        let (server, mut client) = tokio::io::duplex(16);
        let pending = Arc::new(PendingResponses::default());
        for method in requests {
            pending.request_received(method);
        }
        let mut stream = RefusalRewriter::new(server, Arc::clone(&pending));
        let writing = tokio::spawn(async move {
            let mut bytes = CONTINUE.to_vec();
            for method in [Method::HEAD, Method::GET] {
                bytes.extend(if method == Method::HEAD { NO_BODY } else { LOOKALIKE });
            }
            bytes.extend(REFUSAL);
            let mut rest = &bytes[..];
            while !rest.is_empty() {
                let written = if vectored {
                    let (first, second) = rest.split_at(rest.len().min(CONTINUE.len() + NO_BODY.len()));
                    let slices = [io::IoSlice::new(&[]), io::IoSlice::new(first), io::IoSlice::new(second)];
                    stream.write_vectored(&slices).await.unwrap()
                } else {
                    stream.write(rest).await.unwrap()
                };
                rest = &rest[written..];
            }
            stream.flush().await.unwrap();
            pending.is_busy()
        });
        let mut written = Vec::new();
        client.read_to_end(&mut written).await.unwrap();
        (written, writing.await.unwrap())
    }

    #[tokio::test]
    async fn only_responses_of_hyper_are_replaced() {
        let (bytes, is_busy) = written(&[Method::HEAD, Method::GET], false).await;
        let own = [CONTINUE, NO_BODY, LOOKALIKE].concat();
        assert!(bytes.starts_with(&own), "{}", String::from_utf8_lossy(&bytes));
        let refusal = std::str::from_utf8(&bytes[own.len()..]).unwrap();
        let (head, body) = refusal.split_once("\r\n\r\n").unwrap();
        assert!(head.starts_with("HTTP/1.1 400 Bad Request\r\n"), "{head}");
        for line in [
            "content-security-policy: default-src 'none'; sandbox",
            "x-content-type-options: nosniff",
            "connection: close",
            "date: today",
            &format!("content-length: {}", body.len()),
        ] {
            assert!(head.lines().any(|one| one == line), "{line} is missing: {head}");
        }
        assert!(body.contains(r#""code":"UNSUPPORTED""#), "{body}");
        assert!(!is_busy);
    }

    #[tokio::test]
    async fn vectored_writes_are_rewritten_alike() {
        let plain = written(&[Method::HEAD, Method::GET], false).await;
        assert_eq!(written(&[Method::HEAD, Method::GET], true).await, plain);
    }

    async fn refused(request: &str) -> String {
        let stream = tokio::io::join(request.as_bytes(), Vec::new());
        let mut stream = RefusalRewriter::new(stream, Arc::default());
        stream.read_to_end(&mut Vec::new()).await.unwrap();
        stream.write_all(b"HTTP/1.1 431 Too Large\r\ncontent-length: 0\r\n\r\n").await.unwrap();
        String::from_utf8(stream.stream.into_inner().1).unwrap()
    }

    #[tokio::test]
    async fn oversized_length_is_413_and_not_431() {
        for (field, status) in
            [("X: 18446744073709551615", 431), ("Content-Length: 18446744073709551615", 413)]
        {
            let written = refused(&format!("PUT / HTTP/1.1\r\n{field}\r\n\r\n")).await;
            assert!(written.starts_with(&format!("HTTP/1.1 {status} ")), "{written}");
        }
    }

    #[tokio::test]
    async fn refusal_of_a_head_request_has_no_body() {
        for (method, has_body) in [("HEAD", false), ("GET", true)] {
            let written = refused(&format!("{method} / HTTP/1.1\r\n")).await;
            assert_eq!(!written.ends_with("\r\n\r\n"), has_body, "{written}");
        }
    }
}
