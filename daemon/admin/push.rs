//! The commands that push an image to this registry, by the host that the browser uses.

use askama::Template;

use super::error::AdminError;
use super::format::shell_argument;
use super::pages::{Frame, render};
use super::request::AdminRequest;
use super::response::OK;
use crate::wire::Response;

#[derive(Template)]
#[template(path = "push.html")]
struct Page {
    frame: Frame,
    /// The host with its port, as in the address bar.
    host: String,
    /// The host without its port.
    hostname: String,
    trust: Trust,
    fingerprint: Option<String>,
    has_users: bool,
    may_push: bool,
}

impl Page {
    /// Returns a shell argument that contains the host.
    fn with_host(&self, before: &str, after: &str) -> String {
        shell_argument(&format!("{before}{}{after}", self.host))
    }

    /// Returns a shell argument that contains the host without its port.
    fn with_hostname(&self, before: &str, after: &str) -> String {
        shell_argument(&format!("{before}{}{after}", self.hostname))
    }
}

/// The preparation that clients need before they connect.
enum Trust {
    /// Trust the registry's own authority.
    Authority,
    /// None here: the certificate was issued by another authority.
    OtherAuthority,
    /// Allow plain HTTP; clients allow it for loopback anyway.
    Plain { is_loopback: bool },
}

/// Shows the commands.
pub(super) fn show(request: &AdminRequest) -> Result<Response, AdminError> {
    let host = request.display_host();
    let hostname = without_port(&host).to_owned();
    let own = request.context.certificate.as_ref().filter(|certificate| certificate.is_own);
    let trust = match (own, request.secure) {
        (Some(_), _) => Trust::Authority,
        (None, true) => Trust::OtherAuthority,
        (None, false) => Trust::Plain { is_loopback: is_loopback(&hostname) },
    };
    let fingerprint = own.and_then(|own| own.fingerprint.clone());
    let has_users = request.access.has_users();
    let frame = Frame::new(request, "push");
    let may_push = super::import::may_push(request);
    render(OK, &Page { frame, host, hostname, trust, fingerprint, has_users, may_push })
}

fn without_port(host: &str) -> &str {
    match host.rsplit_once(':') {
        Some((hostname, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => hostname,
        Some(_) | None => host,
    }
}

fn is_loopback(hostname: &str) -> bool {
    let address = hostname.trim_matches(['[', ']']).parse::<std::net::IpAddr>();
    hostname == "localhost" || address.is_ok_and(|address| address.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::super::worst_case;
    use super::*;

    #[test]
    fn port_is_split_from_names_and_addresses() {
        assert_eq!((without_port("pi.lan:5000"), without_port("pi.lan")), ("pi.lan", "pi.lan"));
        assert_eq!((without_port("[::1]:5000"), without_port("[::1]")), ("[::1]", "[::1]"));
    }

    #[test]
    fn loopback_is_recognised_by_name_and_address() {
        assert!(is_loopback("[::1]") && is_loopback("127.0.0.9") && is_loopback("localhost"));
        assert!(!is_loopback("pi.lan"));
    }

    #[test]
    fn largest_page_is_small() {
        for trust in [Trust::Authority, Trust::OtherAuthority, Trust::Plain { is_loopback: false }] {
            worst_case::assert_small(&Page {
                frame: worst_case::frame(),
                host: "[".repeat(260),
                hostname: "[".repeat(260),
                trust,
                fingerprint: Some("f".repeat(95)),
                has_users: true,
                may_push: true,
            });
        }
    }
}
