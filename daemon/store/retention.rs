//! Rules for what a collection may free: grace period, expiry of uploads, retention of tags and untagged manifests.

use std::sync::Arc;
use std::time::Duration;

use super::clock::StoreTime;
use super::index::tables::candidates::DatedTag;
use crate::oci::{Pattern, RepositoryName};

/// The rules of a collection.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CollectionPolicy {
    /// The grace period: how long content stays after its last use, since a push may rely on it.
    pub grace: Duration,
    /// The time without new bytes after which an unfinished upload expires.
    pub uploads_expire: Duration,
    /// The retention rules; the first one that names a repository applies to it.
    pub retention: Vec<RetentionRule>,
    /// True if the operator started the collection: after names were lost, no other collection runs.
    pub by_operator: bool,
    /// True for a collection that looks at all content and all files, not only at those of which changes have noted that
    /// nothing may need them.
    pub full: bool,
}

/// A retention rule: which tags and untagged manifests of some repositories are kept.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RetentionRule {
    /// The repositories.
    pub repositories: Vec<Pattern>,
    /// The number of tags that are kept, the newest ones.
    pub newest: Option<usize>,
    /// The age below which all tags are kept.
    pub younger: Option<Duration>,
    /// The time for which a tag is kept after its manifest was pulled or it was set. Untagged manifests are kept for it,
    /// too.
    pub pulled: Option<Duration>,
    /// The names of tags that are kept.
    pub tags: Vec<Pattern>,
    /// The age at which untagged manifests are removed.
    pub untagged: Option<Duration>,
}

/// The periods for which unreferenced content is kept, and with it the leases of clients.
#[derive(Clone, Debug)]
pub struct GracePeriods {
    /// The grace period.
    pub grace: Duration,
    /// The retention rules, which may limit the age of untagged manifests.
    pub retention: Arc<[RetentionRule]>,
}

impl GracePeriods {
    /// Returns the grace period, and the age at which the repository removes untagged manifests, if it does.
    pub(super) fn of(&self, repository: &RepositoryName) -> (Duration, Option<Duration>) {
        (self.grace, RetentionRule::of(&self.retention, repository).and_then(|rule| rule.untagged))
    }
}

impl RetentionRule {
    /// Returns the rule for a repository: the first one that names it.
    pub(super) fn of<'a>(rules: &'a [RetentionRule], repository: &RepositoryName) -> Option<&'a Self> {
        rules.iter().find(|rule| rule.names(repository))
    }

    /// Returns true if the rule names a repository.
    pub(super) fn names(&self, repository: &RepositoryName) -> bool {
        self.repositories.iter().any(|pattern| pattern.matches(repository.as_str()))
    }

    /// Returns true if the rule limits tags; otherwise it keeps all of them.
    pub fn limits_tags(&self) -> bool {
        self.newest.is_some() || self.younger.is_some() || self.pulled.is_some() || !self.tags.is_empty()
    }

    /// Returns true if a rule depends on pulls.
    pub(super) fn any_needs_pulls(rules: &[RetentionRule]) -> bool {
        rules.iter().any(|rule| rule.pulled.is_some())
    }

    /// Returns true if the rule removes tags or manifests. A rule that only names repositories keeps everything.
    pub(super) fn frees_content(&self) -> bool {
        self.limits_tags() || self.untagged.is_some()
    }

    /// Returns true if the rule keeps a tag because of its age or its name. `usage` decides about pulls.
    pub(super) fn keeps(&self, tag: &DatedTag, now: StoreTime) -> bool {
        [self.younger, self.pulled].into_iter().flatten().any(|period| tag.since.age(now) < period)
            || self.tags.iter().any(|pattern| pattern.matches(tag.tag.as_str()))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::oci::{Algorithm, Hasher};

    fn patterns(texts: &[&str]) -> Vec<Pattern> {
        texts.iter().map(|text| Pattern::from((*text).to_owned())).collect()
    }

    fn rule(repositories: &[&str]) -> RetentionRule {
        RetentionRule { repositories: patterns(repositories), ..RetentionRule::default() }
    }

    fn tag(name: &str, since: u64) -> DatedTag {
        let digest = Hasher::digest(Algorithm::Sha256, name.as_bytes());
        DatedTag { tag: name.parse().unwrap(), digest, since: StoreTime::from_seconds(since), order: 0 }
    }

    #[test]
    fn the_first_rule_that_names_a_repository_applies() {
        let day = Duration::from_hours(24);
        let rules = [
            rule(&["ci/*", "tmp"]),
            RetentionRule { untagged: Some(day), ..rule(&["*"]) },
            RetentionRule { untagged: Some(2 * day), ..rule(&["prod/*"]) },
        ];
        let of = |name: &str| RetentionRule::of(&rules, &name.parse().unwrap());
        assert_eq!(of("ci/app"), Some(&rules[0]));
        assert_eq!(of("tmp"), Some(&rules[0]));
        assert_eq!(of("prod/app"), Some(&rules[1]));
        assert_eq!(RetentionRule::of(&rules[..1], &"prod/app".parse().unwrap()), None);
        let ages = GracePeriods { grace: day, retention: rules.into() };
        assert_eq!(ages.of(&"ci/app".parse().unwrap()), (day, None));
        assert_eq!(ages.of(&"prod/app".parse().unwrap()), (day, Some(day)));
    }

    #[test]
    fn a_rule_that_only_names_repositories_keeps_everything() {
        assert!(!rule(&["*"]).frees_content() && !rule(&["*"]).limits_tags());
        let untagged = RetentionRule { untagged: Some(Duration::ZERO), ..rule(&["*"]) };
        assert!(untagged.frees_content() && !untagged.limits_tags());
        for about_tags in [
            RetentionRule { newest: Some(0), ..rule(&["*"]) },
            RetentionRule { younger: Some(Duration::ZERO), ..rule(&["*"]) },
            RetentionRule { pulled: Some(Duration::ZERO), ..rule(&["*"]) },
            RetentionRule { tags: patterns(&["v*"]), ..rule(&["*"]) },
        ] {
            assert!(about_tags.frees_content() && about_tags.limits_tags(), "{about_tags:?}");
        }
    }

    #[test]
    fn a_tag_is_kept_for_its_age_or_its_name() {
        let keeping =
            RetentionRule { younger: Some(Duration::from_mins(1)), tags: patterns(&["v*"]), ..rule(&["*"]) };
        let now = StoreTime::from_seconds(100);
        assert!(keeping.keeps(&tag("b1", 41), now));
        assert!(!keeping.keeps(&tag("b1", 40), now), "the age is the limit itself");
        assert!(keeping.keeps(&tag("v1", 0), now));
        assert!(!rule(&["*"]).keeps(&tag("v1", 100), now));
    }

    proptest! {
        #[test]
        fn a_tag_of_the_future_is_young(since in 0_u64..100, now in 0_u64..100, younger in 1_u64..100) {
            let keeping = RetentionRule { younger: Some(Duration::from_secs(younger)), ..rule(&["*"]) };
            let expected = now.saturating_sub(since) < younger;
            prop_assert_eq!(keeping.keeps(&tag("b1", since), StoreTime::from_seconds(now)), expected);
        }
    }
}
