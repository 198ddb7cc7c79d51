//! Tags that can be set once.

use super::error::StoreError;
use crate::oci::{Pattern, RepositoryName, Tag};

/// The beginning of tags that attach content to a manifest, which clients set again for each signature.
const ATTACHED: &str = "sha256-";

/// A rule: these tags of these repositories can be set once.
#[derive(Clone, Debug, PartialEq, Eq)]
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
        let is_attached = crate::oci::AttachedTo::of(tag).is_some();
        let means = |pattern: &Pattern| {
            pattern.matches(tag.as_str()) && (!is_attached || pattern.to_string().starts_with(ATTACHED))
        };
        self.is_for(repository) && self.tags.iter().any(means)
    }
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
        let signature = tag(&format!("sha256-{}.sig", "0".repeat(64)));
        assert!(Immutable::check_move(&rules, &prod, &signature).is_ok());
        assert!(Immutable::check_move(&[rule(&["sha256-*"], false)], &prod, &signature).is_err());
    }
}
