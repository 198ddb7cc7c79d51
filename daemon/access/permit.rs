//! Authorization: the operation that a request needs, and the permit that proves that it is allowed.

use std::fmt;
use std::sync::Arc;

use super::identity::{Identity, LocalUser};
use super::policy::Policy;
use super::rules::{Action, Anonymous};
use super::state::Access;
use super::token::Grants;
use crate::oci::RepositoryName;

/// Operation that a request needs a permit for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Operation {
    /// `GET /v2/`, with which clients verify their log-in.
    Ping,
    /// The list of repositories.
    Catalog,
    /// An action in a repository.
    Repository {
        /// The repository.
        name: RepositoryName,
        /// The action.
        action: Action,
    },
    /// Collections, checks and metrics.
    Maintenance,
    /// The management of users.
    Users,
}

impl fmt::Display for Operation {
    /// Completes the words "may not".
    fn fmt(&self, text: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Operation::Ping => text.write_str("use this registry"),
            Operation::Catalog => text.write_str("list repositories"),
            Operation::Repository { name, action: Action::Pull } => write!(text, "pull from {name}"),
            Operation::Repository { name, action: Action::Push } => write!(text, "push to {name}"),
            Operation::Repository { name, action: Action::Delete } => write!(text, "delete in {name}"),
            Operation::Repository { name, action: Action::Catalog } => write!(text, "list {name}"),
            Operation::Maintenance => text.write_str("run maintenance or read metrics"),
            Operation::Users => text.write_str("manage users"),
        }
    }
}

/// Proof that a request is allowed.
#[derive(Clone)]
pub struct Permit {
    identity: Identity,
    policy: Arc<Policy>,
    /// The grants of the bearer token, if the request has one.
    grants: Option<Arc<Grants>>,
}

impl Permit {
    /// Returns the identity that the permit was issued to.
    pub fn identity(&self) -> &Identity {
        &self.identity
    }

    /// Returns true if an action in any repository is allowed, by the rules and by the bearer token if there is one.
    pub fn may(&self, action: Action, repository: &RepositoryName) -> bool {
        let granted = self.grants.as_ref().is_none_or(|grants| grants.allow(action, repository));
        granted && self.policy.decide(&self.identity, action, Some(repository))
    }

    /// Returns true if an action is allowed in every repository, by one look at the rules. False is not certain.
    pub fn may_everywhere(&self, action: Action) -> bool {
        self.grants.is_none() && self.policy.decide_everywhere(&self.identity, action)
    }

    /// Returns true if an action is allowed in some repository.
    pub fn may_somewhere(&self, action: Action) -> bool {
        self.policy.decide(&self.identity, action, None)
    }

    /// Returns true if lists show a repository: the rules allow to pull from it. The scopes of a token do not matter,
    /// since the client can request another token.
    pub fn shows(&self, repository: &RepositoryName) -> bool {
        self.policy.decide(&self.identity, Action::Pull, Some(repository))
    }

    /// Returns the permit of a user of this machine, who has full rights. Only for requests of the control socket, whose
    /// mode has decided who may connect.
    pub fn of_local_user(user: LocalUser) -> Self {
        Permit { identity: Identity::Local(user), policy: Arc::new(Policy::unrestricted()), grants: None }
    }

    /// Restricts the permit to the grants of the bearer token of another one.
    pub(super) fn with_grants_of(self, other: &Permit) -> Self {
        Permit { grants: other.grants.clone(), ..self }
    }

    /// Restricts the permit to the grants of a bearer token.
    pub(super) fn restricted_to(self, grants: Arc<Grants>) -> Self {
        Permit { grants: Some(grants), ..self }
    }
}

/// Reason why a request is not allowed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// The anonymous user may not do this; a user may.
    NeedsLogin,
    /// This user may not do this.
    Denied,
    /// The token was not issued for this.
    InsufficientScope,
    /// The anonymous user may not do this, and the htpasswd file has no users.
    NoUsersYet,
}

impl Access {
    /// Returns a permit for an operation.
    ///
    /// # Errors
    /// Returns [`Refusal`].
    pub fn permit(&self, identity: Identity, wanted: &Operation) -> Result<Permit, Refusal> {
        let users = self.users.load();
        let policy = &users.policy;
        let allowed = match wanted {
            Operation::Ping => policy.grants_anonymous_access() || identity != Identity::Anonymous,
            Operation::Catalog => policy.decide(&identity, Action::Catalog, None),
            Operation::Repository { name, action } => policy.decide(&identity, *action, Some(name)),
            Operation::Maintenance => {
                policy.anonymous == Anonymous::Full || policy.has_full_rights(&identity)
            }
            // Full rights of the anonymous user do not suffice: a visitor could make itself a user that outlives them.
            Operation::Users => policy.has_full_rights(&identity),
        };
        match identity {
            identity if allowed => Ok(Permit { identity, policy: Arc::clone(policy), grants: None }),
            Identity::User(_) | Identity::Local(_) => Err(Refusal::Denied),
            Identity::Anonymous if users.hashes.is_empty() => Err(Refusal::NoUsersYet),
            Identity::Anonymous => Err(Refusal::NeedsLogin),
        }
    }
}
