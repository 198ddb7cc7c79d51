//! The host of a request: the grammar of `Host` (RFC 9110 section 7.2), and the rule that a request names exactly one
//! (RFC 9112 section 3.2).
//!
//! The grammar is strict: a host that a proxy and the daemon could read differently is refused with 400.

use std::net::Ipv6Addr;

use http::header::{HOST, HeaderValue};
use http::request::Parts;
use http::uri::Authority;
use http::{HeaderMap, Method, Version};

/// The largest length of a DNS name, in bytes (RFC 1035 section 2.3.4).
const MAX_NAME: usize = 253;
/// The largest length of a label of a DNS name, in bytes.
const MAX_LABEL: usize = 63;

/// Host as in `Host` or in a URL: a name or an address, and a port if one is given.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Host<'a> {
    /// The name, or the address without brackets.
    pub(super) name: &'a str,
    port: Option<u16>,
}

impl<'a> Host<'a> {
    /// Parses `NAME[:PORT]` or `[ADDRESS][:PORT]`; returns `None` for anything else.
    pub(super) fn parse(text: &'a str) -> Option<Self> {
        if let Some(rest) = text.strip_prefix('[') {
            let (name, rest) = rest.split_once(']')?;
            name.parse::<Ipv6Addr>().ok()?;
            return with_port(name, rest);
        }
        let end = text.find(':').unwrap_or(text.len());
        let (name, rest) = text.split_at(end);
        if is_name(name) { with_port(name, rest) } else { None }
    }

    /// Returns true if the host has no port.
    pub(super) fn has_no_port(&self) -> bool {
        self.port.is_none()
    }

    /// Returns true if both are the same name and port. `default_port` stands for a port that is left out.
    pub(super) fn is_same(&self, other: &Self, default_port: u16) -> bool {
        let port = |host: &Self| host.port.unwrap_or(default_port);
        self.name.eq_ignore_ascii_case(other.name) && port(self) == port(other)
    }
}

/// Parses the rest after a name: nothing, or a colon and a port, which may be empty (RFC 3986 section 3.2.3).
fn with_port<'a>(name: &'a str, text: &str) -> Option<Host<'a>> {
    let digits = text.strip_prefix(':').unwrap_or_default();
    if digits.is_empty() {
        return matches!(text, "" | ":").then_some(Host { name, port: None });
    }
    let all_digits = digits.bytes().all(|byte| byte.is_ascii_digit());
    let port = digits.parse().ok().filter(|_| all_digits)?;
    Some(Host { name, port: Some(port) })
}

/// Returns true for a DNS name or an IPv4 address. DNS has no underscores in host names, but container names have them.
fn is_name(text: &str) -> bool {
    let name = text.strip_suffix('.').unwrap_or(text);
    let is_label = |label: &str| {
        !label.is_empty()
            && label.len() <= MAX_LABEL
            && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte))
    };
    name.len() <= MAX_NAME && name.split('.').all(is_label)
}

/// Checks that a request names exactly one host. A request in absolute form without `Host` (HTTP/1.0) gets the header
/// from its target, so that all later code reads the host from one place.
///
/// # Errors
/// Returns one sentence for the client, for a response with 400.
pub fn check_host(parts: &mut Parts) -> Result<(), &'static str> {
    let mut values = parts.headers.get_all(HOST).iter();
    let (header, more) = (values.next(), values.next());
    if more.is_some() {
        return Err("the request has more than one Host header");
    }
    let header = match header {
        Some(value) => Some(
            value.to_str().ok().and_then(Host::parse).ok_or("the Host header has to be NAME or NAME:PORT")?,
        ),
        None if parts.version == Version::HTTP_10 => None,
        None => return Err("the request has no Host header"),
    };
    let Some(authority) = parts.uri.authority() else { return Ok(()) };
    let default_port =
        default_port(parts).ok_or("the request target has to be a path, or an http or https URL")?;
    let target = target_host(authority).ok_or("the host in the request target is malformed")?;
    match header {
        Some(header) if header.is_same(&target, default_port) => {}
        Some(_) => return Err("the request target and the Host header name different hosts"),
        None => {
            let value = HeaderValue::from_str(authority.as_str());
            let value = value.map_err(|_| "the host in the request target is malformed")?;
            parts.headers.insert(HOST, value);
        }
    }
    Ok(())
}

/// Returns the name or the address in `Host`, without brackets and port; `None` if the header is missing or malformed.
pub fn requested_name(headers: &HeaderMap) -> Option<&str> {
    Host::parse(headers.get(HOST)?.to_str().ok()?).map(|host| host.name)
}

/// Parses the authority of a request target; one with user information is malformed (RFC 9110 section 4.2.4).
fn target_host(authority: &Authority) -> Option<Host<'_>> {
    Host::parse(authority.as_str())
}

/// Returns the default port of the target's scheme. The target of CONNECT is a host without a scheme.
fn default_port(parts: &Parts) -> Option<u16> {
    match parts.uri.scheme_str() {
        Some("http") => Some(80),
        Some("https") => Some(443),
        None if parts.method == Method::CONNECT => Some(443),
        Some(_) | None => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(version: Version, target: &str, hosts: &[&str]) -> Result<Parts, &'static str> {
        let mut request = http::Request::get(target).version(version);
        for host in hosts {
            request = request.header(HOST, *host);
        }
        let mut parts = request.body(()).unwrap().into_parts().0;
        check_host(&mut parts).map(|()| parts)
    }

    #[test]
    fn parses_names_and_addresses_with_ports_and_refuses_the_rest() {
        for (text, name, port) in [
            ("registry", "registry", None),
            ("my_registry:5000", "my_registry", Some(5000)),
            ("pi.local.:80", "pi.local.", Some(80)),
            ("127.0.0.1:", "127.0.0.1", None),
            ("[::1]:5000", "::1", Some(5000)),
            ("[fe80::1]", "fe80::1", None),
        ] {
            assert_eq!(Host::parse(text), Some(Host { name, port }), "{text}");
        }
        let long = format!("{}.lan", "a".repeat(64));
        for text in [
            "",
            ":5000",
            ".",
            "a..b",
            "a b",
            "a,b",
            "user@a",
            "a/b",
            "a:b",
            "a:+5",
            "a:65536",
            "a:80:lan",
            "::1",
            "[::1",
            "[::1]evil.example",
            "[evil.example]",
            "[fe80::1%25eth0]",
            "a\u{e9}",
            "%6cocalhost",
            &long,
        ] {
            assert_eq!(Host::parse(text), None, "{text}");
        }
    }

    #[test]
    fn a_request_names_exactly_one_host() {
        let (new, old) = (Version::HTTP_11, Version::HTTP_10);
        assert!(check(new, "/v2/", &["registry:5000"]).is_ok());
        assert!(check(new, "http://Registry/v2/", &["registry:80"]).is_ok());
        assert!(check(new, "https://[::1]:443/v2/", &["[::1]"]).is_ok());
        assert!(check(old, "/v2/", &[]).is_ok_and(|parts| !parts.headers.contains_key(HOST)));
        assert!(
            check(old, "http://evil.example/", &[]).is_ok_and(|parts| parts.headers[HOST] == "evil.example")
        );
        for (version, target, hosts) in [
            (new, "/v2/", &[][..]),
            (new, "http://a/v2/", &[]),
            (new, "/v2/", &["a", "a"]),
            (old, "/v2/", &["a", "b"]),
            (new, "/v2/", &[""]),
            (old, "/v2/", &[""]),
            (new, "http://a/v2/", &["b"]),
            (new, "http://a:81/v2/", &["a"]),
            (new, "http://user@a/v2/", &["a"]),
            (new, "ftp://a/v2/", &["a"]),
            (old, "http://a:b@c/", &[]),
        ] {
            assert!(check(version, target, hosts).is_err(), "{version:?} {target} {hosts:?}");
        }
    }
}
