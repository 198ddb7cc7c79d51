//! Addresses of the registry and of its clients: the origin that a client called, the `Location` of responses, and the
//! address of a client behind trusted proxies.
//!
//! Headers of proxies count only from an address in `http.trusted_proxies`; from any other peer they are ignored.

use std::net::IpAddr;

use http::HeaderMap;
use ipnet::IpNet;

use super::forwarded::{self, ForwardedHost};
use super::host::Host;
use super::origin::Origin;

/// Settings that map a connection to the addresses that client and registry have for each other.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Addresses {
    /// `http.external_url`: the URL of the registry as clients see it, with or without a slash at the end.
    pub external_url: Option<String>,
    /// `http.trusted_proxies`: the proxies whose `X-Forwarded-*` and `Forwarded` headers count.
    pub trusted_proxies: Vec<IpNet>,
}

/// Origin of the target URI (RFC 9110 section 7.1): the scheme and the host by which the client called.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TargetOrigin {
    /// True if the client speaks TLS, to the registry or to a proxy.
    pub https: bool,
    /// Host and port as in the client's URL; `None` if they are unknown. Not checked against the grammar of `Host`.
    pub host: Option<String>,
}

impl Addresses {
    /// Returns the value of `Location` for a path. It is absolute only with `http.external_url`: a host or a port that
    /// a proxy forwards may be wrong, and a client would push to an address that does not exist. A relative location is
    /// right behind every proxy.
    pub fn location(&self, path: &str) -> String {
        match &self.external_url {
            Some(url) => format!("{}{path}", url.trim_end_matches('/')),
            None => path.to_owned(),
        }
    }

    /// Returns the origin that a client called, from `Host` and from the headers of a trusted proxy.
    pub fn target_origin(&self, headers: &HeaderMap, peer: IpAddr, tls: bool) -> TargetOrigin {
        let host = headers.get("host").and_then(|host| host.to_str().ok()).map(str::to_owned);
        let https = tls || host.as_deref().is_some_and(|host| self.is_external_https(host));
        if !self.is_trusted_proxy(peer) {
            return TargetOrigin { https, host };
        }
        let forwarded = forwarded::target(headers);
        let https = forwarded.https.unwrap_or(https);
        let host = match forwarded.host {
            ForwardedHost::Valid(host) => Some(host),
            ForwardedHost::Invalid => None,
            ForwardedHost::Absent => host,
        };
        let default_port = if https { 443 } else { 80 };
        let host = match (host, forwarded.port.filter(|port| *port != default_port)) {
            // Many proxies drop the port from the host and forward it in a header of its own.
            (Some(host), Some(port)) if Host::parse(&host).is_some_and(|host| host.has_no_port()) => {
                Some(format!("{}:{port}", host.trim_end_matches(':')))
            }
            (host, _) => host,
        };
        TargetOrigin { https, host }
    }

    /// Returns true if an address is that of a trusted proxy.
    pub fn is_trusted_proxy(&self, address: IpAddr) -> bool {
        self.trusted_proxies.iter().any(|network| network.contains(&address.to_canonical()))
    }

    /// Returns the address of the client: the peer, or the address that a trusted proxy forwards. Each proxy appends
    /// the address of its own peer, so that the list is read from its end. Reading stops at a hop that is not an
    /// address: the client itself may have sent the hops before it.
    pub fn client_address(&self, headers: &HeaderMap, peer: IpAddr) -> IpAddr {
        if !self.is_trusted_proxy(peer) {
            return peer;
        }
        for hop in forwarded::hops(headers) {
            match hop {
                Some(hop) if self.is_trusted_proxy(hop) => {}
                Some(hop) => return hop,
                None => return peer,
            }
        }
        peer
    }

    /// Returns true if `host` is that of `http.external_url`, and that URL is https.
    fn is_external_https(&self, host: &str) -> bool {
        let external = self.external_url.as_deref().and_then(Origin::of);
        external.is_some_and(|external| external.https && external.has_host(host))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn target(https: bool, host: Option<&str>) -> TargetOrigin {
        TargetOrigin { https, host: host.map(str::to_owned) }
    }

    #[test]
    fn forwarding_headers_count_only_from_trusted_proxies() {
        let addresses =
            Addresses { external_url: None, trusted_proxies: vec!["10.0.0.0/8".parse().unwrap()] };
        let mut headers = HeaderMap::new();
        headers.insert("x-forwarded-proto", "https".parse().unwrap());
        headers.insert("x-forwarded-host", "hub.lan".parse().unwrap());
        headers.insert("x-forwarded-for", "1.2.3.4, 10.9.9.9".parse().unwrap());
        let (proxy, other) = ("10.1.1.1".parse().unwrap(), "192.168.1.1".parse().unwrap());
        assert_eq!(addresses.target_origin(&headers, proxy, false), target(true, Some("hub.lan")));
        assert_eq!(addresses.target_origin(&headers, other, false), target(false, None));
        assert_eq!(addresses.client_address(&headers, proxy), "1.2.3.4".parse::<IpAddr>().unwrap());
        assert_eq!(addresses.client_address(&headers, other), other);
    }

    #[test]
    fn locations_are_relative_without_an_external_url() {
        assert_eq!(Addresses::default().location("/v2/"), "/v2/");
        let external = Addresses { external_url: Some("https://hub.lan/x/".into()), ..Addresses::default() };
        assert_eq!(external.location("/v2/"), "https://hub.lan/x/v2/");
    }

    #[test]
    fn scheme_host_and_port_come_from_the_proxy_where_it_forwards_them() {
        let addresses =
            Addresses { external_url: None, trusted_proxies: vec!["10.0.0.0/8".parse().unwrap()] };
        let proxy = "10.1.1.1".parse().unwrap();
        for (pairs, https, host) in [
            (&[("host", "hub.lan")][..], false, Some("hub.lan")),
            (&[("host", "hub.lan"), ("x-forwarded-proto", "https")], true, Some("hub.lan")),
            (&[("host", "hub.lan"), ("x-forwarded-port", "8443")], false, Some("hub.lan:8443")),
            (
                &[("host", "[::1]:"), ("x-forwarded-proto", "https"), ("x-forwarded-port", "8443")],
                true,
                Some("[::1]:8443"),
            ),
            (
                &[("host", "hub.lan"), ("x-forwarded-proto", "https"), ("x-forwarded-port", "443")],
                true,
                Some("hub.lan"),
            ),
            // The port in the host is the one that the client used.
            (&[("host", "hub.lan:5000"), ("x-forwarded-port", "80")], false, Some("hub.lan:5000")),
            (&[("host", "10.0.0.2"), ("x-forwarded-host", "hub.lan")], false, Some("hub.lan")),
            (&[("host", "10.0.0.2"), ("x-forwarded-host", "a b"), ("x-forwarded-port", "1")], false, None),
            (&[("host", "x"), ("forwarded", "proto=https;host=\"hub.lan:1\"")], true, Some("hub.lan:1")),
        ] {
            let mut headers = HeaderMap::new();
            for (name, value) in pairs {
                headers.insert(*name, value.parse().unwrap());
            }
            assert_eq!(addresses.target_origin(&headers, proxy, false), target(https, host), "{pairs:?}");
        }
    }

    #[test]
    fn the_chain_of_proxies_is_read_from_its_end_up_to_a_hop_that_is_not_an_address() {
        let addresses =
            Addresses { external_url: None, trusted_proxies: vec!["10.0.0.0/8".parse().unwrap()] };
        let proxy = "10.1.1.1";
        for (values, client) in [
            (&["1.2.3.4"][..], "1.2.3.4"),
            (&["1.2.3.4:5678"], "1.2.3.4"),
            (&["fd00::7"], "fd00::7"),
            (&["[fd00::7]"], "fd00::7"),
            (&["[fd00::7]:5678"], "fd00::7"),
            (&["9.9.9.9, 1.2.3.4:80 , 10.9.9.9:80"], "1.2.3.4"),
            (&["9.9.9.9", "1.2.3.4", "10.9.9.9"], "1.2.3.4"),
            // The client may have sent the hops before the one that cannot be read.
            (&["1.2.3.4, unknown"], proxy),
            (&["1.2.3.4, unknown, 10.9.9.9"], proxy),
            (&["1.2.3.4", "unix:"], proxy),
            (&["1.2.3.4, "], proxy),
            (&["1.2.3.4, \u{e9}"], proxy),
            (&["1.2.3.4, [1.2.3.4]"], proxy),
            (&["1.2.3.4, [fd00::7"], proxy),
            (&["1.2.3.4, 1.2.3.4:99999"], proxy),
            (&["10.9.9.9"], proxy),
            (&[""], proxy),
            (&[], proxy),
        ] {
            let mut headers = HeaderMap::new();
            for value in values {
                headers.append("x-forwarded-for", http::HeaderValue::from_bytes(value.as_bytes()).unwrap());
            }
            let found = addresses.client_address(&headers, proxy.parse().unwrap());
            assert_eq!(found, client.parse::<IpAddr>().unwrap(), "{values:?}");
        }
    }

    #[test]
    fn the_scheme_of_the_external_url_counts_for_its_host_only() {
        let addresses = |url: &str| Addresses { external_url: Some(url.into()), ..Addresses::default() };
        assert!(addresses("https://hub.lan/x").is_external_https("hub.lan"));
        assert!(addresses("https://hub.lan:5000").is_external_https("HUB.lan:5000"));
        assert!(!addresses("https://hub.lan").is_external_https("hub.lan:5000"));
        assert!(!addresses("http://hub.lan").is_external_https("hub.lan"));
        assert!(!Addresses::default().is_external_https("hub.lan"));
    }
}
