//! Credentials for another registry.

use std::fmt;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

/// The credentials for a log-in.
#[derive(Clone, PartialEq, Eq)]
pub enum Credentials {
    /// A user and its password.
    Password {
        /// The name of the user.
        user: String,
        /// The password.
        password: String,
    },
    /// An identity token, for which the token server gives bearer tokens.
    Identity(String),
}

impl Credentials {
    /// Returns the value of `Authorization` with a password.
    pub(super) fn basic(&self) -> Option<String> {
        match self {
            Credentials::Password { user, password } => {
                Some(format!("Basic {}", STANDARD.encode(format!("{user}:{password}"))))
            }
            Credentials::Identity(_) => None,
        }
    }
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Credentials::Password { user, .. } => write!(f, "Password({user:?})"),
            Credentials::Identity(_) => f.write_str("Identity"),
        }
    }
}
