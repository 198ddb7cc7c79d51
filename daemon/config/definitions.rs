//! All sections in the order of the file, and lookups of keys by their names.

use super::given::Given;
use super::key::{Key, Section};
use super::keys::{access, admin, events, import, limits, network, operation, storage, tags};
use super::problem::Problem;
use super::settings::Config;
use super::suggest::suggest;

/// All sections. One without a name has keys outside of sections: plain ones come first, as TOML demands.
pub(super) static SECTIONS: [Section<Config>; 17] = [
    network::TOP,
    storage::REGISTRY,
    storage::STORAGE,
    network::TLS,
    access::AUTH,
    network::HTTP,
    limits::LIMITS,
    operation::LOG,
    operation::GC,
    operation::CHECK,
    operation::UPLOADS,
    events::EVENTS,
    import::IMPORT,
    network::SERVICE,
    admin::ADMIN,
    admin::METRICS,
    tags::TAGS,
];

/// Combines and checks settings that depend on several keys, each of which is valid by itself.
pub(super) fn finish(config: &mut Config, given: &Given, problems: &mut Vec<Problem>) {
    network::finish_tls(config, given, problems);
    access::finish_auth(config);
}

pub(super) fn keys() -> impl Iterator<Item = &'static Key<Config>> {
    SECTIONS.iter().flat_map(|section| section.keys)
}

impl Config {
    /// Returns the keys that a new configuration changes and that take effect only at the next restart.
    pub fn keys_changed_until_restart<'a>(&'a self, new: &'a Config) -> impl Iterator<Item = &'static str> {
        let changed = keys().filter(|key| key.restart && (key.show)(self) != (key.show)(new));
        changed.map(|key| key.name)
    }
}

/// Returns the definition of a key by its full name.
pub(super) fn key(name: &str) -> Option<&'static Key<Config>> {
    keys().find(|key| key.name == name)
}

pub(super) fn is_section(name: &str) -> bool {
    !name.is_empty() && SECTIONS.iter().any(|section| section.name == name)
}

/// Returns the key or the section that an unknown name most likely means.
pub(super) fn suggest_key(name: &str) -> Option<&'static str> {
    let sections = SECTIONS.iter().map(|section| section.name).filter(|section| !section.is_empty());
    suggest(name, keys().map(|key| key.name).chain(sections))
}
