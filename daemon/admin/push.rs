//! The lines with which one pushes to this very host.

use askama::Template;

use super::OK;
use super::error::AdminError;
use super::pages::{Frame, render};
use super::visit::Visit;
use super::words::shell;
use crate::wire::Response;

#[derive(Template)]
#[template(path = "push.html")]
struct Page {
    frame: Frame,
    /// As it stands in the address line, with its port.
    host: String,
    /// The same without its port.
    machine: String,
    trust: Trust,
    fingerprint: Option<String>,
    has_users: bool,
}

impl Page {
    /// A word of a command with the host in it.
    fn word(&self, before: &str, after: &str) -> String {
        shell(&format!("{before}{}{after}", self.host))
    }

    /// The same with the host without its port.
    fn file(&self, before: &str, after: &str) -> String {
        shell(&format!("{before}{}{after}", self.machine))
    }
}

/// What clients need before they talk to this host.
enum Trust {
    /// The certificate of the registry's own authority.
    Authority,
    /// Nothing: its certificate is one that everybody knows, or their own affair.
    Nothing,
    /// Leave to speak plain HTTP; loopback has it anyway.
    Plain { is_loopback: bool },
}

pub(super) fn show(visit: &Visit) -> Result<Response, AdminError> {
    let host = host(&visit.host);
    let machine = machine(&host).to_owned();
    let own = visit.surroundings.certificate.as_ref().filter(|certificate| certificate.is_own);
    let trust = match (own, visit.secure) {
        (Some(_), _) => Trust::Authority,
        (None, true) => Trust::Nothing,
        (None, false) => Trust::Plain { is_loopback: is_loopback(&machine) },
    };
    let fingerprint = own.and_then(|own| own.fingerprint.clone());
    let has_users = visit.access.has_users();
    render(OK, &Page { frame: Frame::new(visit, "push"), host, machine, trust, fingerprint, has_users })
}

/// The host that the browser has called; where it said something that is none, a word that says so.
fn host(called: &str) -> String {
    let allowed = |c: char| c.is_ascii_alphanumeric() || ".-_:[]".contains(c);
    if called.is_empty() || !called.chars().all(allowed) { "HOST".into() } else { called.to_owned() }
}

fn machine(host: &str) -> &str {
    match host.rsplit_once(':') {
        Some((machine, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => machine,
        _ => host,
    }
}

fn is_loopback(machine: &str) -> bool {
    let address = machine.trim_matches(['[', ']']).parse::<std::net::IpAddr>();
    machine == "localhost" || address.is_ok_and(|address| address.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn takes_the_port_off() {
        assert_eq!((machine("pi.lan:5000"), machine("pi.lan")), ("pi.lan", "pi.lan"));
        assert_eq!((machine("[::1]:5000"), machine("[::1]")), ("[::1]", "[::1]"));
        assert!(is_loopback("[::1]") && is_loopback("127.0.0.9") && !is_loopback("pi.lan"));
        assert_eq!(host("a b; rm -rf"), "HOST");
    }
}
