//! The data directory of registry:2: the paths of its files, and its links.
//!
//! Below `docker/registry/v2/`:
//!
//! | file | contents |
//! |---|---|
//! | `blobs/ALGORITHM/XX/HEX/data` | a blob |
//! | `repositories/NAME/_manifests/tags/TAG/current/link` | the digest of a tag |
//! | `repositories/NAME/_manifests/revisions/ALGORITHM/HEX/link` | a manifest of the repository |
//!
//! Everything else, such as `_layers` and `_uploads`, names no image.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use crate::oci::{Digest, Tag};

/// The folder below which registry:2 keeps everything.
pub(super) const ROOT: &str = "docker/registry/v2/";
/// The folder of all repositories.
pub(super) const REPOSITORIES: &str = "repositories";

/// A link of a repository.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Link<'a> {
    Tag { repository: &'a str, tag: &'a str },
    Revision { repository: &'a str, algorithm: &'a str, hex: &'a str },
}

impl<'a> Link<'a> {
    /// Parses a path below the root.
    pub(super) fn parse(below: &'a str) -> Option<Self> {
        let rest = below.strip_prefix(REPOSITORIES)?.strip_prefix('/')?;
        let (repository, rest) = rest.split_once("/_manifests/")?;
        let parts: Vec<&str> = rest.split('/').collect();
        match parts[..] {
            ["tags", tag, "current", "link"] => Some(Link::Tag { repository, tag }),
            ["revisions", algorithm, hex, "link"] => Some(Link::Revision { repository, algorithm, hex }),
            _ => None,
        }
    }

    /// Returns the path below the root.
    pub(super) fn path(self) -> String {
        match self {
            Link::Tag { repository, tag } => {
                format!("{REPOSITORIES}/{repository}/_manifests/tags/{tag}/current/link")
            }
            Link::Revision { repository, algorithm, hex } => {
                format!("{REPOSITORIES}/{repository}/_manifests/revisions/{algorithm}/{hex}/link")
            }
        }
    }

    /// Returns the name of the repository, which may not be valid.
    pub(super) fn repository(self) -> &'a str {
        match self {
            Link::Tag { repository, .. } | Link::Revision { repository, .. } => repository,
        }
    }
}

impl fmt::Display for Link<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Link::Tag { repository, tag } => write!(f, "{repository}:{tag}"),
            Link::Revision { repository, algorithm, hex } => write!(f, "{repository}@{algorithm}:{hex}"),
        }
    }
}

/// The links of a repository that could be read.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct RepositoryLinks {
    /// The tags, each with the time of its push in seconds since 1970, if it is known.
    pub(super) tags: BTreeMap<Tag, (Digest, Option<u64>)>,
    /// The manifests.
    pub(super) revisions: BTreeSet<Digest>,
}

impl RepositoryLinks {
    /// Adds a link by the text of its file.
    ///
    /// # Errors
    /// Returns the reason for which it cannot be used, in words.
    pub(super) fn add(&mut self, link: Link<'_>, text: &[u8], pushed: Option<u64>) -> Result<(), String> {
        let text = text.trim_ascii();
        if text.is_empty() {
            // As a power cut leaves it (distribution#4489).
            return Err("the link file is empty; push the image again".to_owned());
        }
        let digest = std::str::from_utf8(text).ok().and_then(|text| text.parse::<Digest>().ok());
        let digest = digest.ok_or("the link file has no digest")?;
        match link {
            Link::Tag { tag, .. } => {
                let tag: Tag = tag.parse().map_err(|error| format!("{error}"))?;
                self.tags.insert(tag, (digest, pushed));
            }
            Link::Revision { algorithm, hex, .. } => {
                if digest.to_string() != format!("{algorithm}:{hex}") {
                    return Err(format!("the link file names {digest}"));
                }
                self.revisions.insert(digest);
            }
        }
        Ok(())
    }
}

/// Returns the path of a blob below the root.
pub(super) fn blob_path(digest: &Digest) -> String {
    let hex = digest.hex();
    format!("blobs/{}/{}/{hex}/data", digest.algorithm(), &hex[..2])
}

/// Returns the digest of a blob by its path below the root.
pub(super) fn blob_at(below: &str) -> Option<Digest> {
    let mut parts = below.strip_prefix("blobs/")?.split('/');
    let (algorithm, hex) = (parts.next()?, parts.nth(1)?);
    let digest: Digest = format!("{algorithm}:{hex}").parse().ok()?;
    (blob_path(&digest) == below).then_some(digest)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::transfer::test_registry::digest;

    #[test]
    fn paths_are_parsed_as_they_are_formatted() {
        let digest = digest(b"x");
        assert_eq!(blob_at(&blob_path(&digest)), Some(digest.clone()));
        let hex = digest.hex();
        for link in [
            Link::Tag { repository: "a/b", tag: "1" },
            Link::Revision { repository: "a/b", algorithm: "sha256", hex: &hex },
        ] {
            assert_eq!(Link::parse(&link.path()), Some(link));
        }
        for other in ["blobs/sha256/00/00/data", "repositories/a/_layers/sha256/x/link", "repositories/"] {
            assert_eq!((blob_at(other), Link::parse(other)), (None, None), "{other}");
        }
    }
}
