//! Where the answer to an upload or a push says that it is to be found.

use std::net::{IpAddr, SocketAddr};

use http::HeaderMap;
use ipnet::IpNet;

use super::host::Host;

/// Makes the `Location` of answers: relative, unless the outside address is known.
#[derive(Clone, Debug, Default)]
pub struct Locations {
    /// The registry's address as clients see it, without a slash at its end.
    pub external_url: Option<String>,
    /// Whose `X-Forwarded-Proto` and `X-Forwarded-Host` are believed.
    pub trusted_proxies: Vec<IpNet>,
}

impl Locations {
    /// The location of a path, in an answer to what this peer has sent.
    pub fn of(&self, path: &str, headers: &HeaderMap, peer: IpAddr) -> String {
        if let Some(url) = &self.external_url {
            return format!("{}{path}", url.trim_end_matches('/'));
        }
        match self.forwarded(headers, peer) {
            Some((scheme, Some(host))) => format!("{scheme}://{host}{path}"),
            Some((_, None)) | None => path.to_owned(),
        }
    }

    /// The scheme and the host by which a client has called, as far as that is known: whether it is https, and what
    /// stands in its address line.
    pub fn called(&self, headers: &HeaderMap, peer: IpAddr, tls: bool) -> (bool, Option<String>) {
        if let Some((scheme, host)) = self.forwarded(headers, peer) {
            return (scheme == "https", host);
        }
        let host = headers.get("host").and_then(|host| host.to_str().ok());
        (tls || host.is_some_and(|host| self.is_external_tls(host)), host.map(str::to_owned))
    }

    /// Returns the scheme and the host that a trusted proxy passes on; no host where what it passes on is malformed.
    fn forwarded(&self, headers: &HeaderMap, peer: IpAddr) -> Option<(String, Option<String>)> {
        if !self.is_trusted(peer) {
            return None;
        }
        let first = |name| Some(headers.get(name)?.to_str().ok()?.split(',').next()?.trim().to_owned());
        let scheme = first("x-forwarded-proto").filter(|scheme| scheme == "http" || scheme == "https")?;
        let name = if headers.contains_key("x-forwarded-host") { "x-forwarded-host" } else { "host" };
        let host = first(name);
        Some((scheme, host.filter(|host| Host::parse(host).is_some())))
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
        let values = headers.get_all("x-forwarded-for").iter().rev();
        for hop in values.flat_map(|value| value.as_bytes().rsplit(|byte| *byte == b',')) {
            match std::str::from_utf8(hop).ok().and_then(|hop| hop_address(hop.trim())) {
                Some(hop) if self.is_trusted(hop) => {}
                Some(hop) => return hop,
                None => return peer,
            }
        }
        peer
    }
}

/// Parses a hop of `X-Forwarded-For`: an address, which may have brackets and a port.
fn hop_address(hop: &str) -> Option<IpAddr> {
    let bare = hop.strip_prefix('[').and_then(|hop| hop.strip_suffix(']'));
    match bare {
        Some(bare) => bare.parse().ok().map(IpAddr::V6),
        None => hop.parse().ok().or_else(|| Some(hop.parse::<SocketAddr>().ok()?.ip())),
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
        assert_eq!(locations.of("/v2/", &headers, proxy), "https://hub.lan/v2/");
        assert_eq!(locations.of("/v2/", &headers, stranger), "/v2/");
        assert_eq!(locations.client(&headers, proxy), "1.2.3.4".parse::<IpAddr>().unwrap());
        assert_eq!(locations.client(&headers, stranger), stranger);
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
