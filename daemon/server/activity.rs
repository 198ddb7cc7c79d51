//! Counts open connections and active requests, for the status line and the idle exit; knows whether the server drains.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use crate::base::Lock;

/// Connections and requests at one moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Activity {
    /// Open connections.
    pub connections: usize,
    /// Requests whose response is not completely sent.
    pub requests: usize,
    /// Time since the last connection closed; `None` while one is open.
    pub idle_for: Option<Duration>,
}

/// Counters and flags of a server.
pub(super) struct ActivityTracker {
    connections: AtomicUsize,
    requests: AtomicUsize,
    last_closed: Lock<Instant>,
    draining: AtomicBool,
    unnamed_proxy: AtomicBool,
}

impl Default for ActivityTracker {
    fn default() -> Self {
        ActivityTracker {
            connections: AtomicUsize::new(0),
            requests: AtomicUsize::new(0),
            last_closed: Lock::new(Instant::now()),
            draining: AtomicBool::new(false),
            unnamed_proxy: AtomicBool::new(false),
        }
    }
}

/// Counts a connection until it is dropped.
pub(super) struct ConnectionGuard(Arc<ActivityTracker>);

/// Counts a request until it is dropped.
pub(super) struct RequestGuard(Arc<ActivityTracker>);

impl ActivityTracker {
    pub(super) fn connection(this: &Arc<Self>) -> ConnectionGuard {
        this.connections.fetch_add(1, Ordering::Relaxed);
        ConnectionGuard(Arc::clone(this))
    }

    pub(super) fn request(this: &Arc<Self>) -> RequestGuard {
        this.requests.fetch_add(1, Ordering::Relaxed);
        RequestGuard(Arc::clone(this))
    }

    /// Records that the shutdown has begun.
    pub(super) fn drain(&self) {
        self.draining.store(true, Ordering::Relaxed);
    }

    /// Returns true once the shutdown has begun.
    pub(super) fn is_draining(&self) -> bool {
        self.draining.load(Ordering::Relaxed)
    }

    /// Records a request of a proxy that the configuration does not name; returns true for the first one.
    pub(super) fn note_unnamed_proxy(&self) -> bool {
        !self.unnamed_proxy.swap(true, Ordering::Relaxed)
    }

    /// Returns true once a request came from a proxy that the configuration does not name.
    pub(super) fn has_unnamed_proxy(&self) -> bool {
        self.unnamed_proxy.load(Ordering::Relaxed)
    }

    pub(super) fn activity(&self) -> Activity {
        let last_closed = *self.last_closed.lock();
        let connections = self.connections.load(Ordering::Relaxed);
        Activity {
            connections,
            requests: self.requests.load(Ordering::Relaxed),
            idle_for: (connections == 0).then(|| last_closed.elapsed()),
        }
    }
}

impl Drop for ConnectionGuard {
    fn drop(&mut self) {
        // The time before the count: a reader in between still sees a connection, not a stale idle time.
        *self.0.last_closed.lock() = Instant::now();
        self.0.connections.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Drop for RequestGuard {
    fn drop(&mut self) {
        self.0.requests.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn idle_time_begins_when_the_last_connection_closes() {
        let tracker = Arc::new(ActivityTracker::default());
        let (one, two) = (ActivityTracker::connection(&tracker), ActivityTracker::connection(&tracker));
        let request = ActivityTracker::request(&tracker);
        let Activity { connections, requests, idle_for } = tracker.activity();
        assert_eq!((connections, requests, idle_for), (2, 1, None));
        drop((one, request));
        assert!(tracker.activity().idle_for.is_none());
        drop(two);
        assert!(tracker.activity().idle_for.is_some_and(|time| time < Duration::from_secs(10)));
    }
}
