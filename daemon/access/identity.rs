//! The identity of a client, and why a client could not be identified.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use super::htpasswd::UserName;
use crate::oci::{Actor, ActorKind};

/// Identity of the client that sent a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Identity {
    /// The anonymous user; `-` in the log.
    Anonymous,
    /// A user with a verified password, token or session.
    User(UserName),
    /// A user of this machine, on the control socket; `local:NAME` in the log.
    Local(LocalUser),
}

/// A user of this machine, who has full rights by the mode of the control socket.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LocalUser(Arc<str>);

impl LocalUser {
    /// The maximum length of a name in bytes, so that it fits into a line of the log.
    const MAX_LENGTH: usize = 64;

    /// Makes the user of an account of the system. Characters that would disturb a line of the log are replaced.
    pub fn new(account: impl AsRef<str>) -> Self {
        let clean = |c: char| if c.is_ascii_graphic() { c } else { '?' };
        LocalUser(account.as_ref().chars().take(Self::MAX_LENGTH).map(clean).collect::<String>().into())
    }

    /// Returns the name of the account.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for LocalUser {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Display for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Identity::Anonymous => f.write_str("-"),
            Identity::User(name) => name.fmt(f),
            // No user of the registry has a colon in the name.
            Identity::Local(user) => write!(f, "local:{user}"),
        }
    }
}

impl Identity {
    /// Returns the actor of the changes that this client makes.
    pub fn actor(&self) -> Actor {
        match self {
            Identity::Anonymous => Actor { name: String::new(), kind: ActorKind::Anonymous },
            Identity::User(name) => Actor { name: name.to_string(), kind: ActorKind::User },
            Identity::Local(user) => Actor { name: user.to_string(), kind: ActorKind::Local },
        }
    }
}

/// Reason why the credentials of a request were rejected.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum IdentifyError {
    /// The user is unknown or the password wrong. Which of the two is not told, so that user names cannot be probed.
    #[error("wrong user name or password")]
    WrongCredentials,
    /// The throttle rejects the attempt: too many wrong passwords from this address, or from it for this user.
    #[error("too many wrong passwords; try again in {} seconds", retry_after.as_secs())]
    Throttled {
        /// The time from now after which the client may try again.
        retry_after: Duration,
    },
    /// The token was not issued with the current key of this registry.
    #[error("the token is invalid; log in again")]
    InvalidToken,
    /// The token has expired, or its user or password has changed since it was issued.
    #[error("the token has expired or was revoked; request a new one")]
    ExpiredToken,
    /// The htpasswd file cannot be read.
    #[error("the htpasswd file cannot be read; see the log of the registry")]
    Unavailable,
}

impl IdentifyError {
    /// Returns the error code of RFC 6750, section 3.1, for a request with a token.
    pub fn code(&self) -> Option<&'static str> {
        match self {
            IdentifyError::InvalidToken | IdentifyError::ExpiredToken => Some("invalid_token"),
            IdentifyError::WrongCredentials
            | IdentifyError::Throttled { .. }
            | IdentifyError::Unavailable => None,
        }
    }
}
