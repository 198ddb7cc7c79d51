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
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rule {
    /// The users it is about; `*` is every user.
    pub users: Vec<String>,
    /// The repositories it is about.
    pub repositories: Vec<Pattern>,
    /// What they may do.
    pub allow: Vec<Action>,
}

/// Whether `user`, or nobody in particular, may do something. Without rules every user may do everything.
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
    let Some(user) = user else { return for_all };
    for_all || rules.is_empty() || rules.iter().any(|rule| rule.allows(user, action, repository))
}

/// Whether a user may do everything: without rules every user, and whom rules let pull, push and delete in `*`.
pub(super) fn may_do_everything(user: &str, rules: &[Rule]) -> bool {
    let everywhere = |action: &Action| rules.iter().any(|rule| rule.allows_everywhere(user, *action));
    rules.is_empty() || [Action::Pull, Action::Push, Action::Delete].iter().all(everywhere)
}

impl Rule {
    fn is_about(&self, user: &str) -> bool {
        self.users.iter().any(|name| name == "*" || name == user)
    }

    fn allows_everywhere(&self, user: &str, action: Action) -> bool {
        let all = self.repositories.iter().any(|pattern| pattern.to_string() == "*");
        all && self.is_about(user) && self.allow.contains(&action)
    }

    fn allows(&self, user: &str, action: Action, repository: Option<&RepositoryName>) -> bool {
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
