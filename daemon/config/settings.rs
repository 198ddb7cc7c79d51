//! The validated settings. Settings that a room uses as they are have the type of that room. Field docs are short here:
//! the definitions in `keys/` document each key.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::places::Places;
use crate::access::AuthSettings;
use crate::server::{self, MetricsAccess};
use crate::service::LogSettings;
use crate::store::{CapacityLimits, CollectionPolicy, FeedBounds, ImmutableRule};
use crate::tls::ClientRequirements;
use crate::wire::Addresses;

/// The settings of the daemon. `Config::default()` is blank, not valid: every value comes from the definitions.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Config {
    /// The addresses to listen on, unless systemd passes sockets.
    pub listen: Vec<SocketAddr>,
    /// `[registry]`
    pub registry: Registry,
    /// `[storage]`, and the limits of the store
    pub storage: Storage,
    /// `[tls]`
    pub tls: Tls,
    /// `[auth]`
    pub auth: Auth,
    /// `[http]`
    pub http: Http,
    /// `[limits]`
    pub limits: Limits,
    /// `[log]`
    pub log: LogSettings,
    /// `[gc]`, `[uploads]` and `[[retention]]`
    pub gc: Gc,
    /// `[check]`
    pub check: Check,
    /// `[service]`
    pub service: Service,
    /// `[admin]`
    pub admin: Admin,
    /// `[metrics]`
    pub metrics: Metrics,
    /// `[events]`
    pub events: FeedBounds,
    /// `[import]`
    pub import: Import,
    /// `[[immutable]]`
    pub immutable: Vec<ImmutableRule>,
    /// The source of the path of the data directory.
    pub data_source: DataSource,
    /// True if settings of registry:2 without `auth` configured the registry, which leaves it open.
    pub open_because_registry_environment: bool,
    /// Warnings for the operator, such as settings without an effect.
    pub warnings: Vec<String>,
    /// The variables of the environment and the settings of registry:2 that had an effect.
    pub sources: Vec<String>,
    /// The places at which keys are set.
    pub places: Places,
}

/// The source of the path of the data directory.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum DataSource {
    /// No source sets it: a directory below the working directory.
    #[default]
    Default,
    /// The configuration file at its usual place.
    UsualFile,
    /// The operator named it: `--data`, `--config` or a variable.
    Named,
}

/// `[registry]`
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Registry {
    /// True if pushes and deletes of clients are refused.
    pub read_only: bool,
    /// True if content that a manifest references may be missing.
    pub sparse: bool,
    /// Files of registry:2, the first of which that exists is read on top of the configuration file.
    pub compatible_files: Vec<PathBuf>,
}

/// `[storage]`
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Storage {
    /// The data directory.
    pub path: PathBuf,
    /// True if clients may delete tags, manifests and blobs.
    pub delete: bool,
    /// The largest size of the index, in bytes.
    pub index_map_size: usize,
    /// The capacity for pushes: reserve, quota, and numbers of names and uploads.
    pub capacity: CapacityLimits,
}

/// `[tls]`
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tls {
    /// The source of the certificate, by `mode`, `certificate` and `key` together.
    pub mode: TlsMode,
    /// Additional names and addresses (SANs) for the certificate of `auto`.
    pub names: Vec<String>,
    /// The requirements on the client: certificate and version.
    pub clients: ClientRequirements,
    pub(super) written_mode: WrittenTlsMode,
    pub(super) certificate: Option<PathBuf>,
    pub(super) key: Option<PathBuf>,
}

/// The source of the certificate.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum TlsMode {
    /// Plain HTTP.
    #[default]
    Off,
    /// The registry's own certificate authority.
    Auto,
    /// PEM files.
    Files {
        /// The certificate chain.
        certificate: PathBuf,
        /// The private key.
        key: PathBuf,
    },
}

/// The value of `tls.mode`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum WrittenTlsMode {
    #[default]
    Off,
    Auto,
    Files,
}

/// `[auth]`
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Auth {
    /// The realm of the challenge, which clients show when they ask for a password.
    pub realm: String,
    /// Users and rights.
    pub settings: AuthSettings,
    /// True if the configuration names the htpasswd file: then the registry is not implicitly open.
    pub htpasswd_is_set: bool,
}

/// `[http]`
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Http {
    /// The external URL and the trusted proxies.
    pub addresses: Addresses,
    /// Headers of every response, and those of CORS.
    pub headers: BTreeMap<String, Vec<String>>,
}

/// `[limits]`, as far as they are not limits of the store
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Limits {
    /// The largest number of connections.
    pub connections: usize,
    /// The limits of a connection.
    pub server: server::Limits,
    /// The largest number of items in a page of a list.
    pub list_max: usize,
    /// The largest number of descriptors in a manifest.
    pub manifest_descriptors: usize,
    /// The number of unfinished uploads that are kept in memory.
    pub uploads: usize,
}

/// `[gc]`, `[uploads]` and `[[retention]]`
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Gc {
    /// The interval of collections; `None` is off.
    pub interval: Option<Duration>,
    /// The policy of collections: grace period, expiry of uploads and retention.
    pub policy: CollectionPolicy,
}

/// `[check]`
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Check {
    /// The interval of checks; `None` is off.
    pub interval: Option<Duration>,
    /// The most bytes that a check reads per second.
    pub rate: Option<u64>,
}

/// `[import]`
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Import {
    /// The names that images get.
    pub names: ImportNames,
    /// The uncompressed layers that are compressed.
    pub compress: ImportCompression,
    /// The file of allowed signers; without one nothing has to be signed.
    pub signers: Option<PathBuf>,
    /// The folder whose archives the daemon imports.
    pub folder: Option<PathBuf>,
}

/// The names that imported images get.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ImportNames {
    /// Without the host, and without the `library/` of Docker Hub.
    #[default]
    Short,
    /// With the host.
    Full,
}

/// The uncompressed layers of imports that are compressed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ImportCompression {
    /// Those for which a manifest has to be made anyway.
    #[default]
    Auto,
    /// All of them.
    Gzip,
    /// None.
    None,
}

/// `[service]`
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Service {
    /// The time without a connection after which a socket-activated daemon exits; `None` is off.
    pub idle: Option<Duration>,
    /// The control socket, which the command line uses to reach the daemon; `None` for the usual places.
    pub control: Option<PathBuf>,
}

/// `[admin]`
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Admin {
    /// True if the admin page exists.
    pub enabled: bool,
    /// Its title.
    pub title: String,
    /// The users that may open it; empty for all users.
    pub users: Vec<String>,
    /// True if it offers deletes.
    pub delete: bool,
    /// The time after which an unused session ends.
    pub session: Duration,
}

/// `[metrics]`
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Metrics {
    /// True if `/metrics` exists.
    pub enabled: bool,
    /// The clients that may read it.
    pub access: MetricsAccess,
    /// The file that the metrics are written to each minute and at exit.
    pub file: Option<PathBuf>,
}

/// Returns the htpasswd file of a data directory.
pub(super) fn htpasswd_in(data: &Path) -> PathBuf {
    data.join("htpasswd")
}

/// Returns the file with the rules of the admin page, which is always in the data directory: the daemon can write there.
pub(super) fn page_rules_in(data: &Path) -> PathBuf {
    data.join("rules.toml")
}

impl Config {
    /// Keeps the data directory at `path`, and with it the htpasswd file unless that is configured.
    pub fn keep_data_in(&mut self, path: PathBuf) {
        if !self.auth.htpasswd_is_set {
            self.auth.settings.htpasswd = htpasswd_in(&path);
        }
        self.auth.settings.page_rules = page_rules_in(&path);
        self.storage.path = path;
    }

    /// Returns the directory of the registry's own authority.
    pub fn authority_directory(&self) -> PathBuf {
        self.storage.path.join("tls")
    }

    /// Returns the file with the names that the admin page added to the certificate of the own authority.
    pub fn added_names_file(&self) -> PathBuf {
        self.authority_directory().join("names")
    }
}
