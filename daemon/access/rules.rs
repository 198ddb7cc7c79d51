//! The decision: a pure function.

use crate::oci::RepositoryName;

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
    /// Patterns of repositories; `*` stands for any text.
    pub repositories: Vec<String>,
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

impl Rule {
    fn allows(&self, user: &str, action: Action, repository: Option<&RepositoryName>) -> bool {
        let about_user = self.users.iter().any(|name| name == "*" || name == user);
        let about_repository = repository.is_none_or(|repository| {
            self.repositories.iter().any(|pattern| matches(pattern, repository.as_str()))
        });
        // Whoever may pull something may see the list, which shows nothing else.
        let allowed =
            self.allow.contains(&action) || (action == Action::Catalog && self.allow.contains(&Action::Pull));
        about_user && about_repository && allowed
    }
}

/// Whether a text matches a pattern in which `*` stands for any text.
fn matches(pattern: &str, text: &str) -> bool {
    let Some((first, rest)) = pattern.split_once('*') else { return pattern == text };
    let Some(mut text) = text.strip_prefix(first) else { return false };
    let mut parts = rest.split('*').peekable();
    while let Some(part) = parts.next() {
        if parts.peek().is_none() {
            return text.ends_with(part);
        }
        let Some(at) = text.find(part) else { return false };
        text = &text[at + part.len()..];
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_star_stands_for_any_text() {
        for (pattern, text, expected) in [
            ("*", "a/b", true),
            ("team/*", "team/app", true),
            ("team/*", "team", false),
            ("*/app", "a/b/app", true),
            ("a*b*c", "axxbyyc", true),
            ("a*b*c", "axxcyyb", false),
            ("a", "ab", false),
        ] {
            assert_eq!(matches(pattern, text), expected, "{pattern} {text}");
        }
    }

    #[test]
    fn rules_decide() {
        let rule = Rule {
            users: vec!["ci".into()],
            repositories: vec!["team/*".into()],
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
}
