//! The settings of authentication and authorization.

use std::path::PathBuf;
use std::time::Duration;

use super::rules::{Anonymous, Rule};
use super::token::TokenSigner;

/// Settings of `Access`.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The part that `[auth]` of the configuration sets.
    pub auth: AuthSettings,
    /// Idle timeout of a session of the admin page.
    pub session: Duration,
    /// Reads and writes the rules of the admin page.
    pub rules_format: RulesFormat,
    /// Signs and verifies bearer tokens.
    pub signer: TokenSigner,
    /// Gives the anonymous user full rights, from this machine and the LAN, while there are no rules and the htpasswd
    /// file never had an entry.
    pub open_without_users: bool,
    /// Gives the anonymous user full rights as `open_without_users` does, but for every client and host name, as
    /// registry:2 behaves without `auth`.
    pub open_as_registry_2: bool,
}

/// The form of the rules of the admin page in their file, which is that of the configuration.
#[derive(Clone, Copy, Debug)]
pub struct RulesFormat {
    /// Parses the text of a file, whose name is for errors.
    pub parse: fn(&str, &str) -> Result<Vec<Rule>, String>,
    /// Formats rules as a text that `parse` reads back.
    pub show: fn(&[Rule]) -> String,
}

/// The users, their rights, and how clients log in.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AuthSettings {
    /// Path of the htpasswd file.
    pub htpasswd: PathBuf,
    /// Path of the file with the rules of the admin page.
    pub page_rules: PathBuf,
    /// Rights of the anonymous user; `None` if the configuration does not set them, then
    /// [`Settings::open_without_users`] applies.
    pub anonymous: Option<Anonymous>,
    /// TTL of a verified password in the cache.
    pub remember: Duration,
    /// Rights of the users, by the configuration. Without rules, there and of the admin page, every user has full rights.
    pub rules: Vec<Rule>,
    /// Scheme of challenges; `None` derives it from the rights of the anonymous user.
    pub challenge: Option<Challenge>,
    /// Lifetime of a bearer token.
    pub token: Duration,
}

/// Scheme that the `WWW-Authenticate` challenge of a 401 asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Challenge {
    /// A user name and a password with each request.
    Basic,
    /// A token from the token endpoint.
    Bearer,
}
