//! What a collection may take: the rules.

use std::sync::Arc;
use std::time::Duration;

use super::clock::Moment;
use super::index::candidates::TagAge;
use crate::oci::{Pattern, RepositoryName};

/// What a collection may take.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Policy {
    /// How long something stays after its last use has gone: a push may be counting on it.
    pub grace: Duration,
    /// How long an unfinished upload may go without a byte.
    pub uploads_expire: Duration,
    /// Which tags and untagged manifests are kept; the first rule for a repository is the one for it.
    pub retention: Vec<Retention>,
    /// Whether a person asked for it: after names were lost nothing is collected without one.
    pub by_hand: bool,
}

/// Which tags and untagged manifests of some repositories are kept.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Retention {
    /// The repositories it is about.
    pub repositories: Vec<Pattern>,
    /// So many tags are kept, the newest.
    pub newest: Option<usize>,
    /// Tags that were set less long ago than this are kept.
    pub younger: Option<Duration>,
    /// Tags like these are kept.
    pub tags: Vec<Pattern>,
    /// Manifests without a tag are removed after so long.
    pub untagged: Option<Duration>,
}

/// How long what nobody needs is kept.
#[derive(Clone, Debug)]
pub struct Ages {
    /// How long a push may count on what no manifest needs.
    pub grace: Duration,
    /// The rules by which manifests without a tag may be taken.
    pub retention: Arc<[Retention]>,
}

impl Ages {
    /// The grace time, and how long a repository keeps manifests without a tag, if not for ever.
    pub(super) fn of(&self, repository: &RepositoryName) -> (Duration, Option<Duration>) {
        (self.grace, Retention::of(&self.retention, repository).and_then(|rule| rule.untagged))
    }
}

impl Retention {
    /// The rule for a repository: the first that is about it.
    pub(super) fn of<'a>(rules: &'a [Retention], repository: &RepositoryName) -> Option<&'a Self> {
        let is_about =
            |rule: &&Retention| rule.repositories.iter().any(|one| one.matches(repository.as_str()));
        rules.iter().find(is_about)
    }

    /// Whether it says anything about tags: one that does not keeps them all.
    pub(super) fn is_about_tags(&self) -> bool {
        self.newest.is_some() || self.younger.is_some() || !self.tags.is_empty()
    }

    /// Returns true if the rule takes tags or manifests; one that only names repositories keeps everything.
    pub(super) fn takes_something(&self) -> bool {
        self.is_about_tags() || self.untagged.is_some()
    }

    /// Returns true if the rule keeps a tag for its age or its name.
    pub(super) fn keeps(&self, tag: &TagAge, now: Moment) -> bool {
        self.younger.is_some_and(|younger| tag.since.age(now) < younger)
            || self.tags.iter().any(|pattern| pattern.matches(tag.tag.as_str()))
    }
}
