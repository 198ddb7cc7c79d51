//! Media types, and what this registry knows about some of them.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

/// The longest media type that is accepted, in bytes.
const MAX_LEN: usize = 255;

/// A text is not a media type.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a media type is written TYPE/SUBTYPE, at most 255 characters of RFC 6838")]
pub struct ParseMediaTypeError;

/// A media type without parameters, such as `application/vnd.oci.image.manifest.v1+json`.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MediaType(Arc<str>);

impl MediaType {
    /// An OCI image manifest.
    pub const OCI_MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
    /// An OCI image index.
    pub const OCI_INDEX: &str = "application/vnd.oci.image.index.v1+json";
    /// A Docker image manifest, schema 2.
    pub const DOCKER_MANIFEST: &str = "application/vnd.docker.distribution.manifest.v2+json";
    /// A Docker manifest list.
    pub const DOCKER_LIST: &str = "application/vnd.docker.distribution.manifest.list.v2+json";

    /// The media type as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// An OCI image index.
    pub fn oci_index() -> Self {
        MediaType(Self::OCI_INDEX.into())
    }

    /// Whether this is a list of manifests: an OCI index or a Docker manifest list.
    pub fn is_index(&self) -> bool {
        matches!(self.as_str(), Self::OCI_INDEX | Self::DOCKER_LIST)
    }

    /// Whether this is a manifest of any kind that descriptors can point at.
    pub fn is_manifest(&self) -> bool {
        self.is_index() || matches!(self.as_str(), Self::OCI_MANIFEST | Self::DOCKER_MANIFEST)
    }

    /// Whether this is a Docker schema 1 manifest, signed or not, which no current client makes.
    pub fn is_schema1(&self) -> bool {
        matches!(
            self.as_str(),
            "application/vnd.docker.distribution.manifest.v1+json"
                | "application/vnd.docker.distribution.manifest.v1+prettyjws"
        )
    }

    /// Whether a layer of this type is fetched from elsewhere and need not be in the registry.
    pub fn is_foreign_layer(&self) -> bool {
        let text = self.as_str();
        text.starts_with("application/vnd.oci.image.layer.nondistributable.v1.")
            || text.starts_with("application/vnd.docker.image.rootfs.foreign.")
    }
}

impl fmt::Display for MediaType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for MediaType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for MediaType {
    type Err = ParseMediaTypeError;

    /// Reads a media type; parameters (`; charset=utf-8`) are left out, as the standard asks.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let essence = text.split(';').next().unwrap_or_default().trim();
        let token = |part: &str| {
            !part.is_empty()
                && part.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"!#$&-^_.+*'`|~%".contains(&byte))
        };
        match essence.split_once('/') {
            Some((kind, subtype)) if essence.len() <= MAX_LEN && token(kind) && token(subtype) => {
                Ok(MediaType(essence.into()))
            }
            _ => Err(ParseMediaTypeError),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn drops_parameters_and_refuses_the_rest() {
        let parsed: MediaType = "application/json; charset=utf-8".parse().unwrap();
        assert_eq!(parsed.as_str(), "application/json");
        for text in ["", "json", "/", "a/", "/b", "a/b/c", "a b/c", "a/b\nc"] {
            assert!(text.parse::<MediaType>().is_err(), "{text:?}");
        }
    }
}
