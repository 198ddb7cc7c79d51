//! All rules in effect, and the decision whether they allow an action. Pure.
//!
//! Rules are in the configuration and, those of the admin page, in a file of their own. Every rule allows; none forbids. The
//! configuration is the stronger source: a name that it has a rule for gets nothing by the rules of the page. So no change
//! on the page widens what the operator of the machine has set for a name.

use std::collections::HashSet;

use super::page_rules::{PageRule, PageRules};
use super::rules::{ANONYMOUS, Action, Anonymous, Rule};
use super::settings::AuthSettings;
use crate::oci::RepositoryName;

/// The rules of the configuration and those of the admin page.
#[derive(Clone, Debug, Default)]
pub(super) struct RuleSet {
    configured: Vec<Rule>,
    /// The rules of the page for names that the configuration has no rule for.
    page: Vec<Rule>,
    /// The names that rules of the configuration have, and `-` if it sets the rights of the anonymous user.
    fixed: HashSet<String>,
}

impl RuleSet {
    /// Combines the rules. If those of the page cannot be read, the others apply, and no user has full rights by default.
    pub(super) fn new(settings: &AuthSettings, page: &PageRules) -> Self {
        let names = settings.rules.iter().flat_map(|rule| rule.users.iter().cloned());
        let anonymous = settings.anonymous.map(|_| ANONYMOUS.to_owned());
        let fixed: HashSet<String> = names.chain(anonymous).collect();
        let page = if page.fault.is_some() {
            vec![Rule::default()]
        } else {
            page.rules.iter().filter(|rule| !fixed.contains(&rule.name)).map(PageRule::to_rule).collect()
        };
        RuleSet { configured: settings.rules.clone(), page, fixed }
    }

    /// Returns the set of rules of a configuration alone.
    #[cfg(test)]
    pub(super) fn of_configuration(rules: &[Rule]) -> Self {
        let settings = AuthSettings { rules: rules.to_vec(), ..AuthSettings::default() };
        RuleSet::new(&settings, &PageRules::default())
    }

    /// Returns true if there are no rules.
    pub(super) fn is_empty(&self) -> bool {
        self.configured.is_empty() && self.page.is_empty()
    }

    /// Returns true if the configuration decides on the rights of a name.
    pub(super) fn is_fixed(&self, name: &str) -> bool {
        self.fixed.contains(name)
    }

    /// Returns the rules that may apply to a user, or to the anonymous user.
    pub(super) fn for_user(&self, user: Option<&str>) -> impl Iterator<Item = &Rule> {
        let page = if self.is_fixed(user.unwrap_or(ANONYMOUS)) { &[] } else { self.page.as_slice() };
        self.configured.iter().chain(page)
    }

    /// Returns true if `user`, or the anonymous user, may do an action. Without rules for users every user has full rights.
    /// A user has at least the rights of the anonymous user.
    pub(super) fn decide(
        &self,
        user: Option<&str>,
        action: Action,
        repository: Option<&RepositoryName>,
        anonymous: Anonymous,
    ) -> bool {
        self.decide_by(user, action, anonymous, &|rule, user| rule.allows(user, action, repository))
    }

    /// As [`RuleSet::decide`], for an action in every repository. False is not certain: patterns may match all of those that exist.
    pub(super) fn decide_everywhere(&self, user: Option<&str>, action: Action, anonymous: Anonymous) -> bool {
        self.decide_by(user, action, anonymous, &|rule, user| rule.allows_everywhere(user, action))
    }

    fn decide_by(
        &self,
        user: Option<&str>,
        action: Action,
        anonymous: Anonymous,
        allows: &dyn Fn(&Rule, Option<&str>) -> bool,
    ) -> bool {
        let for_all = match anonymous {
            Anonymous::Full => true,
            Anonymous::Pull => matches!(action, Action::Pull | Action::Catalog),
            Anonymous::None => false,
        };
        let may = |user| self.for_user(user).any(|rule| allows(rule, user));
        for_all || may(None) || user.is_some_and(|user| self.restrict_no_user() || may(Some(user)))
    }

    /// Returns true if no rule names users: there are none, or all rules are for the anonymous user only.
    pub(super) fn restrict_no_user(&self) -> bool {
        let mut all = self.configured.iter().chain(&self.page);
        all.all(|rule| !rule.users.is_empty() && rule.users.iter().all(|name| name == ANONYMOUS))
    }

    /// Returns true for a user with full rights: every user if no rule names users, else a user whom rules allow to pull,
    /// push and delete in `*`.
    pub(super) fn has_full_rights(&self, user: &str) -> bool {
        let everywhere = |action: &Action| {
            self.for_user(Some(user)).any(|rule| rule.allows_everywhere(Some(user), *action))
        };
        self.restrict_no_user() || [Action::Pull, Action::Push, Action::Delete].iter().all(everywhere)
    }

    /// Returns true if a rule gives the anonymous user any right.
    pub(super) fn grants_anonymous_access(&self) -> bool {
        self.for_user(None).any(Rule::grants_anonymous_access)
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::rule;
    use super::*;

    fn decide(
        user: Option<&str>,
        action: Action,
        repository: Option<&RepositoryName>,
        anonymous: Anonymous,
        rules: &[Rule],
    ) -> bool {
        RuleSet::of_configuration(rules).decide(user, action, repository, anonymous)
    }

    fn has_full_rights(user: &str, rules: &[Rule]) -> bool {
        RuleSet::of_configuration(rules).has_full_rights(user)
    }

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

    const ALL: [Action; 3] = [Action::Pull, Action::Push, Action::Delete];

    fn page(rules: &[(&str, &str, &[Action])]) -> PageRules {
        let rule = |(name, pattern, allow): &(&str, &str, &[Action])| PageRule {
            name: (*name).to_owned(),
            pattern: (*pattern).to_owned().into(),
            allow: allow.to_vec(),
        };
        PageRules { rules: rules.iter().map(rule).collect(), ..PageRules::default() }
    }

    #[test]
    fn page_gives_nothing_to_a_name_that_the_configuration_has() {
        let configured = vec![rule(&["boss"], "*", &ALL), rule(&["ci"], "ci/*", &[Action::Push])];
        let settings = AuthSettings { rules: configured, ..AuthSettings::default() };
        let rules = [
            ("ci", "*", &ALL[..]),
            ("*", "team/*", &[Action::Pull]),
            ("eve", "team/*", &[Action::Push]),
            ("-", "public", &[Action::Pull]),
        ];
        let set = RuleSet::new(&settings, &page(&rules));
        let team: RepositoryName = "team/app".parse().unwrap();
        let public: RepositoryName = "public".parse().unwrap();
        let may = |set: &RuleSet, user, action, name| set.decide(user, action, Some(name), Anonymous::None);
        assert!(!set.has_full_rights("ci") && set.has_full_rights("boss") && !set.has_full_rights("eve"));
        assert!(!may(&set, Some("ci"), Action::Pull, &team), "\"*\" of the page is not for ci");
        assert!(may(&set, Some("eve"), Action::Pull, &team) && may(&set, Some("eve"), Action::Push, &team));
        assert!(may(&set, None, Action::Pull, &public) && may(&set, Some("ci"), Action::Pull, &public));
        assert!(set.is_fixed("ci") && !set.is_fixed("-") && !set.is_fixed("*"));
        for anonymous in [Anonymous::None, Anonymous::Pull] {
            let settings = AuthSettings { anonymous: Some(anonymous), ..settings.clone() };
            let set = RuleSet::new(&settings, &page(&rules));
            assert!(set.is_fixed("-") && !may(&set, None, Action::Pull, &public), "{anonymous:?}");
        }
    }

    #[test]
    fn first_rule_of_the_page_restricts_users() {
        let settings = AuthSettings::default();
        assert!(RuleSet::new(&settings, &page(&[])).has_full_rights("eve"));
        let set = RuleSet::new(&settings, &page(&[("boss", "*", &ALL)]));
        assert!(set.has_full_rights("boss") && !set.has_full_rights("eve") && !set.is_empty());
        let set = RuleSet::new(&settings, &page(&[("-", "*", &[Action::Pull])]));
        assert!(set.restrict_no_user() && set.grants_anonymous_access());
    }

    #[test]
    fn unreadable_rules_of_the_page_grant_nothing() {
        let fault = PageRules { fault: Some("half a line".into()), ..PageRules::default() };
        let set = RuleSet::new(&AuthSettings::default(), &fault);
        assert!(!set.is_empty() && !set.has_full_rights("eve"));
        assert!(!set.decide(Some("eve"), Action::Catalog, None, Anonymous::None));
        let rules = vec![rule(&["boss"], "*", &ALL)];
        let set = RuleSet::new(&AuthSettings { rules, ..AuthSettings::default() }, &fault);
        assert!(set.has_full_rights("boss") && !set.has_full_rights("eve"));
    }
}
