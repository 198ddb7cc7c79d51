//! The selection of an export: names with patterns.

use crate::oci::{Digest, RepositoryName, Tag};

/// A name on the command line: `REPOSITORY[:TAG|@DIGEST]`, where repository and tag are patterns as those of rules.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExportSelection {
    /// The text on the command line.
    pub text: String,
    /// Its parsed form.
    pub selected: Selected,
}

/// The images that a name selects.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Selected {
    /// All tags that match two patterns.
    Tags {
        /// The pattern of the repository.
        repository: String,
        /// The pattern of the tag.
        tag: String,
    },
    /// One manifest.
    Digest(RepositoryName, Digest),
}

/// A text is not a name.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is not REPOSITORY, REPOSITORY:TAG or REPOSITORY@DIGEST{why}")]
pub struct SelectionError {
    text: String,
    why: String,
}

impl ExportSelection {
    /// Selects all tags of all repositories.
    pub fn all() -> Self {
        let selected = Selected::Tags { repository: "*".into(), tag: "*".into() };
        ExportSelection { text: "*".into(), selected }
    }

    /// Parses a name.
    ///
    /// # Errors
    /// [`SelectionError`] if a part without `*` is not valid.
    pub fn parse(text: &str) -> Result<Self, SelectionError> {
        let failed = |why: String| SelectionError { text: text.to_owned(), why };
        let name = |text: &str| {
            text.parse::<RepositoryName>().map_err(|error| {
                let hint = match text.split_once('/') {
                    Some((first, rest)) if first.contains([':', '.']) => {
                        format!("; leave out the host, as in {rest}")
                    }
                    Some(_) | None => String::new(),
                };
                failed(format!(": {text:?}: {error}{hint}"))
            })
        };
        if let Some((repository, digest)) = text.split_once('@') {
            let digest = digest.parse().map_err(|error| failed(format!(": {error}")))?;
            let selected = Selected::Digest(name(repository)?, digest);
            return Ok(ExportSelection { text: text.to_owned(), selected });
        }
        let (repository, tag) = text.rsplit_once(':').unwrap_or((text, "*"));
        if tag.contains('/') {
            return Err(failed("; leave out the host".into()));
        }
        if repository.contains('*') {
            check_pattern(repository, "abcdefghijklmnopqrstuvwxyz0123456789._-/*").map_err(failed)?;
        } else {
            name(repository)?;
        }
        if tag.contains('*') {
            let ascii = |byte: u8| byte.is_ascii_alphanumeric() || b"._-*".contains(&byte);
            if !tag.bytes().all(ascii) {
                return Err(failed(format!(": {tag:?} matches no tag")));
            }
        } else {
            tag.parse::<Tag>().map_err(|error| failed(format!(": {tag:?}: {error}")))?;
        }
        let selected = Selected::Tags { repository: repository.to_owned(), tag: tag.to_owned() };
        Ok(ExportSelection { text: text.to_owned(), selected })
    }
}

fn check_pattern(text: &str, allowed: &str) -> Result<(), String> {
    if text.chars().all(|c| allowed.contains(c)) {
        Ok(())
    } else {
        Err(format!(": {text:?} matches no repository"))
    }
}

/// Returns the platform of this machine, as images name it.
pub fn machine_platform() -> String {
    let architecture = match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        "x86" => "386",
        "powerpc64" => "ppc64le",
        other => other,
    };
    format!("linux/{architecture}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tags(text: &str) -> (String, String) {
        match ExportSelection::parse(text).unwrap().selected {
            Selected::Tags { repository, tag } => (repository, tag),
            Selected::Digest(..) => panic!("{text} is no pattern"),
        }
    }

    #[test]
    fn names_have_patterns_tags_or_digests() {
        assert_eq!(tags("team/*"), ("team/*".into(), "*".into()));
        assert_eq!(tags("team/*:v1.*"), ("team/*".into(), "v1.*".into()));
        assert_eq!(tags("library/nginx:1.27"), ("library/nginx".into(), "1.27".into()));
        let digest = format!("sha256:{}", "a".repeat(64));
        let one = ExportSelection::parse(&format!("a/b@{digest}")).unwrap();
        assert_eq!(one.selected, Selected::Digest("a/b".parse().unwrap(), digest.parse().unwrap()));
    }

    #[test]
    fn other_names_are_refused() {
        for text in ["", "Team/App", "a:b:c", "a@sha256:1", "team/*@sha256:1", "A*", "a:*/", "a: *"] {
            assert!(ExportSelection::parse(text).is_err(), "{text}");
        }
        let error = ExportSelection::parse("hub.lan:5000/team/app").unwrap_err().to_string();
        assert!(error.ends_with("leave out the host"), "{error}");
    }
}
