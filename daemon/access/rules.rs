//! Access rules. Pure.

use crate::oci::{Pattern, RepositoryName};

/// Action in a repository.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// Read manifests, blobs, tags and referrers.
    Pull,
    /// Upload blobs, and put manifests and tags.
    Push,
    /// Delete tags, manifests and blobs.
    Delete,
    /// List repositories; the list shows those that may be pulled from.
    Catalog,
}

/// Rights of the anonymous user in all repositories.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Anonymous {
    /// No rights, except by rules for `-`.
    None,
    /// Pull, and list repositories.
    Pull,
    /// Every action.
    Full,
}

/// Actions that some users may do in some repositories.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rule {
    /// Names of the users; `*` stands for every user who is logged in, `-` for the anonymous user.
    pub users: Vec<String>,
    /// Patterns of the repositories.
    pub repositories: Vec<Pattern>,
    /// The actions.
    pub allow: Vec<Action>,
}

/// The anonymous user in rules. Not a valid `UserName`.
pub(super) const ANONYMOUS: &str = "-";

impl Rule {
    /// Returns true if the rule gives the anonymous user any right.
    pub(super) fn grants_anonymous_access(&self) -> bool {
        self.applies_to(None) && !self.repositories.is_empty() && !self.allow.is_empty()
    }

    /// Returns the rule without the anonymous user.
    pub(super) fn without_anonymous(&self) -> Self {
        let users = self.users.iter().filter(|name| *name != ANONYMOUS).cloned().collect();
        Rule { users, ..self.clone() }
    }

    /// Returns true if the rule is for a user, or for the anonymous user.
    pub(super) fn applies_to(&self, user: Option<&str>) -> bool {
        match user {
            Some(user) => self.users.iter().any(|name| name == "*" || name == user),
            None => self.users.iter().any(|name| name == ANONYMOUS),
        }
    }

    /// Returns true if the rule allows a user, or the anonymous user, an action in `*`.
    pub(super) fn allows_everywhere(&self, user: Option<&str>, action: Action) -> bool {
        let all = self.repositories.iter().any(|pattern| pattern.to_string() == "*");
        all && self.applies_to(user) && self.allow.contains(&action)
    }

    /// Returns true if the rule allows an action. `repository` is `None` for some repository.
    pub(super) fn allows(
        &self,
        user: Option<&str>,
        action: Action,
        repository: Option<&RepositoryName>,
    ) -> bool {
        let matches_repository = repository.is_none_or(|repository| {
            self.repositories.iter().any(|pattern| pattern.matches(repository.as_str()))
        });
        // The right to pull includes the catalog, which shows only repositories that may be pulled from.
        let allowed =
            self.allow.contains(&action) || (action == Action::Catalog && self.allow.contains(&Action::Pull));
        self.applies_to(user) && matches_repository && allowed
    }
}
