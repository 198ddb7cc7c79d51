//! Connections that come before the store is open, which may take minutes after a crash: health checks are answered with
//! `starting`, all others wait and are served afterwards.

use std::io::ErrorKind;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;

/// How long opening may take before connections are accepted. Until then they wait in the socket, where systemd keeps them
/// even if the daemon does not start.
const QUICK: Duration = Duration::from_secs(1);
/// How many connections are accepted while the store is opened; the rest waits in the socket.
const MOST: usize = 64;
/// How long the head of a health check may take, and how often it is looked at whether more of a connection has come.
const HEAD_TIME: Duration = Duration::from_secs(5);
const LOOK: Duration = Duration::from_millis(50);
/// The longest head of a health check, in bytes.
const LONGEST_HEAD: usize = 8192;
/// The beginnings of health checks.
const CHECKS: [&[u8]; 4] = [b"GET /healthz", b"HEAD /healthz", b"GET /readyz", b"HEAD /readyz"];
/// The longest of them, and the byte after it.
const LONGEST_CHECK: usize = 14;
/// The answer to a health check, without its body.
const STARTING: &str = "HTTP/1.1 503 Service Unavailable\r\nContent-Type: text/plain; charset=utf-8\r\n\
    Content-Length: 8\r\nCache-Control: no-store\r\nX-Content-Type-Options: nosniff\r\n\
    Content-Security-Policy: default-src 'none'; sandbox\r\nConnection: close\r\n\r\n";

/// The listeners, and the connections that were accepted before the server was there.
pub struct Early {
    pub(super) listeners: Vec<TcpListener>,
    pub(super) waiting: Vec<(TcpStream, SocketAddr)>,
}

/// What the first bytes of a connection are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Beginning {
    /// A health check; with its method HEAD or not.
    Check { head: bool },
    /// Possibly one, but too short to say.
    Unknown,
    /// Anything else.
    Other,
}

/// Runs `opening` to its end, and answers health checks meanwhile if that takes long.
pub async fn open_meanwhile<T>(listeners: Vec<TcpListener>, opening: impl Future<Output = T>) -> (T, Early) {
    let mut opening = std::pin::pin!(opening);
    if let Ok(opened) = tokio::time::timeout(QUICK, opening.as_mut()).await {
        return (opened, Early { listeners, waiting: Vec::new() });
    }
    let (opened, is_open) = watch::channel(false);
    let places = Arc::new(Semaphore::new(MOST));
    let mut doors = JoinSet::new();
    for listener in listeners {
        doors.spawn(receive(listener, Arc::clone(&places), is_open.clone()));
    }
    let outcome = opening.await;
    opened.send_replace(true);
    let mut early = Early { listeners: Vec::new(), waiting: Vec::new() };
    while let Some(ended) = doors.join_next().await {
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
    let told = is_open.clone();
    let accepting = async {
        loop {
            // The semaphore is never closed.
            let Ok(place) = Arc::clone(&places).acquire_owned().await else { return };
            match listener.accept().await {
                Ok((stream, peer)) => {
                    let is_open = told.clone();
                    connections.spawn(async move {
                        let kept = attend(stream, is_open).await;
                        drop(place);
                        kept.map(|stream| (stream, peer))
                    });
                }
                // Without descriptors the rest waits in the socket.
                Err(_) => tokio::time::sleep(LOOK).await,
            }
            while connections.try_join_next().is_some() {}
        }
    };
    tokio::select! {
        () = accepting => {}
        // An error says that the sender is gone, which is an end as well.
        _ = is_open.wait_for(|open| *open) => {}
    }
    let mut waiting = Vec::new();
    while let Some(ended) = connections.join_next().await {
        waiting.extend(ended.ok().flatten());
    }
    (listener, waiting)
}

/// Answers a connection if it is a health check, and keeps it until the store is open otherwise.
async fn attend(stream: TcpStream, mut is_open: watch::Receiver<bool>) -> Option<TcpStream> {
    let beginning = tokio::select! {
        beginning = look(&stream) => beginning,
        _ = is_open.wait_for(|open| *open) => return Some(stream),
    };
    match beginning {
        Some(Beginning::Check { head }) => {
            // A client that takes longer gets no answer.
            let _ = tokio::time::timeout(HEAD_TIME, respond(stream, head)).await;
            None
        }
        Some(Beginning::Other | Beginning::Unknown) => {
            let _ = is_open.wait_for(|open| *open).await;
            Some(stream)
        }
        // The client has gone.
        None => None,
    }
}

/// Looks at the first bytes of a connection without taking them; nothing if it ends.
async fn look(stream: &TcpStream) -> Option<Beginning> {
    let mut bytes = [0; LONGEST_CHECK];
    let mut seen = 0;
    loop {
        let length = stream.peek(&mut bytes).await.ok().filter(|length| *length > 0)?;
        match beginning(&bytes[..length]) {
            // What has not come yet cannot be waited for: the socket is readable already.
            Beginning::Unknown => {
                if length == seen {
                    tokio::time::sleep(LOOK).await;
                }
                seen = length;
            }
            known => return Some(known),
        }
    }
}

fn beginning(bytes: &[u8]) -> Beginning {
    for check in CHECKS {
        match bytes.strip_prefix(check) {
            Some([b' ' | b'?', ..]) => return Beginning::Check { head: check.starts_with(b"H") },
            Some([]) => return Beginning::Unknown,
            None if check.starts_with(bytes) => return Beginning::Unknown,
            Some(_) | None => {}
        }
    }
    Beginning::Other
}

/// Reads the head of a request and answers it.
async fn respond(mut stream: TcpStream, head: bool) -> std::io::Result<()> {
    let mut read = Vec::new();
    while !read.windows(4).any(|four| four == b"\r\n\r\n") {
        if read.len() > LONGEST_HEAD {
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
    fn health_checks_are_known_by_their_first_bytes() {
        for (bytes, expected) in [
            ("GET /healthz HTTP/1.1\r\n", Beginning::Check { head: false }),
            ("HEAD /readyz ", Beginning::Check { head: true }),
            ("GET /readyz?x", Beginning::Check { head: false }),
            ("GET /", Beginning::Unknown),
            ("HEAD /healthz", Beginning::Unknown),
            ("GET /healthzz", Beginning::Other),
            ("GET /v2/", Beginning::Other),
            ("POST /healthz ", Beginning::Other),
            ("\u{16}\u{3}\u{1}", Beginning::Other),
        ] {
            assert_eq!(beginning(bytes.as_bytes()), expected, "{bytes:?}");
        }
    }

    #[tokio::test]
    async fn checks_are_answered_while_the_store_opens_and_others_wait() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (open, opened) = tokio::sync::oneshot::channel();
        let opening = tokio::spawn(open_meanwhile(vec![listener], async { opened.await.unwrap() }));
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
        // What it has sent was not taken, so that nothing was answered.
        answer.clear();
        let _ = other.read_to_string(&mut answer).await;
        assert_eq!(answer, "");
    }
}
