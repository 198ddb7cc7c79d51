//! The decision: a pure function.

use crate::oci::{Pattern, RepositoryName};

/// Something that can be done in a repository.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// To read manifests, blobs, tags and referrers.
    Pull,
    /// To upload blobs and put manifests and tags.
    Push,
    /// To delete tags, manifests and blobs.
    Delete,
    /// To list repositories; the list has those that may be pulled from.
    Catalog,
}

/// What those who do not log in may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Anonymous {
    /// Nothing.
    None,
    /// Pull, and list what there is.
    Pull,
    /// Everything.
    Full,
}

/// What some users may do in some repositories.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rule {
    /// The users it is about; `*` is every user who has logged in, `-` is the anonymous user.
    pub users: Vec<String>,
    /// The repositories it is about.
    pub repositories: Vec<Pattern>,
    /// What they may do.
    pub allow: Vec<Action>,
}

/// Stands for the anonymous user in rules. It is no name of a user (see [`super::UserName`]).
pub(super) const ANONYMOUS: &str = "-";

/// Decides whether `user`, or the anonymous user, may do something. Where no rule is about users, every user may do everything.
/// A user may do at least what the anonymous user may.
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
    for_all || may(None) || user.is_some_and(|user| are_for_anonymous(rules) || may(Some(user)))
}

/// Returns true if no rule is about users: the list is empty, or all rules are about the anonymous user only.
fn are_for_anonymous(rules: &[Rule]) -> bool {
    rules.iter().all(|rule| !rule.users.is_empty() && rule.users.iter().all(|name| name == ANONYMOUS))
}

/// Whether a user may do everything: without rules about users every user, and whom rules let pull, push and delete in `*`.
pub(super) fn may_do_everything(user: &str, rules: &[Rule]) -> bool {
    let everywhere = |action: &Action| rules.iter().any(|rule| rule.allows_everywhere(user, *action));
    are_for_anonymous(rules) || [Action::Pull, Action::Push, Action::Delete].iter().all(everywhere)
}

impl Rule {
    /// Returns true if the rule allows the anonymous user anything.
    pub(super) fn opens_anything(&self) -> bool {
        self.is_about(None) && !self.repositories.is_empty() && !self.allow.is_empty()
    }

    /// The rule as it is for users.
    pub(super) fn without_anonymous(&self) -> Self {
        let users = self.users.iter().filter(|name| *name != ANONYMOUS).cloned().collect();
        Rule { users, ..self.clone() }
    }

    /// Returns true if the rule is about a user, or about the anonymous user.
    fn is_about(&self, user: Option<&str>) -> bool {
        match user {
            Some(user) => self.users.iter().any(|name| name == "*" || name == user),
            None => self.users.iter().any(|name| name == ANONYMOUS),
        }
    }

    fn allows_everywhere(&self, user: &str, action: Action) -> bool {
        let all = self.repositories.iter().any(|pattern| pattern.to_string() == "*");
        all && self.is_about(Some(user)) && self.allow.contains(&action)
    }

    fn allows(&self, user: Option<&str>, action: Action, repository: Option<&RepositoryName>) -> bool {
        let about_repository = repository.is_none_or(|repository| {
            self.repositories.iter().any(|pattern| pattern.matches(repository.as_str()))
        });
        // Whoever may pull something may see the list, which shows nothing else.
        let allowed =
            self.allow.contains(&action) || (action == Action::Catalog && self.allow.contains(&Action::Pull));
        self.is_about(user) && about_repository && allowed
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rules_decide() {
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
    fn rules_for_the_anonymous_user_open_and_restrict_nobody() {
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
        // Alone it restricts no user; beside rules about users it opens the same to users.
        let alone = [anonymous.clone()];
        assert!(may(Some("eve"), Action::Delete, Some(&closed), &alone) && may_do_everything("eve", &alone));
        let both = [anonymous, ci];
        assert!(may(Some("eve"), Action::Pull, Some(&open), &both));
        assert!(!may(Some("eve"), Action::Push, Some(&open), &both) && !may_do_everything("eve", &both));
        assert!(!may(Some("eve"), Action::Pull, Some(&closed), &both));
        // "*" is every user, and not the anonymous one; a rule about no one restricts users.
        assert!(!may(None, Action::Pull, Some(&open), &[rule(&["*"], "*", &[Action::Pull])]));
        assert!(!may(Some("eve"), Action::Pull, Some(&open), &[rule(&[], "*", &[Action::Pull])]));
        assert!(!rule(&["*"], "*", &[Action::Pull]).opens_anything());
        assert!(
            !rule(&["-"], "*", &[]).opens_anything()
                && rule(&["a", "-"], "*", &[Action::Pull]).opens_anything()
        );
        let without = rule(&["a", "-"], "*", &[Action::Pull]).without_anonymous();
        assert!(!without.opens_anything() && without.users == ["a"]);
    }

    #[test]
    fn who_may_pull_push_and_delete_everywhere_may_do_everything() {
        let rule = |users: &str, repositories: &str, allow: &[Action]| Rule {
            users: vec![users.into()],
            repositories: vec![repositories.to_owned().into()],
            allow: allow.to_vec(),
        };
        let all = [Action::Pull, Action::Push, Action::Delete];
        assert!(may_do_everything("eve", &[]));
        for rules in [
            &[rule("boss", "*", &[Action::Pull, Action::Delete])][..],
            &[rule("boss", "team/*", &all)],
            &[rule("boss", "*", &all[..2]), rule("boss", "team/*", &all)],
            &[rule("boss", "*", &all[..2]), rule("eve", "*", &all)],
        ] {
            assert!(!may_do_everything("boss", rules), "{rules:?}");
        }
        let rules = [rule("boss", "*", &all)];
        assert!(may_do_everything("boss", &rules) && !may_do_everything("eve", &rules));
        // More than one rule may say it.
        assert!(may_do_everything("boss", &[rule("*", "*", &all[..2]), rule("boss", "*", &all[2..])]));
    }
}
