//! Asks a running daemon: through its Unix socket how it is, and through its listening sockets whether it answers.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Empty, Limited};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UnixStream};

use super::live::Live;
use crate::config::Config;
use crate::server::OWN_AGENT;

/// How long one question may take.
const PATIENCE: Duration = Duration::from_secs(10);
/// No answer is longer, in bytes.
const LONGEST: usize = 1 << 20;

type Failed = Box<dyn std::error::Error + Send + Sync>;

/// How the daemon of this configuration is; nothing where there is none, or where it cannot be asked.
pub(super) async fn live(config: &Config) -> Option<Live> {
    let asked = tokio::time::timeout(PATIENCE, async {
        let stream = UnixStream::connect(&config.service.control).await?;
        let (_, body) = get(stream, "/status").await?;
        Ok::<Live, Failed>(serde_json::from_slice(&body)?)
    });
    let live = asked.await.ok()?.ok()?;
    // The socket is the system's; another data directory may be served by nobody.
    (live.data == super::absolute(&config.storage.path)).then_some(live)
}

/// Returns the metrics of the daemon of this configuration; nothing if no daemon runs, or if it cannot be asked. The port is
/// asked only if a daemon runs: where systemd has the port, a connection would start one.
pub(super) async fn metrics(config: &Config, runs: bool) -> Option<String> {
    if live(config).await.is_some() {
        let asked = tokio::time::timeout(PATIENCE, async {
            get(UnixStream::connect(&config.service.control).await?, "/metrics").await
        });
        return metrics_in(asked.await.ok()?.ok()?);
    }
    // Without systemd there is no such socket; clients on this machine may ask as well, unless metrics.access forbids it.
    for address in config.listen.iter().filter(|_| runs) {
        let asked = tokio::time::timeout(PATIENCE, async {
            get(TcpStream::connect(reachable(*address)).await?, "/metrics").await
        });
        let text = asked.await.ok().and_then(Result::ok).and_then(metrics_in);
        if text.is_some() {
            return text;
        }
    }
    None
}

fn metrics_in((status, body): (http::StatusCode, Bytes)) -> Option<String> {
    String::from_utf8(body.into()).ok().filter(|_| status == http::StatusCode::OK)
}

/// Why a registry is not healthy.
pub(super) enum Unhealthy {
    /// It does not answer.
    Silent,
    /// It says why, in a word or a sentence.
    Says(String),
}

/// Whether the registry of this configuration answers requests and does all of its work.
pub(super) async fn health(config: &Config) -> Result<(), Unhealthy> {
    if let Some(live) = live(config).await {
        return match live.store.read_only.or(live.disk) {
            None => Ok(()),
            Some(why) => Err(Unhealthy::Says(why)),
        };
    }
    let mut unhealthy = Unhealthy::Silent;
    for address in &config.listen {
        let asked = tokio::time::timeout(PATIENCE, async {
            let stream = TcpStream::connect(reachable(*address)).await?;
            // Plain HTTP gets an answer from a port with TLS, too.
            get(stream, "/healthz").await
        });
        match asked.await {
            Ok(Ok((http::StatusCode::OK, _))) => return Ok(()),
            Ok(Ok((http::StatusCode::SERVICE_UNAVAILABLE, word))) => {
                unhealthy = Unhealthy::Says(word_of(&word));
            }
            // Another program, or none.
            Ok(Ok(_) | Err(_)) | Err(_) => {}
        }
    }
    Err(unhealthy)
}

/// The word of a health check, and nothing else that another program may answer.
fn word_of(body: &[u8]) -> String {
    let is_word = |byte: &u8| byte.is_ascii_lowercase() || *byte == b'-';
    let word: Vec<u8> = body.iter().copied().take_while(is_word).take(32).collect();
    String::from_utf8_lossy(&word).into_owned()
}

/// The address by which this machine reaches its own listening socket.
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
) -> Result<(http::StatusCode, Bytes), Failed> {
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
    let connection = tokio::spawn(connection);
    let request = http::Request::get(path).header("Host", "localhost").header("User-Agent", OWN_AGENT);
    let request = request.body(Empty::<Bytes>::new())?;
    let answer = sender.send_request(request).await?;
    let status = answer.status();
    let body = Limited::new(answer.into_body(), LONGEST).collect().await?.to_bytes();
    connection.abort();
    Ok((status, body))
}
