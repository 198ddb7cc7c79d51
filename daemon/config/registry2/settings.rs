//! Every setting of registry:2 (distribution 2.8 and 3.0), and what becomes of it here. `docs/from-registry-2.md` has the
//! same list for people; a test compares the two.

use super::readers::{self, Reader};
use super::users;

/// What becomes of a setting.
pub(super) enum Meaning {
    /// It sets this key of Holdfast.
    Sets(&'static str),
    /// It has the effect that it has there; a function reads it.
    Read(Reader),
    /// A function names it in a warning, unless it asks for what is so anyway.
    IgnoredUnless(Reader),
    /// A function refuses it, unless it asks for what is so anyway.
    RefusedUnless(Reader),
    /// It has no effect, and needs none: what it asks for is so, or does not exist here.
    Moot,
    /// It has no effect, and a warning says why.
    Ignored(&'static str),
    /// The daemon does not start with it, for this reason.
    Refused(&'static str),
}

use Meaning::{Ignored, IgnoredUnless, Moot, Read, Refused, RefusedUnless, Sets};

const ELSEWHERE: &str = "Holdfast keeps content in a directory of this machine only, and would not find what is there; \
    remove it, and copy the images over from a registry:2 that still runs with it (skopeo sync, crane copy)";
pub(super) const OTHER_DRIVER: &str =
    "Holdfast keeps content in a directory of this machine only; use the storage driver filesystem";
const IN_MEMORY: &str = "Holdfast always keeps content on a disk; use the storage driver filesystem, with a directory on a \
    tmpfs if nothing should survive";
pub(super) const OTHER_USERS: &str = "Holdfast has users in an htpasswd file only, and would be open or closed to the wrong clients; use \
    REGISTRY_AUTH=htpasswd";
const TOKENS: &str = "Holdfast does not accept the tokens of another server, and would be open or closed to the wrong \
    clients; use REGISTRY_AUTH=htpasswd";
const MIRROR: &str = "Holdfast is no pull-through cache yet, so that images of the other registry would not be found; push \
    to it what is to be pulled from it";
const NO_EVENTS: &str = "no notifications are sent";
const NO_DEBUG: &str = "there is no debug server on a port of its own";
const NO_URL_RULES: &str = "which URLs foreign layers name is not looked at";
const NO_PLATFORM_RULES: &str = "an index is accepted when one of its manifests is there";
const OTHER_CHECKS: &str = "only the registry's own disk is watched";
const NO_SCHEMA_1: &str = "manifests of Docker's schema 1 are refused";
const NO_REPORTS: &str = "nothing is reported to other services";
const NO_REDIS: &str = "nothing is cached in redis";

/// The settings, by their place in the configuration file. `.*` stands for everything below.
pub(super) const SETTINGS: &[(&str, Meaning)] = &[
    ("version", Read(readers::version)),
    ("log.accesslog.disabled", Read(readers::access_log)),
    ("log.level", Sets("log.level")),
    ("log.formatter", Read(readers::formatter)),
    ("log.fields.*", Ignored("no fields are added to lines of the log")),
    ("log.hooks.*", Ignored("no mail is sent for lines of the log")),
    ("log.reportcaller", Ignored("lines of the log do not name their place in the code")),
    ("loglevel", Read(readers::old_log_level)),
    ("storage.filesystem", Read(readers::filesystem)),
    ("storage.filesystem.rootdirectory", Sets("storage.path")),
    ("storage.filesystem.maxthreads", Moot),
    ("storage.azure.*", Refused(ELSEWHERE)),
    ("storage.gcs.*", Refused(ELSEWHERE)),
    ("storage.s3.*", Refused(ELSEWHERE)),
    ("storage.s3aws.*", Refused(ELSEWHERE)),
    ("storage.swift.*", Refused(ELSEWHERE)),
    ("storage.oss.*", Refused(ELSEWHERE)),
    ("storage.inmemory.*", Refused(IN_MEMORY)),
    ("storage.delete.enabled", Sets("storage.delete")),
    ("storage.redirect.disable", Moot),
    ("storage.cache.*", Moot),
    ("storage.tag.concurrencylimit", Moot),
    ("storage.maintenance.uploadpurging.enabled", IgnoredUnless(readers::purging)),
    ("storage.maintenance.uploadpurging.age", Read(readers::purging_age)),
    ("storage.maintenance.uploadpurging.interval", Moot),
    ("storage.maintenance.uploadpurging.dryrun", Ignored("unfinished uploads are removed when they expire")),
    ("storage.maintenance.readonly.enabled", Sets("registry.read_only")),
    ("auth.htpasswd", Read(users::htpasswd)),
    ("auth.htpasswd.realm", Read(users::realm)),
    ("auth.htpasswd.path", Read(users::path)),
    ("auth.none.*", Read(users::none)),
    ("auth.token.*", Refused(TOKENS)),
    ("auth.silly.*", Refused(OTHER_USERS)),
    ("middleware.*", Ignored("there are no middlewares")),
    ("reporting.*", Ignored(NO_REPORTS)),
    ("http.addr", Sets("listen")),
    ("http.net", Read(readers::network)),
    ("http.host", Read(readers::host)),
    ("http.prefix", RefusedUnless(readers::prefix)),
    ("http.secret", Moot),
    ("http.relativeurls", Moot),
    ("http.draintimeout", IgnoredUnless(readers::drain)),
    ("http.tls.certificate", Read(readers::certificate)),
    ("http.tls.key", Read(readers::key)),
    ("http.tls.clientcas", Sets("tls.client_ca")),
    ("http.tls.clientauth", Read(readers::client_auth)),
    ("http.tls.minimumtls", Read(readers::minimum_tls)),
    ("http.tls.ciphersuites", Ignored("the cipher suites are those of rustls, none of which is weak")),
    ("http.tls.letsencrypt.*", RefusedUnless(readers::lets_encrypt)),
    ("http.headers", Read(readers::headers)),
    ("http.headers.*", Read(readers::header)),
    ("http.debug.addr", Ignored(NO_DEBUG)),
    ("http.debug.prometheus.*", Ignored(NO_DEBUG)),
    ("http.http2.disabled", Moot),
    ("http.h2c.enabled", Moot),
    ("notifications.events.includereferences", Ignored(NO_EVENTS)),
    ("notifications.endpoints.*", Ignored(NO_EVENTS)),
    ("redis.*", Ignored(NO_REDIS)),
    ("health.storagedriver.*", Moot),
    ("health.file.*", Ignored(OTHER_CHECKS)),
    ("health.http.*", Ignored(OTHER_CHECKS)),
    ("health.tcp.*", Ignored(OTHER_CHECKS)),
    ("catalog.maxentries", Read(readers::most_entries)),
    ("proxy.remoteurl", Refused(MIRROR)),
    ("proxy.*", Moot),
    ("compatibility.schema1.*", Ignored(NO_SCHEMA_1)),
    ("validation.enabled", Ignored(NO_URL_RULES)),
    ("validation.disabled", Moot),
    ("validation.manifests.urls.*", Ignored(NO_URL_RULES)),
    ("validation.manifests.indexes.*", Ignored(NO_PLATFORM_RULES)),
    ("policy.repository.classes", Ignored("repositories have no classes")),
];

/// Settings whose name in the environment is that of a field in the program and not that in the file.
pub(super) const OTHER_NAMES: &[(&str, &str)] = &[
    ("notifications.eventconfig", "notifications.events"),
    ("health.filecheckers", "health.file"),
    ("health.httpcheckers", "health.http"),
    ("health.tcpcheckers", "health.tcp"),
];

/// Returns the meaning of the setting at a place, by the entry that says most about it.
pub(super) fn meaning(place: &str) -> Option<&'static Meaning> {
    let exact = SETTINGS.iter().find(|(known, _)| *known == place);
    let below = SETTINGS.iter().filter(|(known, _)| {
        let section = known.strip_suffix(".*");
        section.is_some_and(|section| place == section || is_below(place, section))
    });
    exact.or_else(|| below.max_by_key(|(known, _)| known.len())).map(|(_, meaning)| meaning)
}

/// Returns true if settings are below a place, so that it is a section.
pub(super) fn is_section(place: &str) -> bool {
    let mut named = SETTINGS.iter().map(|(known, _)| known.strip_suffix(".*").unwrap_or(known));
    place.is_empty() || named.any(|known| is_below(known, place))
}

/// Returns true if the driver, or the kind of users, that a place names is known.
pub(super) fn is_known_kind(place: &str) -> bool {
    let end = place.match_indices('.').nth(1).map_or(place.len(), |(at, _)| at);
    let kind = &place[..end];
    SETTINGS.iter().any(|(known, _)| *known == kind || is_below(known, kind))
}

/// Returns true if a place is in a section or one of its sections.
pub(super) fn is_below(place: &str, section: &str) -> bool {
    place.strip_prefix(section).is_some_and(|rest| rest.starts_with('.'))
}
