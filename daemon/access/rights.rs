//! The rights of a user in words, by all rules in effect.

use super::rule_set::RuleSet;
use super::rules::{Action, Anonymous, Rule};
use super::state::Access;

/// The rights of a user.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rights {
    /// True for a user with full rights, who also manages users and maintenance.
    pub is_full: bool,
    /// Sentences such as "pull and push in team/*", one for each rule that applies.
    pub sentences: Vec<String>,
}

impl Access {
    /// Returns the rights of a user.
    pub fn rights(&self, user: &str) -> Rights {
        let users = self.users.load();
        rights(user, users.policy.anonymous, &users.policy.rules)
    }

    /// Returns true if rules name users, so that not every user has full rights.
    pub fn has_rules_for_users(&self) -> bool {
        !self.users.load().policy.rules.restrict_no_user()
    }
}

/// Returns the rights of a user by these rules.
pub(super) fn rights(user: &str, anonymous: Anonymous, rules: &RuleSet) -> Rights {
    let is_full = rules.has_full_rights(user);
    if is_full {
        return Rights { is_full, sentences: vec!["full rights".into()] };
    }
    let mut sentences: Vec<String> = match anonymous {
        Anonymous::Full => vec!["pull, push and delete everywhere, as every client".into()],
        Anonymous::Pull => vec!["pull everywhere, as every client".into()],
        Anonymous::None => Vec::new(),
    };
    let own = rules.for_user(Some(user)).filter(|rule| rule.applies_to(Some(user)));
    sentences.extend(own.filter_map(sentence));
    let of_all = rules.for_user(None).filter(|rule| !rule.applies_to(Some(user)) && rule.applies_to(None));
    sentences.extend(of_all.filter_map(sentence).map(|text| format!("{text}, as every client")));
    Rights { is_full, sentences }
}

/// Describes a rule; `None` for one that allows nothing.
pub(super) fn sentence(rule: &Rule) -> Option<String> {
    let order = [Action::Pull, Action::Push, Action::Delete, Action::Catalog];
    let has_pull = rule.allow.contains(&Action::Pull);
    let allowed = order.into_iter().filter(|action| rule.allow.contains(action));
    // The right to pull includes the list.
    let shown = allowed.filter(|action| !(*action == Action::Catalog && has_pull));
    let words: Vec<&str> = shown
        .map(|action| match action {
            Action::Pull => "pull",
            Action::Push => "push",
            Action::Delete => "delete",
            Action::Catalog => "list repositories",
        })
        .collect();
    let patterns: Vec<String> = rule.repositories.iter().map(ToString::to_string).collect();
    if words.is_empty() || patterns.is_empty() {
        return None;
    }
    let is_everywhere = patterns.iter().any(|pattern| pattern == "*");
    let place = if is_everywhere { "everywhere".into() } else { format!("in {}", joined(&patterns)) };
    Some(format!("{} {place}", joined(&words)))
}

/// Joins words with commas, and the last one with "and".
fn joined<T: AsRef<str>>(words: &[T]) -> String {
    let words: Vec<&str> = words.iter().map(AsRef::as_ref).collect();
    match words.split_last() {
        None => String::new(),
        Some((last, [])) => (*last).to_owned(),
        Some((last, others)) => format!("{} and {last}", others.join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rights(user: &str, anonymous: Anonymous, rules: &[Rule]) -> Rights {
        super::rights(user, anonymous, &RuleSet::of_configuration(rules))
    }

    fn rule(users: &[&str], repositories: &[&str], allow: &[Action]) -> Rule {
        Rule {
            users: users.iter().map(|name| (*name).to_owned()).collect(),
            repositories: repositories.iter().map(|pattern| (*pattern).to_owned().into()).collect(),
            allow: allow.to_vec(),
        }
    }

    #[test]
    fn rules_are_described_in_words() {
        use Action::{Catalog, Delete, Pull, Push};
        let sentences = |user: &str, rules: &[Rule]| rights(user, Anonymous::None, rules).sentences;
        assert_eq!(sentences("ci", &[]), ["full rights"]);
        let rules = [
            rule(&["ci"], &["team/*", "base"], &[Pull, Push]),
            rule(&["*"], &["*"], &[Pull, Catalog]),
            rule(&["-"], &["public/*"], &[Pull]),
            rule(&["boss"], &["*"], &[Push, Delete, Pull]),
            rule(&["ci"], &["x"], &[]),
        ];
        assert_eq!(
            sentences("ci", &rules),
            ["pull and push in team/* and base", "pull everywhere", "pull in public/*, as every client"]
        );
        assert!(rights("boss", Anonymous::None, &rules).is_full);
        assert!(sentences("eve", &rules[3..]).is_empty());
        let open = rights("eve", Anonymous::Pull, &rules[3..]).sentences;
        assert_eq!(open, ["pull everywhere, as every client"]);
        assert_eq!(sentence(&rule(&["a"], &["b"], &[Catalog])).unwrap(), "list repositories in b");
    }
}
