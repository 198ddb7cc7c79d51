//! The address policy: hosts that the operator named may have any address, all others only public ones.
//!
//! A registry names other hosts, in redirects and as token servers. They must not reach what is only meant for this machine
//! and its network.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

use super::target::{Origin, Target};

/// A host that the operator names: `HOST[:PORT]`; all ports without one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostName {
    host: String,
    port: Option<u16>,
}

impl HostName {
    /// Returns true if a URL has this host and port.
    pub fn matches(&self, origin: &Origin) -> bool {
        self.host == origin.host && self.port.is_none_or(|port| port == origin.port)
    }
}

impl From<&Origin> for HostName {
    fn from(origin: &Origin) -> Self {
        HostName { host: origin.host.clone(), port: Some(origin.port) }
    }
}

impl FromStr for HostName {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, &'static str> {
        let target = Target::parse(&format!("https://{text}"))?;
        if target.path != "/" || text.ends_with('/') {
            return Err("it is not HOST or HOST:PORT");
        }
        let has_port = text.strip_suffix(&format!(":{}", target.origin.port)).is_some();
        Ok(HostName { host: target.origin.host, port: has_port.then_some(target.origin.port) })
    }
}

/// Decides which addresses are connected to.
#[derive(Clone, Debug, Default)]
pub struct AddressPolicy {
    named: Vec<HostName>,
}

impl AddressPolicy {
    /// Makes the policy of the hosts that the operator named.
    pub fn new(named: Vec<HostName>) -> Self {
        AddressPolicy { named }
    }

    /// Returns true if all addresses of the host are permitted.
    pub fn is_named(&self, origin: &Origin) -> bool {
        self.named.iter().any(|host| host.matches(origin))
    }
}

/// Returns true if a host is an address, in any notation that a resolver accepts: `127.0.0.1`, `127.1`, `0x7f000001`.
pub(super) fn is_address(host: &str) -> bool {
    let last = host.trim_end_matches('.').rsplit('.').next().unwrap_or_default();
    let is_hex = |hex: &str| hex.bytes().all(|byte| byte.is_ascii_hexdigit());
    host.contains(':')
        || last.bytes().all(|byte| byte.is_ascii_digit())
        || last.strip_prefix("0x").is_some_and(is_hex)
}

/// Returns true if an address belongs to the public internet.
pub(super) fn is_public(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => is_public_v4(address),
        IpAddr::V6(address) => is_public_v6(address),
    }
}

fn is_public_v4(address: Ipv4Addr) -> bool {
    let special = match address.octets() {
        [0 | 10 | 127 | 224..=255, ..]
        | [169, 254, ..]
        | [192, 168, ..]
        // Protocol assignments, documentation, relays of 6to4.
        | [192, 0, 0 | 2, _]
        | [192, 88, 99, _]
        | [198, 51, 100, _]
        | [203, 0, 113, _]
        // Benchmarks.
        | [198, 18 | 19, ..]
        // Private networks, and those between a provider and its customers.
        | [172, 16..=31, ..]
        | [100, 64..=127, ..] => true,
        _ => false,
    };
    !special
}

fn is_public_v6(address: Ipv6Addr) -> bool {
    let embedded = |high: u16, low: u16| {
        let ([a, b], [c, d]) = (high.to_be_bytes(), low.to_be_bytes());
        is_public_v4(Ipv4Addr::new(a, b, c, d))
    };
    match address.segments() {
        // IPv4 in IPv6: mapped, translated (NAT64), tunnelled (6to4).
        [0, 0, 0, 0, 0, 0xffff, high, low]
        | [0x64, 0xff9b, 0, 0, 0, 0, high, low]
        | [0x2002, high, low, ..] => embedded(high, low),
        // Teredo and other protocols, documentation.
        [0x2001, 0..=0x1ff | 0xdb8, ..] | [0x3fff, 0..=0xfff, ..] => false,
        [first, ..] => (0x2000..=0x3fff).contains(&first),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn special_ranges_are_not_public() {
        for address in [
            "0.0.0.0",
            "0.1.2.3",
            "10.0.0.1",
            "100.64.0.1",
            "100.100.100.200",
            "127.0.0.1",
            "127.255.255.254",
            "169.254.169.254",
            "172.16.0.1",
            "172.31.255.255",
            "192.0.0.8",
            "192.0.2.1",
            "192.168.1.1",
            "198.18.0.1",
            "198.19.255.255",
            "198.51.100.7",
            "203.0.113.9",
            "224.0.0.1",
            "239.1.1.1",
            "240.0.0.1",
            "255.255.255.255",
            "::",
            "::1",
            "::7f00:1",
            "::ffff:127.0.0.1",
            "::ffff:10.0.0.1",
            "64:ff9b::10.0.0.1",
            "fe80::1",
            "fec0::1",
            "fc00::1",
            "fd00:ec2::254",
            "ff02::1",
            "2001:db8::1",
            "2001::1",
            "2002:7f00:1::",
            "2002:a00:1::1",
            "3fff::1",
            "4000::1",
            "100::1",
        ] {
            assert!(!is_public(address.parse().unwrap()), "{address}");
        }
        for address in [
            "1.1.1.1",
            "100.63.255.255",
            "100.128.0.1",
            "172.15.0.1",
            "172.32.0.1",
            "192.0.1.1",
            "198.17.0.1",
            "223.255.255.255",
            "2606:4700::1111",
            "2001:4860::8888",
            "::ffff:1.1.1.1",
            "64:ff9b::1.1.1.1",
            "2002:101:101::1",
            "2a00::1",
        ] {
            assert!(is_public(address.parse().unwrap()), "{address}");
        }
    }

    #[test]
    fn addresses_are_recognised_in_any_notation() {
        for host in ["127.0.0.1", "127.0.0.1.", "127.1", "2130706433", "0x7f000001", "0x7f.0x1", "::1"] {
            assert!(is_address(host), "{host}");
        }
        for host in ["hub.lan", "1.example", "0x7g", "127.0.0.1.example"] {
            assert!(!is_address(host), "{host}");
        }
    }

    #[test]
    fn named_hosts_match_with_their_port() {
        let origin = |text: &str| Target::parse(text).unwrap().origin;
        let policy = AddressPolicy::new(vec!["Hub.lan:5000".parse().unwrap(), "cdn.lan".parse().unwrap()]);
        assert!(policy.is_named(&origin("https://hub.lan:5000/")));
        assert!(
            policy.is_named(&origin("https://cdn.lan/")) && policy.is_named(&origin("http://cdn.lan:81/"))
        );
        assert!(
            !policy.is_named(&origin("https://hub.lan/")) && !policy.is_named(&origin("https://a.cdn.lan/"))
        );
        let exact: HostName = "hub.lan:443".parse().unwrap();
        assert!(!exact.matches(&origin("https://hub.lan:444/")));
        for text in ["", "a/b", "a/", "https://a", "a:b", "u@a"] {
            assert!(text.parse::<HostName>().is_err(), "{text}");
        }
    }
}
