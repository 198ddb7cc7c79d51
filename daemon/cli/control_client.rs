//! Queries a running daemon: status and metrics through its control socket, health through its listening sockets. Never starts
//! a daemon, as a connection to a socket of systemd would.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Empty, Limited};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UnixStream};

use super::owner::{Daemon, Found, Patience, find};
use crate::config::Config;
use crate::control::StatusReport;
use crate::server::OWN_AGENT;
use crate::service::ShortPath;

/// Timeout of one request.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(10);
/// Maximum length of a response, in bytes.
const MAX_RESPONSE: usize = 1 << 20;

type RequestError = Box<dyn std::error::Error + Send + Sync>;

/// Returns the status of the daemon of this configuration; `None` if no daemon runs or its control socket cannot be used.
pub(super) async fn status(config: &Config) -> Option<StatusReport> {
    Some(daemon(config).await?.status)
}

async fn daemon(config: &Config) -> Option<Daemon> {
    match tokio::time::timeout(REQUEST_TIMEOUT, find(config, Patience::RunningOnly)).await {
        Ok(Ok(Found::Daemon(daemon))) => Some(*daemon),
        Ok(Ok(Found::Occupied(_) | Found::Absent) | Err(_)) | Err(_) => None,
    }
}

/// Returns the metrics of the daemon of this configuration; `None` if no daemon runs, or if neither its control socket nor its
/// port can be used. The port is tried only if a daemon runs: under socket activation a connection would start one.
pub(super) async fn metrics(config: &Config, daemon_runs: bool) -> Option<String> {
    if let Some(daemon) = daemon(config).await {
        let response = tokio::time::timeout(REQUEST_TIMEOUT, async {
            let socket = ShortPath::of(&daemon.socket)?;
            get(UnixStream::connect(socket.path()).await?, "/_holdfast/v1/metrics").await
        });
        return metrics_in(response.await.ok()?.ok()?);
    }
    // A daemon may have no control socket; use the port as a local client, which metrics.access may forbid.
    for address in config.listen.iter().filter(|_| daemon_runs) {
        let response = tokio::time::timeout(REQUEST_TIMEOUT, async {
            get(TcpStream::connect(reachable(*address)).await?, "/metrics").await
        });
        let text = response.await.ok().and_then(Result::ok).and_then(metrics_in);
        if text.is_some() {
            return text;
        }
    }
    None
}

fn metrics_in((status, body): (http::StatusCode, Bytes)) -> Option<String> {
    String::from_utf8(body.into()).ok().filter(|_| status == http::StatusCode::OK)
}

/// Reason why a registry is not healthy.
pub(super) enum Unhealthy {
    /// No answer, or none from a registry.
    Silent,
    /// An impairment, as a word or a sentence.
    Reports(String),
}

/// Returns `Ok` if the registry of this configuration answers requests and accepts writes.
pub(super) async fn health(config: &Config) -> Result<(), Unhealthy> {
    if let Some(status) = status(config).await {
        return match status.store.read_only.or(status.disk) {
            None => Ok(()),
            Some(reason) => Err(Unhealthy::Reports(reason)),
        };
    }
    let mut unhealthy = Unhealthy::Silent;
    for address in &config.listen {
        let response = tokio::time::timeout(REQUEST_TIMEOUT, async {
            let stream = TcpStream::connect(reachable(*address)).await?;
            // A port with TLS also answers health checks over plain HTTP.
            get(stream, "/healthz").await
        });
        match response.await {
            Ok(Ok((http::StatusCode::OK, _))) => return Ok(()),
            Ok(Ok((http::StatusCode::SERVICE_UNAVAILABLE, word))) => {
                unhealthy = Unhealthy::Reports(health_word(&word));
            }
            // Another program has the port, or none.
            Ok(Ok(_) | Err(_)) | Err(_) => {}
        }
    }
    Err(unhealthy)
}

/// Returns the word of a health check: no other text, since another program may have the port.
fn health_word(body: &[u8]) -> String {
    let is_word = |byte: &u8| byte.is_ascii_lowercase() || *byte == b'-';
    let word: Vec<u8> = body.iter().copied().take_while(is_word).take(32).collect();
    String::from_utf8_lossy(&word).into_owned()
}

/// Returns the address by which this machine reaches its own listening socket.
fn reachable(mut address: SocketAddr) -> SocketAddr {
    match address.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => address.set_ip(Ipv4Addr::LOCALHOST.into()),
        IpAddr::V6(ip) if ip.is_unspecified() => address.set_ip(Ipv6Addr::LOCALHOST.into()),
        _ => {}
    }
    address
}

async fn get(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    path: &str,
) -> Result<(http::StatusCode, Bytes), RequestError> {
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
    let connection = tokio::spawn(connection);
    let request = http::Request::get(path).header("Host", "localhost").header("User-Agent", OWN_AGENT);
    let request = request.body(Empty::<Bytes>::new())?;
    let response = sender.send_request(request).await?;
    let status = response.status();
    let body = Limited::new(response.into_body(), MAX_RESPONSE).collect().await?.to_bytes();
    connection.abort();
    Ok((status, body))
}
