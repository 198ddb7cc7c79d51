//! Serves one connection: detects TLS by the first byte, then speaks HTTP/1.1 until the client, an eviction or a shutdown ends
//! it.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use nix::sys::socket::setsockopt;
use nix::sys::socket::sockopt::{RcvBuf, SndBuf};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::sync::{oneshot, watch};
use tokio_rustls::TlsAcceptor;

use super::refusal::{PendingResponses, RefusalRewriter};
use super::slots::{Ending, Slot};
use super::socket::PacedSocket;
use super::state::Server;
use super::transport::Transport;
use crate::oci::Problem;
use crate::tls::Certificates;
use crate::wire::{ApiError, RequestBody, confine};

/// Grace period, from the accept, for the first request of a connection that has sent nothing when the drain begins: an idle
/// exit must not refuse a client that connects at that moment.
const FIRST_REQUEST_GRACE: Duration = Duration::from_secs(5);
/// The same for a connection that has sent a part of its first head.
const PARTIAL_HEAD_GRACE: Duration = Duration::from_secs(1);
/// Timeout of the graceful close of a connection without a request in progress.
const GRACEFUL_CLOSE: Duration = Duration::from_millis(250);
/// Smallest buffer that hyper accepts.
const SMALLEST_BUFFER: usize = 8192;
/// First byte of a TLS handshake.
const TLS_HANDSHAKE: u8 = 0x16;

/// A connection that has a slot.
pub(super) struct Admitted {
    pub(super) stream: TcpStream,
    pub(super) peer: SocketAddr,
    pub(super) slot: Arc<Slot>,
    /// Resolves when the connection is evicted.
    pub(super) ending: oneshot::Receiver<Ending>,
    /// Becomes true when the daemon stops.
    pub(super) stop: watch::Receiver<bool>,
}

/// Serves a connection to its end.
pub(super) async fn run(server: Arc<Server>, admitted: Admitted) {
    let Admitted { stream, peer, slot, mut ending, mut stop } = admitted;
    let accepted = Instant::now();
    // Without Nagle's algorithm small responses leave at once; a failure costs only latency.
    let _ = stream.set_nodelay(true);
    set_buffer_sizes(&stream, server.services().limits.socket_buffer);
    let established = tokio::select! {
        established = establish(&server, stream, peer) => established,
        _ = &mut ending => None,
        () = shutdown_grace(&mut stop, accepted) => None,
    };
    let context = Context { server, peer, slot, ending, stop, accepted };
    match established {
        Some(Established::Plain(stream, transport)) => serve_http(context, stream, transport).await,
        Some(Established::Tls(stream)) => serve_http(context, stream, Transport::Tls).await,
        None => {}
    }
}

/// A connection after protocol detection and TLS handshake.
enum Established {
    Plain(PacedSocket, Transport),
    Tls(Box<tokio_rustls::server::TlsStream<PacedSocket>>),
}

/// Detects TLS by the first byte and performs the handshake; each step may take `header_time`.
async fn establish(server: &Server, stream: TcpStream, peer: SocketAddr) -> Option<Established> {
    let services = server.services();
    let (certificates, limits) = (services.certificates.clone(), services.limits);
    drop(services);
    let wrap = |stream| PacedSocket::new(stream, limits.body_stall, limits.minimum_rate);
    let Some(certificates) = certificates else {
        return Some(Established::Plain(wrap(stream), Transport::Plain));
    };
    let mut first = [0];
    match tokio::time::timeout(limits.header_time, stream.peek(&mut first)).await {
        Ok(Ok(1)) if first[0] != TLS_HANDSHAKE => {
            Some(Established::Plain(wrap(stream), Transport::PlainBesideTls))
        }
        Ok(Ok(1)) => {
            certify_local_address(&certificates, &stream, peer).await;
            let acceptor = TlsAcceptor::from(certificates.server_config());
            match tokio::time::timeout(limits.header_time, acceptor.accept(wrap(stream))).await {
                Ok(Ok(stream)) => return Some(Established::Tls(Box::new(stream))),
                Ok(Err(error)) if is_about_certificate(&error) => {
                    // Only with tls.client_ca. The TLS alert tells the client no reason, so the log has it.
                    log::warn!(client:% = peer.ip(); "client certificate of {peer} refused (tls.client_ca): {error}");
                }
                Ok(Err(error)) => {
                    log::debug!(client:% = peer.ip(); "TLS handshake with {peer} failed: {error}");
                }
                Err(_) => log::debug!(client:% = peer.ip(); "TLS handshake with {peer} timed out"),
            }
            None
        }
        // The client closed the connection, or sent nothing in time.
        _ => None,
    }
}

/// Returns true if a handshake failed because of the client's certificate, or because it sent none.
fn is_about_certificate(error: &std::io::Error) -> bool {
    let error = error.get_ref().and_then(|error| error.downcast_ref::<rustls::Error>());
    matches!(error, Some(rustls::Error::InvalidCertificate(_) | rustls::Error::NoCertificatesPresented))
}

/// Context that the requests of a connection share.
struct Context {
    server: Arc<Server>,
    peer: SocketAddr,
    slot: Arc<Slot>,
    ending: oneshot::Receiver<Ending>,
    stop: watch::Receiver<bool>,
    accepted: Instant,
}

/// Speaks HTTP until the connection ends. After an eviction or at shutdown it is closed gracefully; a shutdown lets a request
/// in progress finish.
async fn serve_http(
    context: Context,
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    transport: Transport,
) {
    let Context { server, peer, slot, mut ending, mut stop, accepted } = context;
    let limits = server.services().limits;
    let (first_request, mut has_request) = watch::channel(false);
    let pending = Arc::new(PendingResponses::default());
    let stream = RefusalRewriter::new(stream, Arc::clone(&pending));
    let received = Arc::clone(&pending);
    let service = service_fn(move |request: http::Request<Incoming>| {
        received.request_received(request.method());
        first_request.send_replace(true);
        let (server, slot) = (Arc::clone(&server), Arc::clone(&slot));
        async move { Ok::<_, Infallible>(server.answer(request, peer, transport, &slot).await) }
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(limits.header_time)
        .max_buf_size(limits.header_bytes)
        .max_header_size(limits.header_bytes)
        .serve_connection(TokioIo::new(Box::pin(stream)), service);
    let mut connection = pin!(connection);
    let ended = tokio::select! {
        ended = connection.as_mut() => ended,
        ending = &mut ending => {
            log::debug!(client:% = peer.ip(); "connection of {peer} evicted");
            if ending == Ok(Ending::Graceful) {
                connection.as_mut().graceful_shutdown();
                // Cuts off a request that begins after the eviction.
                let _ = tokio::time::timeout(GRACEFUL_CLOSE, connection).await;
            }
            return;
        }
        () = drain_begins(&mut stop, &mut has_request, (&pending, accepted)) => {
            connection.as_mut().graceful_shutdown();
            let closed = tokio::time::timeout(GRACEFUL_CLOSE, connection.as_mut()).await;
            match closed {
                Ok(ended) => ended,
                // Only a request with a complete head delays the shutdown.
                Err(_) if pending.is_busy() => connection.await,
                Err(_) => return,
            }
        }
    };
    if let Err(error) = ended {
        log::debug!(client:% = peer.ip(); "connection of {peer} ended: {error}");
    }
}

/// Answers a connection without a slot with 503, within `limit`.
pub(super) async fn refuse(server: &Server, stream: TcpStream, peer: SocketAddr, limit: Duration) {
    let refused = async {
        let pending = Arc::new(PendingResponses::default());
        let received = Arc::clone(&pending);
        let service = service_fn(move |request: http::Request<Incoming>| {
            received.request_received(request.method());
            let (parts, incoming) = request.into_parts();
            // Lingering close: a dropped body is drained, so that the client reads the response instead of a reset.
            drop(RequestBody::new(&parts, incoming, limit, 0));
            let busy = "all connection slots are in use; try again later";
            let mut response = ApiError::from(Problem::unavailable(busy)).into_response();
            confine(response.headers_mut());
            std::future::ready(Ok::<_, Infallible>(response))
        });
        let mut http = http1::Builder::new();
        http.timer(TokioTimer::new()).keep_alive(false).max_buf_size(SMALLEST_BUFFER);
        match establish(server, stream, peer).await {
            Some(Established::Plain(stream, _)) => {
                let stream = RefusalRewriter::new(stream, pending);
                let _ = http.serve_connection(TokioIo::new(Box::pin(stream)), service).await;
            }
            Some(Established::Tls(stream)) => {
                let stream = RefusalRewriter::new(stream, pending);
                let _ = http.serve_connection(TokioIo::new(Box::pin(stream)), service).await;
            }
            None => {}
        }
    };
    if tokio::time::timeout(limit, refused).await.is_err() {
        log::debug!(client:% = peer.ip(); "connection of {peer} without a slot took too long to take its 503");
    }
}

/// Bounds the kernel's socket buffers of a connection; where the kernel refuses, its defaults stay.
fn set_buffer_sizes(stream: &TcpStream, bytes: usize) {
    let _ = setsockopt(stream, SndBuf, &bytes);
    let _ = setsockopt(stream, RcvBuf, &bytes);
}

/// Adds the address that the client connected to to the certificate's SANs, if it is not there yet.
async fn certify_local_address(certificates: &Arc<Certificates>, stream: &TcpStream, peer: SocketAddr) {
    let Ok(address) = stream.local_addr() else { return };
    if !certificates.needs_reissue_for(address.ip()) {
        return;
    }
    let certificates = Arc::clone(certificates);
    let included = tokio::task::spawn_blocking(move || certificates.reissue_for(address.ip())).await;
    let error = match included {
        Ok(Ok(())) => return,
        Ok(Err(error)) => error.to_string(),
        Err(error) => error.to_string(),
    };
    log::error!(client:% = peer.ip(); "cannot make a certificate for {}: {error}", address.ip());
}

/// Waits for the shutdown and, on a new connection, for its first request or the end of its grace.
async fn drain_begins(
    stop: &mut watch::Receiver<bool>,
    has_request: &mut watch::Receiver<bool>,
    (pending, accepted): (&PendingResponses, Instant),
) {
    until_true(stop).await;
    let grace = if pending.has_partial_head() { PARTIAL_HEAD_GRACE } else { FIRST_REQUEST_GRACE };
    let _ = tokio::time::timeout(grace.saturating_sub(accepted.elapsed()), until_true(has_request)).await;
}

/// Waits for the shutdown, and for the end of the grace of a connection that is still in its handshake.
async fn shutdown_grace(stop: &mut watch::Receiver<bool>, accepted: Instant) {
    until_true(stop).await;
    tokio::time::sleep(FIRST_REQUEST_GRACE.saturating_sub(accepted.elapsed())).await;
}

/// Waits until the value is true, or its sender is gone.
pub(super) async fn until_true(value: &mut watch::Receiver<bool>) {
    let _ = value.wait_for(|value| *value).await;
}
