//! Helpers for the unit tests of this room.

use std::net::{IpAddr, Ipv4Addr};
use std::path::Path;
use std::time::Duration;

use super::htpasswd::Htpasswd;
use super::rules::{Action, Anonymous, Rule};
use super::settings::{AuthSettings, Settings};
use super::state::{Access, STAMP_INTERVAL};
use super::token::TokenSigner;
use super::users_latch::UsersLatch;
use crate::base::Clock;

/// The address of the client.
pub(super) const HERE: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

pub(super) fn settings(directory: &Path, anonymous: Option<Anonymous>, open: bool) -> Settings {
    Settings {
        auth: AuthSettings {
            htpasswd: directory.join("htpasswd"),
            anonymous,
            remember: Duration::from_mins(1),
            rules: Vec::new(),
            challenge: None,
            token: Duration::from_mins(5),
        },
        session: Duration::from_hours(1),
        signer: TokenSigner::new(&[1; 32], || 0),
        open_without_users: open,
        open_as_registry_2: false,
    }
}

/// Opens with a clock that stands still.
pub(super) fn open(settings: Settings, latch: UsersLatch) -> Access {
    Access::with_clock(settings, latch, Clock::manual(0)).unwrap()
}

/// Moves the clock so that the next request notices a changed htpasswd file.
pub(super) fn advance(access: &Access) {
    access.clock.advance(STAMP_INTERVAL);
}

pub(super) fn rule(users: &[&str], repositories: &str, allow: &[Action]) -> Rule {
    Rule {
        users: users.iter().map(|name| (*name).to_owned()).collect(),
        repositories: vec![repositories.to_owned().into()],
        allow: allow.to_vec(),
    }
}

/// Adds a user or changes the password, with the lowest cost of bcrypt.
pub(super) fn set_password(directory: &Path, name: &str, password: &str) {
    let name = name.parse().unwrap();
    Htpasswd::edit(&directory.join("htpasswd"), |file| file.set(&name, password, 4)).unwrap();
}

/// The `Authorization` header for `NAME:PASSWORD`.
pub(super) fn basic(text: &str) -> String {
    use base64::Engine;
    format!("Basic {}", base64::engine::general_purpose::STANDARD.encode(text))
}
