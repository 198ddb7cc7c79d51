//! The door: accepts connections, tells TLS from plain HTTP, limits both, and drains them at the end.
//!
//! The [`Site`] is what a request meets: a reload exchanges it, and what goes on ends with the one that it began
//! with.

mod activity;
mod answer;
mod connection;
mod heart;
mod record;
mod refusal;

use std::sync::Arc;
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};

use crate::access::Access;
use crate::admin::Admin;
use crate::registry::Registry;
use crate::tls::Certificates;
use crate::wire::{Cors, Events};

pub use self::activity::Activity;
use self::activity::Watched;
use self::heart::{Beat, Heart};
pub use self::record::OWN_AGENT;

/// How long to wait when no more connections can be accepted.
const BACK_OFF: Duration = Duration::from_millis(100);
/// How often the log says so.
const TELL_AGAIN: Duration = Duration::from_secs(10);
/// How long requests may still take after the daemon was told to stop.
const DRAIN: Duration = Duration::from_secs(30);

/// What a client can use up.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Bytes of the headers of a request.
    pub header_bytes: usize,
    /// How long a TLS handshake and the headers of a request may take, and a connection be idle.
    pub header_time: Duration,
    /// How long the body of a request may pause, and an answer be sent without the client taking any of it.
    pub body_stall: Duration,
    /// Bytes that the system keeps for a connection in each direction; left to itself it keeps megabytes.
    pub socket_buffer: usize,
}

/// What a request is answered by, as the configuration has it.
pub struct Site {
    /// The API.
    pub registry: Registry,
    /// The admin page, if there is one.
    pub admin: Option<Admin>,
    /// What happened lately.
    pub events: Arc<Events>,
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

/// The server.
pub struct Server {
    site: ArcSwap<Site>,
    connections: u32,
    slots: Arc<Semaphore>,
    watched: Arc<Watched>,
    heart: Heart,
}

impl Server {
    /// A server with room for so many connections at once.
    pub fn new(site: Site, connections: u32) -> Self {
        Server {
            site: ArcSwap::from_pointee(site),
            connections,
            slots: Arc::new(Semaphore::new(connections as usize)),
            watched: Arc::default(),
            heart: Heart::default(),
        }
    }

    /// What requests meet now.
    pub fn site(&self) -> Arc<Site> {
        self.site.load_full()
    }

    /// Lets the next requests meet another site.
    pub fn exchange(&self, site: Site) {
        self.site.store(Arc::new(site));
    }

    /// What goes on now.
    pub fn activity(&self) -> Activity {
        self.watched.activity()
    }

    /// Asks every loop that accepts connections whether it goes round; says so with [`Server::is_alive`].
    pub fn ask(&self) -> u64 {
        self.heart.ask()
    }

    /// Whether all of them have answered what was asked.
    pub fn is_alive(&self, asked: u64) -> bool {
        self.heart.has_answered(asked)
    }

    /// Serves on the listeners until `stop` says so, and then ends what goes on: a request has half a minute.
    pub async fn serve(self: Arc<Self>, listeners: Vec<TcpListener>, mut stop: watch::Receiver<bool>) {
        let mut doors = Vec::new();
        for listener in listeners {
            let beat = self.heart.beat();
            doors.push(tokio::spawn(Arc::clone(&self).accept(listener, beat, stop.clone())));
        }
        // An error says that the sender is gone, which is an end as well.
        let _ = stop.wait_for(|stop| *stop).await;
        for door in doors {
            door.abort();
        }
        let all = self.slots.acquire_many(self.connections);
        if tokio::time::timeout(DRAIN, all).await.is_err() {
            log::warn!("some requests did not end in {} s and are cut off", DRAIN.as_secs());
        }
    }

    async fn accept(self: Arc<Self>, listener: TcpListener, mut beat: Beat, stop: watch::Receiver<bool>) {
        let mut told: Option<Instant> = None;
        while let Ok(slot) = beat.through(Arc::clone(&self.slots).acquire_owned()).await {
            match beat.through(listener.accept()).await {
                Ok((stream, _)) => self.begin(stream, slot, stop.clone()),
                Err(error) if is_about_one_connection(&error) => {}
                Err(error) => {
                    // Clients can hold all descriptors for as long as they like.
                    if told.is_none_or(|at| at.elapsed() >= TELL_AGAIN) {
                        told = Some(Instant::now());
                        log::warn!("no connection can be accepted now: {error}");
                    }
                    tokio::time::sleep(BACK_OFF).await;
                }
            }
        }
    }

    fn begin(self: &Arc<Self>, stream: TcpStream, slot: OwnedSemaphorePermit, stop: watch::Receiver<bool>) {
        let (server, connection) = (Arc::clone(self), Watched::connection(&self.watched));
        tokio::spawn(async move {
            connection::run(server, stream, stop).await;
            drop((slot, connection));
        });
    }
}

fn is_about_one_connection(error: &std::io::Error) -> bool {
    use std::io::ErrorKind;
    matches!(error.kind(), ErrorKind::ConnectionAborted | ErrorKind::ConnectionReset | ErrorKind::Interrupted)
}
