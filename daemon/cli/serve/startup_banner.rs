//! The startup banner: on stdout for an operator at a terminal, or one line in the journal.

use std::net::SocketAddr;

use super::super::failure::Failure;
use super::super::offline::absolute;
use super::super::output::print;
use super::app::App;
use super::services::is_for_this_machine;
use crate::access::Access;
use crate::config::{Config, TlsMode};
use crate::server::RequestServices;
use crate::service;

/// Announces where the registry listens, and who has access.
pub(super) fn announce(app: &App, addresses: &[SocketAddr]) -> Result<(), Failure> {
    let (config, services) = (app.config.load(), app.server.services());
    if service::has_journal() {
        log::info!("{}", line(&config, addresses, &services.access));
        if let Some(names) = names(&services) {
            log::info!("certificate for {names}");
        }
        return Ok(());
    }
    let loopback_only = is_for_this_machine(&config, app.loopback_only);
    print(&text(&config, addresses, &services, loopback_only))
}

/// Returns the banner for a terminal.
fn text(
    config: &Config,
    addresses: &[SocketAddr],
    services: &RequestServices,
    loopback_only: bool,
) -> String {
    let (scheme, access) = (scheme(config), &services.access);
    let data = absolute(&config.storage.path);
    let mut text = format!("Holdfast {}, a container registry\n", env!("CARGO_PKG_VERSION"));
    for address in addresses {
        text += &format!("  listens on  {scheme}://{address}\n");
    }
    if config.admin.enabled
        && let Some(address) = addresses.first()
    {
        text += &format!("  admin page  {scheme}://{}/\n", for_browser(*address));
    }
    text += &format!("  data        {data}\n");
    if let Some(names) = names(services) {
        text += &format!("  certificate for {names}\n");
    }
    text += match (access.is_open(), access.has_users(), loopback_only) {
        (true, _, true) => "  access      open to everyone on this machine: it listens on loopback only\n",
        (true, _, false) => {
            "  access      OPEN to everyone who can reach it; restrict it: holdfast user add NAME, and [auth]\n"
        }
        (false, false, _) if access.is_partly_open() => {
            "  access      partly open, by [auth]; for the rest add a user: holdfast user add NAME\n"
        }
        (false, true, _) if access.is_partly_open() => {
            "  access      partly open, by [auth]; the rest needs a user name and password\n"
        }
        (false, false, _) => "  access      closed until the first user is added: holdfast user add NAME\n",
        (false, true, _) => "  access      with user name and password\n",
    };
    let port = addresses.first().map_or(5000, SocketAddr::port);
    text += &format!(
        "Try it:\n  docker pull hello-world\n  docker tag hello-world localhost:{port}/hello:1\n  \
         docker push localhost:{port}/hello:1\n"
    );
    text
}

/// Returns the address by which a browser on this machine reaches a socket.
fn for_browser(address: SocketAddr) -> String {
    if address.ip().is_unspecified() { format!("localhost:{}", address.port()) } else { address.to_string() }
}

/// Returns the banner for the journal: one line, since socket activation repeats it with each start.
fn line(config: &Config, addresses: &[SocketAddr], access: &Access) -> String {
    let urls: Vec<String> =
        addresses.iter().map(|address| format!("{}://{address}", scheme(config))).collect();
    let access = match (access.is_open(), access.has_users()) {
        (true, _) => "open to everyone who can reach it",
        (false, false) if access.is_partly_open() => {
            "partly open, by [auth]; for the rest: sudo holdfast user add NAME"
        }
        (false, true) if access.is_partly_open() => {
            "partly open, by [auth]; the rest needs a user name and password"
        }
        (false, false) => "closed until the first user is added: sudo holdfast user add NAME",
        (false, true) => "with user name and password",
    };
    let (version, data) = (env!("CARGO_PKG_VERSION"), absolute(&config.storage.path));
    format!("Holdfast {version} listens on {}, data in {data}, access: {access}", urls.join(" and "))
}

/// Returns the names of the certificate, if TLS is on.
fn names(services: &RequestServices) -> Option<String> {
    services.certificates.as_ref().map(|certificates| certificates.names().join(", "))
}

fn scheme(config: &Config) -> &'static str {
    match config.tls.mode {
        TlsMode::Off => "http",
        TlsMode::Auto | TlsMode::Files { .. } => "https",
    }
}
