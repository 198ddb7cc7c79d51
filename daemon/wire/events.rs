//! Recent activity for the admin page: pushes, pulls and deletes, with user, client and reference.
//!
//! A ring buffer in memory, empty after a restart: a pull must not cost a write to the disk.

use std::collections::VecDeque;
use std::net::IpAddr;

use http::{Method, StatusCode};

use super::route::Route;
use crate::base::{Lock, clock};
use crate::oci::RepositoryName;

/// The number of events that are kept.
const KEPT: usize = 1000;

/// Kind of an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EventKind {
    /// A manifest was pushed.
    Pushed,
    /// A manifest was pulled.
    Pulled,
    /// A tag, a manifest or a blob was deleted.
    Deleted,
}

/// Event: one push, pull or delete.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// The wall-clock time, in seconds since 1970.
    pub at: u64,
    /// The kind.
    pub kind: EventKind,
    /// The user, or `-` for the anonymous user.
    pub user: String,
    /// The address of the client.
    pub client: IpAddr,
    /// The repository.
    pub repository: RepositoryName,
    /// The tag or the digest.
    pub reference: String,
}

/// Ring buffer of the last 1000 events, the newest at the end.
#[derive(Default)]
pub struct Events(Lock<VecDeque<Event>>);

impl EventKind {
    /// Returns the kind of event that a request causes, and the status of the response that confirms it; `None` if
    /// requests of this route are no events.
    pub fn of(route: &Route, method: &Method) -> Option<(Self, StatusCode)> {
        match route {
            Route::PutManifest(..) => Some((EventKind::Pushed, StatusCode::CREATED)),
            Route::GetManifest(..) if *method == Method::GET => Some((EventKind::Pulled, StatusCode::OK)),
            Route::DeleteManifest(..) | Route::DeleteBlob(..) => {
                Some((EventKind::Deleted, StatusCode::ACCEPTED))
            }
            Route::GetManifest(..)
            | Route::Ping
            | Route::Catalog
            | Route::Tags(_)
            | Route::GetBlob(..)
            | Route::StartUpload(_)
            | Route::UploadStatus(..)
            | Route::PatchUpload(..)
            | Route::PutUpload(..)
            | Route::CancelUpload(..)
            | Route::Referrers(..) => None,
        }
    }
}

impl Event {
    /// Makes an event of the current time.
    pub fn now(
        kind: EventKind,
        user: String,
        client: IpAddr,
        repository: RepositoryName,
        reference: String,
    ) -> Self {
        Event { at: clock::unix_seconds(), kind, user, client, repository, reference }
    }
}

impl Events {
    /// Adds an event, and drops the oldest one if the buffer is full.
    pub fn record(&self, event: Event) {
        let mut events = self.0.lock();
        if events.len() >= KEPT {
            events.pop_front();
        }
        events.push_back(event);
    }

    /// Returns the events that match `wanted`, the newest first.
    pub fn newest(&self, wanted: impl Fn(&Event) -> bool) -> Vec<Event> {
        let events = self.0.lock();
        events.iter().rev().filter(|event| wanted(event)).cloned().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_events_are_dropped() {
        let events = Events::default();
        let name: RepositoryName = "a".parse().unwrap();
        for number in 0..KEPT + 5 {
            let client = IpAddr::from([127, 0, 0, 1]);
            events.record(Event::now(
                EventKind::Pushed,
                "-".into(),
                client,
                name.clone(),
                number.to_string(),
            ));
        }
        let all = events.newest(|_| true);
        assert_eq!((all[1].reference.as_str(), all.len()), ("1003", KEPT));
        assert_eq!(events.newest(|event| event.reference == "4"), []);
    }

    #[test]
    fn head_is_not_a_pull() {
        let route = Route::parse(&Method::GET, "/v2/a/manifests/1").unwrap();
        assert_eq!(EventKind::of(&route, &Method::GET), Some((EventKind::Pulled, StatusCode::OK)));
        assert_eq!(EventKind::of(&route, &Method::HEAD), None);
    }
}
