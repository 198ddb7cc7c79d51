//! What goes on at the door: counted, for the status line and for the daemon that ends when nobody is there.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// What goes on at a moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Activity {
    /// Connections.
    pub connections: usize,
    /// Requests whose answer is not sent to its end.
    pub requests: usize,
    /// Since when there is no connection; nothing while there is one.
    pub quiet_for: Option<Duration>,
}

/// Counts what goes on.
pub(super) struct Watched {
    connections: AtomicUsize,
    requests: AtomicUsize,
    last: Mutex<Instant>,
    draining: AtomicBool,
    unnamed_proxy: AtomicBool,
}

impl Default for Watched {
    fn default() -> Self {
        Watched {
            connections: AtomicUsize::new(0),
            requests: AtomicUsize::new(0),
            last: Mutex::new(Instant::now()),
            draining: AtomicBool::new(false),
            unnamed_proxy: AtomicBool::new(false),
        }
    }
}

/// A connection, for as long as this lives.
pub(super) struct Connection(Arc<Watched>);

/// A request, for as long as this lives.
pub(super) struct Request(Arc<Watched>);

impl Watched {
    pub(super) fn connection(this: &Arc<Self>) -> Connection {
        this.connections.fetch_add(1, Ordering::Relaxed);
        Connection(Arc::clone(this))
    }

    pub(super) fn request(this: &Arc<Self>) -> Request {
        this.requests.fetch_add(1, Ordering::Relaxed);
        Request(Arc::clone(this))
    }

    /// Notes that the daemon was told to stop.
    pub(super) fn drain(&self) {
        self.draining.store(true, Ordering::Relaxed);
    }

    /// Returns true once the daemon was told to stop.
    pub(super) fn is_draining(&self) -> bool {
        self.draining.load(Ordering::Relaxed)
    }

    /// Notes that a request came by a proxy that the configuration does not name; returns true for the first one.
    pub(super) fn note_unnamed_proxy(&self) -> bool {
        !self.unnamed_proxy.swap(true, Ordering::Relaxed)
    }

    /// Returns true if a request came by a proxy that the configuration does not name.
    pub(super) fn has_unnamed_proxy(&self) -> bool {
        self.unnamed_proxy.load(Ordering::Relaxed)
    }

    pub(super) fn activity(&self) -> Activity {
        let last = *self.last.lock().unwrap_or_else(PoisonError::into_inner);
        let connections = self.connections.load(Ordering::Relaxed);
        Activity {
            connections,
            requests: self.requests.load(Ordering::Relaxed),
            quiet_for: (connections == 0).then(|| last.elapsed()),
        }
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        // First the time: one who looks in between sees a connection.
        *self.0.last.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now();
        self.0.connections.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Drop for Request {
    fn drop(&mut self) {
        self.0.requests.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_quiet_when_the_last_one_has_gone() {
        let watched = Arc::new(Watched::default());
        let (one, two) = (Watched::connection(&watched), Watched::connection(&watched));
        let request = Watched::request(&watched);
        let Activity { connections, requests, quiet_for } = watched.activity();
        assert_eq!((connections, requests, quiet_for), (2, 1, None));
        drop((one, request));
        assert!(watched.activity().quiet_for.is_none());
        drop(two);
        assert!(watched.activity().quiet_for.is_some_and(|time| time < Duration::from_secs(10)));
    }
}
