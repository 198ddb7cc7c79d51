//! The state that all connections of a server share.

use std::sync::Arc;

use arc_swap::ArcSwap;

use super::activity::{Activity, ActivityTracker};
use super::admission::Settings;
use super::liveness::LivenessProbe;
use super::services::RequestServices;
use super::slots::Slots;
use super::waiting::WaitingRoom;
use crate::metrics::Format;

/// Numbers of connections in each state.
#[derive(Clone, Copy, Debug)]
pub struct Capacity {
    /// Connections with a slot.
    pub connections: usize,
    /// Evicted connections that are still open.
    pub closing: usize,
    /// Connections without a slot, which wait for one or for their 503.
    pub waiting: usize,
}

/// A server: its connection slots, and the services that answer its requests.
pub struct Server {
    services: ArcSwap<RequestServices>,
    /// Number of slots.
    capacity: usize,
    pub(super) slots: Arc<Slots>,
    pub(super) waiting: Arc<WaitingRoom>,
    pub(super) activity: Arc<ActivityTracker>,
    pub(super) liveness: LivenessProbe,
}

impl Server {
    /// Creates a server with this capacity.
    pub fn new(services: RequestServices, capacity: Capacity) -> Self {
        let settings = Settings {
            slots: capacity.connections,
            closing: capacity.closing,
            share: services.limits.share(capacity.connections),
            unpermitted: services.limits.header_time,
        };
        Server {
            services: ArcSwap::from_pointee(services),
            capacity: capacity.connections,
            slots: Arc::new(Slots::new(settings)),
            waiting: Arc::new(WaitingRoom::new(capacity.waiting)),
            activity: Arc::default(),
            liveness: LivenessProbe::default(),
        }
    }

    /// Returns the services that answer new requests.
    pub fn services(&self) -> Arc<RequestServices> {
        self.services.load_full()
    }

    /// Replaces the services for all requests that begin from now on.
    pub fn replace_services(&self, services: RequestServices) {
        self.slots.adjust(services.limits.share(self.capacity), services.limits.header_time);
        self.services.store(Arc::new(services));
    }

    /// Returns the current numbers of connections and requests.
    pub fn activity(&self) -> Activity {
        self.activity.activity()
    }

    /// Counts a request that does not come through a connection of this server, until the result is dropped: neither the
    /// idle exit nor the shutdown overlooks it.
    pub fn count_local_request(&self) -> impl Send + Sync + use<> {
        (ActivityTracker::connection(&self.activity), ActivityTracker::request(&self.activity))
    }

    /// Renders all metrics.
    pub fn metrics_text(&self, format: Format) -> String {
        self.services().metrics_text(format, &self.activity)
    }

    /// Sends a liveness probe to every accept loop; returns its number for [`Server::is_alive`].
    pub fn probe_liveness(&self) -> u64 {
        self.liveness.send()
    }

    /// Returns true once every accept loop has answered this probe.
    pub fn is_alive(&self, probe: u64) -> bool {
        self.liveness.is_answered(probe)
    }
}
