//! The file as it is written, before its values are checked; `None` is what it does not say.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use rustls::pki_types::ServerName;
use serde::{Deserialize, Serialize};

use super::admin::RawAdmin;
use super::metrics::RawMetrics;
use super::rules::{RawImmutable, RawRetention};
use super::values::{address, bytes, duration, show_duration, show_size, size, wrong};
use super::{
    Anonymous, Auth, Challenge, Config, ConfigError, Gc, Http, Limits, Log, LogFormat, MinimumTls, Registry,
    Rule, Service, Storage, Tls, TlsMode, users_in,
};

/// The index may get as large as this: the files of the blobs are elsewhere.
const INDEX_MAP_SIZE: usize = if usize::BITS >= 64 { (4 << 20) * KIB } else { 256 << 20 };
const KIB: usize = 1 << 10;
/// Pages of memory have up to this many bytes, on any machine.
const LARGEST_PAGE: usize = 64 << 10;

#[derive(Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Raw {
    listen: Option<OneOrMany>,
    registry: RawRegistry,
    storage: RawStorage,
    tls: RawTls,
    auth: RawAuth,
    http: RawHttp,
    limits: RawLimits,
    log: RawLog,
    gc: RawGc,
    uploads: RawUploads,
    service: RawService,
    admin: RawAdmin,
    metrics: RawMetrics,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    retention: Vec<RawRetention>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    immutable: Vec<RawImmutable>,
}

#[derive(Serialize, Deserialize)]
#[serde(untagged)]
enum OneOrMany {
    One(String),
    Many(Vec<String>),
}

impl OneOrMany {
    fn all(self) -> Vec<String> {
        match self {
            OneOrMany::One(text) => vec![text],
            OneOrMany::Many(texts) => texts,
        }
    }
}

#[derive(Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct RawRegistry {
    read_only: Option<bool>,
    compatible_files: Vec<PathBuf>,
}

#[derive(Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct RawStorage {
    path: Option<PathBuf>,
    delete: Option<bool>,
    index_map_size: Option<String>,
    reserve: Option<String>,
    quota: Option<String>,
}

#[derive(Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct RawTls {
    mode: Option<String>,
    certificate: Option<PathBuf>,
    key: Option<PathBuf>,
    names: Vec<String>,
    client_ca: Vec<PathBuf>,
    minimum: Option<String>,
}

#[derive(Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct RawAuth {
    realm: Option<String>,
    htpasswd: Option<PathBuf>,
    anonymous: Option<String>,
    remember: Option<String>,
    challenge: Option<String>,
    token: Option<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    rule: Vec<Rule>,
}

#[derive(Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct RawHttp {
    external_url: Option<String>,
    trusted_proxies: Vec<String>,
    headers: BTreeMap<String, OneOrMany>,
}

#[derive(Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct RawLimits {
    connections: Option<usize>,
    #[serde(skip_serializing_if = "Option::is_none")]
    connections_per_address: Option<usize>,
    header_bytes: Option<String>,
    header_time: Option<String>,
    body_stall: Option<String>,
    minimum_rate: Option<String>,
    socket_buffer: Option<String>,
    list_max: Option<usize>,
    manifest_descriptors: Option<usize>,
    uploads: Option<usize>,
    unfinished_uploads: Option<u64>,
    tags_per_repository: Option<u64>,
    names: Option<u64>,
}

#[derive(Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct RawLog {
    level: Option<String>,
    lines_per_address: Option<u32>,
    format: Option<String>,
    access: Option<bool>,
}

#[derive(Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct RawGc {
    interval: Option<String>,
    grace: Option<String>,
}

#[derive(Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct RawUploads {
    expire: Option<String>,
}

#[derive(Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct RawService {
    idle: Option<String>,
    control: Option<PathBuf>,
}

impl Raw {
    /// Checks every value and fills in the defaults.
    pub(super) fn validate(self) -> Result<Config, ConfigError> {
        let listen = self.listen.map_or_else(|| vec!["127.0.0.1:5000".to_owned()], OneOrMany::all);
        if listen.is_empty() {
            return Err(wrong("listen", "", "at least one ADDRESS:PORT"));
        }
        let listen = listen.iter().map(|text| address(text)).collect::<Result<_, _>>()?;
        let storage = self.storage.validate()?;
        let htpasswd = users_in(&storage.path);
        Ok(Config {
            listen,
            registry: Registry {
                read_only: self.registry.read_only.unwrap_or(false),
                compatible_files: self.registry.compatible_files,
            },
            storage,
            tls: self.tls.validate()?,
            auth: self.auth.validate(htpasswd)?,
            http: self.http.validate()?,
            limits: self.limits.validate()?,
            log: self.log.validate()?,
            gc: self.gc.validate(&self.uploads)?,
            service: self.service.validate()?,
            admin: self.admin.validate()?,
            metrics: self.metrics.validate()?,
            retention: self.retention.into_iter().map(RawRetention::validate).collect::<Result<_, _>>()?,
            immutable: self.immutable.into_iter().map(RawImmutable::validate).collect::<Result<_, _>>()?,
            open_because_registry_environment: false,
            warnings: Vec::new(),
            sources: Vec::new(),
        })
    }
}

impl RawStorage {
    fn validate(self) -> Result<Storage, ConfigError> {
        let key = "storage.index_map_size";
        let index_map_size = match &self.index_map_size {
            None => INDEX_MAP_SIZE,
            Some(text) => match size(key, text)? {
                size if size >= 1 << 20 && size.is_multiple_of(LARGEST_PAGE) => size,
                _ => return Err(wrong(key, text, "at least 1MiB and a multiple of 64KiB")),
            },
        };
        let path = self.path.unwrap_or_else(|| "./holdfast-data".into());
        if path.as_os_str().is_empty() {
            return Err(wrong("storage.path", "", "the path of a directory"));
        }
        let bytes = |key, text: Option<String>| text.map(|text| bytes(key, &text)).transpose();
        Ok(Storage {
            path,
            delete: self.delete.unwrap_or(true),
            index_map_size,
            reserve: bytes("storage.reserve", self.reserve)?,
            quota: bytes("storage.quota", self.quota)?,
        })
    }
}

impl RawTls {
    fn validate(self) -> Result<Tls, ConfigError> {
        let given = self.certificate.is_some() || self.key.is_some();
        let mode = match (self.mode.as_deref(), self.certificate, self.key) {
            (Some("off"), _, _) => TlsMode::Off,
            (None, _, _) if !given => TlsMode::Off,
            (Some("auto"), _, _) => TlsMode::Auto,
            (None | Some("files"), Some(certificate), Some(key)) => TlsMode::Files { certificate, key },
            (None | Some("files"), _, _) => {
                return Err(ConfigError::Together(
                    "tls.certificate and tls.key have to be set, both of them",
                ));
            }
            (Some(other), _, _) => return Err(wrong("tls.mode", other, "off, auto or files")),
        };
        let wrong_name = self.names.iter().find(|name| mode == TlsMode::Auto && !is_certifiable(name));
        if let Some(name) = wrong_name {
            let allowed = "a name as certificates have it, or an address, without a port; one with other letters begins \
                           with xn-- there";
            return Err(wrong("tls.names", name, allowed));
        }
        let minimum = match self.minimum.as_deref() {
            None | Some("1.2") => MinimumTls::V1_2,
            Some("1.3") => MinimumTls::V1_3,
            Some(other) => return Err(wrong("tls.minimum", other, "1.2 or 1.3")),
        };
        if mode == TlsMode::Off && !self.client_ca.is_empty() {
            return Err(ConfigError::Together(
                "tls.client_ca asks clients for certificates, which needs TLS; set tls.mode to auto or files",
            ));
        }
        Ok(Tls { mode, names: self.names, client_ca: self.client_ca, minimum })
    }
}

/// Whether a name or an address can stand in a certificate.
fn is_certifiable(name: &str) -> bool {
    ServerName::try_from(name.strip_prefix("*.").unwrap_or(name)).is_ok()
}

impl RawAuth {
    fn validate(self, htpasswd: PathBuf) -> Result<Auth, ConfigError> {
        let anonymous = match self.anonymous.as_deref() {
            None => None,
            Some("none") => Some(Anonymous::None),
            Some("pull") => Some(Anonymous::Pull),
            Some("full") => Some(Anonymous::Full),
            Some(other) => return Err(wrong("auth.anonymous", other, "none, pull or full")),
        };
        let challenge = match self.challenge.as_deref() {
            None => None,
            Some("basic") => Some(Challenge::Basic),
            Some("bearer") => Some(Challenge::Bearer),
            Some(other) => return Err(wrong("auth.challenge", other, "basic or bearer")),
        };
        let (key, text) = ("auth.token", self.token.as_deref().unwrap_or("5m"));
        let token = match duration(key, text)? {
            token if (Duration::from_mins(1)..=Duration::from_hours(24)).contains(&token) => token,
            _ => return Err(wrong(key, text, "from 1m to 1d")),
        };
        Ok(Auth {
            realm: self.realm.unwrap_or_else(|| "Holdfast".into()),
            htpasswd_is_set: self.htpasswd.is_some(),
            htpasswd: self.htpasswd.unwrap_or(htpasswd),
            anonymous,
            remember: duration("auth.remember", self.remember.as_deref().unwrap_or("5m"))?,
            challenge,
            token,
            rules: self.rule,
        })
    }
}

impl RawHttp {
    fn validate(self) -> Result<Http, ConfigError> {
        if let Some(url) = &self.external_url {
            let known = url.starts_with("http://") || url.starts_with("https://");
            if !known || url.parse::<http::Uri>().is_err() {
                return Err(wrong("http.external_url", url, "a URL like https://registry.lan"));
            }
        }
        let network = |text: &String| {
            let parsed =
                text.parse().or_else(|_| text.parse().map(|address: std::net::IpAddr| address.into()));
            parsed.map_err(|_| wrong("http.trusted_proxies", text, "addresses or networks like 10.0.0.0/8"))
        };
        let trusted_proxies = self.trusted_proxies.iter().map(network).collect::<Result<_, _>>()?;
        let headers: BTreeMap<String, Vec<String>> =
            self.headers.into_iter().map(|(name, values)| (name, values.all())).collect();
        check_headers(&headers)?;
        Ok(Http { external_url: self.external_url, trusted_proxies, headers })
    }
}

/// Headers that describe one answer or its transfer: the same for all of them, they would break answers, and let a browser
/// take stored content for a page.
const OF_ONE_ANSWER: [&str; 7] = [
    "Connection",
    "Content-Disposition",
    "Content-Encoding",
    "Content-Length",
    "Content-Range",
    "Content-Type",
    "Transfer-Encoding",
];

fn check_headers(headers: &BTreeMap<String, Vec<String>>) -> Result<(), ConfigError> {
    for (name, values) in headers {
        if name.parse::<http::HeaderName>().is_err() {
            return Err(wrong("http.headers", name, "names of headers"));
        }
        if OF_ONE_ANSWER.iter().any(|known| name.eq_ignore_ascii_case(known)) {
            return Err(wrong("http.headers", name, "headers that are the same for every answer"));
        }
        if let Some(value) = values.iter().find(|value| value.parse::<http::HeaderValue>().is_err()) {
            return Err(wrong(&format!("http.headers.{name}"), value, "a value of a header"));
        }
    }
    let has = |wanted: &str, value: &str| {
        let mut named = headers.iter().filter(|(name, _)| name.eq_ignore_ascii_case(wanted));
        named.any(|(_, values)| values.iter().any(|known| known == value))
    };
    if has("Access-Control-Allow-Credentials", "true") && has("Access-Control-Allow-Origin", "*") {
        return Err(ConfigError::Together(
            "http.headers allows credentials to every origin, which browsers refuse; name the origin instead of *",
        ));
    }
    Ok(())
}

/// The most names that a limit can allow.
const MOST_NAMES: u64 = 100_000_000;

impl RawLimits {
    fn validate(self) -> Result<Limits, ConfigError> {
        let key = "limits.header_bytes";
        let header_bytes = size(key, self.header_bytes.as_deref().unwrap_or("64KiB"))?;
        if !(8192..=1 << 20).contains(&header_bytes) {
            return Err(wrong(key, &header_bytes.to_string(), "from 8KiB to 1MiB"));
        }
        let key = "limits.socket_buffer";
        let socket_buffer = size(key, self.socket_buffer.as_deref().unwrap_or("128KiB"))?;
        if !(4096..=64 << 20).contains(&socket_buffer) {
            return Err(wrong(key, &socket_buffer.to_string(), "from 4KiB to 64MiB"));
        }
        let time = |key: &str, text: Option<String>, default: &str| {
            let text = text.unwrap_or_else(|| default.to_owned());
            match duration(key, &text)? {
                time if time.is_zero() => Err(wrong(key, &text, "more than nothing")),
                time => Ok(time),
            }
        };
        let at_least_one = |key: &str, value: Option<usize>, default: usize| match value.unwrap_or(default) {
            0 => Err(wrong(key, "0", "at least 1")),
            value if value > 1_000_000 => Err(wrong(key, &value.to_string(), "at most 1000000")),
            value => Ok(value),
        };
        let names = |key: &str, value: Option<u64>, default: u64| match value.unwrap_or(default) {
            0 => Err(wrong(key, "0", "at least 1")),
            value if value > MOST_NAMES => Err(wrong(key, &value.to_string(), "at most 100000000")),
            value => Ok(value),
        };
        Ok(Limits {
            connections: at_least_one("limits.connections", self.connections, 512)?,
            connections_per_address: self
                .connections_per_address
                .map(|count| at_least_one("limits.connections_per_address", Some(count), 1))
                .transpose()?,
            header_bytes,
            header_time: time("limits.header_time", self.header_time, "30s")?,
            body_stall: time("limits.body_stall", self.body_stall, "1m")?,
            minimum_rate: bytes("limits.minimum_rate", self.minimum_rate.as_deref().unwrap_or("256B"))?,
            socket_buffer,
            list_max: at_least_one("limits.list_max", self.list_max, 1000)?,
            manifest_descriptors: at_least_one(
                "limits.manifest_descriptors",
                self.manifest_descriptors,
                10_000,
            )?,
            uploads: at_least_one("limits.uploads", self.uploads, 1000)?,
            unfinished_uploads: names("limits.unfinished_uploads", self.unfinished_uploads, 10_000)?,
            tags_per_repository: names("limits.tags_per_repository", self.tags_per_repository, 100_000)?,
            names: names("limits.names", self.names, 1_000_000)?,
        })
    }
}

impl RawGc {
    fn validate(self, uploads: &RawUploads) -> Result<Gc, ConfigError> {
        Ok(Gc {
            interval: duration_or_off("gc.interval", self.interval.as_deref().unwrap_or("1h"))?,
            grace: duration("gc.grace", self.grace.as_deref().unwrap_or("1d"))?,
            uploads_expire: duration("uploads.expire", uploads.expire.as_deref().unwrap_or("1d"))?,
        })
    }
}

fn duration_or_off(key: &str, text: &str) -> Result<Option<Duration>, ConfigError> {
    match (text, duration(key, text)) {
        ("off", _) => Ok(None),
        (_, Ok(time)) if !time.is_zero() => Ok(Some(time)),
        _ => Err(wrong(key, text, "a duration like 30s, 5m or 1h, or off")),
    }
}

fn show_duration_or_off(time: Option<Duration>) -> String {
    time.map_or_else(|| "off".into(), show_duration)
}

impl RawService {
    fn validate(self) -> Result<Service, ConfigError> {
        Ok(Service {
            idle: duration_or_off("service.idle", self.idle.as_deref().unwrap_or("5m"))?,
            control: self.control.unwrap_or_else(|| "/run/holdfast/control.sock".into()),
        })
    }
}

impl RawLog {
    fn validate(self) -> Result<Log, ConfigError> {
        let text = self.level.as_deref().unwrap_or("info");
        // The names of registry:2 that differ.
        let lower = text.to_ascii_lowercase();
        let name = match lower.as_str() {
            "warning" => "warn",
            "fatal" | "panic" => "error",
            other => other,
        };
        let level = name.parse();
        let lines = self.lines_per_address.unwrap_or(500);
        if !(1..=1_000_000).contains(&lines) {
            return Err(wrong("log.lines_per_address", &lines.to_string(), "a number from 1 to 1000000"));
        }
        let format = match self.format.as_deref() {
            None | Some("text") => LogFormat::Text,
            Some("json") => LogFormat::Json,
            Some(other) => return Err(wrong("log.format", other, "text or json")),
        };
        Ok(Log {
            level: level.map_err(|_| wrong("log.level", text, "off, error, warn, info, debug or trace"))?,
            lines_per_address: lines,
            format,
            access: self.access.unwrap_or(true),
        })
    }
}

impl From<&Config> for Raw {
    fn from(config: &Config) -> Self {
        let (mode, certificate, key) = match &config.tls.mode {
            TlsMode::Off => ("off", None, None),
            TlsMode::Auto => ("auto", None, None),
            TlsMode::Files { certificate, key } => ("files", Some(certificate.clone()), Some(key.clone())),
        };
        let anonymous = config.auth.anonymous.map(|anonymous| match anonymous {
            Anonymous::None => "none",
            Anonymous::Pull => "pull",
            Anonymous::Full => "full",
        });
        let challenge = config.auth.challenge.map(|challenge| match challenge {
            Challenge::Basic => "basic",
            Challenge::Bearer => "bearer",
        });
        let headers = config.http.headers.iter();
        let limits = &config.limits;
        Raw {
            listen: Some(OneOrMany::Many(config.listen.iter().map(ToString::to_string).collect())),
            registry: RawRegistry {
                read_only: Some(config.registry.read_only),
                compatible_files: config.registry.compatible_files.clone(),
            },
            storage: RawStorage {
                path: Some(config.storage.path.clone()),
                delete: Some(config.storage.delete),
                index_map_size: Some(show_size(config.storage.index_map_size as u64)),
                reserve: config.storage.reserve.map(show_size),
                quota: config.storage.quota.map(show_size),
            },
            tls: RawTls {
                mode: Some(mode.into()),
                certificate,
                key,
                names: config.tls.names.clone(),
                client_ca: config.tls.client_ca.clone(),
                minimum: Some(
                    match config.tls.minimum {
                        MinimumTls::V1_2 => "1.2",
                        MinimumTls::V1_3 => "1.3",
                    }
                    .into(),
                ),
            },
            auth: RawAuth {
                realm: Some(config.auth.realm.clone()),
                htpasswd: config.auth.htpasswd_is_set.then(|| config.auth.htpasswd.clone()),
                anonymous: anonymous.map(Into::into),
                remember: Some(show_duration(config.auth.remember)),
                challenge: challenge.map(Into::into),
                token: Some(show_duration(config.auth.token)),
                rule: config.auth.rules.clone(),
            },
            http: RawHttp {
                external_url: config.http.external_url.clone(),
                trusted_proxies: config.http.trusted_proxies.iter().map(ToString::to_string).collect(),
                headers: headers.map(|(name, all)| (name.clone(), OneOrMany::Many(all.clone()))).collect(),
            },
            limits: RawLimits {
                connections: Some(limits.connections),
                connections_per_address: limits.connections_per_address,
                header_bytes: Some(show_size(limits.header_bytes as u64)),
                header_time: Some(show_duration(limits.header_time)),
                body_stall: Some(show_duration(limits.body_stall)),
                minimum_rate: Some(show_size(limits.minimum_rate)),
                socket_buffer: Some(show_size(limits.socket_buffer as u64)),
                list_max: Some(limits.list_max),
                manifest_descriptors: Some(limits.manifest_descriptors),
                uploads: Some(limits.uploads),
                unfinished_uploads: Some(limits.unfinished_uploads),
                tags_per_repository: Some(limits.tags_per_repository),
                names: Some(limits.names),
            },
            log: RawLog {
                level: Some(config.log.level.as_str().to_ascii_lowercase()),
                lines_per_address: Some(config.log.lines_per_address),
                format: Some(
                    match config.log.format {
                        LogFormat::Text => "text",
                        LogFormat::Json => "json",
                    }
                    .into(),
                ),
                access: Some(config.log.access),
            },
            gc: RawGc {
                interval: Some(show_duration_or_off(config.gc.interval)),
                grace: Some(show_duration(config.gc.grace)),
            },
            uploads: RawUploads { expire: Some(show_duration(config.gc.uploads_expire)) },
            service: RawService {
                idle: Some(show_duration_or_off(config.service.idle)),
                control: Some(config.service.control.clone()),
            },
            admin: RawAdmin::from(&config.admin),
            metrics: RawMetrics::from(&config.metrics),
            retention: config.retention.iter().map(RawRetention::from).collect(),
            immutable: config.immutable.iter().map(RawImmutable::from).collect(),
        }
    }
}
