//! The admin page as a value: its settings, its state, and the context of a request.

use std::net::IpAddr;
use std::sync::{Arc, OnceLock};
use std::time::Instant;

use super::importer::Importer;
use crate::access::{HtpasswdError, Sessions};
use crate::jobs::Jobs;
use crate::queue::{FairPool, Limits};
use crate::store::{CollectionPolicy, Holder, Store};
use crate::wire::Addresses;
use crate::wire::audit::LoginCounters;

/// Bounds the large forms that are received at once: a few MiB of memory, of which each client gets a share.
const FORMS: Limits =
    Limits { places: 16, places_per_holder: 4, reserved: 2, waiting_per_holder: 16, holders: 4096 };

/// Bounds the uploads of archives at once. An upload may take hours, so that each user has one place, and none waits.
const UPLOADS: Limits =
    Limits { places: 4, places_per_holder: 1, reserved: 0, waiting_per_holder: 0, holders: 4096 };

/// Bounds the downloads of images at once: each has its list of content in memory, and a lease.
const DOWNLOADS: Limits =
    Limits { places: 12, places_per_holder: 3, reserved: 0, waiting_per_holder: 4, holders: 4096 };

/// The settings of the admin page, from the configuration.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The name of the registry in the header of each page.
    pub title: String,
    /// The users who may open the page; empty for every user.
    pub users: Vec<String>,
    /// True if tags can be deleted here.
    pub delete: bool,
    /// The images that can be copied here.
    pub copies: Copies,
    /// The grace period and retention rules of collections that are started here.
    pub policy: CollectionPolicy,
    /// True if the registry listens on loopback addresses only.
    pub loopback_only: bool,
    /// The configuration in effect.
    pub configuration: Vec<SettingInEffect>,
    /// The places at which the rules of users are set.
    pub rule_places: Vec<String>,
    /// The file with the rules of the admin page.
    pub page_rules: String,
}

/// The images that can be copied on the page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Copies {
    /// None: the registry accepts no pushes.
    Refused,
    /// Those that lack no content.
    Whole,
    /// All: a copy may lack the content that its source lacks (`registry.sparse`).
    Sparse,
}

/// A setting of the configuration in effect.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SettingInEffect {
    /// The section; empty for keys outside of sections.
    pub section: &'static str,
    /// The full name of the key.
    pub name: &'static str,
    /// The value as TOML; `None` if the key is not set.
    pub value: Option<String>,
    /// The place at which it is set; `None` for the default.
    pub source: Option<String>,
    /// True if a change takes effect only at the next restart.
    pub restart: bool,
    /// The value after a restart, if the configuration was changed since the start.
    pub after_restart: Option<String>,
}

/// The state of the admin page that outlives a reload of the configuration.
pub struct AdminState {
    /// The sessions of logged-in users.
    pub sessions: Sessions,
    /// Counts failed log-ins.
    pub logins: Arc<LoginCounters>,
    /// The background jobs.
    pub jobs: Arc<Jobs>,
    /// Places for large forms, which are held in memory while they arrive.
    pub(super) forms: Arc<FairPool<Holder>>,
    /// Places for downloads of images.
    pub(super) downloads: Arc<FairPool<Holder>>,
    /// Places for uploads of archives.
    pub(super) uploads: Arc<FairPool<Holder>>,
    /// Imports uploaded archives, once the daemon serves.
    pub(super) importer: OnceLock<Box<dyn Importer>>,
    pub(super) started: Instant,
}

impl AdminState {
    /// Returns the state of a daemon that just started: no sessions.
    ///
    /// # Errors
    /// [`HtpasswdError::Random`] if the system has no random bytes.
    pub fn new(jobs: Arc<Jobs>) -> Result<Self, HtpasswdError> {
        Ok(AdminState {
            sessions: Sessions::new()?,
            logins: Arc::default(),
            jobs,
            forms: Arc::new(FairPool::new(FORMS)),
            downloads: Arc::new(FairPool::new(DOWNLOADS)),
            uploads: Arc::new(FairPool::new(UPLOADS)),
            importer: OnceLock::new(),
            started: Instant::now(),
        })
    }

    /// Sets the way into the registry for uploads; the first one stays.
    pub fn set_importer(&self, importer: Box<dyn Importer>) {
        let _ = self.importer.set(importer);
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
    /// True if it is valid for the host of the request.
    pub covers_host: bool,
    /// The names that the configuration adds to it.
    pub configured: Vec<String>,
    /// True if the wall clock is behind a time that was seen before.
    pub clock_is_behind: bool,
}

/// The names that the admin page adds to the certificate of the own authority. Changes block.
pub trait CertificateNames: Send + Sync {
    /// Returns the names.
    fn added(&self) -> Vec<String>;
    /// Adds a name, and serves a certificate with it at once.
    ///
    /// # Errors
    /// Returns [`NameRefusal`].
    fn add(&self, name: &str) -> Result<(), NameRefusal>;
    /// Removes an added name, and serves a certificate without it at once.
    ///
    /// # Errors
    /// Returns [`NameRefusal`].
    fn remove(&self, name: &str) -> Result<(), NameRefusal>;
}

/// Reason why the names of the certificate are not changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NameRefusal {
    /// The name is not accepted, as a text for the user.
    Invalid(String),
    /// The daemon failed, as a text for the log.
    Failed(String),
}

/// The context of a request, as the server knows it.
#[derive(Clone)]
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
    /// The names that can be added to the certificate; none if another authority issued it.
    pub names: Option<Arc<dyn CertificateNames>>,
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
