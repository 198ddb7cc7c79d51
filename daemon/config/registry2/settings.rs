//! Every setting of registry:2 (distribution 2.8 and 3.0), and its effect here. `docs/how-to/from-registry-2.md` has the same
//! list for operators; a test compares the two.

use super::place::is_below;
use super::readers::{self, Reader};
use super::users;

/// The effect of a setting.
pub(super) enum Effect {
    /// Sets this key of Holdfast.
    Sets(&'static str),
    /// Has the same effect as in registry:2; a function reads it.
    Read(Reader),
    /// A function names it in a warning, unless its value asks for the behaviour that Holdfast has anyway.
    IgnoredUnless(Reader),
    /// A function refuses it, unless its value asks for the behaviour that Holdfast has anyway.
    RefusedUnless(Reader),
    /// Has no effect and no warning: Holdfast behaves like this anyway, or lacks the part that the setting is about.
    NotNeeded,
    /// Has no effect, and a warning gives this reason.
    Ignored(&'static str),
    /// The daemon does not start with it, for this reason.
    Refused(&'static str),
}

use Effect::{Ignored, IgnoredUnless, NotNeeded, Read, Refused, RefusedUnless, Sets};

const ELSEWHERE: &str = "Holdfast stores content in a directory of this machine only and would not find the content that is \
    there; remove this setting, and copy the images from a running registry:2 (skopeo sync, crane copy)";
pub(super) const OTHER_DRIVER: &str =
    "Holdfast stores content in a directory of this machine only; use the storage driver filesystem";
const IN_MEMORY: &str = "Holdfast always stores content on a disk; use the storage driver filesystem, with a directory on a \
    tmpfs if no content should survive";
pub(super) const OTHER_USERS: &str = "Holdfast knows only users in an htpasswd file, so that the registry would be open or closed to \
    the wrong clients; use REGISTRY_AUTH=htpasswd";
const TOKENS: &str = "Holdfast does not accept the tokens of another server, so that the registry would be open or closed to \
    the wrong clients; use REGISTRY_AUTH=htpasswd";
const MIRROR: &str = "Holdfast is not a pull-through cache, so that images of the other registry would not be found; push \
    the images that clients pull";
const NO_EVENTS: &str = "Holdfast sends no notifications";
const NO_DEBUG: &str = "Holdfast has no debug server";
const NO_URL_RULES: &str = "Holdfast does not check the URLs of foreign layers";
const NO_PLATFORM_RULES: &str = "Holdfast accepts an index as soon as one of its manifests is present";
const OTHER_CHECKS: &str = "Holdfast checks only its own disk";
const NO_SCHEMA_1: &str = "Holdfast refuses manifests of Docker schema 1";
const NO_REPORTS: &str = "Holdfast reports nothing to other services";
const NO_REDIS: &str = "Holdfast caches nothing in redis";

/// The settings by their place in the file. `.*` stands for all settings below a place.
pub(super) const SETTINGS: &[(&str, Effect)] = &[
    ("version", Read(readers::version)),
    ("log.accesslog.disabled", Read(readers::access_log)),
    ("log.level", Sets("log.level")),
    ("log.formatter", Read(readers::formatter)),
    ("log.fields.*", Ignored("Holdfast adds no fields to log lines")),
    ("log.hooks.*", Ignored("Holdfast sends no mail for log lines")),
    ("log.reportcaller", Ignored("log lines do not name the calling function")),
    ("loglevel", Read(readers::old_log_level)),
    ("storage.filesystem", Read(readers::filesystem)),
    ("storage.filesystem.rootdirectory", Sets("storage.path")),
    ("storage.filesystem.maxthreads", NotNeeded),
    ("storage.azure.*", Refused(ELSEWHERE)),
    ("storage.gcs.*", Refused(ELSEWHERE)),
    ("storage.s3.*", Refused(ELSEWHERE)),
    ("storage.s3aws.*", Refused(ELSEWHERE)),
    ("storage.swift.*", Refused(ELSEWHERE)),
    ("storage.oss.*", Refused(ELSEWHERE)),
    ("storage.inmemory.*", Refused(IN_MEMORY)),
    ("storage.delete.enabled", Sets("storage.delete")),
    ("storage.redirect.disable", NotNeeded),
    ("storage.cache.*", NotNeeded),
    ("storage.tag.concurrencylimit", NotNeeded),
    ("storage.maintenance.uploadpurging.enabled", IgnoredUnless(readers::purging)),
    ("storage.maintenance.uploadpurging.age", Read(readers::purging_age)),
    ("storage.maintenance.uploadpurging.interval", NotNeeded),
    (
        "storage.maintenance.uploadpurging.dryrun",
        Ignored("Holdfast removes unfinished uploads when they expire"),
    ),
    ("storage.maintenance.readonly.enabled", Sets("registry.read_only")),
    ("auth.htpasswd", Read(users::htpasswd)),
    ("auth.htpasswd.realm", Read(users::realm)),
    ("auth.htpasswd.path", Read(users::path)),
    ("auth.none.*", Read(users::none)),
    ("auth.token.*", Refused(TOKENS)),
    ("auth.silly.*", Refused(OTHER_USERS)),
    ("middleware.*", Ignored("Holdfast has no middleware")),
    ("reporting.*", Ignored(NO_REPORTS)),
    ("http.addr", Sets("listen")),
    ("http.net", Read(readers::network)),
    ("http.host", Read(readers::host)),
    ("http.prefix", RefusedUnless(readers::prefix)),
    ("http.secret", NotNeeded),
    ("http.relativeurls", NotNeeded),
    ("http.draintimeout", IgnoredUnless(readers::drain)),
    ("http.tls.certificate", Read(readers::certificate)),
    ("http.tls.key", Read(readers::key)),
    ("http.tls.clientcas", Sets("tls.client_ca")),
    ("http.tls.clientauth", Read(readers::client_auth)),
    ("http.tls.minimumtls", Read(readers::minimum_tls)),
    ("http.tls.ciphersuites", Ignored("Holdfast uses the cipher suites of rustls, all of which are strong")),
    ("http.tls.letsencrypt.*", RefusedUnless(readers::lets_encrypt)),
    ("http.headers", Read(readers::headers)),
    ("http.headers.*", Read(readers::header)),
    ("http.debug.addr", Ignored(NO_DEBUG)),
    ("http.debug.prometheus.*", Ignored(NO_DEBUG)),
    ("http.http2.disabled", NotNeeded),
    ("http.h2c.enabled", NotNeeded),
    ("notifications.events.includereferences", Ignored(NO_EVENTS)),
    ("notifications.endpoints.*", Ignored(NO_EVENTS)),
    ("redis.*", Ignored(NO_REDIS)),
    ("health.storagedriver.*", NotNeeded),
    ("health.file.*", Ignored(OTHER_CHECKS)),
    ("health.http.*", Ignored(OTHER_CHECKS)),
    ("health.tcp.*", Ignored(OTHER_CHECKS)),
    ("catalog.maxentries", Read(readers::most_entries)),
    ("proxy.remoteurl", Refused(MIRROR)),
    ("proxy.*", NotNeeded),
    ("compatibility.schema1.*", Ignored(NO_SCHEMA_1)),
    ("validation.enabled", Ignored(NO_URL_RULES)),
    ("validation.disabled", NotNeeded),
    ("validation.manifests.urls.*", Ignored(NO_URL_RULES)),
    ("validation.manifests.indexes.*", Ignored(NO_PLATFORM_RULES)),
    ("policy.repository.classes", Ignored("repositories have no classes here")),
];

/// Returns the effect of the setting at a place, by the most specific entry.
pub(super) fn effect(place: &str) -> Option<&'static Effect> {
    let exact = SETTINGS.iter().find(|(known, _)| *known == place);
    let below = SETTINGS.iter().filter(|(known, _)| {
        let section = known.strip_suffix(".*");
        section.is_some_and(|section| place == section || is_below(place, section))
    });
    exact.or_else(|| below.max_by_key(|(known, _)| known.len())).map(|(_, effect)| effect)
}

/// Returns true if there are settings below a place, so that it is a section.
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
