//! One connection: plain HTTP or TLS, by its first byte.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use nix::sys::socket::setsockopt;
use nix::sys::socket::sockopt::{RcvBuf, SndBuf};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio_io_timeout::TimeoutWriter;
use tokio_rustls::TlsAcceptor;

use super::Server;
use super::refusal::{Completed, Exchange};
use crate::tls::Certificates;

/// How long a connection without a request is waited for when the daemon ends.
const LAST_MOMENT: Duration = Duration::from_secs(5);
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

/// Serves a connection to its end.
pub(super) async fn run(server: Arc<Server>, stream: TcpStream, stop: watch::Receiver<bool>) {
    let Ok(peer) = stream.peer_addr() else {
        // It has gone already.
        return;
    };
    // Small answers wait for nothing; a socket that cannot do this works all the same.
    let _ = stream.set_nodelay(true);
    let site = server.site();
    bound(&stream, site.limits.socket_buffer);
    let Some(certificates) = site.certificates.clone() else {
        return speak(server, stream, peer, Transport::Plain, stop).await;
    };
    let time = site.limits.header_time;
    let mut first = [0];
    match tokio::time::timeout(time, stream.peek(&mut first)).await {
        Ok(Ok(1)) if first[0] != HANDSHAKE => {
            speak(server, stream, peer, Transport::PlainBesideTls, stop).await;
        }
        Ok(Ok(1)) => {
            know_own_address(&certificates, &stream, peer).await;
            let acceptor = TlsAcceptor::from(certificates.server_config());
            match tokio::time::timeout(time, acceptor.accept(stream)).await {
                Ok(Ok(stream)) => speak(server, stream, peer, Transport::Tls, stop).await,
                Ok(Err(error)) => log::debug!(client:% = peer.ip(); "no TLS with {peer}: {error}"),
                Err(_) => log::debug!(client:% = peer.ip(); "no TLS with {peer} in time"),
            }
        }
        // The client went away, or said nothing.
        _ => {}
    }
}

async fn speak(
    server: Arc<Server>,
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    peer: SocketAddr,
    transport: Transport,
    mut stop: watch::Receiver<bool>,
) {
    let limits = server.site().limits;
    let (says_asked, mut asked) = watch::channel(false);
    let exchange = Arc::new(Exchange::default());
    let stream = Completed::new(stream, Arc::clone(&exchange));
    let service = service_fn(move |request: http::Request<Incoming>| {
        says_asked.send_replace(true);
        let (server, open) = (Arc::clone(&server), Exchange::begin(&exchange));
        async move { Ok::<_, Infallible>(server.answer(request, peer, transport, open).await) }
    });
    // A client that takes nothing of an answer must not hold its connection for ever.
    let mut stream = TimeoutWriter::new(stream);
    stream.set_timeout(Some(limits.body_stall));
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(limits.header_time)
        .max_buf_size(limits.header_bytes)
        .max_header_size(limits.header_bytes)
        .serve_connection(TokioIo::new(Box::pin(stream)), service);
    let mut connection = pin!(connection);
    let ended = tokio::select! {
        ended = connection.as_mut() => ended,
        // A client whose connection was accepted in the last moment still gets its first answer.
        () = async { told(&mut stop).await; soon(&mut asked).await } => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = ended {
        log::debug!(client:% = peer.ip(); "the connection with {peer} ended: {error}");
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

/// Waits until something is said to be so, but not for long.
async fn soon(so: &mut watch::Receiver<bool>) {
    let _ = tokio::time::timeout(LAST_MOMENT, told(so)).await;
}

/// Waits until something is said to be so; a sender that is gone says the same.
async fn told(so: &mut watch::Receiver<bool>) {
    let _ = so.wait_for(|so| *so).await;
}
