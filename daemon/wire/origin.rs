//! By which name a client calls the registry, and from which page a browser sends something.

use std::net::IpAddr;

use http::HeaderMap;

use super::host::{Host, is_local};
use super::location::Locations;

impl Locations {
    /// Returns true if a URL is of a page of this registry, which is called by `host`: scheme, host and port are the same.
    /// A page that came by plain HTTP is not one of a registry that is called by TLS, since everyone on the way can write
    /// such a page. A page that came by TLS is one of a registry that seems to be called by plain HTTP: the TLS may be that
    /// of a proxy that is not named in the configuration.
    pub fn is_own(&self, url: &str, secure: bool, host: Option<&str>) -> bool {
        let Some(origin) = Origin::of(url) else { return false };
        let external = self.external_url.as_deref().and_then(Origin::of);
        let is_called = host.is_some_and(|host| origin.is_at(host)) && (origin.tls || !secure);
        is_called || external.is_some_and(|external| origin.is_same(&external))
    }

    /// Whether `host` is that of an external address that is protected by TLS.
    pub(super) fn is_external_tls(&self, host: &str) -> bool {
        let external = self.external_url.as_deref().and_then(Origin::of);
        external.is_some_and(|external| external.tls && external.is_at(host))
    }

    /// Whether a client calls the registry by an address, or by a name that only a LAN can have. A page of anybody's may
    /// let its own name point at this machine, and is then in the eyes of a browser a page of this registry. A host that is
    /// malformed is not local. Without one (HTTP/1.0, which no browser speaks) only this machine is.
    pub fn is_called_locally(&self, headers: &HeaderMap, peer: IpAddr) -> bool {
        if let Some(host) = self.called(headers, peer, false).1 {
            return Host::parse(&host).is_some_and(|host| is_local(host.name));
        }
        let names = ["host", "x-forwarded-host", "forwarded"];
        let names_none = names.iter().all(|name| !headers.contains_key(*name));
        names_none && peer.to_canonical().is_loopback()
    }
}

/// Returns true if the browser says that a request comes from a page of another origin. Programs and old browsers say
/// nothing, and `none` is what people enter themselves.
pub fn is_of_other_origin(headers: &HeaderMap) -> bool {
    headers.get("sec-fetch-site").is_some_and(|site| site != "same-origin" && site != "none")
}

/// Returns true if the browser says that a request comes from a page of the very origin that it calls. It compares scheme,
/// host and port itself, so that this holds behind a proxy that changes the host, and no page can make it say so.
pub fn is_of_same_origin(headers: &HeaderMap) -> bool {
    let mut values = headers.get_all("sec-fetch-site").iter();
    values.next().is_some_and(|site| site == "same-origin") && values.next().is_none()
}

/// The scheme, host and port of a URL of a web page.
struct Origin<'a> {
    /// Whether the scheme is https, rather than http.
    tls: bool,
    host: Host<'a>,
}

impl<'a> Origin<'a> {
    fn of(url: &'a str) -> Option<Self> {
        let (scheme, rest) = url.split_once("://")?;
        let host = rest.split(['/', '?', '#']).next().filter(|host| !host.is_empty())?;
        let tls = scheme.eq_ignore_ascii_case("https");
        if !tls && !scheme.eq_ignore_ascii_case("http") {
            return None;
        }
        Some(Origin { tls, host: Host::parse(host)? })
    }

    /// Returns true if this origin has the host and port of a `Host` header.
    fn is_at(&self, host: &str) -> bool {
        Host::parse(host).is_some_and(|host| self.has_host(&host))
    }

    fn is_same(&self, other: &Self) -> bool {
        self.tls == other.tls && self.has_host(&other.host)
    }

    fn has_host(&self, host: &Host<'_>) -> bool {
        self.host.is_same(host, if self.tls { 443 } else { 80 })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PEER: IpAddr = IpAddr::V4(std::net::Ipv4Addr::LOCALHOST);

    fn is_called_locally(host: &str) -> bool {
        let headers = HeaderMap::from_iter([(http::header::HOST, host.parse().unwrap())]);
        Locations::default().is_called_locally(&headers, PEER)
    }

    #[test]
    fn without_a_host_only_this_machine_is_local() {
        let none = HeaderMap::new();
        assert!(Locations::default().is_called_locally(&none, PEER));
        assert!(!Locations::default().is_called_locally(&none, "192.168.1.7".parse().unwrap()));
    }

    #[test]
    fn a_malformed_host_of_a_proxy_is_not_local() {
        let locations =
            Locations { external_url: None, trusted_proxies: vec!["127.0.0.0/8".parse().unwrap()] };
        let mut headers = HeaderMap::new();
        headers.insert("host", "localhost".parse().unwrap());
        headers.insert("x-forwarded-proto", "https".parse().unwrap());
        for host in ["evil.example", "[::1]evil.example", "a@localhost", ""] {
            headers.insert("x-forwarded-host", host.parse().unwrap());
            assert!(!locations.is_called_locally(&headers, PEER), "{host}");
        }
        headers.insert("x-forwarded-host", "pi.lan".parse().unwrap());
        assert!(locations.is_called_locally(&headers, PEER));
    }

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
            assert!(is_called_locally(host), "{host}");
        }
        for host in [
            "evil.example",
            "evil.example:5000",
            "1.2.3.4.evil.example",
            "localhost.evil.example.",
            "x.lan.de",
            // Malformed ones.
            "",
            ":5000",
            "[::1]evil.example",
            "[::1",
            "localhost:80:evil.example",
            "evil.example:.lan",
            "localhost/evil.example",
            "evil@localhost",
            "local host",
            "a..lan",
        ] {
            assert!(!is_called_locally(host), "{host}");
        }
    }

    #[test]
    fn a_page_is_own_by_scheme_host_and_port() {
        let locations =
            Locations { external_url: Some("https://hub.lan/registry/".into()), ..Locations::default() };
        let own = |url: &str, host: &str| locations.is_own(url, false, Some(host));
        for (url, host) in [
            ("http://registry", "registry"),
            ("http://registry:5000/push?x", "Registry:5000"),
            ("https://registry", "registry:443"),
            ("https://registry:5000", "registry:5000"),
            ("http://[fd00::1]:5000", "[fd00::1]:5000"),
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
            "http://hub.lan",
            "http://hub.lan:443",
            "ftp://registry",
            "chrome-extension://registry",
            "capacitor://registry",
            "http://evil@registry",
            "registry",
        ] {
            assert!(!own(url, "registry") && !own(url, ""), "{url}");
        }
        assert!(!locations.is_own("http://registry", false, None));
    }

    #[test]
    fn a_page_that_came_without_tls_is_not_one_of_a_registry_with_tls() {
        let locations = Locations::default();
        for (url, host) in [("https://reg.lan", "reg.lan"), ("https://reg.lan:5000", "reg.lan:5000")] {
            assert!(locations.is_own(url, true, Some(host)), "{url}");
        }
        for (url, host) in [
            ("http://reg.lan", "reg.lan"),
            ("http://reg.lan", "reg.lan:80"),
            ("http://reg.lan:443", "reg.lan"),
            ("http://reg.lan:5000", "reg.lan:5000"),
            ("https://reg.lan:5000", "reg.lan"),
        ] {
            assert!(!locations.is_own(url, true, Some(host)), "{url}");
        }
    }

    #[test]
    fn a_browser_says_whether_a_page_is_of_another_origin() {
        let says = |site: &'static str| {
            is_of_other_origin(&HeaderMap::from_iter([(
                http::HeaderName::from_static("sec-fetch-site"),
                http::HeaderValue::from_static(site),
            )]))
        };
        assert!(says("cross-site") && says("same-site") && says("") && says("same-origin, cross-site"));
        assert!(!says("same-origin") && !says("none") && !is_of_other_origin(&HeaderMap::new()));
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
