//! One connection: plain HTTP or TLS, by its first byte.

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

use super::Server;
use super::refusal::{Completed, Exchange};
use super::slots::{Ending, Slot};
use super::socket::Socket;
use crate::oci::Problem;
use crate::tls::Certificates;
use crate::wire::{ApiError, RequestBody, confine};

/// How long after its accept a connection that has sent nothing is waited for when the daemon ends: a daemon that ends
/// because it is idle answers a client that came in the last moment.
const LAST_MOMENT: Duration = Duration::from_secs(5);
/// The same for a connection that has sent a part of its first head.
const REST_OF_HEAD: Duration = Duration::from_secs(1);
/// How long a graceful close of a connection without a request in progress may take.
const LAST_WORDS: Duration = Duration::from_millis(250);
/// Smallest buffer that hyper accepts.
const SMALLEST_BUFFER: usize = 8192;
/// The first byte of a TLS handshake.
const HANDSHAKE: u8 = 0x16;

/// How the bytes of a connection are protected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Transport {
    /// Not at all, and TLS is off.
    Plain,
    /// Not at all, though TLS is on.
    PlainBesideTls,
    /// By TLS.
    Tls,
}

/// Connection that has a slot.
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
    // Small answers wait for nothing; a socket that cannot do this works all the same.
    let _ = stream.set_nodelay(true);
    let site = server.site();
    bound(&stream, site.limits.socket_buffer);
    let greeted = tokio::select! {
        greeted = greet(&server, stream, peer) => greeted,
        _ = &mut ending => None,
        () = last_moment(&mut stop, accepted) => None,
    };
    let answers = Answers { server, peer, slot, ending, stop, accepted };
    match greeted {
        Some(Greeted::Plain(stream, transport)) => speak(answers, stream, transport).await,
        Some(Greeted::Tls(stream)) => speak(answers, stream, Transport::Tls).await,
        None => {}
    }
}

/// Connection after protocol detection and TLS handshake.
enum Greeted {
    Plain(Socket, Transport),
    Tls(Box<tokio_rustls::server::TlsStream<Socket>>),
}

/// Detects TLS by the first byte and performs the handshake; each step may take `header_time`.
async fn greet(server: &Server, stream: TcpStream, peer: SocketAddr) -> Option<Greeted> {
    let (certificates, limits) = (server.site().certificates.clone(), server.site().limits);
    let wrap = |stream| Socket::new(stream, limits.body_stall, limits.minimum_rate);
    let Some(certificates) = certificates else {
        return Some(Greeted::Plain(wrap(stream), Transport::Plain));
    };
    let mut first = [0];
    match tokio::time::timeout(limits.header_time, stream.peek(&mut first)).await {
        Ok(Ok(1)) if first[0] != HANDSHAKE => Some(Greeted::Plain(wrap(stream), Transport::PlainBesideTls)),
        Ok(Ok(1)) => {
            know_own_address(&certificates, &stream, peer).await;
            let acceptor = TlsAcceptor::from(certificates.server_config());
            match tokio::time::timeout(limits.header_time, acceptor.accept(wrap(stream))).await {
                Ok(Ok(stream)) => return Some(Greeted::Tls(Box::new(stream))),
                Ok(Err(error)) if is_about_certificate(&error) => {
                    // Only where tls.client_ca asks for one: the client hears no more than that it is not accepted.
                    log::warn!(client:% = peer.ip(); "the certificate of {peer} is not accepted (tls.client_ca): {error}");
                }
                Ok(Err(error)) => log::debug!(client:% = peer.ip(); "no TLS with {peer}: {error}"),
                Err(_) => log::debug!(client:% = peer.ip(); "no TLS with {peer} in time"),
            }
            None
        }
        // The client went away, or said nothing.
        _ => None,
    }
}

/// Returns true if a handshake failed for the certificate of the client, or for the lack of one.
fn is_about_certificate(error: &std::io::Error) -> bool {
    let error = error.get_ref().and_then(|error| error.downcast_ref::<rustls::Error>());
    matches!(error, Some(rustls::Error::InvalidCertificate(_) | rustls::Error::NoCertificatesPresented))
}

/// Everything that serves the requests of a connection.
struct Answers {
    server: Arc<Server>,
    peer: SocketAddr,
    slot: Arc<Slot>,
    ending: oneshot::Receiver<Ending>,
    stop: watch::Receiver<bool>,
    accepted: Instant,
}

async fn speak(
    answers: Answers,
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    transport: Transport,
) {
    let Answers { server, peer, slot, mut ending, mut stop, accepted } = answers;
    let limits = server.site().limits;
    let (says_asked, mut asked) = watch::channel(false);
    let exchange = Arc::new(Exchange::default());
    let stream = Completed::new(stream, Arc::clone(&exchange));
    let begun = Arc::clone(&exchange);
    let service = service_fn(move |request: http::Request<Incoming>| {
        begun.begin(request.method());
        says_asked.send_replace(true);
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
            log::debug!(client:% = peer.ip(); "the connection with {peer} is evicted");
            if ending == Ok(Ending::Graceful) {
                connection.as_mut().graceful_shutdown();
                // A request that has begun meanwhile is cut off.
                let _ = tokio::time::timeout(LAST_WORDS, connection).await;
            }
            return;
        }
        () = stopped(&mut stop, &mut asked, (&exchange, accepted)) => {
            connection.as_mut().graceful_shutdown();
            let closed = tokio::time::timeout(LAST_WORDS, connection.as_mut()).await;
            match closed {
                Ok(ended) => ended,
                // Only a request whose head is complete is waited for.
                Err(_) if exchange.is_busy() => connection.await,
                Err(_) => return,
            }
        }
    };
    if let Err(error) = ended {
        log::debug!(client:% = peer.ip(); "the connection with {peer} ended: {error}");
    }
}

/// Answers a connection without a slot with 503, within `patience`.
pub(super) async fn refuse(server: &Server, stream: TcpStream, peer: SocketAddr, patience: Duration) {
    let refused = async {
        let exchange = Arc::new(Exchange::default());
        let begun = Arc::clone(&exchange);
        let service = service_fn(move |request: http::Request<Incoming>| {
            begun.begin(request.method());
            let (parts, incoming) = request.into_parts();
            // Dropping it drains the body, so that the client reads the response instead of a reset.
            drop(RequestBody::new(&parts, incoming, patience, 0));
            let busy = "the registry has as many connections as it can; try again later";
            let mut response = ApiError::from(Problem::unavailable(busy)).into_response();
            confine(response.headers_mut());
            std::future::ready(Ok::<_, Infallible>(response))
        });
        let mut http = http1::Builder::new();
        http.timer(TokioTimer::new()).keep_alive(false).max_buf_size(SMALLEST_BUFFER);
        match greet(server, stream, peer).await {
            Some(Greeted::Plain(stream, _)) => {
                let stream = Completed::new(stream, exchange);
                let _ = http.serve_connection(TokioIo::new(Box::pin(stream)), service).await;
            }
            Some(Greeted::Tls(stream)) => {
                let stream = Completed::new(stream, exchange);
                let _ = http.serve_connection(TokioIo::new(Box::pin(stream)), service).await;
            }
            None => {}
        }
    };
    if tokio::time::timeout(patience, refused).await.is_err() {
        log::debug!(client:% = peer.ip(); "the connection with {peer} has no slot and took too long to be refused");
    }
}

/// Bounds what the system keeps for a connection; where it does not take that, it keeps what it likes.
fn bound(stream: &TcpStream, bytes: usize) {
    let _ = setsockopt(stream, SndBuf, &bytes);
    let _ = setsockopt(stream, RcvBuf, &bytes);
}

/// Sees to it that the certificate is for the address by which the client has come.
async fn know_own_address(certificates: &Arc<Certificates>, stream: &TcpStream, peer: SocketAddr) {
    let Ok(address) = stream.local_addr() else { return };
    if !certificates.lacks(address.ip()) {
        return;
    }
    let certificates = Arc::clone(certificates);
    let included = tokio::task::spawn_blocking(move || certificates.include(address.ip())).await;
    let error = match included {
        Ok(Ok(())) => return,
        Ok(Err(error)) => error.to_string(),
        Err(error) => error.to_string(),
    };
    log::error!(client:% = peer.ip(); "there is no certificate for {}: {error}", address.ip());
}

/// Waits until the daemon stops and, on a new connection without a request so far, for the first one.
async fn stopped(
    stop: &mut watch::Receiver<bool>,
    asked: &mut watch::Receiver<bool>,
    (exchange, accepted): (&Exchange, Instant),
) {
    told(stop).await;
    let grace = if exchange.has_read() { REST_OF_HEAD } else { LAST_MOMENT };
    let _ = tokio::time::timeout(grace.saturating_sub(accepted.elapsed()), told(asked)).await;
}

/// Waits until the daemon stops and a connection that was accepted then is no longer new.
async fn last_moment(stop: &mut watch::Receiver<bool>, accepted: Instant) {
    told(stop).await;
    tokio::time::sleep(LAST_MOMENT.saturating_sub(accepted.elapsed())).await;
}

/// Waits until the value is true; a sender that is gone means the same.
pub(super) async fn told(so: &mut watch::Receiver<bool>) {
    let _ = so.wait_for(|so| *so).await;
}
