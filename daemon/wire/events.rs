//! What happened lately: who pushed, pulled and deleted what, for the admin page. In memory only: no pull costs a
//! write to the disk.

use std::collections::VecDeque;
use std::net::IpAddr;
use std::sync::{Mutex, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

use http::{Method, StatusCode};

use super::route::Route;
use crate::oci::RepositoryName;

/// How many events are kept.
const KEPT: usize = 1000;

/// What was done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Deed {
    /// A manifest was put.
    Pushed,
    /// A manifest was read.
    Pulled,
    /// A tag, a manifest or a blob was deleted.
    Deleted,
}

/// Something that happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// When, in seconds since 1970.
    pub at: u64,
    /// What.
    pub deed: Deed,
    /// Who, or `-` for nobody in particular.
    pub user: String,
    /// From where.
    pub client: IpAddr,
    /// In which repository.
    pub repository: RepositoryName,
    /// The tag or the digest.
    pub reference: String,
}

/// The last events, the newest at the end.
#[derive(Default)]
pub struct Events(Mutex<VecDeque<Event>>);

impl Deed {
    /// What a request does that is answered with the status beside it; most requests do nothing that is worth an event.
    pub fn of(route: &Route, method: &Method) -> Option<(Self, StatusCode)> {
        match route {
            Route::PutManifest(..) => Some((Deed::Pushed, StatusCode::CREATED)),
            Route::GetManifest(..) if *method == Method::GET => Some((Deed::Pulled, StatusCode::OK)),
            Route::DeleteManifest(..) | Route::DeleteBlob(..) => Some((Deed::Deleted, StatusCode::ACCEPTED)),
            _ => None,
        }
    }
}

impl Event {
    /// Something that happens now.
    pub fn now(
        deed: Deed,
        user: String,
        client: IpAddr,
        repository: RepositoryName,
        reference: String,
    ) -> Self {
        let at = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |elapsed| elapsed.as_secs());
        Event { at, deed, user, client, repository, reference }
    }
}

impl Events {
    /// Notes an event; the oldest gives way.
    pub fn note(&self, event: Event) {
        let mut events = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if events.len() >= KEPT {
            events.pop_front();
        }
        events.push_back(event);
    }

    /// Those that `wanted` lets through, the newest first.
    pub fn newest(&self, wanted: impl Fn(&Event) -> bool) -> Vec<Event> {
        let events = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        events.iter().rev().filter(|event| wanted(event)).cloned().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keeps_the_newest() {
        let events = Events::default();
        let name: RepositoryName = "a".parse().unwrap();
        for number in 0..KEPT + 5 {
            let client = IpAddr::from([127, 0, 0, 1]);
            events.note(Event::now(Deed::Pushed, "-".into(), client, name.clone(), number.to_string()));
        }
        let all = events.newest(|_| true);
        assert_eq!((all[1].reference.as_str(), all.len()), ("1003", KEPT));
        assert_eq!(events.newest(|event| event.reference == "4"), []);
    }

    #[test]
    fn a_head_is_no_pull() {
        let route = Route::parse(&Method::GET, "/v2/a/manifests/1").unwrap();
        assert_eq!(Deed::of(&route, &Method::GET), Some((Deed::Pulled, StatusCode::OK)));
        assert_eq!(Deed::of(&route, &Method::HEAD), None);
    }
}
