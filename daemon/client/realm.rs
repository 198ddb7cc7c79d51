//! The token servers that may see the credentials.
//!
//! A registry names its token server itself, so that a registry that was taken over, or one that passes on answers of others,
//! could name any. A registrable domain is not a criterion: hosts below `example.com` may belong to different parties.

use super::docker_hub;
use crate::egress::{HostName, Origin, Scheme, Target};

/// Token servers of well-known registries on other hosts.
const KNOWN: [(&str, &str); 1] = [(docker_hub::REGISTRY, docker_hub::TOKEN_SERVER)];

/// Returns true if the token server gets the credentials for a registry.
pub(super) fn is_trusted(realm: &Target, registry: &Origin, named: &[HostName]) -> bool {
    let is_own = realm.origin.host == registry.host;
    match realm.origin.scheme {
        // The operator has permitted plain HTTP for the registry, not for other hosts.
        Scheme::Http => registry.scheme == Scheme::Http && is_own,
        Scheme::Https => {
            let is_known = realm.origin.port == 443
                && KNOWN.contains(&(registry.host.as_str(), realm.origin.host.as_str()));
            is_own || is_known || named.iter().any(|host| host.matches(&realm.origin))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn trusts(realm: &str, registry: &str, named: &[&str]) -> bool {
        let named: Vec<HostName> = named.iter().map(|host| host.parse().unwrap()).collect();
        is_trusted(&Target::parse(realm).unwrap(), &Target::parse(registry).unwrap().origin, &named)
    }

    #[test]
    fn own_known_and_named_token_servers_are_trusted() {
        assert!(trusts("https://hub.lan/token", "https://hub.lan:5000/", &[]));
        assert!(trusts("https://auth.docker.io/token", "https://registry-1.docker.io/", &[]));
        assert!(trusts("https://gitlab.lan/jwt/auth", "https://hub.lan/", &["gitlab.lan"]));
        assert!(trusts("http://hub.lan:5001/token", "http://hub.lan:5000/", &[]));
    }

    #[test]
    fn other_token_servers_are_not() {
        for (realm, registry, named) in [
            ("https://auth.hub.lan/", "https://hub.lan/", &[][..]),
            ("https://hub.lan.evil/", "https://hub.lan/", &[]),
            ("https://auth.docker.io/", "https://hub.lan/", &[]),
            ("https://auth.docker.io:444/", "https://registry-1.docker.io/", &[]),
            ("http://hub.lan/", "https://hub.lan/", &[]),
            ("http://gitlab.lan/", "https://hub.lan/", &["gitlab.lan"]),
            ("http://gitlab.lan/", "http://hub.lan/", &["gitlab.lan"]),
            ("https://gitlab.lan:8443/", "https://hub.lan/", &["gitlab.lan:443"]),
        ] {
            assert!(!trusts(realm, registry, named), "{realm} of {registry}");
        }
        // A user in the URL would be read as the host by some parsers.
        assert!(Target::parse("https://hub.lan@evil/").is_err());
    }
}
