//! `[[retention]]` and `[[immutable]]`: rules for the tags of some repositories.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::ConfigError;
use super::values::{duration, show_duration, wrong};

/// `[[retention]]`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Retention {
    /// Patterns of repositories.
    pub repositories: Vec<String>,
    /// So many tags are kept, the newest.
    pub keep_newest: Option<usize>,
    /// Tags that were set less long ago are kept.
    pub keep_younger: Option<Duration>,
    /// Tags like these patterns are kept.
    pub keep_tags: Vec<String>,
    /// Manifests without a tag are removed after so long.
    pub remove_untagged: Option<Duration>,
}

/// `[[immutable]]`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Immutable {
    /// Patterns of repositories.
    pub repositories: Vec<String>,
    /// Patterns of the tags that can be set once.
    pub tags: Vec<String>,
    /// Whether clients may delete such a tag.
    pub delete: bool,
}

#[derive(Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct RawRetention {
    repositories: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    keep_newest: Option<usize>,
    #[serde(skip_serializing_if = "Option::is_none")]
    keep_younger: Option<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    keep_tags: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    remove_untagged: Option<String>,
}

#[derive(Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct RawImmutable {
    repositories: Vec<String>,
    tags: Vec<String>,
    delete: bool,
}

impl RawRetention {
    pub(super) fn validate(self) -> Result<Retention, ConfigError> {
        if self.repositories.is_empty() {
            return Err(wrong("retention.repositories", "", "at least one pattern of repositories"));
        }
        let time = |key, text: Option<String>| text.map(|text| duration(key, &text)).transpose();
        let keep_younger = time("retention.keep_younger", self.keep_younger)?;
        let keeps_no_tag = self.keep_newest.unwrap_or(0) == 0
            && keep_younger.unwrap_or_default().is_zero()
            && self.keep_tags.is_empty();
        if keeps_no_tag && (self.keep_newest.is_some() || keep_younger.is_some()) {
            return Err(ConfigError::Together(
                "a rule of [[retention]] would keep no tag at all; set keep_newest to at least 1, or say in keep_younger or \
                 keep_tags what stays (without all three every tag stays)",
            ));
        }
        Ok(Retention {
            repositories: self.repositories,
            keep_newest: self.keep_newest,
            keep_younger,
            keep_tags: self.keep_tags,
            remove_untagged: time("retention.remove_untagged", self.remove_untagged)?,
        })
    }
}

impl From<&Retention> for RawRetention {
    fn from(rule: &Retention) -> Self {
        RawRetention {
            repositories: rule.repositories.clone(),
            keep_newest: rule.keep_newest,
            keep_younger: rule.keep_younger.map(show_duration),
            keep_tags: rule.keep_tags.clone(),
            remove_untagged: rule.remove_untagged.map(show_duration),
        }
    }
}

impl RawImmutable {
    pub(super) fn validate(self) -> Result<Immutable, ConfigError> {
        if self.repositories.is_empty() {
            return Err(wrong("immutable.repositories", "", "at least one pattern of repositories"));
        }
        if self.tags.is_empty() {
            return Err(wrong("immutable.tags", "", "at least one pattern of tags"));
        }
        let RawImmutable { repositories, tags, delete } = self;
        Ok(Immutable { repositories, tags, delete })
    }
}

impl From<&Immutable> for RawImmutable {
    fn from(rule: &Immutable) -> Self {
        let Immutable { repositories, tags, delete } = rule.clone();
        RawImmutable { repositories, tags, delete }
    }
}

#[cfg(test)]
mod tests {
    use crate::config::{Overrides, from_text};

    fn read(rule: &str) -> Result<crate::config::Config, String> {
        from_text("file", rule, [], &Overrides::default()).map_err(|error| error.to_string())
    }

    #[test]
    fn a_rule_that_keeps_no_tag_is_refused() {
        let rule = |keys: &str| read(&format!("[[retention]]\nrepositories = [\"ci/*\"]\n{keys}"));
        for keys in ["keep_newest = 0", "keep_younger = \"0s\"", "keep_newest = 0\nkeep_younger = \"0s\""] {
            assert!(rule(keys).unwrap_err().contains("keep no tag at all"), "{keys}");
        }
        for keys in [
            "",
            "keep_newest = 1",
            "keep_newest = 0\nkeep_younger = \"1d\"",
            "keep_newest = 0\nkeep_tags = [\"v*\"]",
            "remove_untagged = \"0s\"",
        ] {
            assert!(rule(keys).is_ok(), "{keys}");
        }
    }

    #[test]
    fn immutable_rules_read_back() {
        let text = "[[immutable]]\nrepositories = [\"prod/*\"]\ntags = [\"v*\"]\ndelete = true\n";
        let config = read(text).unwrap();
        assert!(config.immutable[0].delete);
        assert_eq!(read(&config.show()).unwrap().immutable, config.immutable);
        for (text, key) in [
            ("[[immutable]]\ntags = [\"v*\"]", "immutable.repositories"),
            ("[[immutable]]\nrepositories = [\"*\"]", "immutable.tags"),
        ] {
            assert!(read(text).unwrap_err().contains(key));
        }
    }
}
