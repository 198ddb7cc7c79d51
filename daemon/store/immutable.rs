//! Immutable tags: rules that forbid moving and deleting tags.

use super::error::StoreError;
use crate::oci::{Algorithm, AttachmentTarget, Pattern, RepositoryName, Tag};

/// A rule: the matching tags of the matching repositories are set once and never move.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ImmutableRule {
    /// The repositories.
    pub repositories: Vec<Pattern>,
    /// The tags.
    pub tags: Vec<Pattern>,
    /// True if clients may delete such a tag, and set it to another manifest afterwards.
    pub delete: bool,
}

impl ImmutableRule {
    /// Returns true if a rule that forbids deletes applies to the repository.
    pub(super) fn forbids_deletes(rules: &[ImmutableRule], repository: &RepositoryName) -> bool {
        rules.iter().any(|rule| !rule.delete && rule.applies_to(repository))
    }

    /// Refuses to move a tag that a rule covers to another manifest.
    ///
    /// # Errors
    /// [`StoreError::TagImmutable`].
    pub(super) fn check_move(
        rules: &[ImmutableRule],
        repository: &RepositoryName,
        tag: &Tag,
    ) -> Result<(), StoreError> {
        if rules.iter().any(|rule| rule.covers(repository, tag)) {
            return Err(StoreError::TagImmutable { repository: repository.clone(), tag: tag.clone() });
        }
        Ok(())
    }

    /// Refuses to delete a tag that a rule without `delete` covers.
    ///
    /// # Errors
    /// [`StoreError::TagKept`].
    pub(super) fn check_delete(
        rules: &[ImmutableRule],
        repository: &RepositoryName,
        tag: &Tag,
    ) -> Result<(), StoreError> {
        if rules.iter().any(|rule| !rule.delete && rule.covers(repository, tag)) {
            return Err(StoreError::TagKept { repository: repository.clone(), tag: tag.clone() });
        }
        Ok(())
    }

    fn applies_to(&self, repository: &RepositoryName) -> bool {
        self.repositories.iter().any(|pattern| pattern.matches(repository.as_str()))
    }

    /// Returns true if the rule covers a tag. Attachment tags move with each new signature, so only a pattern that is
    /// written for them covers them.
    fn covers(&self, repository: &RepositoryName, tag: &Tag) -> bool {
        let is_attached = AttachmentTarget::of(tag).is_some();
        let covers = |pattern: &Pattern| {
            pattern.matches(tag.as_str()) && (!is_attached || is_for_attachments(&pattern.to_string()))
        };
        self.applies_to(repository) && self.tags.iter().any(covers)
    }
}

/// Returns true if a pattern begins like an attachment tag: with an algorithm and a dash.
fn is_for_attachments(pattern: &str) -> bool {
    let begins_with = |algorithm: Algorithm| {
        pattern.strip_prefix(algorithm.as_str()).is_some_and(|rest| rest.starts_with('-'))
    };
    Algorithm::ALL.into_iter().any(begins_with)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn patterns(texts: &[&str]) -> Vec<Pattern> {
        texts.iter().map(|text| Pattern::from((*text).to_owned())).collect()
    }

    #[test]
    fn the_strictest_matching_rule_applies_and_attachment_tags_are_exempt() {
        let rule = |tags: &[&str], delete| ImmutableRule {
            repositories: patterns(&["prod/*"]),
            tags: patterns(tags),
            delete,
        };
        let rules = [rule(&["v*"], false), rule(&["*"], true)];
        let (prod, other) = ("prod/app".parse().unwrap(), "ci/app".parse().unwrap());
        let tag = |text: &str| text.parse::<Tag>().unwrap();
        assert!(ImmutableRule::check_move(&rules, &prod, &tag("v1")).is_err());
        assert!(ImmutableRule::check_move(&rules, &prod, &tag("latest")).is_err());
        assert!(ImmutableRule::check_move(&rules, &other, &tag("v1")).is_ok());
        // The first rule forbids deletes, the second one allows them.
        assert!(ImmutableRule::check_delete(&rules, &prod, &tag("v1")).is_err());
        assert!(ImmutableRule::check_delete(&rules, &prod, &tag("latest")).is_ok());
        for algorithm in Algorithm::ALL {
            let signature = tag(&format!("{algorithm}-{}.sig", "0".repeat(64)));
            assert!(ImmutableRule::check_move(&rules, &prod, &signature).is_ok());
            let pattern = format!("{algorithm}-*");
            assert!(ImmutableRule::check_move(&[rule(&[&pattern], false)], &prod, &signature).is_err());
        }
        assert!(
            ImmutableRule::forbids_deletes(&rules, &prod) && !ImmutableRule::forbids_deletes(&rules, &other)
        );
        assert!(!ImmutableRule::forbids_deletes(&rules[1..], &prod));
    }
}
