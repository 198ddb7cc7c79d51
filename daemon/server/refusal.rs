//! Headers on the answers that hyper gives by itself: to a request that it cannot parse (400), or whose head is too long
//! (414, 431). No service sees these, so that they get their headers where they are written.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// What every such answer gets, as [`crate::wire::confine`] has it.
const HEADERS: &[u8] =
    b"content-security-policy: default-src 'none'; sandbox\r\nx-content-type-options: nosniff\r\n\r\n";

/// What goes on on a connection, for its stream to know whose answer is written.
#[derive(Default)]
pub(super) struct Exchange {
    /// Requests that the service has and whose answers have not been handed over to the end.
    open: AtomicUsize,
    /// Whether a request has come since everything was written.
    has_begun: AtomicBool,
}

/// A request, for as long as its answer is not handed over.
pub(super) struct Open(Arc<Exchange>);

impl Exchange {
    /// Notes that the service has a request.
    pub(super) fn begin(this: &Arc<Self>) -> Open {
        this.has_begun.store(true, Ordering::Relaxed);
        this.open.fetch_add(1, Ordering::Relaxed);
        Open(Arc::clone(this))
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.0.open.fetch_sub(1, Ordering::Relaxed);
    }
}

/// A stream that completes answers which are not from the service: those that begin when all that was to be written is
/// written, and no request has come since.
pub(super) struct Completed<S> {
    stream: S,
    exchange: Arc<Exchange>,
    /// The rest of an answer that is being written in place of the one that was given.
    rest: Vec<u8>,
}

impl<S> Completed<S> {
    pub(super) fn new(stream: S, exchange: Arc<Exchange>) -> Self {
        Completed { stream, exchange, rest: Vec::new() }
    }

    fn is_from_the_service(&self) -> bool {
        self.exchange.has_begun.load(Ordering::Relaxed)
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Completed<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Completed<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let this = &mut *self;
        if this.rest.is_empty() {
            match completed(bytes).filter(|_| !this.is_from_the_service()) {
                Some(answer) => this.rest = answer,
                None => return Pin::new(&mut this.stream).poll_write(context, bytes),
            }
        }
        // The caller comes with the same bytes again until they are taken.
        while !this.rest.is_empty() {
            let written = ready!(Pin::new(&mut this.stream).poll_write(context, &this.rest))?;
            if written == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            this.rest.drain(..written);
        }
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        if self.is_from_the_service() && self.rest.is_empty() {
            return Pin::new(&mut self.stream).poll_write_vectored(context, slices);
        }
        let first = slices.iter().find(|slice| !slice.is_empty()).map_or(&[][..], |slice| slice);
        self.poll_write(context, first)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    /// Hyper flushes when it has written all that it has.
    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(Pin::new(&mut self.stream).poll_flush(context))?;
        if self.exchange.open.load(Ordering::Relaxed) == 0 {
            self.exchange.has_begun.store(false, Ordering::Relaxed);
        }
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

/// Returns the head of an answer with its headers completed, if the bytes are one and nothing else.
fn completed(bytes: &[u8]) -> Option<Vec<u8>> {
    let head = bytes.strip_prefix(b"HTTP/1.1 4")?.strip_suffix(b"\r\n\r\n")?;
    let is_one = !head.windows(4).any(|four| four == b"\r\n\r\n");
    is_one.then(|| [&bytes[..bytes.len() - 2], HEADERS].concat())
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;

    const REFUSAL: &[u8] = b"HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\n\r\n";

    #[tokio::test]
    async fn only_answers_of_no_service_are_completed() {
        // A small pipe: answers are written in parts.
        let (server, mut client) = tokio::io::duplex(16);
        let exchange = Arc::new(Exchange::default());
        let mut stream = Completed::new(server, Arc::clone(&exchange));
        let writing = tokio::spawn(async move {
            let open = Exchange::begin(&exchange);
            stream.write_all(REFUSAL).await.unwrap();
            stream.flush().await.unwrap();
            drop(open);
            // Its last bytes may look like anything.
            stream.write_all(REFUSAL).await.unwrap();
            stream.flush().await.unwrap();
            stream.write_all(REFUSAL).await.unwrap();
        });
        let mut written = Vec::new();
        client.read_to_end(&mut written).await.unwrap();
        writing.await.unwrap();
        let headers = &REFUSAL[..REFUSAL.len() - 2];
        assert_eq!(written, [REFUSAL, REFUSAL, headers, HEADERS].concat());
    }
}
