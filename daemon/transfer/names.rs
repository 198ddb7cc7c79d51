//! Names of imported images: from the name on the medium to repository and tag.

use std::fmt;

use super::source::ImageName;
use super::wording::Wording;
use crate::oci::{Digest, Pattern, RepositoryName, Tag};

/// The treatment of the host in a name.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum NameMode {
    /// It is left out, and with the host of Docker Hub its `library/`.
    #[default]
    Short,
    /// It is kept; its port follows after `-`.
    Full,
}

/// Pattern for repositories, and one for their tags.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NamePattern {
    repository: Pattern,
    tag: Option<Pattern>,
}

impl NamePattern {
    /// Parses `REPOSITORY[:TAG]`, each a pattern.
    pub fn parse(text: &str) -> Self {
        match text.rsplit_once(':') {
            Some((repository, tag)) if !tag.contains('/') => NamePattern {
                repository: Pattern::from(repository.to_owned()),
                tag: Some(Pattern::from(tag.to_owned())),
            },
            _ => NamePattern { repository: Pattern::from(text.to_owned()), tag: None },
        }
    }

    fn matches(&self, repository: &str, tag: Option<&Tag>) -> bool {
        self.repository.matches(repository)
            && self.tag.as_ref().is_none_or(|pattern| tag.is_some_and(|tag| pattern.matches(tag.as_str())))
    }
}

impl fmt::Display for NamePattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.tag {
            Some(tag) => write!(f, "{}:{tag}", self.repository),
            None => self.repository.fmt(f),
        }
    }
}

/// The rules for names.
#[derive(Clone, Debug, Default)]
pub struct NameRules {
    /// The treatment of hosts.
    pub mode: NameMode,
    /// The text before each repository.
    pub prefix: String,
    /// The name of the only image that is selected.
    pub only_name: Option<TargetName>,
    /// The images to import, by their names with the prefix; all without any. `only_name` has no effect on the selection.
    pub only: Vec<NamePattern>,
    /// The words of reasons.
    pub wording: Wording,
}

/// A name in the registry.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct TargetName {
    /// The repository.
    pub repository: RepositoryName,
    /// The tag; `None` for an image without one.
    pub tag: Option<Tag>,
}

impl TargetName {
    /// Parses `REPOSITORY[:TAG]`.
    ///
    /// # Errors
    /// Returns the reason, in words.
    pub fn parse(text: &str) -> Result<Self, String> {
        let (repository, tag) = match text.rsplit_once(':') {
            Some((repository, tag)) if !tag.contains('/') => {
                (repository, Some(tag.parse().map_err(|error| format!("{text}: {error}"))?))
            }
            _ => (text, None),
        };
        let repository = repository.parse().map_err(|error| format!("{text}: {error}"))?;
        Ok(TargetName { repository, tag })
    }

    /// Formats the name; an image without a tag is named by its digest.
    pub fn display(&self, digest: Option<&Digest>) -> String {
        match (&self.tag, digest) {
            (Some(tag), _) => format!("{}:{tag}", self.repository),
            (None, Some(digest)) => format!("{}@{digest}", self.repository),
            (None, None) => self.repository.to_string(),
        }
    }
}

impl NameRules {
    /// Returns the name in the registry; `None` for an image that is not selected.
    ///
    /// # Errors
    /// Returns the reason for which there is no name, in words.
    pub fn target(&self, name: &ImageName) -> Result<Option<TargetName>, String> {
        let mapped = name.repository.as_ref().map(|repository| {
            format!("{}{}", self.prefix, self.map(name.host.as_deref(), repository.as_str()))
        });
        // A tag without a repository can be selected with `*:TAG`.
        let text = mapped.as_deref().unwrap_or_default();
        let is_selected = |selection: &NamePattern| selection.matches(text, name.tag.as_ref());
        if !self.only.is_empty() && !self.only.iter().any(is_selected) {
            return Ok(None);
        }
        if let Some(target) = &self.only_name {
            let tag = target.tag.clone().or_else(|| name.tag.clone());
            return Ok(Some(TargetName { repository: target.repository.clone(), tag }));
        }
        let Some(text) = mapped else {
            return Err(format!("it has no name in the archive; {}", self.wording.name_it()));
        };
        let repository = text.parse().map_err(|error| format!("{text}: {error}"))?;
        Ok(Some(TargetName { repository, tag: name.tag.clone() }))
    }

    fn map(&self, host: Option<&str>, repository: &str) -> String {
        let is_hub = host.is_some_and(|host| matches!(host, "docker.io" | "index.docker.io"));
        match (self.mode, host) {
            (NameMode::Short, _) if is_hub => {
                repository.strip_prefix("library/").unwrap_or(repository).to_owned()
            }
            (NameMode::Short, _) | (NameMode::Full, None) => repository.to_owned(),
            (NameMode::Full, Some(host)) => {
                format!("{}/{repository}", host.replace(':', "-"))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn target(rules: &NameRules, name: &str) -> Option<String> {
        rules.target(&ImageName::parse(name).unwrap()).unwrap().map(|target| target.display(None))
    }

    #[test]
    fn hosts_are_left_out_or_kept() {
        for (mode, expected) in [
            (NameMode::Short, ["alpine:3", "team/app:1", "app:1"]),
            (NameMode::Full, ["docker.io/library/alpine:3", "hub.lan-5000/team/app:1", "app:1"]),
        ] {
            let rules = NameRules { mode, ..NameRules::default() };
            let names = ["docker.io/library/alpine:3", "hub.lan:5000/team/app:1", "app:1"];
            assert_eq!(names.map(|name| target(&rules, name).unwrap()), expected);
        }
    }

    #[test]
    fn prefixes_selections_and_given_names_apply() {
        let rules = NameRules {
            prefix: "site/".into(),
            only: vec![NamePattern::parse("site/team/*:v1.*"), NamePattern::parse("*/alpine")],
            ..NameRules::default()
        };
        assert_eq!(target(&rules, "team/app:v1.2").as_deref(), Some("site/team/app:v1.2"));
        assert_eq!(target(&rules, "team/app:v2"), None);
        assert_eq!(target(&rules, "alpine:3").as_deref(), Some("site/alpine:3"));
        assert_eq!(target(&rules, "team/alpine-x:3"), None);
        assert_eq!(rules.only[0].to_string(), "site/team/*:v1.*");
        let given = NameRules { only_name: TargetName::parse("a/b:1").ok(), ..NameRules::default() };
        assert_eq!(target(&given, "x:2").as_deref(), Some("a/b:1"));
        let chosen = NameRules { only: vec![NamePattern::parse("x:2"), NamePattern::parse("*:8")], ..given };
        assert_eq!(target(&chosen, "x:2").as_deref(), Some("a/b:1"));
        assert_eq!(target(&chosen, "y:2"), None);
        let tag = |tag: &str| chosen.target(&ImageName::of_tag(tag.parse().unwrap())).unwrap();
        assert!(tag("8").is_some() && tag("9").is_none());
        assert!(NameRules::default().target(&ImageName::of_tag("1".parse().unwrap())).is_err());
        let bad = NameRules { prefix: "/".into(), ..NameRules::default() };
        assert!(bad.target(&ImageName::parse("a").unwrap()).is_err());
        assert!(TargetName::parse("A:1").is_err());
    }
}
