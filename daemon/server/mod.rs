//! The door: accepts connections, tells TLS from plain HTTP, limits both, and drains them at the end.
//!
//! The [`Site`] is what a request meets: a reload exchanges it, and what goes on ends with the one that it began
//! with.

mod activity;
mod admission;
mod answer;
mod connection;
mod early;
mod heads;
mod health;
mod heart;
mod record;
mod refusal;
mod slots;
mod socket;
mod tcp_info;
mod token;
mod waiting;

use std::io::{Read, Write};
use std::net::{IpAddr, Shutdown, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, watch};

use crate::access::{self, Access};
use crate::admin::Admin;
use crate::metrics::{Format, HttpCounters};
use crate::registry::Registry;
use crate::tls::Certificates;
use crate::wire::{Cors, Events, audit::LoginCounters};

pub use self::activity::Activity;
use self::activity::Watched;
use self::admission::{Holder, Settings};
use self::connection::Admitted;
pub use self::early::{Early, open_meanwhile};
pub use self::health::MetricsAccess;
use self::heart::{Beat, Heart};
pub use self::record::OWN_AGENT;
use self::slots::Slots;
use self::waiting::WaitingRoom;

/// How long to wait when no more connections can be accepted.
const BACK_OFF: Duration = Duration::from_millis(100);
/// How long a connection waits for a slot, and how long its 503 may take after that.
const PATIENCE: Duration = Duration::from_secs(5);
/// Interval at which idle connections without a permit are closed under pressure.
const EXPIRE: Duration = Duration::from_secs(1);
/// Interval at which a log line about refused connections is repeated.
const SAY_AGAIN: Duration = Duration::from_mins(1);
/// Response to a connection without a place in the waiting room; not sent where TLS is on.
const NO_PLACE: &[u8] = b"HTTP/1.1 503 Service Unavailable\r\nRetry-After: 5\r\nContent-Length: 0\r\n\
    Connection: close\r\n\r\n";
/// How long requests may still take after the daemon was told to stop.
const DRAIN: Duration = Duration::from_secs(30);

/// What a client can use up.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of the headers of a request.
    pub header_bytes: usize,
    /// How long a TLS handshake and the headers of a request may take, and a connection be idle.
    pub header_time: Duration,
    /// How long the body of a request may pause, and an answer be sent without the client taking any of it.
    pub body_stall: Duration,
    /// Minimum rate of request bodies and of responses in bytes per second, averaged over `body_stall`; zero is off.
    pub minimum_rate: u64,
    /// Connections that an address keeps under pressure; a quarter of the slots if not set.
    pub connections_per_address: Option<usize>,
    /// Bytes that the system keeps for a connection in each direction; left to itself it keeps megabytes.
    pub socket_buffer: usize,
}

impl Limits {
    /// Returns the number of slots that an address keeps under pressure.
    fn share(&self, slots: usize) -> usize {
        self.connections_per_address.unwrap_or_else(|| (slots / 4).max(1))
    }
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
    /// Who may read `/metrics`.
    pub metrics_access: MetricsAccess,
    /// Counts requests.
    pub http: Arc<HttpCounters>,
    /// Counts failed log-ins.
    pub logins: Arc<LoginCounters>,
}

impl Site {
    /// Returns the party that connections of an address are counted for.
    fn holder(&self, address: IpAddr) -> Holder {
        if self.registry.locations.is_trusted(address) {
            return Holder::Proxy;
        }
        Holder::Client(access::network(address))
    }
}

/// Numbers of connections.
#[derive(Clone, Copy, Debug)]
pub struct Capacity {
    /// Connections that are served.
    pub connections: usize,
    /// Evicted connections that are still open.
    pub closing: usize,
    /// Connections without a slot, which wait for one or for their 503.
    pub waiting: usize,
}

/// The server.
pub struct Server {
    site: ArcSwap<Site>,
    slots: Arc<Slots>,
    /// The number of slots.
    capacity: usize,
    waiting: Arc<WaitingRoom>,
    refused: Occasionally,
    watched: Arc<Watched>,
    heart: Heart,
}

/// Shutdown signal and liveness token of listeners and connections.
#[derive(Clone)]
struct Until {
    stop: watch::Receiver<bool>,
    /// Closed once every connection has ended.
    _running: mpsc::Sender<()>,
}

impl Server {
    /// Creates a server with this capacity.
    pub fn new(site: Site, capacity: Capacity) -> Self {
        let settings = Settings {
            slots: capacity.connections,
            closing: capacity.closing,
            share: site.limits.share(capacity.connections),
            unpermitted: site.limits.header_time,
        };
        Server {
            site: ArcSwap::from_pointee(site),
            slots: Arc::new(Slots::new(settings)),
            capacity: capacity.connections,
            waiting: Arc::new(WaitingRoom::new(capacity.waiting)),
            refused: Occasionally::default(),
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
        self.slots.adjust(site.limits.share(self.capacity), site.limits.header_time);
        self.site.store(Arc::new(site));
    }

    /// What goes on now.
    pub fn activity(&self) -> Activity {
        self.watched.activity()
    }

    /// Makes the text of all metrics.
    pub fn metrics_text(&self, format: Format) -> String {
        self.site().metrics_text(format, &self.watched)
    }

    /// Asks every loop that accepts connections whether it goes round; says so with [`Server::is_alive`].
    pub fn ask(&self) -> u64 {
        self.heart.ask()
    }

    /// Whether all of them have answered what was asked.
    pub fn is_alive(&self, asked: u64) -> bool {
        self.heart.has_answered(asked)
    }

    /// Serves on the listeners, and the connections that came before, until `stop` says so, and then ends what goes on: a
    /// request has half a minute.
    pub async fn serve(
        self: Arc<Self>,
        Early { listeners, waiting }: Early,
        mut stop: watch::Receiver<bool>,
    ) {
        let (running, mut ended) = mpsc::channel(1);
        let until = Until { stop: stop.clone(), _running: running };
        let mut doors = vec![tokio::spawn(Arc::clone(&self).expire())];
        for (stream, peer) in waiting {
            self.begin(stream, peer, &until);
        }
        for listener in listeners {
            let beat = self.heart.beat();
            doors.push(tokio::spawn(Arc::clone(&self).accept(listener, beat, until.clone())));
        }
        drop(until);
        // An error says that the sender is gone, which is an end as well.
        let _ = stop.wait_for(|stop| *stop).await;
        self.watched.drain();
        for door in doors {
            door.abort();
        }
        if tokio::time::timeout(DRAIN, ended.recv()).await.is_err() {
            log::warn!("some requests did not end in {} s and are cut off", DRAIN.as_secs());
        }
    }

    async fn accept(self: Arc<Self>, listener: TcpListener, mut beat: Beat, until: Until) {
        let failing = Occasionally::default();
        loop {
            match beat.through(listener.accept()).await {
                Ok((stream, peer)) => self.begin(stream, peer, &until),
                Err(error) if is_about_one_connection(&error) => {}
                Err(error) => {
                    if failing.is_due() {
                        log::warn!("no connection can be accepted now: {error}");
                    }
                    // Most likely EMFILE or ENFILE: close an idle connection to get a descriptor.
                    self.slots.shed();
                    beat.through(tokio::time::sleep(BACK_OFF)).await;
                }
            }
        }
    }

    /// Serves a connection. Without a slot it waits for one and then gets a 503.
    fn begin(self: &Arc<Self>, stream: TcpStream, peer: SocketAddr, until: &Until) {
        let holder = self.site.load().holder(peer.ip());
        let (server, until) = (Arc::clone(self), until.clone());
        let connection = Watched::connection(&self.watched);
        if let Some((slot, ending)) = self.slots.admit(holder) {
            let slot = Arc::new(slot);
            tokio::spawn(async move {
                let stop = until.stop.clone();
                connection::run(server, Admitted { stream, peer, slot, ending, stop }).await;
                drop((connection, until));
            });
            return;
        }
        if self.refused.is_due() {
            log::warn!(
                "all slots for connections are taken (limits.connections): {peer} waits or is refused"
            );
        }
        let Some((place, mut displaced)) = self.waiting.enter(holder) else {
            return self.turn_away(stream);
        };
        let mut stop = until.stop.clone();
        tokio::spawn(async move {
            let waited = tokio::select! {
                waited = server.slots.wait(holder, PATIENCE) => waited,
                _ = &mut displaced => return server.turn_away(stream),
                () = connection::told(&mut stop) => return server.turn_away(stream),
            };
            if let Some((slot, ending)) = waited {
                drop(place);
                let (slot, stop) = (Arc::new(slot), until.stop.clone());
                connection::run(server, Admitted { stream, peer, slot, ending, stop }).await;
            } else {
                tokio::select! {
                    () = connection::refuse(&server, stream, peer, PATIENCE) => {}
                    _ = &mut displaced => {}
                    () = connection::told(&mut stop) => {}
                }
            }
            drop((connection, until));
        });
    }

    /// Closes a connection that has neither a slot nor a place in the waiting room, without waiting for it.
    fn turn_away(&self, stream: TcpStream) {
        if self.site.load().certificates.is_some() {
            return;
        }
        let Ok(mut stream) = stream.into_std() else { return };
        // The send buffer of a new socket is empty, so this does not block.
        let _ = stream.write_all(NO_PLACE);
        let _ = stream.shutdown(Shutdown::Write);
        // With unread bytes, closing would reset the connection before the client has read the response.
        let _ = stream.read(&mut [0; 4096]);
    }

    async fn expire(self: Arc<Self>) {
        loop {
            tokio::time::sleep(EXPIRE).await;
            self.slots.expire();
        }
    }
}

/// Rate limit of a log line.
#[derive(Default)]
struct Occasionally(Mutex<Option<Instant>>);

impl Occasionally {
    /// Returns true once a minute at most.
    fn is_due(&self) -> bool {
        let mut last = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let is_due = last.is_none_or(|last| last.elapsed() >= SAY_AGAIN);
        if is_due {
            *last = Some(Instant::now());
        }
        is_due
    }
}

fn is_about_one_connection(error: &std::io::Error) -> bool {
    use std::io::ErrorKind;
    matches!(error.kind(), ErrorKind::ConnectionAborted | ErrorKind::ConnectionReset | ErrorKind::Interrupted)
}
