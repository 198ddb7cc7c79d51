//! Connections that arrive while the store opens, which may take minutes after a crash: health checks are answered with
//! `starting`; all others wait, and are served afterwards.

use std::io::ErrorKind;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;

/// Delay before connections are accepted while the store opens. Until then they stay in the listen backlog, where systemd keeps
/// them even if the daemon fails to start.
const ACCEPT_DELAY: Duration = Duration::from_secs(1);
/// Maximum number of connections accepted while the store opens; further ones stay in the listen backlog.
const MAX_CONNECTIONS: usize = 64;
/// Timeout of the head of a health check.
const HEAD_TIME: Duration = Duration::from_secs(5);
/// Interval at which the first bytes of a connection are looked at again, and pause after a failed accept.
const POLL_INTERVAL: Duration = Duration::from_millis(50);
/// Maximum length of the head of a health check, in bytes.
const MAX_HEAD: usize = 8192;
/// First bytes of health checks.
const CHECKS: [&[u8]; 4] = [b"GET /healthz", b"HEAD /healthz", b"GET /readyz", b"HEAD /readyz"];
/// Length of the longest of them, and the byte after it.
const LONGEST_CHECK: usize = 14;
/// The response to a health check, without its body.
const STARTING: &str = "HTTP/1.1 503 Service Unavailable\r\nContent-Type: text/plain; charset=utf-8\r\n\
    Content-Length: 8\r\nCache-Control: no-store\r\nX-Content-Type-Options: nosniff\r\n\
    Content-Security-Policy: default-src 'none'; sandbox\r\nConnection: close\r\n\r\n";

/// The listeners, and the connections accepted before the server started.
pub struct EarlyConnections {
    pub(super) listeners: Vec<TcpListener>,
    pub(super) waiting: Vec<(TcpStream, SocketAddr)>,
}

/// Classification of the first bytes of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum FirstBytes {
    /// A health check, by HEAD or GET.
    Check { head: bool },
    /// A prefix of a health check.
    Incomplete,
    /// Anything else.
    Other,
}

/// Runs `opening` to its end, and answers health checks meanwhile if that takes longer than a second.
pub async fn serve_health_during<T>(
    listeners: Vec<TcpListener>,
    opening: impl Future<Output = T>,
) -> (T, EarlyConnections) {
    let mut opening = std::pin::pin!(opening);
    if let Ok(opened) = tokio::time::timeout(ACCEPT_DELAY, opening.as_mut()).await {
        return (opened, EarlyConnections { listeners, waiting: Vec::new() });
    }
    let (opened, is_open) = watch::channel(false);
    let places = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    let mut receivers = JoinSet::new();
    for listener in listeners {
        receivers.spawn(receive(listener, Arc::clone(&places), is_open.clone()));
    }
    let outcome = opening.await;
    opened.send_replace(true);
    let mut early = EarlyConnections { listeners: Vec::new(), waiting: Vec::new() };
    while let Some(ended) = receivers.join_next().await {
        if let Ok((listener, waiting)) = ended {
            early.listeners.push(listener);
            early.waiting.extend(waiting);
        }
    }
    (outcome, early)
}

/// Accepts connections until the store is open.
async fn receive(
    listener: TcpListener,
    places: Arc<Semaphore>,
    mut is_open: watch::Receiver<bool>,
) -> (TcpListener, Vec<(TcpStream, SocketAddr)>) {
    let mut connections = JoinSet::new();
    let is_open_for_each = is_open.clone();
    let accepting = async {
        loop {
            // The semaphore is never closed.
            let Ok(place) = Arc::clone(&places).acquire_owned().await else { return };
            match listener.accept().await {
                Ok((stream, peer)) => {
                    let is_open = is_open_for_each.clone();
                    connections.spawn(async move {
                        let kept = answer_or_keep(stream, is_open).await;
                        drop(place);
                        kept.map(|stream| (stream, peer))
                    });
                }
                // Without descriptors, further connections stay in the listen backlog.
                Err(_) => tokio::time::sleep(POLL_INTERVAL).await,
            }
            while connections.try_join_next().is_some() {}
        }
    };
    tokio::select! {
        () = accepting => {}
        // An error means that the sender is gone, which ends the opening as well.
        _ = is_open.wait_for(|open| *open) => {}
    }
    let mut waiting = Vec::new();
    while let Some(ended) = connections.join_next().await {
        waiting.extend(ended.ok().flatten());
    }
    (listener, waiting)
}

/// Answers a health check; keeps any other connection until the store is open.
async fn answer_or_keep(stream: TcpStream, mut is_open: watch::Receiver<bool>) -> Option<TcpStream> {
    let first_bytes = tokio::select! {
        first_bytes = peek(&stream) => first_bytes,
        _ = is_open.wait_for(|open| *open) => return Some(stream),
    };
    match first_bytes {
        Some(FirstBytes::Check { head }) => {
            // A client that sends its head too slowly gets no response.
            let _ = tokio::time::timeout(HEAD_TIME, respond(stream, head)).await;
            None
        }
        Some(FirstBytes::Other | FirstBytes::Incomplete) => {
            let _ = is_open.wait_for(|open| *open).await;
            Some(stream)
        }
        // The client closed the connection.
        None => None,
    }
}

/// Classifies the first bytes of a connection without consuming them; `None` if the client closes it.
async fn peek(stream: &TcpStream) -> Option<FirstBytes> {
    let mut bytes = [0; LONGEST_CHECK];
    let mut seen = 0;
    loop {
        let length = stream.peek(&mut bytes).await.ok().filter(|length| *length > 0)?;
        match classify(&bytes[..length]) {
            // The socket stays readable because nothing is consumed, so it does not wake for further bytes: poll.
            FirstBytes::Incomplete => {
                if length == seen {
                    tokio::time::sleep(POLL_INTERVAL).await;
                }
                seen = length;
            }
            known @ (FirstBytes::Check { .. } | FirstBytes::Other) => return Some(known),
        }
    }
}

fn classify(bytes: &[u8]) -> FirstBytes {
    for check in CHECKS {
        match bytes.strip_prefix(check) {
            Some([b' ' | b'?', ..]) => return FirstBytes::Check { head: check.starts_with(b"H") },
            Some([]) => return FirstBytes::Incomplete,
            None if check.starts_with(bytes) => return FirstBytes::Incomplete,
            Some(_) | None => {}
        }
    }
    FirstBytes::Other
}

/// Reads the head of a request and answers it.
async fn respond(mut stream: TcpStream, head: bool) -> std::io::Result<()> {
    let mut read = Vec::new();
    while !read.windows(4).any(|four| four == b"\r\n\r\n") {
        if read.len() > MAX_HEAD {
            return Err(ErrorKind::InvalidData.into());
        }
        if stream.read_buf(&mut read).await? == 0 {
            return Ok(());
        }
    }
    let body = if head { "" } else { "starting" };
    stream.write_all(format!("{STARTING}{body}").as_bytes()).await?;
    stream.shutdown().await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn health_checks_are_recognised_by_their_first_bytes() {
        for (bytes, expected) in [
            ("GET /healthz HTTP/1.1\r\n", FirstBytes::Check { head: false }),
            ("HEAD /readyz ", FirstBytes::Check { head: true }),
            ("GET /readyz?x", FirstBytes::Check { head: false }),
            ("GET /", FirstBytes::Incomplete),
            ("HEAD /healthz", FirstBytes::Incomplete),
            ("GET /healthzz", FirstBytes::Other),
            ("GET /v2/", FirstBytes::Other),
            ("POST /healthz ", FirstBytes::Other),
            ("\u{16}\u{3}\u{1}", FirstBytes::Other),
        ] {
            assert_eq!(classify(bytes.as_bytes()), expected, "{bytes:?}");
        }
    }

    #[tokio::test]
    async fn health_checks_are_answered_while_the_store_opens_and_others_wait() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (open, opened) = tokio::sync::oneshot::channel();
        let opening = tokio::spawn(serve_health_during(vec![listener], async { opened.await.unwrap() }));
        let mut other = TcpStream::connect(address).await.unwrap();
        other.write_all(b"GET /v2/ HTTP/1.1\r\n\r\n").await.unwrap();
        let silent = TcpStream::connect(address).await.unwrap();
        let mut check = TcpStream::connect(address).await.unwrap();
        check.write_all(b"GET /hea").await.unwrap();
        tokio::time::sleep(Duration::from_millis(20)).await;
        check.write_all(b"lthz HTTP/1.1\r\nHost: x\r\n\r\n").await.unwrap();
        let mut answer = String::new();
        check.read_to_string(&mut answer).await.unwrap();
        assert!(answer.starts_with("HTTP/1.1 503 ") && answer.ends_with("\r\n\r\nstarting"), "{answer}");
        open.send(7).unwrap();
        let (outcome, early) = opening.await.unwrap();
        assert_eq!((outcome, early.listeners.len(), early.waiting.len()), (7, 1, 2));
        drop((silent, early));
        // Its bytes were not consumed, and it got no response.
        answer.clear();
        let _ = other.read_to_string(&mut answer).await;
        assert_eq!(answer, "");
    }
}
