//! Changes of the rules of the admin page: what a change would do, in words, and the change itself.

use std::path::PathBuf;

use super::htpasswd::{HtpasswdError, UserName, lock_directory};
use super::page_rules::{MAX_RULES, PageRule, PageRules};
use super::rights::{rights, sentence};
use super::rule_set::RuleSet;
use super::rules::{ANONYMOUS, Action, Rule};
use super::settings::Settings;
use super::state::Access;
use super::users::Users;
use crate::oci::Pattern;

/// The users whose rights a preview compares.
const COMPARED: usize = 2000;
/// The users that a preview lists.
const LISTED: usize = 8;
/// The longest pattern, in bytes: the longest name of a repository.
const LONGEST_PATTERN: usize = 255;

/// A change of one rule of the admin page.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RuleChange {
    /// The name in the rule: a user, `*` or `-`.
    pub name: String,
    /// The pattern of the rule that is changed or removed; `None` for a new rule.
    pub before: Option<String>,
    /// The pattern and the actions of the rule afterwards; `None` removes it.
    pub after: Option<(String, Vec<Action>)>,
}

/// The effect of a change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RulePreview {
    /// The rule before and after, in words.
    pub before: Option<String>,
    /// The rule after the change, in words.
    pub after: Option<String>,
    /// True if it is the first rule that names users, who have all rights until then.
    pub restricts: bool,
    /// True if no rule names users any more, who then have all rights.
    pub frees: bool,
    /// The first users whose rights change.
    pub users: Vec<UserRights>,
    /// True if the rights of other users may change as well.
    pub is_cut: bool,
    /// The fingerprint of the rules that the preview is made from.
    pub state: String,
}

/// The rights of a user before and after a change, in words.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UserRights {
    /// The user.
    pub name: String,
    /// The rights before.
    pub before: String,
    /// The rights after.
    pub after: String,
}

/// A rule, for lists.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListedRule {
    /// The names that it is for.
    pub names: Vec<String>,
    /// The patterns of the repositories.
    pub patterns: Vec<String>,
    /// The actions.
    pub allow: Vec<Action>,
    /// What it allows, in words.
    pub words: String,
    /// True for a rule of the admin page, which can be changed there.
    pub is_of_page: bool,
    /// Its number among the rules of its source.
    pub number: usize,
    /// False for a rule of the page whose name the configuration has.
    pub is_in_effect: bool,
}

/// A change of the rules is refused.
#[derive(Debug, thiserror::Error)]
pub enum RuleError {
    /// The name is no user name, and neither `*` nor `-`.
    #[error(transparent)]
    Name(HtpasswdError),
    /// The user does not exist.
    #[error("there is no user {0}; add the user first")]
    Unknown(String),
    /// The configuration has a rule for the name.
    #[error("the configuration decides on the rights of {0}; change its rules there")]
    Fixed(String),
    /// The pattern matches no repository.
    #[error(
        "a pattern has 1 to {LONGEST_PATTERN} characters: lowercase letters, digits, . _ - / and *, which matches any text"
    )]
    Pattern,
    /// The rule allows nothing.
    #[error("choose at least one right")]
    NoActions,
    /// The page has too many rules.
    #[error("the page keeps at most {MAX_RULES} rules; use patterns, or rules for all users")]
    TooMany,
    /// The rule does not exist.
    #[error("there is no such rule any more")]
    Missing,
    /// The user who makes the change would lose full rights.
    #[error("this would take your own full rights away; another user with full rights can do that")]
    OwnRights,
    /// The rules have changed since the form was shown.
    #[error("the rules have changed meanwhile; look at the effect again, and repeat the change")]
    Outdated,
    /// The file cannot be used.
    #[error("{0}; mend or remove the file on the registry's machine, and reload the daemon")]
    Fault(String),
    /// The file cannot be written.
    #[error("cannot write {}: {source}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// The error of the system.
        source: std::io::Error,
    },
    /// The directory of the file cannot be locked, or the users cannot be read.
    #[error(transparent)]
    Users(HtpasswdError),
}

impl Access {
    /// Returns all rules: those of the configuration, in their order, and those of the admin page by name.
    pub fn listed_rules(&self) -> Vec<ListedRule> {
        let users = self.users.load();
        let listed = |(number, rule): (usize, &Rule)| ListedRule {
            names: rule.users.clone(),
            patterns: rule.repositories.iter().map(ToString::to_string).collect(),
            allow: rule.allow.clone(),
            words: in_words(rule),
            is_of_page: false,
            number,
            is_in_effect: true,
        };
        let mut all: Vec<ListedRule> = self.settings.auth.rules.iter().enumerate().map(listed).collect();
        let configured = all.len();
        all.extend(users.page.rules.iter().enumerate().map(|(number, rule)| ListedRule {
            is_of_page: true,
            is_in_effect: !users.policy.rules.is_fixed(&rule.name),
            ..listed((number, &rule.to_rule()))
        }));
        all[configured..].sort_by(|one, other| one.names.cmp(&other.names));
        all
    }

    /// Returns why the rules of the admin page cannot be read.
    pub fn rules_fault(&self) -> Option<String> {
        self.users.load().page.fault.clone()
    }

    /// Returns true if the configuration decides on the rights of a name, so that the page cannot.
    pub fn is_fixed(&self, name: &str) -> bool {
        self.users.load().policy.rules.is_fixed(name)
    }

    /// Returns the effect of a change that the user `by` wants to make.
    ///
    /// # Errors
    /// Returns [`RuleError`] for a change that would be refused.
    pub async fn preview_rule(&self, by: &UserName, change: &RuleChange) -> Result<RulePreview, RuleError> {
        let (users, settings) = (self.current_users().await, self.settings.clone());
        let (by, change) = (by.clone(), change.clone());
        let made = tokio::task::spawn_blocking(move || preview(&settings, &users, &by, &change)).await;
        made.map_err(|error| self.failed(std::io::Error::other(error)))?
    }

    /// Makes a change, if the rules still are those of the preview with the fingerprint `state`.
    ///
    /// # Errors
    /// Returns [`RuleError`].
    pub async fn change_rule(
        &self,
        by: &UserName,
        change: &RuleChange,
        state: &str,
    ) -> Result<(), RuleError> {
        let _permit = self.editing.acquire().await;
        let users = self.current_users().await;
        let (settings, by, change, state) =
            (self.settings.clone(), by.clone(), change.clone(), state.to_owned());
        let edit = move || {
            let (_lock, _) = lock_directory(&settings.auth.page_rules).map_err(RuleError::Users)?;
            let now = PageRules::read(&settings, Some(&users.page));
            let rules = checked(&settings, &users, &now, &by, &change)?;
            if now.state(&settings) != state {
                return Err(RuleError::Outdated);
            }
            PageRules::write(&settings, &rules)
                .map_err(|source| RuleError::Io { path: settings.auth.page_rules.clone(), source })
        };
        let edited = tokio::task::spawn_blocking(edit).await;
        edited.map_err(|error| self.failed(std::io::Error::other(error)))??;
        self.current_users().await;
        Ok(())
    }

    fn failed(&self, source: std::io::Error) -> RuleError {
        RuleError::Io { path: self.settings.auth.page_rules.clone(), source }
    }
}

fn in_words(rule: &Rule) -> String {
    sentence(rule).unwrap_or_else(|| "nothing".into())
}

/// Applies a change to the rules of the page, and returns them if the change is allowed.
fn checked(
    settings: &Settings,
    users: &Users,
    page: &PageRules,
    by: &UserName,
    change: &RuleChange,
) -> Result<Vec<PageRule>, RuleError> {
    if let Some(fault) = &page.fault {
        return Err(RuleError::Fault(fault.clone()));
    }
    let is_for =
        |rule: &PageRule, pattern: &str| rule.name == change.name && rule.pattern.to_string() == pattern;
    let mut rules = page.rules.clone();
    let at = match &change.before {
        Some(before) => {
            let at = rules.iter().position(|rule| is_for(rule, before)).ok_or(RuleError::Missing)?;
            rules.remove(at);
            at
        }
        None => rules.len(),
    };
    if let Some((pattern, allow)) = &change.after {
        check_rule(settings, users, change, pattern, allow)?;
        rules.retain(|rule| !is_for(rule, pattern));
        let (name, pattern) = (change.name.clone(), Pattern::from(pattern.clone()));
        rules.insert(at.min(rules.len()), PageRule { name, pattern, allow: allow.clone() });
    }
    if rules.len() > MAX_RULES {
        return Err(RuleError::TooMany);
    }
    let page = PageRules { rules, ..PageRules::default() };
    let is_user = users.hashes.contains_key(by.as_str());
    if !is_user || !RuleSet::new(&settings.auth, &page).has_full_rights(by.as_str()) {
        return Err(RuleError::OwnRights);
    }
    Ok(page.rules)
}

fn check_rule(
    settings: &Settings,
    users: &Users,
    change: &RuleChange,
    pattern: &str,
    allow: &[Action],
) -> Result<(), RuleError> {
    let name = change.name.as_str();
    if ![ANONYMOUS, "*"].contains(&name) {
        name.parse::<UserName>().map_err(RuleError::Name)?;
        if !users.hashes.contains_key(name) {
            return Err(RuleError::Unknown(name.to_owned()));
        }
    }
    if RuleSet::new(&settings.auth, &PageRules::default()).is_fixed(name) {
        return Err(RuleError::Fixed(match name {
            ANONYMOUS => "clients that do not log in".into(),
            "*" => "all users together (*)".into(),
            name => name.into(),
        }));
    }
    let is_possible =
        |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"._-/*".contains(&byte);
    if !(1..=LONGEST_PATTERN).contains(&pattern.len()) || !pattern.bytes().all(is_possible) {
        return Err(RuleError::Pattern);
    }
    if allow.is_empty() { Err(RuleError::NoActions) } else { Ok(()) }
}

fn preview(
    settings: &Settings,
    users: &Users,
    by: &UserName,
    change: &RuleChange,
) -> Result<RulePreview, RuleError> {
    let page = &users.page;
    let rules = checked(settings, users, page, by, change)?;
    let find = |rules: &[PageRule], pattern: &str| {
        let found = rules.iter().find(|rule| rule.name == change.name && rule.pattern.to_string() == pattern);
        found.map(|rule| in_words(&rule.to_rule()))
    };
    let after_pattern = change.after.as_ref().map(|(pattern, _)| pattern.as_str());
    let before_pattern = change.before.as_deref().or(after_pattern);
    let after_page = PageRules { rules, ..PageRules::default() };
    let (then, after) = (&users.policy.rules, RuleSet::new(&settings.auth, &after_page));
    let words = |name: &str, rules: &RuleSet| match rights(name, users.policy.anonymous, rules).sentences {
        sentences if sentences.is_empty() => "no rights".to_owned(),
        sentences => sentences.join("; "),
    };
    let mut names: Vec<&String> = users.hashes.keys().collect();
    names.sort();
    let compared = names.iter().take(COMPARED).filter_map(|name| {
        let (before, after) = (words(name, then), words(name, &after));
        (before != after).then(|| UserRights { name: (*name).clone(), before, after })
    });
    let mut changed: Vec<UserRights> = compared.take(LISTED + 1).collect();
    let is_cut = changed.len() > LISTED || names.len() > COMPARED;
    changed.truncate(LISTED);
    Ok(RulePreview {
        before: before_pattern.and_then(|pattern| find(&page.rules, pattern)),
        after: after_pattern.and_then(|pattern| find(&after_page.rules, pattern)),
        restricts: then.restrict_no_user() && !after.restrict_no_user(),
        frees: !then.restrict_no_user() && after.restrict_no_user(),
        users: changed,
        is_cut,
        state: page.state(settings),
    })
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::super::testing::{self, advance, rule, set_password, settings};
    use super::super::users_latch::UsersLatch;
    use super::*;

    const ALL: [Action; 3] = [Action::Pull, Action::Push, Action::Delete];

    fn access(directory: &Path, rules: Vec<Rule>) -> Access {
        for name in ["alice", "bob", "ci"] {
            set_password(directory, name, "password one");
        }
        let mut settings = settings(directory, None, false);
        settings.auth.rules = rules;
        testing::open(settings, UsersLatch::default())
    }

    fn set(name: &str, pattern: &str, allow: &[Action]) -> RuleChange {
        RuleChange { name: name.into(), before: None, after: Some((pattern.into(), allow.to_vec())) }
    }

    fn remove(name: &str, pattern: &str) -> RuleChange {
        RuleChange { name: name.into(), before: Some(pattern.into()), after: None }
    }

    async fn change(access: &Access, by: &str, change: &RuleChange) -> Result<(), RuleError> {
        let by = by.parse().unwrap();
        let state = access.preview_rule(&by, change).await?.state;
        access.change_rule(&by, change, &state).await
    }

    #[tokio::test]
    async fn administrator_adds_changes_and_removes_rules_but_not_his_own_full_rights() {
        let directory = tempfile::tempdir().unwrap();
        let access = access(directory.path(), Vec::new());
        let first = change(&access, "alice", &set("ci", "team/*", &[Action::Push])).await;
        assert!(matches!(first, Err(RuleError::OwnRights)), "alice would have no rights");
        let alice = "alice".parse().unwrap();
        let preview = access.preview_rule(&alice, &set("alice", "*", &ALL)).await.unwrap();
        assert!(preview.restricts && !preview.frees && preview.before.is_none());
        let changed: Vec<_> =
            preview.users.iter().map(|user| (user.name.as_str(), user.after.as_str())).collect();
        assert_eq!(changed, [("bob", "no rights"), ("ci", "no rights")]);
        change(&access, "alice", &set("alice", "*", &ALL)).await.unwrap();
        change(&access, "alice", &set("ci", "team/*", &[Action::Push])).await.unwrap();
        change(&access, "alice", &set("-", "public/*", &[Action::Pull])).await.unwrap();
        assert_eq!(access.rights("ci").sentences[0], "push in team/*");
        assert!(!access.rights("bob").is_full && access.is_partly_open());
        let other = RuleChange { before: Some("team/*".into()), ..set("ci", "x/*", &[Action::Pull]) };
        change(&access, "alice", &other).await.unwrap();
        assert_eq!(access.rights("ci").sentences[0], "pull in x/*");
        for own in [
            remove("alice", "*"),
            RuleChange { before: Some("*".into()), ..set("alice", "*", &ALL[..2]) },
            RuleChange { before: Some("*".into()), ..set("alice", "team/*", &ALL) },
        ] {
            assert!(matches!(change(&access, "alice", &own).await, Err(RuleError::OwnRights)), "{own:?}");
        }
        change(&access, "alice", &set("bob", "*", &ALL)).await.unwrap();
        change(&access, "bob", &remove("alice", "*")).await.unwrap();
        // A user without full rights changes nothing, whatever form is still open.
        assert!(matches!(change(&access, "alice", &remove("ci", "x/*")).await, Err(RuleError::OwnRights)));
        // What was written is read by the next process.
        let mut settings = settings(directory.path(), None, false);
        settings.auth.rules = Vec::new();
        let again = testing::open(settings, UsersLatch::default());
        assert!(again.rights("bob").is_full && !again.rights("alice").is_full);
        assert_eq!(again.listed_rules(), access.listed_rules());
    }

    #[tokio::test]
    async fn removal_of_the_last_rule_for_users_says_that_all_get_full_rights() {
        let directory = tempfile::tempdir().unwrap();
        let access = access(directory.path(), Vec::new());
        change(&access, "alice", &set("alice", "*", &ALL)).await.unwrap();
        let preview = access.preview_rule(&"alice".parse().unwrap(), &remove("alice", "*")).await.unwrap();
        assert!(preview.frees && preview.users.len() == 2 && preview.users[0].after == "full rights");
    }

    #[tokio::test]
    async fn page_changes_nothing_that_the_configuration_decides() {
        let directory = tempfile::tempdir().unwrap();
        let rules = vec![rule(&["alice"], "*", &ALL), rule(&["ci"], "ci/*", &[Action::Push])];
        let access = access(directory.path(), rules);
        let refused = change(&access, "alice", &set("ci", "*", &ALL)).await;
        assert!(matches!(refused, Err(RuleError::Fixed(_))));
        change(&access, "alice", &set("*", "*", &ALL)).await.unwrap();
        assert!(access.rights("bob").is_full && access.rights("ci").sentences == ["push in ci/*"]);
        let listed = access.listed_rules();
        assert_eq!(listed.iter().map(|rule| rule.is_of_page).collect::<Vec<_>>(), [false, false, true]);
    }

    #[tokio::test]
    async fn invalid_and_outdated_changes_are_refused() {
        let directory = tempfile::tempdir().unwrap();
        let access = access(directory.path(), vec![rule(&["alice"], "*", &ALL)]);
        let pull = &[Action::Pull][..];
        for (wrong, part) in [
            (set("eve", "*", pull), "no user eve"),
            (set("a b", "*", pull), "invalid user name"),
            (set("bob", "", pull), "a pattern has"),
            (set("bob", "Team/*", pull), "a pattern has"),
            (set("bob", &"a".repeat(256), pull), "a pattern has"),
            (set("bob", "team/*", &[]), "at least one right"),
            (remove("bob", "team/*"), "no such rule"),
        ] {
            let error = change(&access, "alice", &wrong).await.unwrap_err().to_string();
            assert!(error.contains(part), "{error}");
        }
        let alice = "alice".parse().unwrap();
        let state = access.preview_rule(&alice, &set("bob", "a", pull)).await.unwrap().state;
        change(&access, "alice", &set("bob", "b", pull)).await.unwrap();
        let late = access.change_rule(&alice, &set("bob", "a", pull), &state).await;
        assert!(matches!(late, Err(RuleError::Outdated)));
    }

    #[tokio::test]
    async fn broken_file_denies_and_is_not_overwritten() {
        let directory = tempfile::tempdir().unwrap();
        let access = access(directory.path(), Vec::new());
        assert!(access.rights("bob").is_full);
        let path = directory.path().join("rules.toml");
        #[expect(clippy::disallowed_methods, reason = "the test plays the operator")]
        std::fs::write(&path, "nonsense").unwrap();
        advance(&access);
        access.recent_users().await;
        assert!(!access.rights("bob").is_full && access.rules_fault().unwrap().contains("rules.toml"));
        let refused = change(&access, "alice", &set("bob", "*", &ALL)).await;
        assert!(matches!(refused, Err(RuleError::Fault(_))));
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "nonsense");
        let started = testing::open(settings(directory.path(), None, true), UsersLatch::default());
        assert!(!started.rights("bob").is_full && !started.is_open());
    }

    #[tokio::test]
    async fn last_user_with_full_rights_by_the_page_cannot_be_removed() {
        let directory = tempfile::tempdir().unwrap();
        let access = access(directory.path(), Vec::new());
        change(&access, "alice", &set("alice", "*", &ALL)).await.unwrap();
        let removed = access.remove_user(&"alice".parse().unwrap()).await;
        assert!(matches!(removed, Err(HtpasswdError::LastWithFullRights(_))));
        assert_eq!(access.last_user().await.unwrap().as_str(), "alice");
    }
}
