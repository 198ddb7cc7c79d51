//! The door: accepts connections, tells TLS from plain HTTP, limits both, and drains them at the end.

mod answer;
mod connection;
mod record;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};

use crate::access::Access;
use crate::registry::Registry;
use crate::tls::Certificates;
use crate::wire::Cors;

/// How long to wait when no more connections can be accepted.
const BACK_OFF: Duration = Duration::from_millis(100);
/// How long requests may still take after the daemon was told to stop.
const DRAIN: Duration = Duration::from_secs(30);

/// What a client can use up.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Connections at once.
    pub connections: u32,
    /// Bytes of the headers of a request.
    pub header_bytes: usize,
    /// How long a TLS handshake and the headers of a request may take, and a connection be idle.
    pub header_time: Duration,
    /// How long the body of a request may pause, and an answer be sent without the client taking any of it.
    pub body_stall: Duration,
}

/// The server.
pub struct Server {
    /// The API.
    pub registry: Registry,
    /// Who may do what.
    pub access: Access,
    /// TLS, if it is on.
    pub certificates: Option<Arc<Certificates>>,
    /// Headers of every answer.
    pub cors: Cors,
    /// What clients that ask for a password show.
    pub realm: String,
    /// What a client can use up.
    pub limits: Limits,
}

impl Server {
    /// Serves on the listeners until `stop` says so, and then ends what goes on: a request has half a minute.
    pub async fn serve(self: Arc<Self>, listeners: Vec<TcpListener>, mut stop: watch::Receiver<bool>) {
        let slots = Arc::new(Semaphore::new(self.limits.connections as usize));
        let mut doors = Vec::new();
        for listener in listeners {
            let (server, slots, stop) = (Arc::clone(&self), Arc::clone(&slots), stop.clone());
            doors.push(tokio::spawn(server.accept(listener, slots, stop)));
        }
        // An error says that the sender is gone, which is an end as well.
        let _ = stop.wait_for(|stop| *stop).await;
        for door in doors {
            door.abort();
        }
        let all = slots.acquire_many(self.limits.connections);
        if tokio::time::timeout(DRAIN, all).await.is_err() {
            log::warn!("some requests did not end in {} s and are cut off", DRAIN.as_secs());
        }
    }

    async fn accept(
        self: Arc<Self>,
        listener: TcpListener,
        slots: Arc<Semaphore>,
        stop: watch::Receiver<bool>,
    ) {
        while let Ok(slot) = Arc::clone(&slots).acquire_owned().await {
            match listener.accept().await {
                Ok((stream, peer)) => self.begin(stream, peer, slot, stop.clone()),
                Err(error) if is_about_one_connection(&error) => {}
                Err(error) => {
                    log::warn!("no connection can be accepted now: {error}");
                    tokio::time::sleep(BACK_OFF).await;
                }
            }
        }
    }

    fn begin(
        self: &Arc<Self>,
        stream: TcpStream,
        peer: SocketAddr,
        slot: OwnedSemaphorePermit,
        stop: watch::Receiver<bool>,
    ) {
        let server = Arc::clone(self);
        tokio::spawn(async move {
            connection::run(server, stream, peer, stop).await;
            drop(slot);
        });
    }
}

fn is_about_one_connection(error: &std::io::Error) -> bool {
    use std::io::ErrorKind;
    matches!(error.kind(), ErrorKind::ConnectionAborted | ErrorKind::ConnectionReset | ErrorKind::Interrupted)
}
