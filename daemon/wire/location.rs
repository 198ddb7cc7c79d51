//! Where the answer to an upload or a push says that it is to be found.

use std::net::IpAddr;

use http::HeaderMap;
use ipnet::IpNet;

use super::forwarded::{self, PassedHost};
use super::host::Host;

/// Makes the `Location` of answers, and says by which address a client has called.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Locations {
    /// The registry's address as clients see it, without a slash at its end.
    pub external_url: Option<String>,
    /// The proxies whose `X-Forwarded-*` and `Forwarded` headers are believed.
    pub trusted_proxies: Vec<IpNet>,
}

impl Locations {
    /// Returns the location of a path: absolute only if the configuration names the external address. A host or a port that
    /// a proxy passes on may be wrong, and a client would push to an address that does not exist; a relative location is
    /// right behind every proxy.
    pub fn of(&self, path: &str) -> String {
        match &self.external_url {
            Some(url) => format!("{}{path}", url.trim_end_matches('/')),
            None => path.to_owned(),
        }
    }

    /// The scheme and the host by which a client has called, as far as that is known: whether it is https, and what
    /// stands in its address line.
    pub fn called(&self, headers: &HeaderMap, peer: IpAddr, tls: bool) -> (bool, Option<String>) {
        let host = headers.get("host").and_then(|host| host.to_str().ok()).map(str::to_owned);
        let secure = tls || host.as_deref().is_some_and(|host| self.is_external_tls(host));
        if !self.is_trusted(peer) {
            return (secure, host);
        }
        let passed = forwarded::passed(headers);
        let secure = passed.https.unwrap_or(secure);
        let host = match passed.host {
            PassedHost::Valid(host) => Some(host),
            PassedHost::Invalid => None,
            PassedHost::Absent => host,
        };
        let default_port = if secure { 443 } else { 80 };
        let host = match (host, passed.port.filter(|port| *port != default_port)) {
            // Many proxies drop the port of the host and pass it on by itself.
            (Some(host), Some(port)) if Host::parse(&host).is_some_and(|host| host.has_no_port()) => {
                Some(format!("{}:{port}", host.trim_end_matches(':')))
            }
            (host, _) => host,
        };
        (secure, host)
    }

    /// Returns true for the address of a trusted proxy.
    pub fn is_trusted(&self, address: IpAddr) -> bool {
        self.trusted_proxies.iter().any(|network| network.contains(&address.to_canonical()))
    }

    /// Returns the address that sent a request: the peer, or the address that a trusted proxy names. Each proxy appends
    /// the address it was called from, so the list is read from its end. It is not read beyond a hop that is no address:
    /// the client itself may have sent the hops before it.
    pub fn client(&self, headers: &HeaderMap, peer: IpAddr) -> IpAddr {
        if !self.is_trusted(peer) {
            return peer;
        }
        for hop in forwarded::hops(headers) {
            match hop {
                Some(hop) if self.is_trusted(hop) => {}
                Some(hop) => return hop,
                None => return peer,
            }
        }
        peer
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn believes_only_trusted_proxies() {
        let locations =
            Locations { external_url: None, trusted_proxies: vec!["10.0.0.0/8".parse().unwrap()] };
        let mut headers = HeaderMap::new();
        headers.insert("x-forwarded-proto", "https".parse().unwrap());
        headers.insert("x-forwarded-host", "hub.lan".parse().unwrap());
        headers.insert("x-forwarded-for", "1.2.3.4, 10.9.9.9".parse().unwrap());
        let (proxy, stranger) = ("10.1.1.1".parse().unwrap(), "192.168.1.1".parse().unwrap());
        assert_eq!(locations.called(&headers, proxy, false), (true, Some("hub.lan".into())));
        assert_eq!(locations.called(&headers, stranger, false), (false, None));
        assert_eq!(locations.client(&headers, proxy), "1.2.3.4".parse::<IpAddr>().unwrap());
        assert_eq!(locations.client(&headers, stranger), stranger);
    }

    #[test]
    fn locations_are_relative_unless_the_external_address_is_named() {
        assert_eq!(Locations::default().of("/v2/"), "/v2/");
        let external = Locations { external_url: Some("https://hub.lan/x/".into()), ..Locations::default() };
        assert_eq!(external.of("/v2/"), "https://hub.lan/x/v2/");
    }

    #[test]
    fn scheme_host_and_port_come_from_the_proxy_as_far_as_it_passes_them_on() {
        let locations =
            Locations { external_url: None, trusted_proxies: vec!["10.0.0.0/8".parse().unwrap()] };
        let proxy = "10.1.1.1".parse().unwrap();
        for (pairs, secure, host) in [
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
            // The port of the host is the one that the client used.
            (&[("host", "hub.lan:5000"), ("x-forwarded-port", "80")], false, Some("hub.lan:5000")),
            (&[("host", "10.0.0.2"), ("x-forwarded-host", "hub.lan")], false, Some("hub.lan")),
            (&[("host", "10.0.0.2"), ("x-forwarded-host", "a b"), ("x-forwarded-port", "1")], false, None),
            (&[("host", "x"), ("forwarded", "proto=https;host=\"hub.lan:1\"")], true, Some("hub.lan:1")),
        ] {
            let mut headers = HeaderMap::new();
            for (name, value) in pairs {
                headers.insert(*name, value.parse().unwrap());
            }
            let called = locations.called(&headers, proxy, false);
            assert_eq!(called, (secure, host.map(str::to_owned)), "{pairs:?}");
        }
    }

    #[test]
    fn the_chain_of_proxies_is_read_up_to_a_hop_that_is_no_address() {
        let locations =
            Locations { external_url: None, trusted_proxies: vec!["10.0.0.0/8".parse().unwrap()] };
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
            let found = locations.client(&headers, proxy.parse().unwrap());
            assert_eq!(found, client.parse::<IpAddr>().unwrap(), "{values:?}");
        }
    }
}
