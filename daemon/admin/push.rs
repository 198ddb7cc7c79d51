//! The commands that set up clients for this registry, by the host that the browser uses.

use askama::Template;

use super::clients::{Client, Target, Task, Trust};
use super::error::AdminError;
use super::limits::{SENTENCE, shorten};
use super::pages::{Frame, render};
use super::request::AdminRequest;
use super::response::OK;
use crate::access::Operation;
use crate::wire::Response;

#[derive(Template)]
#[template(path = "push.html")]
struct Page {
    frame: Frame,
    target: Target,
    clients: Vec<Client>,
    fingerprint: Option<String>,
    may_push: bool,
    missing: Option<MissingName>,
    /// The tasks: address, name, and whether it is shown.
    tasks: Vec<(String, &'static str, bool)>,
}

/// A name in the address bar that the registry's certificate does not have.
struct MissingName {
    /// The line of the configuration that adds it; none for a certificate from files.
    line: Option<String>,
    /// True if the user may add it here.
    can_add: bool,
}

/// Shows the commands.
pub(super) fn show(request: &mut AdminRequest) -> Result<Response, AdminError> {
    let (host, hostname) = (request.display_host(), hostname(request));
    let task = chosen_task(request);
    let certificate = request.context.certificate.as_ref();
    let own = certificate.filter(|certificate| certificate.is_own);
    let trust = match (own, request.secure) {
        (Some(_), _) => Trust::Authority,
        (None, true) => Trust::OtherAuthority,
        (None, false) => Trust::Plain { is_loopback: is_loopback(&hostname) },
    };
    let missing = certificate.filter(|one| request.context.tls && !one.covers_host);
    let page = Page {
        frame: Frame::new(request, "push"),
        missing: missing.map(|certificate| MissingName {
            line: certificate.is_own.then(|| names_line(&certificate.configured, &hostname)),
            can_add: request.context.names.is_some() && request.may(&Operation::Users),
        }),
        tasks: tasks(task),
        fingerprint: own.and_then(|own| own.fingerprint.clone()),
        may_push: super::import::may_push(request),
        clients: Vec::new(),
        target: Target { host, hostname, trust, has_users: request.access.has_users() },
    };
    render(OK, &Page { clients: page.target.clients_for(task), ..page })
}

/// Returns the task of the query, else the one that this browser showed last.
fn chosen_task(request: &mut AdminRequest) -> Option<Task> {
    let Some(wanted) = request.query.get("task") else {
        return request.remembered_task().and_then(|name| Task::parse(&name));
    };
    let task = Task::parse(wanted);
    request.remember_task(task.map(Task::name));
    task
}

fn tasks(chosen: Option<Task>) -> Vec<(String, &'static str, bool)> {
    let all = ("/push?task=all".to_owned(), "All steps", chosen.is_none());
    let task = |task: Task| (format!("/push?task={}", task.name()), task.label(), chosen == Some(task));
    std::iter::once(all).chain(Task::ALL.map(task)).collect()
}

/// Returns the host of the address bar without its port.
pub(super) fn hostname(request: &AdminRequest) -> String {
    without_port(&request.display_host()).to_owned()
}

/// Returns the line of the configuration with the names that it has, and one more.
fn names_line(configured: &[String], name: &str) -> String {
    let name = name.trim_matches(['[', ']']).to_owned();
    let all: Vec<String> = configured.iter().cloned().chain([name]).collect();
    shorten(&format!("names = {all:?}"), SENTENCE)
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
    fn missing_name_is_added_to_the_configured_ones() {
        assert_eq!(names_line(&[], "hub.lan"), "names = [\"hub.lan\"]");
        assert_eq!(names_line(&["pi.lan".into()], "[fe80::1]"), "names = [\"pi.lan\", \"fe80::1\"]");
    }

    #[test]
    fn largest_page_is_small() {
        for trust in [Trust::Authority, Trust::OtherAuthority, Trust::Plain { is_loopback: false }] {
            let target = Target { host: "[".repeat(260), hostname: "[".repeat(260), trust, has_users: true };
            worst_case::assert_small(&Page {
                frame: worst_case::frame(),
                clients: target.clients(),
                target,
                fingerprint: Some("f".repeat(95)),
                may_push: true,
                missing: Some(MissingName {
                    line: Some(names_line(&["\"".repeat(2000)], "x")),
                    can_add: true,
                }),
                tasks: tasks(None),
            });
        }
    }
}
