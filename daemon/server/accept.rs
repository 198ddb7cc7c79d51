//! Accept loops: give each connection a slot, a place in the waiting room, or an immediate 503, and drain all at shutdown.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, oneshot, watch};

use super::activity::ActivityTracker;
use super::admission::Holder;
use super::connection::{self, Admitted};
use super::early::EarlyConnections;
use super::in_place::InPlace;
use super::liveness::Heartbeat;
use super::slots::{Ending, Slot};
use super::state::Server;
use super::waiting::Place;
use crate::base::Lock;

/// Pause of an accept loop after a failed accept.
const ACCEPT_BACK_OFF: Duration = Duration::from_millis(100);
/// Time limit of the wait for a slot, and then of the 503.
const SLOT_WAIT: Duration = Duration::from_secs(5);
/// Interval at which idle connections without a permit are closed under pressure.
const EXPIRE_INTERVAL: Duration = Duration::from_secs(1);
/// Interval at which a log line about refused connections is repeated.
const LOG_INTERVAL: Duration = Duration::from_mins(1);
/// Response to a connection without a place in the waiting room; not sent where TLS is on.
const NO_PLACE: &[u8] = b"HTTP/1.1 503 Service Unavailable\r\nRetry-After: 5\r\nContent-Length: 0\r\n\
    Connection: close\r\n\r\n";
/// Time limit of requests in progress while draining.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(30);

/// Shutdown signal of accept loops and connections, and the token by which the drain sees that all of them have ended.
#[derive(Clone)]
struct Lifetime {
    stop: watch::Receiver<bool>,
    /// The channel closes with its last sender.
    _running: mpsc::Sender<()>,
}

impl Server {
    /// Serves the listeners, and the connections that were accepted before, until `stop` is true; then drains: requests in
    /// progress have half a minute.
    pub async fn serve(self: Arc<Self>, early: EarlyConnections, mut stop: watch::Receiver<bool>) {
        let EarlyConnections { listeners, waiting } = early;
        let (running, mut ended) = mpsc::channel(1);
        let lifetime = Lifetime { stop: stop.clone(), _running: running };
        let refused = Arc::new(LogInterval::default());
        let mut tasks = vec![tokio::spawn(Arc::clone(&self).expire())];
        for (stream, peer) in waiting {
            self.dispatch(stream, peer, &lifetime, &refused);
        }
        for listener in listeners {
            let (heartbeat, refused) = (self.liveness.register(), Arc::clone(&refused));
            tasks.push(tokio::spawn(Arc::clone(&self).accept(
                listener,
                heartbeat,
                lifetime.clone(),
                refused,
            )));
        }
        drop(lifetime);
        // An error means that the sender is gone, which is a shutdown as well.
        let _ = stop.wait_for(|stop| *stop).await;
        self.activity.drain();
        for task in tasks {
            task.abort();
        }
        if tokio::time::timeout(DRAIN_TIMEOUT, ended.recv()).await.is_err() {
            log::warn!("requests still running after {} s are cut off", DRAIN_TIMEOUT.as_secs());
        }
    }

    async fn accept(
        self: Arc<Self>,
        listener: TcpListener,
        mut heartbeat: Heartbeat,
        lifetime: Lifetime,
        refused: Arc<LogInterval>,
    ) {
        let failing = LogInterval::default();
        loop {
            match heartbeat.during(listener.accept()).await {
                Ok((stream, peer)) => self.dispatch(stream, peer, &lifetime, &refused),
                Err(error) if is_about_one_connection(&error) => {}
                Err(error) => {
                    if failing.is_due() {
                        log::warn!("cannot accept connections: {error}");
                    }
                    // Most likely EMFILE or ENFILE: close an idle connection to get a descriptor.
                    self.slots.shed();
                    heartbeat.during(tokio::time::sleep(ACCEPT_BACK_OFF)).await;
                }
            }
        }
    }

    /// Serves a connection. Without a slot it waits for one and then gets a 503.
    fn dispatch(
        self: &Arc<Self>,
        stream: TcpStream,
        peer: SocketAddr,
        lifetime: &Lifetime,
        refused: &LogInterval,
    ) {
        // A socket for IPv4 and IPv6 gives IPv4 peers as mapped addresses.
        let peer = SocketAddr::new(peer.ip().to_canonical(), peer.port());
        let holder = self.services().holder(peer.ip());
        let (server, lifetime) = (Arc::clone(self), lifetime.clone());
        let connection = ActivityTracker::connection(&self.activity);
        if let Some((slot, ending)) = self.slots.admit(holder) {
            tokio::spawn(InPlace::new(async move {
                let stop = lifetime.stop.clone();
                let slot = Arc::new(slot);
                connection::run(server, Admitted { stream, peer, slot, ending, stop }).await;
                drop((connection, lifetime));
            }));
            return;
        }
        if refused.is_due() {
            log::warn!(
                "all connection slots are in use (limits.connections): {peer} has to wait or is refused"
            );
        }
        let Some((place, displaced)) = self.waiting.enter(holder) else {
            return self.refuse_at_once(stream);
        };
        tokio::spawn(InPlace::new(async move {
            let stop = lifetime.stop.clone();
            server.wait_for_slot((stream, peer), holder, (place, displaced), stop).await;
            drop((connection, lifetime));
        }));
    }

    /// Serves a connection once it gets a slot, or else answers it with 503.
    async fn wait_for_slot(
        self: Arc<Self>,
        (stream, peer): (TcpStream, SocketAddr),
        holder: Holder,
        (place, mut displaced): (Place, oneshot::Receiver<()>),
        mut stop: watch::Receiver<bool>,
    ) {
        let admitted: Option<(Slot, oneshot::Receiver<Ending>)> = tokio::select! {
            admitted = self.slots.wait(holder, SLOT_WAIT) => admitted,
            _ = &mut displaced => return self.refuse_at_once(stream),
            () = connection::until_true(&mut stop) => return self.refuse_at_once(stream),
        };
        if let Some((slot, ending)) = admitted {
            drop(place);
            let slot = Arc::new(slot);
            connection::run(self, Admitted { stream, peer, slot, ending, stop }).await;
        } else {
            tokio::select! {
                () = connection::refuse(&self, stream, peer, SLOT_WAIT) => {}
                _ = &mut displaced => {}
                () = connection::until_true(&mut stop) => {}
            }
        }
    }

    /// Answers a connection that has neither a slot nor a place in the waiting room, without waiting for it.
    fn refuse_at_once(&self, stream: TcpStream) {
        if self.services().certificates.is_some() {
            return;
        }
        let Ok(mut stream) = stream.into_std() else { return };
        // The send buffer of a new socket is empty, so this does not block.
        let _ = stream.write_all(NO_PLACE);
        let _ = stream.shutdown(Shutdown::Write);
        // With unread bytes, close would send a reset before the client has read the response.
        let _ = stream.read(&mut [0; 4096]);
    }

    async fn expire(self: Arc<Self>) {
        loop {
            tokio::time::sleep(EXPIRE_INTERVAL).await;
            self.slots.expire();
        }
    }
}

/// Rate limit of a log line.
#[derive(Default)]
struct LogInterval(Lock<Option<Instant>>);

impl LogInterval {
    /// Returns true at most once a minute.
    fn is_due(&self) -> bool {
        let mut last = self.0.lock();
        let is_due = last.is_none_or(|last| last.elapsed() >= LOG_INTERVAL);
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
