//! Names of images on the command line: `REPOSITORY`, `REPOSITORY:TAG` and `REPOSITORY@DIGEST`.

use super::failure::Failure;
use crate::oci::{Reference, RepositoryName};

/// A repository, and a tag or digest in it if the name has one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct ImageName {
    pub(super) repository: RepositoryName,
    pub(super) reference: Option<Reference>,
}

impl ImageName {
    /// Parses a name.
    pub(super) fn parse(text: &str) -> Result<Self, Failure> {
        // Neither a repository nor a tag has a colon or an at sign.
        let (repository, reference) = match (text.split_once('@'), text.split_once(':')) {
            (Some((repository, digest)), _) => (repository, Some(digest)),
            (None, Some((repository, tag))) => (repository, Some(tag)),
            (None, None) => (text, None),
        };
        let is_host = |first: &str| first == "localhost" || first.contains('.');
        let failed = |why: String| {
            let hint = match text.split_once('/') {
                Some((first, rest)) if first.contains(':') || is_host(first) => {
                    format!("; leave out the host, as in {rest}")
                }
                Some(_) | None => String::new(),
            };
            Failure::misuse(format!("{text:?} is not REPOSITORY or REPOSITORY:TAG: {why}{hint}"))
        };
        let name = repository.parse().map_err(|error| failed(format!("{repository:?}: {error}")))?;
        let reference = match reference {
            Some(reference) => {
                Some(reference.parse().map_err(|error| failed(format!("{reference:?}: {error}")))?)
            }
            None => None,
        };
        Ok(ImageName { repository: name, reference })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_have_an_optional_tag_or_digest() {
        let parse = |text: &str| {
            let name = ImageName::parse(text).map_err(|failure| failure.line).unwrap();
            (name.repository.to_string(), name.reference.map(|reference| reference.to_string()))
        };
        assert_eq!(parse("team/app"), ("team/app".into(), None));
        assert_eq!(parse("team/app:1.4"), ("team/app".into(), Some("1.4".into())));
        let digest = format!("sha256:{}", "a".repeat(64));
        assert_eq!(parse(&format!("a@{digest}")), ("a".into(), Some(digest)));
    }

    #[test]
    fn other_names_are_refused_with_a_hint_for_a_host() {
        let error = |text: &str| ImageName::parse(text).map(drop).unwrap_err();
        assert_eq!(error("Team/App").code, 2);
        assert!(!error("a:b:c").line.contains("host"));
        assert!(error("localhost:5000/team/app:1").line.ends_with("leave out the host, as in team/app:1"));
    }
}
