//! The status of the process that has opened the store, as JSON.

use serde::{Deserialize, Serialize};

use crate::registry::Registry;
use crate::store::{self, OwnerKind};

/// Status of the process that has opened the store.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct StatusReport {
    /// `serving`, or the impairment as `/readyz` reports it.
    pub state: String,
    /// The kind of the process.
    pub owner: OwnerKind,
    /// Release of the process.
    pub version: String,
    /// Absolute path of the data directory, without symbolic links.
    pub data: String,
    /// Uptime, in seconds.
    pub seconds: u64,
    /// Open connections to the registry.
    pub connections: usize,
    /// Active requests.
    pub requests: usize,
    /// Unfinished uploads.
    pub uploads: usize,
    /// Warning that the disk has not answered for a while.
    #[serde(default)]
    pub disk: Option<String>,
    /// True if this process has rebuilt the index and names may be lost.
    #[serde(default)]
    pub may_lack_names: bool,
    /// Fingerprint of the rules by which a daemon collects; a command has those of its own configuration.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub collection_rules: Option<String>,
    /// Identity of the registry; only in the answer to `GET status`.
    #[serde(flatten)]
    pub identity: Identity,
    /// Status of the store.
    #[serde(flatten)]
    pub store: store::Status,
}

/// Identity of a registry, as exports name it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Identity {
    /// Id of the registry, a UUID; `None` until it has one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
    /// Host of `http.external_url`, with its port.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub host: Option<String>,
}

/// Returns the host of `http.external_url`, with its port.
pub(super) fn external_host(registry: &Registry) -> Option<String> {
    host_of(registry.addresses.external_url.as_deref()?)
}

/// Returns host and port of a URL.
fn host_of(url: &str) -> Option<String> {
    let uri = url.parse::<http::Uri>().ok()?;
    uri.authority().map(|authority| authority.as_str().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn host_of_a_url_has_its_port() {
        assert_eq!(host_of("https://hub.lan:5000/").as_deref(), Some("hub.lan:5000"));
        assert_eq!(host_of("https://hub.lan/registry").as_deref(), Some("hub.lan"));
        assert_eq!(host_of("/registry"), None);
    }
}
