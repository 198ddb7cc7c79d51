//! Configuration: file, environment and command line become one validated [`Config`].
//!
//! The order is: command line, `HOLDFAST_*`, `REGISTRY_*` (the names that people have in their compose files),
//! file, default. Every error names the key and what is allowed; an unknown key fails.

mod admin;
mod environment;
mod metrics;
mod raw;
mod registry2;
mod rules;
mod values;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use ipnet::IpNet;

pub use self::admin::Admin;
pub use self::metrics::{Metrics, MetricsAccess};
use self::raw::Raw;
pub use self::registry2::DATA as REGISTRY_2_DATA;
pub use self::rules::{Immutable, Retention};
pub use self::values::{bytes, duration};

/// The file that is read when none is named.
const DEFAULT_FILE: &str = "/etc/holdfast/holdfast.toml";

/// What the daemon is told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// Where it listens, unless systemd hands it sockets.
    pub listen: Vec<SocketAddr>,
    /// The registry as such.
    pub registry: Registry,
    /// The data directory.
    pub storage: Storage,
    /// TLS.
    pub tls: Tls,
    /// Users.
    pub auth: Auth,
    /// HTTP.
    pub http: Http,
    /// What clients can use up.
    pub limits: Limits,
    /// The log.
    pub log: Log,
    /// Collection.
    pub gc: Gc,
    /// How the daemon goes with systemd.
    pub service: Service,
    /// The admin page.
    pub admin: Admin,
    /// The metrics.
    pub metrics: Metrics,
    /// Which tags are kept; all of them where no rule says anything.
    pub retention: Vec<Retention>,
    /// Which tags can be set once.
    pub immutable: Vec<Immutable>,
    /// Whether `REGISTRY_*` names configured it without `REGISTRY_AUTH`, which is an open registry there.
    pub open_because_registry_environment: bool,
    /// What a person should know about this configuration.
    pub warnings: Vec<String>,
    /// The names in the environment that had an effect.
    pub sources: Vec<String>,
}

/// `[registry]`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Registry {
    /// Whether pushes and deletes of clients are refused.
    pub read_only: bool,
    /// Files of registry:2, the first of which that exists is read on top of the configuration file.
    pub compatible_files: Vec<PathBuf>,
}

/// `[storage]`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Storage {
    /// The data directory.
    pub path: PathBuf,
    /// Whether tags, manifests and blobs may be deleted.
    pub delete: bool,
    /// How large the index may get, in bytes.
    pub index_map_size: usize,
    /// How many bytes of the file system pushes leave free, if that is said.
    pub reserve: Option<u64>,
    /// How many bytes blobs and uploads may have together, if that is said.
    pub quota: Option<u64>,
}

/// `[tls]`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tls {
    /// Where the certificate comes from.
    pub mode: TlsMode,
    /// More names and addresses for the certificate of `auto`.
    pub names: Vec<String>,
    /// Authorities, in PEM, of which clients need a certificate; empty asks for none.
    pub client_ca: Vec<PathBuf>,
    /// The lowest version that is accepted.
    pub minimum: MinimumTls,
}

/// The lowest version of TLS that is accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MinimumTls {
    /// TLS 1.2.
    V1_2,
    /// TLS 1.3.
    V1_3,
}

/// Where the certificate comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TlsMode {
    /// Nowhere: plain HTTP.
    Off,
    /// From an authority of its own.
    Auto,
    /// From files.
    Files {
        /// The chain, in PEM.
        certificate: PathBuf,
        /// The key, in PEM.
        key: PathBuf,
    },
}

/// `[auth]`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Auth {
    /// What clients show when they ask for a password.
    pub realm: String,
    /// The file of users.
    pub htpasswd: PathBuf,
    /// Whether somebody has said which file that is, and so wants users.
    pub htpasswd_is_set: bool,
    /// What those who do not log in may do, if that is said.
    pub anonymous: Option<Anonymous>,
    /// How long a verified password is remembered.
    pub remember: Duration,
    /// The kind of log-in that challenges ask for, if configured.
    pub challenge: Option<Challenge>,
    /// The lifetime of a bearer token.
    pub token: Duration,
    /// What users may do; everything if there are none.
    pub rules: Vec<Rule>,
}

/// What those who do not log in may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Anonymous {
    /// Nothing.
    None,
    /// Pull.
    Pull,
    /// Everything.
    Full,
}

/// The kind of log-in that a challenge asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Challenge {
    /// A user name and a password in each request.
    Basic,
    /// A token from the token endpoint.
    Bearer,
}

/// `[[auth.rule]]`
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rule {
    /// The users it is about; `*` is every user, `-` is the anonymous user.
    pub users: Vec<String>,
    /// Patterns of repositories; `*` stands for any text.
    pub repositories: Vec<String>,
    /// What they may do.
    pub allow: Vec<Allow>,
}

/// What a rule allows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Allow {
    /// To read.
    Pull,
    /// To push.
    Push,
    /// To delete.
    Delete,
    /// To list repositories.
    Catalog,
}

/// `[http]`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Http {
    /// The registry's address as clients see it.
    pub external_url: Option<String>,
    /// The proxies whose `X-Forwarded-*` and `Forwarded` headers are believed.
    pub trusted_proxies: Vec<IpNet>,
    /// Headers of every answer, and those of CORS.
    pub headers: BTreeMap<String, Vec<String>>,
}

/// `[limits]`
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Connections at once.
    pub connections: usize,
    /// Connections that an address keeps when slots are short, if that is said.
    pub connections_per_address: Option<usize>,
    /// Bytes of the headers of a request.
    pub header_bytes: usize,
    /// How long headers and handshakes may take.
    pub header_time: Duration,
    /// How long a body may pause.
    pub body_stall: Duration,
    /// Bytes per second that a body or an answer has to have; zero is no minimum.
    pub minimum_rate: u64,
    /// Bytes that the system keeps for a connection in each direction.
    pub socket_buffer: usize,
    /// Items in one page of a list.
    pub list_max: usize,
    /// Descriptors in a manifest.
    pub manifest_descriptors: usize,
    /// Unfinished uploads that are kept in memory.
    pub uploads: usize,
    /// Unfinished uploads on the disk.
    pub unfinished_uploads: u64,
    /// Tags of one repository.
    pub tags_per_repository: u64,
    /// Tags and manifests of all repositories together.
    pub names: u64,
}

/// `[log]`
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Log {
    /// The least important lines that are written.
    pub level: log::LevelFilter,
    /// How many lines one address can cause at once.
    pub lines_per_address: u32,
    /// The form of lines on stderr.
    pub format: LogFormat,
    /// Whether each request has a line.
    pub access: bool,
}

/// The form of the log on stderr.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogFormat {
    /// A message and `key=value`.
    Text,
    /// A JSON object in each line.
    Json,
}

/// `[gc]` and `[uploads]`
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Gc {
    /// How often the daemon collects, if at all.
    pub interval: Option<Duration>,
    /// How long something stays after its last use has gone.
    pub grace: Duration,
    /// How long an upload may go without a byte.
    pub uploads_expire: Duration,
}

/// `[service]`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Service {
    /// After how long without a connection a daemon that systemd starts for connections ends, if at all.
    pub idle: Option<Duration>,
    /// The socket through which the command line asks the daemon.
    pub control: PathBuf,
}

/// What the command line says.
#[derive(Clone, Debug, Default)]
pub struct Overrides {
    /// `--data`
    pub data: Option<PathBuf>,
}

/// The file of users of a data directory.
fn users_in(data: &Path) -> PathBuf {
    data.join("htpasswd")
}

/// Why there is no valid configuration.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("cannot read {0}: {1}; name another file with --config")]
    Read(String, String),
    /// The text is not a configuration.
    #[error("{0}: {1}")]
    Syntax(String, String),
    /// A name in the environment is unknown.
    #[error("{0} is no setting of Holdfast; `holdfast man holdfast.toml` explains those there are")]
    UnknownName(String),
    /// A value is not allowed.
    #[error("{key} is {value:?}, and has to be {allowed}")]
    Value {
        /// The key.
        key: String,
        /// What it is.
        value: String,
        /// What it may be.
        allowed: String,
    },
    /// A setting of registry:2 asks for what Holdfast does not do, and would be dangerous to ignore.
    #[error("{name} is not supported: {why}")]
    Refused {
        /// What the setting is called where it was written.
        name: String,
        /// Why, and what to do.
        why: &'static str,
    },
    /// Settings of registry:2 name more than one kind of users.
    #[error(
        "{0} and {1} name two kinds of users (auth), of which there may be one, as in registry:2; remove one of them"
    )]
    TwoKindsOfUsers(String, String),
    /// Two settings do not go together.
    #[error("{0}")]
    Together(&'static str),
}

/// Reads the configuration from its sources.
///
/// # Errors
/// [`ConfigError`], which names what is wrong and what is allowed.
pub fn load(
    file: Option<&Path>,
    environment: impl IntoIterator<Item = (String, String)>,
    overrides: &Overrides,
) -> Result<Config, ConfigError> {
    let default = Path::new(DEFAULT_FILE);
    let file = file.or_else(|| default.exists().then_some(default));
    let mut environment: Vec<(String, String)> = environment.into_iter().collect();
    environment.retain(|(name, _)| !environment::is_of_other_programs(name));
    let named = environment::take(&mut environment, registry2::PATH).map(PathBuf::from);
    let shown = |path: &Path| path.display().to_string();
    if let Some(path) = file.filter(|path| registry2::is_one(path)) {
        let text = registry2::read_file(path)?;
        return from_sources(("", ""), Some((&shown(path), &text)), environment, overrides);
    }
    let text = match file {
        None => String::new(),
        Some(path) => std::fs::read_to_string(path)
            .map_err(|error| ConfigError::Read(shown(path), error.to_string()))?,
    };
    let name = file.map_or_else(String::new, shown);
    let compatible = match named {
        Some(path) => Some(path),
        None => compatible_file(&name, &text, &environment)?,
    };
    let Some(compatible) = compatible else {
        return from_text(&name, &text, environment, overrides);
    };
    let other = registry2::read_file(&compatible)?;
    from_sources((&name, &text), Some((&shown(&compatible), &other)), environment, overrides)
}

/// Returns the first file of registry:2 that exists among those that are to be read on top of the configuration.
fn compatible_file(
    name: &str,
    text: &str,
    environment: &[(String, String)],
) -> Result<Option<PathBuf>, ConfigError> {
    let files = match environment::own_list(environment, "registry.compatible_files") {
        Some(files) => files.into_iter().map(PathBuf::from).collect(),
        None => parse(name, text)?.validate()?.registry.compatible_files,
    };
    Ok(files.into_iter().find(|path| path.exists()))
}

/// Reads a text by itself: its errors have lines.
fn parse(name: &str, text: &str) -> Result<Raw, ConfigError> {
    toml::from_str(text).map_err(|error| syntax(name, &error))
}

fn syntax(name: &str, error: &toml::de::Error) -> ConfigError {
    ConfigError::Syntax(name.to_owned(), one_line(&error.to_string()))
}

/// Reads the configuration from the text of the file `name`, and the other sources.
///
/// # Errors
/// As [`load`].
pub fn from_text(
    name: &str,
    text: &str,
    environment: impl IntoIterator<Item = (String, String)>,
    overrides: &Overrides,
) -> Result<Config, ConfigError> {
    from_sources((name, text), None, environment.into_iter().collect(), overrides)
}

/// Reads the configuration from the text of a file, that of a file of registry:2 if there is one, each with its name, and
/// the other sources.
fn from_sources(
    (name, text): (&str, &str),
    compatible: Option<(&str, &str)>,
    environment: Vec<(String, String)>,
    overrides: &Overrides,
) -> Result<Config, ConfigError> {
    parse(name, text)?;
    let mut table: toml::Table = toml::from_str(text).map_err(|error| syntax(name, &error))?;
    let found = environment::apply(compatible, environment, &mut table)?;
    if let Some(data) = &overrides.data {
        environment::set(&mut table, "storage.path", data.display().to_string().into());
    }
    let raw: Raw = table.try_into().map_err(|error: toml::de::Error| {
        ConfigError::Syntax("the environment".into(), one_line(&error.to_string()))
    })?;
    let mut config = raw.validate()?;
    let users_meant = config.auth.htpasswd_is_set || !config.auth.rules.is_empty();
    config.open_because_registry_environment =
        found.registry && !found.registry_auth && config.auth.anonymous.is_none() && !users_meant;
    config.warnings = found.warnings;
    config.sources = found.names;
    if config.open_because_registry_environment {
        let setting =
            compatible.map_or_else(|| "REGISTRY_AUTH".to_owned(), |(name, _)| format!("auth in {name}"));
        config.warnings.push(format!(
            "{setting} is not set: the registry is open to everyone who can reach it until it has a user; set \
             REGISTRY_AUTH=htpasswd, or run: holdfast user add NAME"
        ));
    }
    Ok(config)
}

impl Config {
    /// Leaves the data where it is, and the users whose file lies beside it.
    pub fn keep_data_in(&mut self, path: PathBuf) {
        if !self.auth.htpasswd_is_set {
            self.auth.htpasswd = users_in(&path);
        }
        self.storage.path = path;
    }

    /// The configuration as a file that reads back as this one.
    pub fn show(&self) -> String {
        let mut text = String::new();
        for name in &self.sources {
            text += &format!("# set by {name}\n");
        }
        if !self.auth.htpasswd_is_set {
            // As a key it would say that users are wanted.
            let path = self.auth.htpasswd.display().to_string();
            text += &format!("# auth.htpasswd = {path:?} unless it is set\n");
        }
        text += &toml::to_string(&Raw::from(self)).unwrap_or_default();
        text
    }
}

fn one_line(text: &str) -> String {
    text.lines().map(str::trim).filter(|line| !line.is_empty()).collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn with(environment: &[(&str, &str)]) -> Result<Config, ConfigError> {
        let environment = environment.iter().map(|(name, value)| ((*name).into(), (*value).into()));
        load(Some(Path::new("/dev/null")), environment, &Overrides::default())
    }

    fn from_text(text: &str) -> Result<Config, ConfigError> {
        super::from_text("file", text, [], &Overrides::default())
    }

    #[test]
    #[expect(clippy::disallowed_methods, reason = "a test makes what it looks at")]
    fn a_file_of_registry_2_can_be_named_by_the_environment() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("r2.yml");
        std::fs::write(&path, "version: 0.1\nauth: {htpasswd: {realm: r, path: /users}}\n").unwrap();
        let named = ("REGISTRY_CONFIGURATION_PATH".to_owned(), path.to_str().unwrap().to_owned());
        // This one is not for registries.
        let podman = ("REGISTRY_AUTH_FILE".to_owned(), "/run/auth.json".to_owned());
        let level = ("REGISTRY_LOG_LEVEL".to_owned(), "info".to_owned());
        let config = load(None, [named, podman, level], &Overrides::default()).unwrap();
        assert_eq!(config.auth.htpasswd, Path::new("/users"));
        assert!(!config.open_because_registry_environment && config.warnings.is_empty(), "{config:?}");
        let missing = ("REGISTRY_CONFIGURATION_PATH".to_owned(), "/nothing/here.yml".to_owned());
        let error = load(None, [missing], &Overrides::default()).unwrap_err().to_string();
        assert!(error.contains("/nothing/here.yml"), "{error}");
    }

    #[test]
    fn the_documented_file_has_the_defaults() {
        let text = include_str!("../../config/holdfast.toml");
        assert_eq!(from_text(text).unwrap(), with(&[]).unwrap());
        // Each key is there, as a comment if it has no default.
        for key in environment::keys() {
            let last = key.rsplit('.').next().unwrap();
            assert!(text.contains(&format!("{last} = ")), "{key} is not documented");
        }
    }

    #[test]
    fn shows_what_reads_back() {
        let config = with(&[
            ("HOLDFAST_LISTEN", "127.0.0.1:1, [::1]:2"),
            ("HOLDFAST_TLS_MODE", "auto"),
            ("HOLDFAST_LIMITS_CONNECTIONS", "7"),
            ("HOLDFAST_AUTH_ANONYMOUS", "pull"),
            ("HOLDFAST_AUTH_CHALLENGE", "basic"),
            ("HOLDFAST_AUTH_TOKEN", "1d"),
            ("HOLDFAST_METRICS_ACCESS", "users"),
            ("HOLDFAST_METRICS_FILE", "/run/holdfast.prom"),
            ("REGISTRY_HTTP_HEADERS_ACCESS__CONTROL__ALLOW__ORIGIN", "['http://ui.lan', \"http://x\"]"),
        ])
        .unwrap();
        assert_eq!(config.http.headers["Access-Control-Allow-Origin"], ["http://ui.lan", "http://x"]);
        assert_eq!((config.limits.connections, config.listen.len()), (7, 2));
        let shown = from_text(&config.show()).unwrap();
        assert_eq!(Config { sources: Vec::new(), ..config }, shown);
        assert!(with(&[("HOLDFAST_REGISTRY_COMPATIBLE_FILES", "/a.yml,/b.yml")]).is_ok());
        let users = with(&[("HOLDFAST_AUTH_HTPASSWD", "./holdfast-data/htpasswd")]).unwrap();
        assert!(users.auth.htpasswd_is_set && from_text(&users.show()).unwrap().auth == users.auth);
    }

    #[test]
    fn takes_the_names_of_compose_files() {
        let config = with(&[
            ("REGISTRY_HTTP_ADDR", ":443"),
            ("REGISTRY_STORAGE_FILESYSTEM_ROOTDIRECTORY", "/data"),
            ("REGISTRY_HTTP_TLS_CERTIFICATE", "/c"),
            ("REGISTRY_HTTP_TLS_KEY", "/k"),
            ("REGISTRY_AUTH", "htpasswd"),
            ("REGISTRY_AUTH_HTPASSWD_REALM", "Realm"),
            ("REGISTRY_AUTH_HTPASSWD_PATH", "/auth"),
            ("REGISTRY_HTTP_SECRET", "x"),
            ("REGISTRY_REDIS_ADDR", "x"),
            ("HOLDFAST_STORAGE_PATH", "/own"),
        ])
        .unwrap();
        assert_eq!(config.listen[0].to_string(), "0.0.0.0:443");
        assert_eq!(config.storage.path, Path::new("/own"));
        assert_eq!(config.tls.mode, TlsMode::Files { certificate: "/c".into(), key: "/k".into() });
        assert_eq!((config.auth.realm.as_str(), config.auth.anonymous), ("Realm", Some(Anonymous::None)));
        assert!(!config.open_because_registry_environment);
        assert_eq!(config.warnings.len(), 1, "{:?}", config.warnings);
        assert!(with(&[("REGISTRY_HTTP_ADDR", ":5000")]).unwrap().open_because_registry_environment);
    }

    #[test]
    fn takes_the_names_of_the_page_beside_registry_2() {
        let config = with(&[("REGISTRY_TITLE", "Our Hub"), ("DELETE_IMAGES", "false")]).unwrap();
        assert_eq!((config.admin.title.as_str(), config.admin.delete), ("Our Hub", false));
        assert!(!config.open_because_registry_environment, "a title says nothing about who may come in");
        let own = with(&[("REGISTRY_TITLE", "Our Hub"), ("HOLDFAST_ADMIN_TITLE", "Mine")]).unwrap();
        assert_eq!(own.admin.title, "Mine");
    }

    #[test]
    fn errors_name_the_key() {
        for (name, value, expected) in [
            ("HOLDFAST_LISTNE", "x", "HOLDFAST_LISTNE"),
            ("HOLDFAST_LISTEN", "example", "listen"),
            ("HOLDFAST_STORAGE_DELETE", "maybe", "HOLDFAST_STORAGE_DELETE"),
            ("HOLDFAST_TLS_MODE", "x", "tls.mode"),
            ("HOLDFAST_TLS_MODE", "files", "tls.certificate"),
            ("HOLDFAST_LIMITS_BODY_STALL", "soon", "limits.body_stall"),
            ("HOLDFAST_STORAGE_INDEX_MAP_SIZE", "100", "storage.index_map_size"),
            ("REGISTRY_AUTH", "token", "REGISTRY_AUTH"),
            ("HOLDFAST_ADMIN_SESSION", "0s", "admin.session"),
            ("HOLDFAST_AUTH_CHALLENGE", "digest", "auth.challenge"),
            ("HOLDFAST_AUTH_TOKEN", "59s", "auth.token"),
            ("HOLDFAST_AUTH_TOKEN", "25h", "auth.token"),
            ("HOLDFAST_METRICS_ACCESS", "nobody", "metrics.access"),
            ("HOLDFAST_METRICS_FILE", "holdfast.prom", "metrics.file"),
            ("DELETE_IMAGES", "perhaps", "DELETE_IMAGES"),
        ] {
            let error = with(&[(name, value)]).unwrap_err().to_string();
            assert!(error.contains(expected) && !error.contains('\n'), "{error}");
        }
        for name in ["m\u{fc}ller.lan", "pi.lan:5000", "", "*"] {
            let text = format!("[tls]\nmode = \"auto\"\nnames = [\"pi.lan\", \"{name}\"]");
            let error = from_text(&text).unwrap_err().to_string();
            assert!(error.contains(&format!("tls.names is {name:?}")), "{error}");
            assert!(from_text(&text.replace("auto", "off")).is_ok(), "nobody needs it");
        }
        let names = "pi,pi.lan,*.lan,my_pi.local,192.0.2.7,fe80::1,xn--mller-kva.lan";
        assert_eq!(
            with(&[("HOLDFAST_TLS_MODE", "auto"), ("HOLDFAST_TLS_NAMES", names)]).unwrap().tls.names.len(),
            7
        );
        assert!(from_text("[storage]\npaht = \"x\"").is_err());
        let star = "[http.headers]\nAccess-Control-Allow-Origin = [\"*\"]\nAccess-Control-Allow-Credentials = [\"true\"]";
        assert!(from_text(star).is_err());
    }

    proptest! {
        #[test]
        fn never_panics(text in ".{0,100}", name in "(HOLDFAST|REGISTRY)_[A-Z_]{0,40}") {
            let _ = from_text(&text);
            let _ = with(&[(name.as_str(), text.as_str())]);
        }
    }
}
