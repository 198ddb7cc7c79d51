//! Connections that wait for the next request.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use hyper::client::conn::http1;

use super::body::Outgoing;
use super::target::Origin;
use crate::base::Lock;

/// Connections that are kept for a host, and how long.
const IDLE: usize = 2;
const IDLE_TIME: Duration = Duration::from_secs(30);

/// The sending side of a connection.
pub(super) type Sender = http1::SendRequest<Outgoing>;

/// Connections that wait for the next request.
#[derive(Default)]
pub(super) struct IdlePool(Lock<HashMap<Origin, Vec<(Instant, Sender)>>>);

impl IdlePool {
    pub(super) fn take(&self, origin: &Origin) -> Option<Sender> {
        let mut all = self.0.lock();
        let kept = all.get_mut(origin)?;
        while let Some((since, sender)) = kept.pop() {
            if is_usable(since, &sender) {
                return Some(sender);
            }
        }
        None
    }

    pub(super) fn put(&self, origin: &Origin, sender: Sender) {
        let mut all = self.0.lock();
        // Otherwise redirects to one new host after another would use up the descriptors.
        all.retain(|_, kept| {
            kept.retain(|(since, sender)| is_usable(*since, sender));
            !kept.is_empty()
        });
        let kept = all.entry(origin.clone()).or_default();
        if kept.len() < IDLE && !sender.is_closed() {
            kept.push((Instant::now(), sender));
        }
    }
}

fn is_usable(since: Instant, sender: &Sender) -> bool {
    since.elapsed() < IDLE_TIME && !sender.is_closed()
}
