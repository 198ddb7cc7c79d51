//! The headers by which a proxy forwards the client's address, the scheme and the host: `X-Forwarded-For`, `-Proto`,
//! `-Host` and `-Port`, and `Forwarded` (RFC 7239).
//!
//! Whether a proxy is trusted is decided in `addresses.rs`. If a request has any of the four `X-Forwarded-*` headers,
//! `Forwarded` is ignored: a proxy that sets one kind passes the other kind on as the client sent it. Malformed values never
//! fail a request; they make the host or the hop unknown.

use std::net::{IpAddr, SocketAddr};

use http::HeaderMap;
use http::header::{FORWARDED, VIA};

use super::host::Host;

const FOR: &str = "x-forwarded-for";
const PROTO: &str = "x-forwarded-proto";
const HOST: &str = "x-forwarded-host";
const PORT: &str = "x-forwarded-port";

/// Scheme, host and port of the client's URL, as a proxy forwards them.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct ForwardedTarget {
    /// True for https, false for http, `None` if the proxy does not forward the scheme.
    pub(super) https: Option<bool>,
    pub(super) host: ForwardedHost,
    /// The port of `X-Forwarded-Port`.
    pub(super) port: Option<u16>,
}

/// Host that a proxy forwards.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) enum ForwardedHost {
    /// The proxy forwards none; `Host` counts.
    #[default]
    Absent,
    /// The value is malformed; the host is unknown.
    Invalid,
    /// A host, with or without a port.
    Valid(String),
}

/// Returns true if a request has a header that proxies add.
pub fn is_forwarded(headers: &HeaderMap) -> bool {
    headers.keys().any(|name| {
        *name == FORWARDED || *name == VIA || name == "x-real-ip" || name.as_str().starts_with("x-forwarded-")
    })
}

/// Returns the scheme, host and port that the first proxy of the chain received.
pub(super) fn target(headers: &HeaderMap) -> ForwardedTarget {
    if has_x_forwarded(headers) {
        return ForwardedTarget {
            https: first(headers, PROTO).and_then(|proto| is_https(&proto)),
            host: if headers.contains_key(HOST) {
                valid_host(first(headers, HOST))
            } else {
                ForwardedHost::Absent
            },
            port: first(headers, PORT).and_then(|port| port.parse().ok()).filter(|port| *port > 0),
        };
    }
    let values = headers.get_all(FORWARDED).iter();
    let mut elements = values.flat_map(|value| split_from_end(value.as_bytes(), b',').into_iter().rev());
    match elements.find(|element| !element.is_empty()).map(Element::parse) {
        None => ForwardedTarget::default(),
        // A malformed element makes the scheme and the host unknown.
        Some(None) => ForwardedTarget { host: ForwardedHost::Invalid, ..ForwardedTarget::default() },
        Some(Some(element)) => ForwardedTarget {
            https: element.proto.and_then(|proto| is_https(&proto)),
            host: element.host.map_or(ForwardedHost::Absent, |host| valid_host(Some(host))),
            port: None,
        },
    }
}

/// Returns the addresses of the chain of proxies, the last one first; `None` stands for a hop that is not an address.
pub(super) fn hops(headers: &HeaderMap) -> Box<dyn Iterator<Item = Option<IpAddr>> + '_> {
    if has_x_forwarded(headers) {
        let values = headers.get_all(FOR).iter().rev();
        return Box::new(values.flat_map(|value| value.as_bytes().rsplit(|byte| *byte == b',')).map(|hop| {
            let hop = std::str::from_utf8(hop).ok()?;
            hop_address(&unquote(hop.trim())?)
        }));
    }
    let values = headers.get_all(FORWARDED).iter().rev();
    let elements = values.flat_map(|value| split_from_end(value.as_bytes(), b','));
    let elements = elements.filter(|element| !element.is_empty());
    Box::new(elements.map(|element| hop_address(&Element::parse(element)?.client?)))
}

fn has_x_forwarded(headers: &HeaderMap) -> bool {
    [FOR, PROTO, HOST, PORT].iter().any(|name| headers.contains_key(*name))
}

/// Returns the first non-empty element of a list, unquoted. Each proxy may have appended an element.
fn first(headers: &HeaderMap, name: &str) -> Option<String> {
    let values = headers.get_all(name).iter();
    let mut elements = values.flat_map(|value| value.as_bytes().split(|byte| *byte == b','));
    let element = elements.find(|element| !element.trim_ascii().is_empty())?;
    unquote(std::str::from_utf8(element).ok()?.trim())
}

fn is_https(proto: &str) -> Option<bool> {
    match proto.to_ascii_lowercase().as_str() {
        "https" => Some(true),
        "http" => Some(false),
        _ => None,
    }
}

fn valid_host(host: Option<String>) -> ForwardedHost {
    host.filter(|host| Host::parse(host).is_some()).map_or(ForwardedHost::Invalid, ForwardedHost::Valid)
}

/// Element of `Forwarded`: the parameters that one proxy added.
#[derive(Debug, Default)]
struct Element {
    client: Option<String>,
    proto: Option<String>,
    host: Option<String>,
}

impl Element {
    /// Parses `for=...;proto=...`; returns `None` if it is malformed or has a parameter twice.
    fn parse(bytes: &[u8]) -> Option<Self> {
        let mut element = Element::default();
        for pair in split_from_end(bytes, b';') {
            if pair.is_empty() {
                continue;
            }
            let (name, value) = std::str::from_utf8(pair).ok()?.split_once('=')?;
            let value = unquote(value.trim())?;
            let slot = match name.trim().to_ascii_lowercase().as_str() {
                "for" => &mut element.client,
                "proto" => &mut element.proto,
                "host" => &mut element.host,
                // `by`, and extensions.
                _ => continue,
            };
            if slot.replace(value).is_some() {
                return None;
            }
        }
        Some(element)
    }
}

/// Splits at the separators outside of quoted strings, and returns the trimmed parts, the last one first. A proxy appends to the
/// text that the client sent, so the text is read from its end: a quote that the client left open does not reach the elements
/// of the proxies.
fn split_from_end(bytes: &[u8], separator: u8) -> Vec<&[u8]> {
    let (mut parts, mut end, mut quoted) = (Vec::new(), bytes.len(), false);
    for (index, byte) in bytes.iter().enumerate().rev() {
        if *byte == b'"' && !is_escaped(&bytes[..index]) {
            quoted = !quoted;
        } else if *byte == separator && !quoted {
            parts.push(bytes[index + 1..end].trim_ascii());
            end = index;
        }
    }
    parts.push(bytes[..end].trim_ascii());
    parts
}

/// Returns true if the byte after `before` is escaped: an odd number of backslashes precedes it.
fn is_escaped(before: &[u8]) -> bool {
    before.iter().rev().take_while(|byte| **byte == b'\\').count() % 2 == 1
}

/// Returns a token as it is, and the content of a quoted string; `None` for anything else.
fn unquote(text: &str) -> Option<String> {
    let Some(rest) = text.strip_prefix('"') else {
        let is_token = !text.contains(|char: char| char == '"' || char.is_whitespace());
        return is_token.then(|| text.to_owned());
    };
    let mut content = String::new();
    let mut chars = rest.chars();
    loop {
        match chars.next()? {
            '\\' => content.push(chars.next()?),
            '"' => return chars.next().is_none().then_some(content),
            char => content.push(char),
        }
    }
}

/// Parses a hop: an address, with or without brackets and port. Identifiers that hide an address (`unknown`, `_x`; RFC 7239
/// section 6) yield `None`.
fn hop_address(hop: &str) -> Option<IpAddr> {
    if let Some(bare) = hop.strip_prefix('[').and_then(|hop| hop.strip_suffix(']')) {
        return bare.parse().ok().map(IpAddr::V6);
    }
    if let Some((node, port)) = hop.rsplit_once(':')
        && port.starts_with('_')
    {
        return hop_address(node);
    }
    hop.parse().ok().or_else(|| Some(hop.parse::<SocketAddr>().ok()?.ip()))
}

#[cfg(test)]
mod tests {
    use http::{HeaderName, HeaderValue};
    use proptest::prelude::*;

    use super::*;

    fn headers(pairs: &[(&'static str, &str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in pairs {
            headers.append(HeaderName::from_static(name), HeaderValue::from_bytes(value.as_bytes()).unwrap());
        }
        headers
    }

    fn valid(host: &str) -> ForwardedHost {
        ForwardedHost::Valid(host.into())
    }

    #[test]
    fn reads_scheme_host_and_port_in_every_form() {
        let target_of = |pairs: &[(&'static str, &str)]| target(&headers(pairs));
        let secure = Some(true);
        for (pairs, https, host, port) in [
            (&[][..], None, ForwardedHost::Absent, None),
            (&[(PROTO, "https")], secure, ForwardedHost::Absent, None),
            (&[(PROTO, "HTTPS"), (HOST, "hub.lan")], secure, valid("hub.lan"), None),
            // Appended by a second proxy, in one line or two.
            (&[(PROTO, "https, http"), (HOST, "hub.lan,10.0.0.1")], secure, valid("hub.lan"), None),
            (&[(PROTO, "https"), (PROTO, "http"), (HOST, "hub.lan")], secure, valid("hub.lan"), None),
            (&[(PROTO, " , \"https\""), (HOST, "\"hub.lan:8443\"")], secure, valid("hub.lan:8443"), None),
            (&[(PORT, "8443, 80"), (HOST, "[::1]")], None, valid("[::1]"), Some(8443)),
            (&[(PROTO, "wss"), (PORT, "0")], None, ForwardedHost::Absent, None),
            (&[(PORT, "http"), (HOST, "a b")], None, ForwardedHost::Invalid, None),
            (&[(HOST, "")], None, ForwardedHost::Invalid, None),
            (&[(HOST, "\u{e9}.lan")], None, ForwardedHost::Invalid, None),
            (&[("forwarded", "for=1.2.3.4;proto=https;host=hub.lan")], secure, valid("hub.lan"), None),
            (
                &[(
                    "forwarded",
                    "For=\"[::1]\" ; Host=\"hub.lan:8443\";PROTO=https, for=x;proto=http;host=y",
                )],
                secure,
                valid("hub.lan:8443"),
                None,
            ),
            (
                &[("forwarded", ",, proto=http;by=_p"), ("forwarded", "host=x")],
                Some(false),
                ForwardedHost::Absent,
                None,
            ),
            (&[("forwarded", "host=hub.lan;host=x;proto=https")], None, ForwardedHost::Invalid, None),
            (&[("forwarded", "hub.lan")], None, ForwardedHost::Invalid, None),
            (&[("forwarded", "host=\"hub\\.lan\"")], None, valid("hub.lan"), None),
            // A proxy that sets one kind passes the other on as the client sent it.
            (
                &[("forwarded", "host=evil.example;proto=http"), (PROTO, "https")],
                secure,
                ForwardedHost::Absent,
                None,
            ),
        ] {
            assert_eq!(target_of(pairs), ForwardedTarget { https, host, port }, "{pairs:?}");
        }
    }

    #[test]
    fn hops_of_forwarded_are_read_from_the_end() {
        for (value, expected) in [
            ("for=1.2.3.4", &[Some("1.2.3.4")][..]),
            ("for=1.2.3.4;proto=https, For=\"5.6.7.8:80\"", &[Some("5.6.7.8"), Some("1.2.3.4")]),
            ("for=\"[fd00::7]:4711\", for=\"[fd00::8]\"", &[Some("fd00::8"), Some("fd00::7")]),
            ("for=\"1.2.3.4:_port\"", &[Some("1.2.3.4")]),
            ("for=unknown", &[None]),
            ("for=_hidden, for=1.2.3.4", &[Some("1.2.3.4"), None]),
            ("proto=https", &[None]),
            ("for=1.2.3.4;for=5.6.7.8", &[None]),
            // A quote that the client left open.
            ("for=\"9.9.9.9, for=1.2.3.4", &[Some("1.2.3.4"), None]),
            ("for=\"\\\", for=1.2.3.4", &[Some("1.2.3.4"), None]),
        ] {
            let headers = headers(&[("forwarded", value)]);
            let found: Vec<Option<IpAddr>> = hops(&headers).collect();
            let expected: Vec<_> =
                expected.iter().map(|hop| hop.map(|hop| hop.parse::<IpAddr>().unwrap())).collect();
            assert_eq!(found, expected, "{value}");
        }
    }

    #[test]
    fn a_header_of_a_proxy_marks_a_forwarded_request() {
        for name in ["forwarded", "via", "x-forwarded-for", "x-forwarded-proto", "x-real-ip"] {
            assert!(is_forwarded(&headers(&[(name, "x")])), "{name}");
        }
        assert!(!is_forwarded(&headers(&[("host", "x"), ("x-forward", "x")])));
    }

    /// Returns a value as a token, or as a quoted string if `quoted` is true or a token cannot hold it.
    fn written(value: &str, quoted: bool) -> String {
        if quoted || value.contains([':', '[']) {
            format!("\"{}\"", value.replace('\\', "\\\\").replace('"', "\\\""))
        } else {
            value.to_owned()
        }
    }

    proptest! {
        #[test]
        fn arbitrary_bytes_never_panic(
            name in prop::sample::select(vec!["forwarded", FOR, PROTO, HOST, PORT]),
            bytes in prop::collection::vec(any::<u8>(), 0..60),
        ) {
            if let Ok(value) = HeaderValue::from_bytes(&bytes) {
                let headers = HeaderMap::from_iter([(HeaderName::from_static(name), value)]);
                let _ = target(&headers);
                prop_assert!(hops(&headers).count() <= bytes.len() + 1);
            }
        }

        #[test]
        fn forwarded_is_read_in_every_notation(
            address: IpAddr,
            port: Option<u16>,
            https: bool,
            host in "[a-z][a-z0-9-]{0,10}(\\.lan)?(:[1-9][0-9]{0,3})?",
            quoted: bool,
            upper: bool,
            space in "[ \t]{0,2}",
        ) {
            let node = match (address, port) {
                (IpAddr::V6(address), None) => format!("[{address}]"),
                (IpAddr::V4(address), None) => address.to_string(),
                (address, Some(port)) => SocketAddr::new(address, port).to_string(),
            };
            let proto = if https { "https" } else { "http" };
            let case = |name: &str| if upper { name.to_ascii_uppercase() } else { name.to_owned() };
            let value = format!(
                "{}={}{space};{space}{}={};{}={}{space},{space}for=10.0.0.1;proto=http",
                case("for"), written(&node, quoted), case("proto"), written(proto, quoted), case("host"),
                written(&host, quoted),
            );
            let headers = headers(&[("forwarded", &value)]);
            let expected = ForwardedTarget { https: Some(https), host: ForwardedHost::Valid(host), port: None };
            prop_assert_eq!(target(&headers), expected);
            let hops: Vec<Option<IpAddr>> = hops(&headers).collect();
            prop_assert_eq!(hops, [Some("10.0.0.1".parse().unwrap()), Some(address)]);
        }

        #[test]
        fn text_that_a_client_sends_first_does_not_change_the_hop_of_the_proxy(sent in "[ -~]{0,40}") {
            for (name, hop) in [("forwarded", "for=\"1.2.3.4:56\";proto=https"), (FOR, "1.2.3.4:56")] {
                let headers = headers(&[(name, &format!("{sent}, {hop}"))]);
                prop_assert_eq!(hops(&headers).next().flatten(), Some("1.2.3.4".parse().unwrap()));
            }
        }
    }
}
