//! Where the answer to an upload or a push says that it is to be found.

use std::net::IpAddr;

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

    /// Who sent a request: the peer, or whom a trusted proxy names.
    pub fn client(&self, headers: &HeaderMap, peer: IpAddr) -> IpAddr {
        if !self.is_trusted(peer) {
            return peer;
        }
        let chain = headers.get_all("x-forwarded-for").iter().filter_map(|value| value.to_str().ok());
        let hops: Vec<IpAddr> =
            chain.flat_map(|value| value.split(',')).filter_map(|hop| hop.trim().parse().ok()).collect();
        hops.iter().rev().copied().find(|hop| !self.is_trusted(*hop)).unwrap_or(peer)
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
}
