//! Access rules, and the decision whether they allow an action. Pure.

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

/// Returns true if `user`, or the anonymous user, may do an action. Without rules for users every user has full rights.
/// A user has at least the rights of the anonymous user.
pub(super) fn decide(
    user: Option<&str>,
    action: Action,
    repository: Option<&RepositoryName>,
    anonymous: Anonymous,
    rules: &[Rule],
) -> bool {
    let for_all = match anonymous {
        Anonymous::Full => true,
        Anonymous::Pull => matches!(action, Action::Pull | Action::Catalog),
        Anonymous::None => false,
    };
    let may = |user| rules.iter().any(|rule| rule.allows(user, action, repository));
    for_all || may(None) || user.is_some_and(|user| restrict_no_user(rules) || may(Some(user)))
}

/// Returns true if no rule names users: the list is empty, or all rules are for the anonymous user only.
fn restrict_no_user(rules: &[Rule]) -> bool {
    rules.iter().all(|rule| !rule.users.is_empty() && rule.users.iter().all(|name| name == ANONYMOUS))
}

/// Returns true for a user with full rights: every user if no rule names users, else a user whom rules allow to pull,
/// push and delete in `*`.
pub(super) fn has_full_rights(user: &str, rules: &[Rule]) -> bool {
    let everywhere = |action: &Action| rules.iter().any(|rule| rule.allows_everywhere(user, *action));
    restrict_no_user(rules) || [Action::Pull, Action::Push, Action::Delete].iter().all(everywhere)
}

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

    fn allows_everywhere(&self, user: &str, action: Action) -> bool {
        let all = self.repositories.iter().any(|pattern| pattern.to_string() == "*");
        all && self.applies_to(Some(user)) && self.allow.contains(&action)
    }

    fn allows(&self, user: Option<&str>, action: Action, repository: Option<&RepositoryName>) -> bool {
        let matches_repository = repository.is_none_or(|repository| {
            self.repositories.iter().any(|pattern| pattern.matches(repository.as_str()))
        });
        // The right to pull includes the catalog, which shows only repositories that may be pulled from.
        let allowed =
            self.allow.contains(&action) || (action == Action::Catalog && self.allow.contains(&Action::Pull));
        self.applies_to(user) && matches_repository && allowed
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rule_allows_its_users_its_actions_in_its_repositories() {
        let rule = Rule {
            users: vec!["ci".into()],
            repositories: vec!["team/*".to_owned().into()],
            allow: vec![Action::Pull, Action::Push],
        };
        let (mine, other): (RepositoryName, RepositoryName) =
            ("team/app".parse().unwrap(), "x".parse().unwrap());
        let may = |user, action, repository| {
            decide(user, action, repository, Anonymous::None, std::slice::from_ref(&rule))
        };
        assert!(may(Some("ci"), Action::Push, Some(&mine)));
        assert!(may(Some("ci"), Action::Catalog, None));
        assert!(!may(Some("ci"), Action::Delete, Some(&mine)));
        assert!(!may(Some("ci"), Action::Pull, Some(&other)));
        assert!(!may(Some("eve"), Action::Pull, Some(&mine)));
        assert!(!may(None, Action::Pull, Some(&mine)));
        assert!(decide(None, Action::Pull, Some(&mine), Anonymous::Pull, &[]));
        assert!(!decide(None, Action::Push, Some(&mine), Anonymous::Pull, &[]));
        assert!(decide(Some("x"), Action::Delete, Some(&mine), Anonymous::None, &[]));
    }

    fn rule(users: &[&str], repositories: &str, allow: &[Action]) -> Rule {
        Rule {
            users: users.iter().map(|name| (*name).to_owned()).collect(),
            repositories: vec![repositories.to_owned().into()],
            allow: allow.to_vec(),
        }
    }

    #[test]
    fn rules_for_the_anonymous_user_restrict_no_user() {
        let (open, closed): (RepositoryName, RepositoryName) =
            ("public/app".parse().unwrap(), "private".parse().unwrap());
        let anonymous = rule(&["-"], "public/*", &[Action::Pull]);
        let ci = rule(&["ci"], "private", &[Action::Push]);
        let may = |user, action, repository, rules: &[Rule]| {
            decide(user, action, repository, Anonymous::None, rules)
        };
        for rules in [&[anonymous.clone()][..], &[anonymous.clone(), ci.clone()]] {
            assert!(may(None, Action::Pull, Some(&open), rules) && may(None, Action::Catalog, None, rules));
            assert!(!may(None, Action::Push, Some(&open), rules));
            assert!(!may(None, Action::Pull, Some(&closed), rules));
        }
        // Alone it restricts no user; beside rules for users it gives the same rights to users.
        let alone = [anonymous.clone()];
        assert!(may(Some("eve"), Action::Delete, Some(&closed), &alone) && has_full_rights("eve", &alone));
        let both = [anonymous, ci];
        assert!(may(Some("eve"), Action::Pull, Some(&open), &both));
        assert!(!may(Some("eve"), Action::Push, Some(&open), &both) && !has_full_rights("eve", &both));
        assert!(!may(Some("eve"), Action::Pull, Some(&closed), &both));
        // "*" does not include the anonymous user; a rule with an empty list of users restricts users.
        assert!(!may(None, Action::Pull, Some(&open), &[rule(&["*"], "*", &[Action::Pull])]));
        assert!(!may(Some("eve"), Action::Pull, Some(&open), &[rule(&[], "*", &[Action::Pull])]));
        assert!(!rule(&["*"], "*", &[Action::Pull]).grants_anonymous_access());
        assert!(
            !rule(&["-"], "*", &[]).grants_anonymous_access()
                && rule(&["a", "-"], "*", &[Action::Pull]).grants_anonymous_access()
        );
        let without = rule(&["a", "-"], "*", &[Action::Pull]).without_anonymous();
        assert!(!without.grants_anonymous_access() && without.users == ["a"]);
    }

    #[test]
    fn full_rights_need_pull_push_and_delete_in_all_repositories() {
        let rule = |users: &str, repositories: &str, allow: &[Action]| Rule {
            users: vec![users.into()],
            repositories: vec![repositories.to_owned().into()],
            allow: allow.to_vec(),
        };
        let all = [Action::Pull, Action::Push, Action::Delete];
        assert!(has_full_rights("eve", &[]));
        for rules in [
            &[rule("boss", "*", &[Action::Pull, Action::Delete])][..],
            &[rule("boss", "team/*", &all)],
            &[rule("boss", "*", &all[..2]), rule("boss", "team/*", &all)],
            &[rule("boss", "*", &all[..2]), rule("eve", "*", &all)],
        ] {
            assert!(!has_full_rights("boss", rules), "{rules:?}");
        }
        let rules = [rule("boss", "*", &all)];
        assert!(has_full_rights("boss", &rules) && !has_full_rights("eve", &rules));
        // Several rules together may give full rights.
        assert!(has_full_rights("boss", &[rule("*", "*", &all[..2]), rule("boss", "*", &all[2..])]));
    }
}
