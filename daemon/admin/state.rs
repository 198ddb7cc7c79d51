//! The admin page as a value: its settings, its state, and the context of a request.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Instant;

use super::jobs::Jobs;
use crate::access::{HtpasswdError, Sessions};
use crate::queue::{FairPool, Limits};
use crate::store::{CollectionPolicy, Holder, Store};
use crate::wire::audit::LoginCounters;
use crate::wire::{Addresses, Events};

/// Bounds the large forms that are received at once: a few MiB of memory, of which each client gets a share.
const FORMS: Limits =
    Limits { places: 16, places_per_holder: 4, reserved: 2, waiting_per_holder: 16, holders: 4096 };

/// The settings of the admin page, from the configuration.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The name of the registry in the header of each page.
    pub title: String,
    /// The users who may open the page; empty for every user.
    pub users: Vec<String>,
    /// True if tags can be deleted here.
    pub delete: bool,
    /// The grace period and retention rules of collections that are started here.
    pub policy: CollectionPolicy,
    /// True if the registry listens on loopback addresses only.
    pub loopback_only: bool,
}

/// The state of the admin page that outlives a reload of the configuration.
pub struct AdminState {
    /// The sessions of logged-in users.
    pub sessions: Sessions,
    /// The recent pushes, pulls and deletes.
    pub events: Arc<Events>,
    /// Counts failed log-ins.
    pub logins: Arc<LoginCounters>,
    pub(super) jobs: Arc<Jobs>,
    /// Places for large forms, which are held in memory while they arrive.
    pub(super) forms: Arc<FairPool<Holder>>,
    pub(super) started: Instant,
}

impl AdminState {
    /// Returns the state of a daemon that just started: no sessions, no jobs.
    ///
    /// # Errors
    /// [`HtpasswdError::Random`] if the system has no random bytes.
    pub fn new(events: Arc<Events>) -> Result<Self, HtpasswdError> {
        Ok(AdminState {
            sessions: Sessions::new()?,
            events,
            logins: Arc::default(),
            jobs: Arc::default(),
            forms: Arc::new(FairPool::new(FORMS)),
            started: Instant::now(),
        })
    }

    /// Returns true while a collection or a check runs that was started on the page.
    pub fn has_running_job(&self) -> bool {
        self.jobs.is_running()
    }
}

/// The server certificate of the registry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Certificate {
    /// True if the registry's own authority issued it, and will renew it.
    pub is_own: bool,
    /// The end of its validity, in seconds since 1970.
    pub until: Option<u64>,
    /// The SHA-256 fingerprint of the authority's certificate, for people to compare.
    pub fingerprint: Option<String>,
    /// True if the wall clock is behind a time that was seen before.
    pub clock_is_behind: bool,
}

/// The context of a request, as the server knows it.
#[derive(Clone, Debug)]
pub struct RequestContext {
    /// The address of the client.
    pub client: IpAddr,
    /// The address at the other end of the connection: the client's, or that of a proxy.
    pub peer: IpAddr,
    /// True if the connection uses TLS.
    pub tls: bool,
    /// The number of requests in progress.
    pub requests: usize,
    /// True if a request came through a proxy on this machine that `http.trusted_proxies` does not name.
    pub unnamed_proxy: bool,
    /// The server certificate; none without TLS.
    pub certificate: Option<Certificate>,
}

/// The admin page.
pub struct Admin {
    /// Its settings.
    pub settings: Settings,
    /// Its state, which outlives a reload of the configuration.
    pub state: Arc<AdminState>,
    /// The store that it shows and changes.
    pub store: Store,
    /// Resolves the host and scheme that clients use.
    pub addresses: Addresses,
}
