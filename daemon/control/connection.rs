//! Serves one connection of the local API: a Unix socket, or one end of a connection in memory.

use std::convert::Infallible;
use std::pin::Pin;
use std::time::Duration;

use http::StatusCode;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_io_timeout::TimeoutStream;

use super::actor::Actor;
use super::error::ControlError;
use super::service::Service;

/// The smallest buffer that hyper accepts, in bytes.
const SMALLEST_BUFFER: usize = 8192;

impl Service {
    /// Serves a connection to its end. There is no limit on its total time; a peer that neither sends nor reads for the
    /// configured time is disconnected.
    pub async fn serve(&self, stream: impl AsyncRead + AsyncWrite + Send + Unpin + 'static, actor: Actor) {
        let limits = self.host.limits();
        let service = service_fn(|request: http::Request<Incoming>| {
            let (service, actor) = (self.clone(), actor.clone());
            async move { Ok::<_, Infallible>(service.answer(request, &actor).await) }
        });
        let connection = http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(limits.stall)
            .max_buf_size(limits.header_bytes.max(SMALLEST_BUFFER))
            .serve_connection(TokioIo::new(with_stall_timeout(stream, limits.stall)), service);
        if let Err(error) = connection.await {
            log::debug!("control connection of {} ended: {error}", actor.user());
        }
    }
}

/// Returns a stream whose blocked writes fail with [`std::io::ErrorKind::TimedOut`] once the peer has read nothing for `limit`.
fn with_stall_timeout<S: AsyncRead + AsyncWrite>(stream: S, limit: Duration) -> Pin<Box<TimeoutStream<S>>> {
    let mut stream = TimeoutStream::new(stream);
    stream.set_write_timeout(Some(limit));
    Box::pin(stream)
}

/// Answers a connection that has no slot with 503, within `limit`.
pub async fn refuse(stream: impl AsyncRead + AsyncWrite + Send + Unpin + 'static, limit: Duration) {
    let service = service_fn(|_: http::Request<Incoming>| async {
        let error = ControlError::new(
            StatusCode::SERVICE_UNAVAILABLE,
            "busy",
            "all connections of the control socket are in use; try again later",
        );
        Ok::<_, Infallible>(error.into_response())
    });
    let mut http = http1::Builder::new();
    http.timer(TokioTimer::new()).keep_alive(false).max_buf_size(SMALLEST_BUFFER);
    // A peer that takes longer is disconnected.
    let _ = tokio::time::timeout(limit, http.serve_connection(TokioIo::new(stream), service)).await;
}

#[cfg(test)]
mod tests {
    use std::io;

    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;

    #[tokio::test]
    async fn blocked_write_times_out_and_a_reader_keeps_it_alive() {
        let (near, mut far) = tokio::io::duplex(16);
        let mut stream = with_stall_timeout(near, Duration::from_millis(50));
        let error = stream.write_all(&[0; 64]).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
        far.read_exact(&mut [0; 16]).await.unwrap();
        stream.write_all(&[0; 16]).await.unwrap();
    }
}
