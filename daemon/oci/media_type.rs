//! Media types (RFC 6838) and the properties of those that matter to a registry.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

/// The longest media type that is accepted, in bytes.
const MAX_LEN: usize = 255;

/// A string is not a media type.
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

    /// Arbitrary bytes, which no browser renders.
    pub const BYTES: &str = "application/octet-stream";

    /// Returns the media type as a string.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Returns the media type of an OCI image index.
    pub fn oci_index() -> Self {
        MediaType(Self::OCI_INDEX.into())
    }

    /// Returns true for a list of manifests: an OCI index or a Docker manifest list.
    pub fn is_index(&self) -> bool {
        matches!(self.as_str(), Self::OCI_INDEX | Self::DOCKER_LIST)
    }

    /// Returns true for an image manifest or an index, OCI or Docker.
    pub fn is_manifest(&self) -> bool {
        self.is_index() || matches!(self.as_str(), Self::OCI_MANIFEST | Self::DOCKER_MANIFEST)
    }

    /// Returns true for a Docker schema 1 manifest, signed or not. Current clients do not create them.
    pub fn is_schema1(&self) -> bool {
        matches!(
            self.as_str(),
            "application/vnd.docker.distribution.manifest.v1+json"
                | "application/vnd.docker.distribution.manifest.v1+prettyjws"
        )
    }

    /// Returns true if a manifest may have this media type: a JSON type in the grammar of RFC 6838, which no browser
    /// renders or executes. These are `application/json`, `application/*+json` and `application/vnd.*+prettyjws`.
    pub fn is_for_manifests(&self) -> bool {
        let text = self.as_str().to_ascii_lowercase();
        let Some(subtype) = text.strip_prefix("application/").filter(|name| is_restricted_name(name)) else {
            return false;
        };
        let has_base = |suffix: &str| subtype.strip_suffix(suffix).is_some_and(|base| !base.is_empty());
        subtype == "json" || has_base("+json") || (subtype.starts_with("vnd.") && has_base("+prettyjws"))
    }

    /// Returns the `Content-Type` of a stored manifest: its media type, or `application/octet-stream` where an older
    /// release has stored a type that [`MediaType::is_for_manifests`] rejects.
    pub fn content_type(&self) -> &str {
        if self.is_for_manifests() { self.as_str() } else { Self::BYTES }
    }

    /// Returns true for a foreign (non-distributable) layer, which clients fetch from elsewhere and need not push.
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

    /// Parses a media type and drops its parameters (`; charset=utf-8`).
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

/// Returns true for a `restricted-name` (RFC 6838, section 4.2).
fn is_restricted_name(text: &str) -> bool {
    let is_rest = |byte: &u8| byte.is_ascii_alphanumeric() || b"!#$&-^_.+".contains(byte);
    text.len() <= 127
        && text.starts_with(|c: char| c.is_ascii_alphanumeric())
        && text.as_bytes().iter().all(is_rest)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parameters_are_dropped_and_malformed_types_refused() {
        let parsed: MediaType = "application/json; charset=utf-8".parse().unwrap();
        assert_eq!(parsed.as_str(), "application/json");
        for text in ["", "json", "/", "a/", "/b", "a/b/c", "a b/c", "a/b\nc"] {
            assert!(text.parse::<MediaType>().is_err(), "{text:?}");
        }
    }

    #[test]
    fn manifests_may_only_have_json_media_types() {
        for text in [
            MediaType::OCI_MANIFEST,
            MediaType::OCI_INDEX,
            MediaType::DOCKER_MANIFEST,
            MediaType::DOCKER_LIST,
            "application/json",
            "application/json; charset=utf-8",
            "application/vnd.oci.artifact.manifest.v1+json",
            "application/vnd.example.thing+json",
            "APPLICATION/VND.Example+JSON",
            "application/spdx+json",
            "application/vnd.docker.distribution.manifest.v1+prettyjws",
        ] {
            let media_type: MediaType = text.parse().unwrap();
            assert!(media_type.is_for_manifests(), "{text}");
            assert_eq!(media_type.content_type(), media_type.as_str());
        }
        let long = format!("application/vnd.{}+json", "a".repeat(120));
        for text in [
            "text/html",
            "Text/HTML; charset=utf-8",
            "text/xml",
            "text/plain",
            "text/json",
            "text/vnd.x+json",
            "image/svg+xml",
            "image/png",
            "multipart/x-mixed-replace",
            "message/rfc822",
            "video/vnd.x+json",
            "application/xml",
            "application/xhtml+xml",
            "application/vnd.x+xml",
            "application/atom+xml",
            "application/javascript",
            "application/ecmascript",
            "application/pdf",
            "application/x-shockwave-flash",
            "application/wasm",
            "application/octet-stream",
            "application/vnd.x",
            "application/+json",
            "application/.x+json",
            "application/x*+json",
            "application/x~+json",
            "application/prettyjws+x",
            "a/json",
            &long,
        ] {
            let media_type: MediaType = text.parse().unwrap();
            assert!(!media_type.is_for_manifests(), "{text}");
            assert_eq!(media_type.content_type(), "application/octet-stream");
        }
    }
}
