//! By which name a client calls the registry, and from which page a browser sends something.

use std::net::IpAddr;

use http::HeaderMap;

use super::location::Locations;

/// What no name of the public DNS ends with.
const LOCAL: [&str; 6] = [".localhost", ".local", ".lan", ".internal", ".home.arpa", ".test"];

impl Locations {
    /// Whether a URL is of a page of this registry, which is called by `host`.
    pub fn is_own(&self, url: &str, host: Option<&str>) -> bool {
        let Some(origin) = Origin::of(url) else { return false };
        let external = self.external_url.as_deref().and_then(Origin::of);
        let called = host.is_some_and(|host| origin.is_at(host));
        called || external.is_some_and(|external| origin.is_at(external.host))
    }

    /// Whether `host` is that of an external address that is protected by TLS.
    pub(super) fn is_external_tls(&self, host: &str) -> bool {
        let external = self.external_url.as_deref().and_then(Origin::of);
        external.is_some_and(|external| external.default_port == ":443" && external.is_at(host))
    }

    /// Whether a client calls the registry by an address, or by a name that only a LAN can have. A page of anybody's may
    /// let its own name point at this machine, and is then in the eyes of a browser a page of this registry.
    pub fn is_called_locally(&self, headers: &HeaderMap, peer: IpAddr) -> bool {
        // What is no text is no name of a LAN either.
        !headers.contains_key("host") || {
            self.called(headers, peer, false).1.is_some_and(|host| is_local(name(&host)))
        }
    }
}

/// Scheme, host and port of a URL; the rest of it does not matter.
struct Origin<'a> {
    host: &'a str,
    /// The port that browsers leave out.
    default_port: &'static str,
}

impl<'a> Origin<'a> {
    fn of(url: &'a str) -> Option<Self> {
        let (scheme, rest) = url.split_once("://")?;
        let host = rest.split(['/', '?', '#']).next().filter(|host| !host.is_empty())?;
        let default_port = if scheme.eq_ignore_ascii_case("https") { ":443" } else { ":80" };
        Some(Origin { host, default_port })
    }

    fn is_at(&self, host: &str) -> bool {
        let short = |host: &str| host.strip_suffix(self.default_port).unwrap_or(host).to_ascii_lowercase();
        let own = short(self.host);
        !own.is_empty() && own == short(host)
    }
}

/// The name or the address in a `Host` header, without its port.
fn name(host: &str) -> &str {
    match host.strip_prefix('[') {
        Some(rest) => rest.split_once(']').map_or(rest, |(address, _)| address),
        None => host.split_once(':').map_or(host, |(name, _)| name),
    }
}

fn is_local(name: &str) -> bool {
    let name = name.strip_suffix('.').unwrap_or(name).to_ascii_lowercase();
    let is_address = name.parse::<IpAddr>().is_ok();
    is_address || !name.contains('.') || LOCAL.iter().any(|end| name.ends_with(end))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_that_anybody_can_have_is_not_local() {
        for host in [
            "127.0.0.1:5000",
            "192.168.1.7",
            "[::1]:5000",
            "[fe80::1]",
            "localhost",
            "LOCALHOST:5000",
            "a.localhost",
            "pi",
            "pi:5000",
            "pi.local.",
            "hub.lan:5000",
            "host.docker.internal",
            "pi.home.arpa",
            "x.test",
        ] {
            assert!(is_local(name(host)), "{host}");
        }
        for host in [
            "evil.example",
            "evil.example:5000",
            "1.2.3.4.evil.example",
            "localhost.evil.example.",
            "x.lan.de",
        ] {
            assert!(!is_local(name(host)), "{host}");
        }
    }

    #[test]
    fn a_page_is_own_by_scheme_host_and_port() {
        let locations =
            Locations { external_url: Some("https://hub.lan/registry/".into()), ..Locations::default() };
        let own = |url: &str, host: &str| locations.is_own(url, Some(host));
        for (url, host) in [
            ("http://registry", "registry"),
            ("http://registry:5000/push?x", "Registry:5000"),
            ("https://registry", "registry:443"),
            ("https://hub.lan", "127.0.0.1:5000"),
            ("https://HUB.lan:443/registry/users", "127.0.0.1:5000"),
        ] {
            assert!(own(url, host), "{url} {host}");
        }
        for url in [
            "null",
            "",
            "http://",
            "http://:80",
            "http://evil.example",
            "http://registry:81",
            "http://registry.evil.example",
        ] {
            assert!(!own(url, "registry") && !own(url, ""), "{url}");
        }
        assert!(!locations.is_own("http://registry", None));
    }

    #[test]
    fn the_external_address_says_whether_there_is_tls() {
        let locations = |url: &str| Locations { external_url: Some(url.into()), ..Locations::default() };
        assert!(locations("https://hub.lan/x").is_external_tls("hub.lan"));
        assert!(locations("https://hub.lan:5000").is_external_tls("HUB.lan:5000"));
        assert!(!locations("https://hub.lan").is_external_tls("hub.lan:5000"));
        assert!(!locations("http://hub.lan").is_external_tls("hub.lan"));
        assert!(!Locations::default().is_external_tls("hub.lan"));
    }
}
