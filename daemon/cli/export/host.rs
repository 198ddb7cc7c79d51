//! The host of `--host`, as the names of images have it.

use std::net::Ipv6Addr;

use http::uri::Authority;

/// Returns true if a text is `HOST` or `HOST:PORT`; the host may be an IPv6 address in brackets.
pub(super) fn is_host(text: &str) -> bool {
    let Ok(authority) = text.parse::<Authority>() else { return false };
    let host = authority.host();
    let address = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
    let is_valid = match address {
        Some(address) => address.parse::<Ipv6Addr>().is_ok(),
        None => host.split('.').all(is_label),
    };
    // Text before the host would be a user.
    let port = text.strip_prefix(host);
    is_valid && port.is_some_and(|port| port.is_empty() || authority.port_u16().is_some())
}

fn is_label(label: &str) -> bool {
    let is_inner = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-';
    !label.is_empty() && !label.starts_with('-') && !label.ends_with('-') && label.bytes().all(is_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_have_labels_and_a_port() {
        for host in ["hub", "hub.lan", "Hub-1.lan:5000", "10.0.0.1:80", "[::1]", "[2001:db8::1]:5000"] {
            assert!(is_host(host), "{host}");
        }
        for text in [
            "",
            "bad host",
            "hub:",
            "hub:x",
            "hub:99999",
            "hub/team",
            "user@hub",
            "-hub",
            "hub..lan",
            "a_b",
            "[::1",
            "[x]",
            "https://hub",
            ":5000",
            "h\u{fc}b",
            "hub\n",
        ] {
            assert!(!is_host(text), "{text:?}");
        }
    }
}
