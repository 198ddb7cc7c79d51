//! Names of images on a medium.

use std::fmt;

use crate::oci::{Digest, ParseNameError, RepositoryName, Tag};

/// The name of an image on a medium: `[HOST/]REPOSITORY[:TAG][@DIGEST]`, or a tag alone.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ImageName {
    /// The host with its port, such as `docker.io` or `hub.lan:5000`.
    pub host: Option<String>,
    /// The repository.
    pub repository: Option<RepositoryName>,
    /// The tag.
    pub tag: Option<Tag>,
    /// The digest by which the image is pinned.
    pub digest: Option<Digest>,
}

/// A string is not the name of an image.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ParseImageNameError {
    /// The repository is not valid.
    #[error(transparent)]
    Repository(#[from] ParseNameError),
    /// The tag is not valid.
    #[error(transparent)]
    Tag(#[from] crate::oci::ParseTagError),
    /// The digest is not valid.
    #[error(transparent)]
    Digest(#[from] crate::oci::ParseDigestError),
}

impl ImageName {
    /// Returns a tag without a repository.
    pub fn of_tag(tag: Tag) -> Self {
        ImageName { tag: Some(tag), ..ImageName::default() }
    }

    /// Parses a whole name. The first component is a host if it has a dot or a colon, or is `localhost`.
    ///
    /// # Errors
    /// Fails if the repository, the tag or the digest is not valid.
    pub fn parse(text: &str) -> Result<Self, ParseImageNameError> {
        let (rest, digest) = match text.split_once('@') {
            Some((rest, digest)) => (rest, Some(digest.parse()?)),
            None => (text, None),
        };
        let (path, tag) = match rest.rsplit_once(':') {
            Some((path, tag)) if !tag.contains('/') => (path, Some(tag.parse()?)),
            _ => (rest, None),
        };
        let (host, path) = match path.split_once('/') {
            Some((host, path)) if is_host(host) => (Some(host.to_ascii_lowercase()), path),
            _ => (None, path),
        };
        Ok(ImageName { host, repository: Some(path.parse()?), tag, digest })
    }
}

/// Returns true if the first component of a name is a host: it has a dot or a colon, or is `localhost`.
pub fn is_host(part: &str) -> bool {
    part.starts_with(|c: char| c.is_ascii_alphanumeric())
        && part.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '.' | ':' | '-'))
        && (part.contains(['.', ':']) || part == "localhost")
}

impl fmt::Display for ImageName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(host) = &self.host {
            write!(f, "{host}/")?;
        }
        match &self.repository {
            Some(repository) => write!(f, "{repository}")?,
            None => f.write_str("(no name)")?,
        }
        if let Some(tag) = &self.tag {
            write!(f, ":{tag}")?;
        }
        if let Some(digest) = &self.digest {
            write!(f, "@{digest}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn hosts_tags_and_digests_are_told_apart() {
        let parts = |text: &str| {
            let name = ImageName::parse(text).unwrap();
            assert_eq!(name.to_string(), text);
            (name.host, name.repository.unwrap().to_string(), name.tag.map(|tag| tag.to_string()))
        };
        let some = |text: &str| Some(text.to_owned());
        assert_eq!(parts("alpine"), (None, "alpine".into(), None));
        assert_eq!(parts("hub.lan:5000/team/app:1"), (some("hub.lan:5000"), "team/app".into(), some("1")));
        assert_eq!(parts("hub:5000/app"), (some("hub:5000"), "app".into(), None));
        assert_eq!(parts("localhost/app:1"), (some("localhost"), "app".into(), some("1")));
        let digest = format!("sha256:{}", "a".repeat(64));
        assert_eq!(parts(&format!("docker.io/a/b:1@{digest}")), (some("docker.io"), "a/b".into(), some("1")));
        for text in ["", "A", "a:", "a@x", "a b", "docker.io/", "../x"] {
            assert!(ImageName::parse(text).is_err(), "{text}");
        }
    }

    proptest! {
        #[test]
        fn never_panics(text in "\\PC*") {
            let _ = ImageName::parse(&text);
        }
    }
}
