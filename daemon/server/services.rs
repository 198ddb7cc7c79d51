//! The services and limits with which requests are answered; a reload replaces them as a whole.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use super::admission::Holder;
use crate::access::{self, Access};
use crate::admin::Admin;
use crate::jobs::Jobs;
use crate::metrics::HttpCounters;
use crate::registry::Registry;
use crate::tls::Certificates;
use crate::wire::{Cors, audit::LoginCounters};

/// Limits on the resources that clients use.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Limits {
    /// Maximum length of the head of a request, in bytes.
    pub header_bytes: usize,
    /// Timeout of a TLS handshake, of the head of a request, and of an idle connection.
    pub header_time: Duration,
    /// Timeout of a request body that pauses, and of a response of which the client acknowledges no byte.
    pub body_stall: Duration,
    /// Minimum rate of request bodies and of responses in bytes per second, averaged over `body_stall`; zero is off.
    pub minimum_rate: u64,
    /// Number of connections that an address keeps under pressure; by default a quarter of the slots.
    pub connections_per_address: Option<usize>,
    /// Size of the kernel's socket buffer in each direction, in bytes; by default the kernel lets it grow to megabytes.
    pub socket_buffer: usize,
}

impl Limits {
    /// Returns the number of slots that an address keeps under pressure.
    pub(super) fn share(&self, slots: usize) -> usize {
        self.connections_per_address.unwrap_or_else(|| (slots / 4).max(1))
    }
}

/// Clients that may read `/metrics`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum MetricsAccess {
    /// No client: the endpoint does not exist.
    #[default]
    Off,
    /// Clients on this machine.
    Local,
    /// Users with full rights.
    Users,
    /// Every client.
    Open,
}

/// The services and settings that answer a request.
pub struct RequestServices {
    /// The API of the distribution spec.
    pub registry: Arc<Registry>,
    /// The admin page, if it is enabled.
    pub admin: Option<Admin>,
    /// The background jobs, for the metrics.
    pub jobs: Arc<Jobs>,
    /// Users, sessions, tokens and rules.
    pub access: Arc<Access>,
    /// The certificates, if TLS is on.
    pub certificates: Option<Arc<Certificates>>,
    /// Configured response headers, with CORS.
    pub cors: Cors,
    /// The realm of a Basic challenge, which clients show when they ask for a password.
    pub realm: String,
    /// Limits on clients.
    pub limits: Limits,
    /// Clients that may read `/metrics`.
    pub metrics_access: MetricsAccess,
    /// Request counters.
    pub http: Arc<HttpCounters>,
    /// Log-in counters.
    pub logins: Arc<LoginCounters>,
}

impl RequestServices {
    /// Returns the holder that the connections of an address count against.
    pub(super) fn holder(&self, address: IpAddr) -> Holder {
        if self.registry.addresses.is_trusted_proxy(address) {
            return Holder::Proxy;
        }
        Holder::Client(access::network(address))
    }
}
