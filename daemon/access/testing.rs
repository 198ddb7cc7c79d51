//! Helpers for the unit tests of this room.

use std::net::{IpAddr, Ipv4Addr};
use std::path::Path;
use std::time::Duration;

use super::htpasswd::Htpasswd;
use super::rules::{Action, Anonymous, Rule};
use super::settings::{AuthSettings, RulesFormat, Settings};
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
            page_rules: directory.join("rules.toml"),
            anonymous,
            remember: Duration::from_mins(1),
            rules: Vec::new(),
            challenge: None,
            token: Duration::from_mins(5),
        },
        session: Duration::from_hours(1),
        rules_format: RulesFormat { parse: parse_rules, show: show_rules },
        signer: TokenSigner::new(&[1; 32], || 0),
        open_without_users: open,
        open_as_registry_2: false,
    }
}

const ACTIONS: [(&str, Action); 4] = [
    ("pull", Action::Pull),
    ("push", Action::Push),
    ("delete", Action::Delete),
    ("catalog", Action::Catalog),
];

/// Parses rules in a form of the tests: users, repositories and actions in a line, each with commas.
fn parse_rules(name: &str, text: &str) -> Result<Vec<Rule>, String> {
    let lines = text.lines().filter(|line| !line.starts_with('#'));
    let rule = |line: &str| {
        let parts: Vec<&str> = line.split(' ').collect();
        let [users, repositories, allow] = parts[..] else { return Err(format!("{name}: {line}")) };
        let list = |text: &str| -> Vec<String> {
            text.split(',').filter(|part| !part.is_empty()).map(ToOwned::to_owned).collect()
        };
        let action =
            |name: String| ACTIONS.iter().find(|(known, _)| *known == name).map(|(_, action)| *action);
        Ok(Rule {
            users: list(users),
            repositories: list(repositories).into_iter().map(Into::into).collect(),
            allow: list(allow).into_iter().filter_map(action).collect(),
        })
    };
    lines.map(rule).collect()
}

fn show_rules(rules: &[Rule]) -> String {
    let action = |action: &Action| ACTIONS.iter().find(|(_, known)| known == action).unwrap().0;
    let line = |rule: &Rule| {
        let patterns: Vec<String> = rule.repositories.iter().map(ToString::to_string).collect();
        let allow: Vec<&str> = rule.allow.iter().map(action).collect();
        format!("{} {} {}\n", rule.users.join(","), patterns.join(","), allow.join(","))
    };
    rules.iter().map(line).collect()
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
