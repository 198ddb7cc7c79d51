//! Proxies of the environment: `HTTPS_PROXY` and `NO_PROXY`, for requests over TLS.

use std::net::IpAddr;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use http::uri::Authority;
use ipnet::IpNet;
use percent_encoding::percent_decode_str;

use super::target::{Origin, Scheme};

/// The proxies, and the hosts that are connected to without one.
#[derive(Clone, Debug, Default)]
pub struct Proxies {
    proxy: Option<Proxy>,
    direct: Vec<String>,
}

/// A proxy that makes tunnels (`CONNECT`).
#[derive(Clone, PartialEq, Eq)]
pub(super) struct Proxy {
    pub(super) host: String,
    pub(super) port: u16,
    /// The value of `Proxy-Authorization`.
    pub(super) authorization: Option<String>,
}

impl std::fmt::Debug for Proxy {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Proxy({}:{})", self.host, self.port)
    }
}

impl Proxies {
    /// Reads the variables of an environment; those in lower case come first.
    ///
    /// # Errors
    /// Returns the reason if a proxy is malformed, in words without its password.
    pub fn of(environment: &[(String, String)]) -> Result<Self, String> {
        let variable = |name: &str| {
            let of =
                |name: &str| environment.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str());
            of(&name.to_ascii_lowercase()).or_else(|| of(name)).filter(|value| !value.is_empty())
        };
        let proxy = variable("HTTPS_PROXY").map(Proxy::parse).transpose();
        let proxy = proxy.map_err(|reason| format!("HTTPS_PROXY: {reason}"))?;
        let direct = variable("NO_PROXY").unwrap_or_default().split(',').map(str::trim);
        let direct = direct.filter(|entry| !entry.is_empty()).map(str::to_ascii_lowercase).collect();
        Ok(Proxies { proxy, direct })
    }

    /// Returns the proxy for a host.
    pub(super) fn for_origin(&self, origin: &Origin) -> Option<&Proxy> {
        let address = origin.host.parse::<IpAddr>().ok();
        let is_local = origin.host == "localhost" || address.is_some_and(|address| address.is_loopback());
        let is_excepted =
            self.direct.iter().any(|entry| is_exception(entry, &origin.host, origin.port, address));
        match origin.scheme {
            Scheme::Http => None,
            Scheme::Https => self.proxy.as_ref().filter(|_| !is_local && !is_excepted),
        }
    }
}

/// Returns true if an entry of `NO_PROXY` has the host: `*`, a domain with all below it, an address or a network, with an
/// optional port.
fn is_exception(entry: &str, host: &str, port: u16, address: Option<IpAddr>) -> bool {
    if entry == "*" {
        return true;
    }
    if let Ok(network) = entry.parse::<IpNet>() {
        return address.is_some_and(|address| network.contains(&address));
    }
    if let Ok(single) = entry.parse::<IpAddr>() {
        return address == Some(single);
    }
    let (name, wanted) = match entry.rsplit_once(':').map(|(name, port)| (name, port.parse::<u16>())) {
        Some((name, Ok(wanted))) => (name, Some(wanted)),
        Some((_, Err(_))) | None => (entry, None),
    };
    let domain = name.trim_start_matches('*').trim_start_matches('.');
    let is_below = || host.strip_suffix(domain).is_some_and(|rest| rest.ends_with('.'));
    wanted.is_none_or(|wanted| wanted == port) && !domain.is_empty() && (host == domain || is_below())
}

impl Proxy {
    fn parse(text: &str) -> Result<Self, &'static str> {
        let rest = match text.split_once("://") {
            Some(("http", rest)) => rest,
            Some(_) => return Err("only proxies with http:// are supported"),
            None => text,
        };
        let (user, place) = match rest.trim_end_matches('/').rsplit_once('@') {
            Some((user, place)) => (Some(user), place),
            None => (None, rest.trim_end_matches('/')),
        };
        let authority: Authority = place.parse().map_err(|_| "it is not http://[USER:PASSWORD@]HOST:PORT")?;
        let port = authority.port_u16().unwrap_or(3128);
        let host = authority.host().trim_start_matches('[').trim_end_matches(']').to_owned();
        let authorization = user.map(|user| {
            let decoded: Vec<u8> = percent_decode_str(user).collect();
            format!("Basic {}", STANDARD.encode(decoded))
        });
        Ok(Proxy { host, port, authorization })
    }
}

#[cfg(test)]
mod tests {
    use super::super::target::Target;
    use super::*;

    fn proxies(https: &str, direct: &str) -> Result<Proxies, String> {
        Proxies::of(&[("HTTPS_PROXY".into(), https.into()), ("no_proxy".into(), direct.into())])
    }

    fn is_used(direct: &str, url: &str) -> bool {
        let all = proxies("http://proxy.lan:3128", direct).unwrap();
        all.for_origin(&Target::parse(url).unwrap().origin).is_some()
    }

    #[test]
    fn exceptions_are_domains_addresses_and_networks() {
        assert!(is_used("", "https://hub.example/") && !is_used("", "http://hub.example/"));
        assert!(!is_used("", "https://127.0.0.1:5000/") && !is_used("", "https://localhost/"));
        for direct in ["*", "hub.example", ".example", "*.example", "x, example", "hub.example:443"] {
            assert!(!is_used(direct, "https://hub.example/"), "{direct}");
        }
        for direct in ["ub.example", "hub.example:444", "hub", "10.0.0.0/8", ".", ""] {
            assert!(is_used(direct, "https://hub.example/"), "{direct}");
        }
        assert!(!is_used("10.0.0.0/8", "https://10.1.2.3/") && !is_used("fd00::1", "https://[fd00::1]/"));
    }

    #[test]
    fn proxies_have_a_host_and_perhaps_a_user() {
        let proxy = proxies("http://me:a%40b@proxy.lan/", "").unwrap().proxy.unwrap();
        assert_eq!((proxy.host.as_str(), proxy.port), ("proxy.lan", 3128));
        assert_eq!(proxy.authorization, Some(format!("Basic {}", STANDARD.encode("me:a@b"))));
        assert_eq!(format!("{proxy:?}"), "Proxy(proxy.lan:3128)");
        assert!(proxies("socks5://proxy.lan", "").is_err() && proxies("http://a b", "").is_err());
        assert!(proxies("", "").unwrap().proxy.is_none());
    }
}
