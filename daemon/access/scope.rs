//! Scopes of bearer tokens, in the grammar of the distribution project ("Token Scope Documentation"):
//! `repository:NAME:ACTION,ACTION` and `registry:catalog:*`. Pure.

use std::fmt;

use super::rules::Action;
use crate::oci::RepositoryName;

/// The largest number of scopes in a request; further ones are ignored.
const MAX_SCOPES: usize = 64;

/// A set of actions in a repository.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Actions(u8);

/// The actions that a scope can name, with their bits and names.
const NAMED: [(Action, u8, &str); 3] =
    [(Action::Pull, 1, "pull"), (Action::Push, 2, "push"), (Action::Delete, 4, "delete")];

impl Actions {
    /// Returns the set of these actions. [`Action::Catalog`] concerns no single repository and is never part of it.
    pub fn of(actions: &[Action]) -> Self {
        let bits = NAMED.iter().filter(|(action, ..)| actions.contains(action)).map(|(_, bit, _)| bit);
        Actions(bits.sum())
    }

    /// Returns true if an action is part of the set.
    pub fn contains(self, action: Action) -> bool {
        NAMED.iter().any(|(known, bit, _)| *known == action && self.0 & bit != 0)
    }

    pub(super) fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// Keeps the actions for which `keep` returns true.
    pub(super) fn filter(self, keep: impl Fn(Action) -> bool) -> Self {
        let kept = NAMED.iter().filter(|(action, bit, _)| self.0 & bit != 0 && keep(*action));
        Actions(kept.map(|(_, bit, _)| bit).sum())
    }

    pub(super) fn union(self, other: Self) -> Self {
        Actions(self.0 | other.0)
    }

    pub(super) fn bits(self) -> u8 {
        self.0
    }

    /// Returns the set for [`Actions::bits`]; unknown bits are ignored.
    pub(super) fn from_bits(bits: u8) -> Self {
        Actions(NAMED.iter().map(|(_, bit, _)| bits & bit).sum())
    }

    /// Parses `pull,push`; `*` stands for all actions, and unknown ones are ignored.
    fn parse(text: &str) -> Self {
        let of_one = |text: &str| match text {
            "*" => Actions(7),
            _ => Actions(NAMED.iter().filter(|(.., name)| *name == text).map(|(_, bit, _)| bit).sum()),
        };
        text.split(',').map(of_one).fold(Actions::default(), Actions::union)
    }
}

impl fmt::Display for Actions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<&str> =
            NAMED.iter().filter(|(_, bit, _)| self.0 & bit != 0).map(|(.., name)| *name).collect();
        f.write_str(&names.join(","))
    }
}

/// A scope that a token is requested for, or that a request needs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Scope {
    /// Actions in a repository.
    Repository(RepositoryName, Actions),
    /// The list of repositories.
    Catalog,
}

/// A scope has an invalid repository name.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("invalid repository name {0:?} in the scope: {1}")]
pub struct ScopeError(pub String, pub crate::oci::ParseNameError);

impl Scope {
    /// Parses the values of `scope` parameters; each may have several scopes, separated by spaces. Scopes of other
    /// kinds and unknown actions are ignored, and so is everything after the first 64 scopes.
    ///
    /// # Errors
    /// Returns [`ScopeError`].
    pub fn parse_all<'a>(values: impl IntoIterator<Item = &'a str>) -> Result<Vec<Scope>, ScopeError> {
        let texts = values.into_iter().flat_map(str::split_ascii_whitespace).take(MAX_SCOPES);
        texts.filter_map(|text| Scope::parse(text).transpose()).collect()
    }

    /// Parses one scope; returns `None` for a scope that grants nothing in this registry.
    fn parse(text: &str) -> Result<Option<Scope>, ScopeError> {
        let Some((kind, rest)) = text.split_once(':') else { return Ok(None) };
        let Some((name, actions)) = rest.rsplit_once(':') else { return Ok(None) };
        // `repository(plugin)`: the resource class in parentheses does not matter here.
        match kind.split_once('(').map_or(kind, |(kind, _)| kind) {
            "repository" => {
                let name = name.parse().map_err(|error| ScopeError(name.to_owned(), error))?;
                let actions = Actions::parse(actions);
                Ok((!actions.is_empty()).then_some(Scope::Repository(name, actions)))
            }
            "registry" if name == "catalog" && actions == "*" => Ok(Some(Scope::Catalog)),
            _ => Ok(None),
        }
    }
}

impl fmt::Display for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Scope::Repository(name, actions) => write!(f, "repository:{name}:{actions}"),
            Scope::Catalog => f.write_str("registry:catalog:*"),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn parse(text: &str) -> Result<Vec<String>, ScopeError> {
        Ok(Scope::parse_all([text])?.iter().map(ToString::to_string).collect())
    }

    #[test]
    fn scopes_parse_and_format() {
        for (text, expected) in [
            ("repository:team/app:pull", &["repository:team/app:pull"][..]),
            ("repository:a:push,pull", &["repository:a:pull,push"]),
            ("repository:a:*", &["repository:a:pull,push,delete"]),
            ("repository:a:pull repository:b:delete", &["repository:a:pull", "repository:b:delete"]),
            ("repository(plugin):a:pull", &["repository:a:pull"]),
            ("registry:catalog:*", &["registry:catalog:*"]),
            ("registry:catalog:pull", &[]),
            ("repository:a:sudo,pull,", &["repository:a:pull"]),
            ("repository:a:sudo", &[]),
            ("repository:a:", &[]),
            ("openid email plugin:a:pull repository: :: a:b", &[]),
            ("", &[]),
        ] {
            assert_eq!(parse(text).unwrap(), expected, "{text}");
        }
        for text in
            ["repository::pull", "repository:UPPER:pull", "repository:../x:pull", "repository:h:1/a:pull"]
        {
            assert!(parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn scopes_beyond_the_limit_are_ignored() {
        let many = vec!["repository:a:pull"; 1000].join(" ");
        assert_eq!(Scope::parse_all([many.as_str(), "repository:b:pull"]).unwrap().len(), MAX_SCOPES);
    }

    proptest! {
        #[test]
        fn parsing_never_panics_and_round_trips(text in "(repository|registry|x)?[:(a-z/,* )]{0,60}.{0,20}") {
            for scope in Scope::parse_all([text.as_str()]).unwrap_or_default() {
                prop_assert_eq!(parse(&scope.to_string()).unwrap(), vec![scope.to_string()]);
            }
        }

        #[test]
        fn actions_are_a_set(bits in 0u8.., keep in 0u8..8) {
            let (all, kept) = (Actions::from_bits(bits), Actions::from_bits(keep));
            prop_assert!(all.bits() < 8 && Actions::parse(&all.to_string()) == all);
            let both = all.filter(|action| kept.contains(action));
            prop_assert_eq!(both.bits(), all.bits() & kept.bits());
        }
    }
}
