//! The rights that follow from the settings and the current htpasswd file.

use super::identity::Identity;
use super::rule_set::RuleSet;
use super::rules::{Action, Anonymous};
use crate::oci::RepositoryName;

/// Rights of the anonymous user and of all users.
#[derive(Debug)]
pub(super) struct Policy {
    pub(super) anonymous: Anonymous,
    /// True if the anonymous user has full rights only by default: there are no users and no rules, and
    /// `auth.anonymous` is not set.
    pub(super) is_implicitly_open: bool,
    pub(super) rules: RuleSet,
}

impl Policy {
    /// Returns the policy of a permit that no setting restricts.
    pub(super) fn unrestricted() -> Self {
        Policy { anonymous: Anonymous::None, is_implicitly_open: false, rules: RuleSet::default() }
    }

    /// Returns true if an action is allowed. `repository` is `None` for the catalog.
    pub(super) fn decide(
        &self,
        identity: &Identity,
        action: Action,
        repository: Option<&RepositoryName>,
    ) -> bool {
        let user = match identity {
            Identity::Anonymous => None,
            Identity::User(name) => Some(name.as_str()),
            Identity::Local(_) => return true,
        };
        self.rules.decide(user, action, repository, self.anonymous)
    }

    /// Returns true if an action is allowed in every repository, as [`RuleSet::decide_everywhere`].
    pub(super) fn decide_everywhere(&self, identity: &Identity, action: Action) -> bool {
        let user = match identity {
            Identity::Anonymous => None,
            Identity::User(name) => Some(name.as_str()),
            Identity::Local(_) => return true,
        };
        self.rules.decide_everywhere(user, action, self.anonymous)
    }

    /// Returns true if the anonymous user has any right.
    pub(super) fn grants_anonymous_access(&self) -> bool {
        self.anonymous != Anonymous::None || self.rules.grants_anonymous_access()
    }

    /// Returns true for a user with full rights, who may also manage users and maintain the registry.
    pub(super) fn has_full_rights(&self, identity: &Identity) -> bool {
        match identity {
            Identity::Anonymous => false,
            Identity::User(name) => self.rules.has_full_rights(name.as_str()),
            Identity::Local(_) => true,
        }
    }
}
