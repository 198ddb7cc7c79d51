//! Tags that can be set once.

use super::error::StoreError;
use crate::oci::{Algorithm, AttachedTo, Pattern, RepositoryName, Tag};

/// A rule: these tags of these repositories can be set once.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Immutable {
    /// The repositories.
    pub repositories: Vec<Pattern>,
    /// The tags.
    pub tags: Vec<Pattern>,
    /// Whether clients may delete such a tag, and then set it anew.
    pub delete: bool,
}

impl Immutable {
    /// Returns true if a rule covers tags of the repository.
    pub(super) fn is_about(rules: &[Immutable], repository: &RepositoryName) -> bool {
        rules.iter().any(|rule| rule.is_for(repository))
    }

    /// Returns true if a rule that forbids deletes covers tags of the repository.
    pub(super) fn forbids_deletes(rules: &[Immutable], repository: &RepositoryName) -> bool {
        rules.iter().any(|rule| !rule.delete && rule.is_for(repository))
    }

    /// Refuses to move a tag that a rule covers to another manifest.
    pub(super) fn check_move(
        rules: &[Immutable],
        repository: &RepositoryName,
        tag: &Tag,
    ) -> Result<(), StoreError> {
        if rules.iter().any(|rule| rule.covers(repository, tag)) {
            return Err(StoreError::TagImmutable { repository: repository.clone(), tag: tag.clone() });
        }
        Ok(())
    }

    /// Refuses to delete a tag if a rule covers it and does not allow that.
    pub(super) fn check_delete(
        rules: &[Immutable],
        repository: &RepositoryName,
        tag: &Tag,
    ) -> Result<(), StoreError> {
        if rules.iter().any(|rule| !rule.delete && rule.covers(repository, tag)) {
            return Err(StoreError::TagKept { repository: repository.clone(), tag: tag.clone() });
        }
        Ok(())
    }

    fn is_for(&self, repository: &RepositoryName) -> bool {
        self.repositories.iter().any(|one| one.matches(repository.as_str()))
    }

    /// Tags of signatures move with each signature: only a pattern that names them on purpose covers them.
    fn covers(&self, repository: &RepositoryName, tag: &Tag) -> bool {
        let is_attached = AttachedTo::of(tag).is_some();
        let means = |pattern: &Pattern| {
            pattern.matches(tag.as_str()) && (!is_attached || names_attached(&pattern.to_string()))
        };
        self.is_for(repository) && self.tags.iter().any(means)
    }
}

/// Returns true if a pattern begins as tags do that attach content to a manifest: with an algorithm and a dash.
fn names_attached(pattern: &str) -> bool {
    let begins = |algorithm: Algorithm| {
        pattern.strip_prefix(algorithm.as_str()).is_some_and(|rest| rest.starts_with('-'))
    };
    Algorithm::ALL.into_iter().any(begins)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn patterns(texts: &[&str]) -> Vec<Pattern> {
        texts.iter().map(|text| Pattern::from((*text).to_owned())).collect()
    }

    #[test]
    fn rules_cover_what_their_patterns_say() {
        let rule = |tags: &[&str], delete| Immutable {
            repositories: patterns(&["prod/*"]),
            tags: patterns(tags),
            delete,
        };
        let rules = [rule(&["v*"], false), rule(&["*"], true)];
        let (prod, other) = ("prod/app".parse().unwrap(), "ci/app".parse().unwrap());
        let tag = |text: &str| text.parse::<Tag>().unwrap();
        assert!(Immutable::check_move(&rules, &prod, &tag("v1")).is_err());
        assert!(Immutable::check_move(&rules, &prod, &tag("latest")).is_err());
        assert!(Immutable::check_move(&rules, &other, &tag("v1")).is_ok());
        // The strictest rule counts.
        assert!(Immutable::check_delete(&rules, &prod, &tag("v1")).is_err());
        assert!(Immutable::check_delete(&rules, &prod, &tag("latest")).is_ok());
        for algorithm in Algorithm::ALL {
            let signature = tag(&format!("{algorithm}-{}.sig", "0".repeat(64)));
            assert!(Immutable::check_move(&rules, &prod, &signature).is_ok());
            let pattern = format!("{algorithm}-*");
            assert!(Immutable::check_move(&[rule(&[&pattern], false)], &prod, &signature).is_err());
        }
        assert!(Immutable::forbids_deletes(&rules, &prod) && !Immutable::forbids_deletes(&rules, &other));
        assert!(!Immutable::forbids_deletes(&rules[1..], &prod));
    }
}
