//! TCP socket with a stall timeout and a minimum rate for writes, so that slow readers do not hold slots.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::{Instant, Sleep, sleep_until};

use super::tcp_info::bytes_acked;
use crate::wire::Pace;

/// Bounds of the interval at which a blocked write is checked.
const TICK: (Duration, Duration) = (Duration::from_millis(10), Duration::from_secs(5));

/// TCP stream whose writes fail with [`io::ErrorKind::TimedOut`] if the client acknowledges nothing for `stall`, or fewer
/// bytes than the minimum rate.
///
/// Only time in which a write is blocked counts. Progress is measured in acknowledged bytes: the socket becomes writable
/// again only when a third of its send buffer is empty, which takes slow clients minutes.
pub(super) struct PacedSocket {
    stream: TcpStream,
    stall: Duration,
    pace: Pace,
    /// Bytes written to the socket.
    written: u64,
    /// Acknowledged bytes at the last check.
    acknowledged: u64,
    /// Start of the current blocked write.
    blocked: Option<Instant>,
    /// Blocked time since the last check.
    waited: Duration,
    /// Blocked time without progress.
    stalled: Duration,
    /// Created with the first blocked write.
    timer: Option<Pin<Box<Sleep>>>,
}

impl PacedSocket {
    pub(super) fn new(stream: TcpStream, stall: Duration, minimum_rate: u64) -> Self {
        PacedSocket {
            stream,
            stall,
            pace: Pace::new(minimum_rate, stall),
            written: 0,
            acknowledged: 0,
            blocked: None,
            waited: Duration::ZERO,
            stalled: Duration::ZERO,
            timer: None,
        }
    }

    fn count_written(&mut self, polled: &Poll<io::Result<usize>>) {
        if let Poll::Ready(Ok(bytes)) = polled {
            self.written += *bytes as u64;
        }
    }

    /// Measures the time of blocked writes, and fails a write to a client that is too slow.
    fn check_pace<T>(
        &mut self,
        polled: Poll<io::Result<T>>,
        context: &mut Context<'_>,
    ) -> Poll<io::Result<T>> {
        if polled.is_ready() {
            if let Some(since) = self.blocked.take() {
                self.waited += since.elapsed();
            }
            return polled;
        }
        let tick = (self.stall / 8).clamp(TICK.0, TICK.1);
        let now = Instant::now();
        let timer = self.timer.get_or_insert_with(|| Box::pin(sleep_until(now)));
        let mut since = self.blocked.unwrap_or(now);
        if self.blocked.is_none() {
            timer.as_mut().reset(now + tick.saturating_sub(self.waited));
        }
        while timer.as_mut().poll(context).is_ready() {
            let now = Instant::now();
            timer.as_mut().reset(now + tick);
            self.waited += now - since;
            since = now;
            let acknowledged = bytes_acked(&self.stream).unwrap_or(self.written);
            let bytes = acknowledged.saturating_sub(self.acknowledged);
            self.acknowledged = acknowledged;
            let waited = std::mem::take(&mut self.waited);
            self.stalled = if bytes > 0 { Duration::ZERO } else { self.stalled + waited };
            if !self.pace.keeps_up(waited, bytes) || self.stalled >= self.stall {
                return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
            }
        }
        self.blocked = Some(since);
        Poll::Pending
    }
}

impl AsyncRead for PacedSocket {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}

impl AsyncWrite for PacedSocket {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let polled = Pin::new(&mut self.stream).poll_write(context, bytes);
        self.count_written(&polled);
        self.check_pace(polled, context)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let polled = Pin::new(&mut self.stream).poll_write_vectored(context, slices);
        self.count_written(&polled);
        self.check_pace(polled, context)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let polled = Pin::new(&mut self.stream).poll_flush(context);
        self.check_pace(polled, context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let polled = Pin::new(&mut self.stream).poll_shutdown(context);
        self.check_pace(polled, context)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;

    use super::*;

    async fn pair(minimum_rate: u64) -> (PacedSocket, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let client = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let stream = listener.accept().await.unwrap().0;
        (PacedSocket::new(stream, Duration::from_millis(400), minimum_rate), client)
    }

    #[tokio::test]
    async fn acknowledged_bytes_are_counted() {
        let (mut socket, mut client) = pair(0).await;
        socket.write_all(&[7; 1000]).await.unwrap();
        client.read_exact(&mut [0; 1000]).await.unwrap();
        let before = bytes_acked(&socket.stream).unwrap();
        socket.write_all(&[7; 5000]).await.unwrap();
        client.read_exact(&mut [0; 5000]).await.unwrap();
        assert_eq!(bytes_acked(&socket.stream).unwrap() - before, 5000);
    }

    #[tokio::test]
    async fn write_to_a_stalled_reader_times_out() {
        let (mut socket, _client) = pair(0).await;
        let error = socket.write_all(&vec![7; 64 << 20]).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
    }

    #[tokio::test]
    async fn write_to_a_reader_below_the_minimum_rate_times_out() {
        let (mut socket, mut client) = pair(1 << 30).await;
        let reader = tokio::spawn(async move {
            let mut buffer = vec![0; 1 << 20];
            while client.read(&mut buffer).await.is_ok_and(|read| read > 0) {
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        });
        let error = socket.write_all(&vec![7; 256 << 20]).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
        reader.abort();
    }
}
