//! The first words: to a person who starts the daemon by hand, or to the journal.

use std::net::SocketAddr;

use super::House;
use crate::access::Access;
use crate::cli::{Failure, print};
use crate::config::{Config, TlsMode};
use crate::server::Site;
use crate::service;

/// Says where the registry is and who may use it.
pub(super) fn greet(house: &House, addresses: &[SocketAddr]) -> Result<(), Failure> {
    let (config, site) = (house.config.load(), house.server.site());
    if service::has_journal() {
        log::info!("{}", line(&config, addresses, &site.access));
        if let Some(names) = names(&site) {
            log::info!("the certificate is for {names}");
        }
        return Ok(());
    }
    let loopback_only = super::site::is_for_this_machine(&config, house.loopback_only);
    print(&text(&config, addresses, &site, loopback_only))
}

/// What a person who starts the daemon by hand sees first.
fn text(config: &Config, addresses: &[SocketAddr], site: &Site, loopback_only: bool) -> String {
    let (scheme, access) = (scheme(config), &site.access);
    let data = crate::cli::absolute(&config.storage.path);
    let mut text = format!("Holdfast {} is a container registry.\n", env!("CARGO_PKG_VERSION"));
    for address in addresses {
        text += &format!("  listens on  {scheme}://{address}\n");
    }
    text += &format!("  keeps data  in {data}\n");
    if let Some(names) = names(site) {
        text += &format!("  certificate for {names}\n");
    }
    text += match (access.is_open(), access.has_users(), loopback_only) {
        (true, _, true) => "  is open     to everyone on this machine, because it listens on loopback only\n",
        (true, _, false) => {
            "  is OPEN     to everyone who can reach it; `holdfast user add NAME` and auth close it\n"
        }
        (false, false, _) if access.opens_a_part() => {
            "  is open     in part, by [auth]; for the rest add a user with: holdfast user add NAME\n"
        }
        (false, true, _) if access.opens_a_part() => {
            "  is open     in part, by [auth]; the rest needs a user name and a password\n"
        }
        (false, false, _) => "  is closed   until it has a user; add one with: holdfast user add NAME\n",
        (false, true, _) => "  asks for    a user name and a password\n",
    };
    let port = addresses.first().map_or(5000, SocketAddr::port);
    text += &format!(
        "Try it:\n  docker tag hello-world localhost:{port}/hello:1\n  docker push localhost:{port}/hello:1\n"
    );
    text
}

/// The same in a line, for the journal: a service that starts whenever somebody knocks says it often.
fn line(config: &Config, addresses: &[SocketAddr], access: &Access) -> String {
    let doors: Vec<String> =
        addresses.iter().map(|address| format!("{}://{address}", scheme(config))).collect();
    let who = match (access.is_open(), access.has_users()) {
        (true, _) => "is open to everyone who can reach it",
        (false, false) if access.opens_a_part() => {
            "is open in part, by [auth]; for the rest: sudo holdfast user add NAME"
        }
        (false, true) if access.opens_a_part() => {
            "is open in part, by [auth]; the rest needs a user name and a password"
        }
        (false, false) => "is closed until it has a user: sudo holdfast user add NAME",
        (false, true) => "asks for a user name and a password",
    };
    let (version, data) = (env!("CARGO_PKG_VERSION"), crate::cli::absolute(&config.storage.path));
    format!("Holdfast {version} listens on {}, keeps data in {data}, {who}", doors.join(" and "))
}

/// The names of the certificate, if TLS is on.
fn names(site: &Site) -> Option<String> {
    site.certificates.as_ref().map(|certificates| certificates.names().join(", "))
}

fn scheme(config: &Config) -> &'static str {
    if config.tls.mode == TlsMode::Off { "http" } else { "https" }
}
