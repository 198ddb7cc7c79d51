//! `holdfast/export.json`: the list of contents of an export. It names everything by digest and is the one file that is signed.
//!
//! ```json
//! {"format":1,"from":{"registry":"UUID","host":"hub.lan:5000","version":"0.1.0"},"comment":"","whole":true,
//!  "roots":[{"repository":"team/app","tag":"1","digest":"sha256:...","pushed":1764102667}],
//!  "blobs":[{"digest":"sha256:...","size":7,"part":4294901760}],
//!  "left_out":[{"digest":"sha256:...","size":9}]}
//! ```
//!
//! It has no time of its own, so that the same selection has the same bytes. Fields that are not known are ignored.

use serde::{Deserialize, Serialize};

use crate::oci::Digest;

/// The path of the list in an export.
pub const CONTENT_LIST: &str = "holdfast/export.json";
/// The path of its signature.
pub const SIGNATURE: &str = "holdfast/export.json.sig";
/// The format that this release writes and reads.
pub const FORMAT: u32 = 1;
/// Maximum length of a list, in bytes.
pub const MAX_LIST: usize = 32 << 20;

/// The list of contents of an export.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ContentList {
    /// The version of the format.
    pub format: u32,
    /// The registry that wrote the export.
    #[serde(default)]
    pub from: ExportOrigin,
    /// A comment of the operator.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub comment: String,
    /// True if no content was left out.
    pub whole: bool,
    /// The images, and the referrers that are listed beside them.
    pub roots: Vec<ListedRoot>,
    /// All content of the export, with the manifests.
    pub blobs: Vec<ListedBlob>,
    /// Content of the images that was left out because its receivers have it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub left_out: Vec<ListedBlob>,
}

/// The registry that wrote an export.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct ExportOrigin {
    /// Its id.
    pub registry: Option<String>,
    /// Its host, as clients see it.
    pub host: Option<String>,
    /// The release of Holdfast.
    pub version: String,
}

/// An image of an export.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ListedRoot {
    /// The repository.
    pub repository: String,
    /// The tag; `None` for a manifest that is named by its digest.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tag: Option<String>,
    /// The digest of the manifest.
    pub digest: Digest,
    /// The time of the push at the registry that wrote the export, in seconds since 1970.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pushed: Option<u64>,
}

/// Content of an export.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ListedBlob {
    /// The digest.
    pub digest: Digest,
    /// The length in bytes.
    pub size: u64,
    /// The length of each part but the last, if the content is cut into files `HEX.001`, `HEX.002` and so on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub part: Option<u64>,
}

/// The reason why a list is refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ListError {
    /// The list is longer than [`MAX_LIST`].
    #[error("{CONTENT_LIST} is longer than 32 MiB")]
    TooLong,
    /// A later release wrote the list.
    #[error("{CONTENT_LIST} has format {0}, which needs a later release of holdfast")]
    Format(u32),
    /// The bytes are not a list.
    #[error("{CONTENT_LIST} is malformed: {0}")]
    Malformed(String),
}

impl ContentList {
    /// Parses a list.
    ///
    /// # Errors
    /// [`ListError`] if it is too long, malformed or of a later format.
    pub fn parse(bytes: &[u8]) -> Result<Self, ListError> {
        #[derive(Deserialize)]
        struct Version {
            format: u32,
        }
        if bytes.len() > MAX_LIST {
            return Err(ListError::TooLong);
        }
        let malformed = |error: serde_json::Error| ListError::Malformed(error.to_string());
        let Version { format } = serde_json::from_slice(bytes).map_err(malformed)?;
        if format != FORMAT {
            return Err(ListError::Format(format));
        }
        serde_json::from_slice(bytes).map_err(malformed)
    }

    /// Formats the list, with one entry in each line.
    pub fn to_bytes(&self) -> Vec<u8> {
        // Maps with keys that are not strings would fail; a list has none.
        let mut bytes = serde_json::to_vec_pretty(self).unwrap_or_default();
        bytes.push(b'\n');
        bytes
    }

    /// Returns the digests of all content that the export has or leaves out: what a receiver of it has afterwards.
    pub fn digests(&self) -> impl Iterator<Item = &Digest> {
        self.blobs.iter().chain(&self.left_out).map(|blob| &blob.digest)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::oci::{Algorithm, Hasher};

    #[test]
    fn list_reads_back_and_later_formats_are_refused() {
        let digest = Hasher::digest(Algorithm::Sha256, b"x");
        let list = ContentList {
            format: FORMAT,
            from: ExportOrigin { registry: None, host: Some("hub".into()), version: "1".into() },
            comment: "for site b".into(),
            whole: false,
            roots: vec![ListedRoot {
                repository: "a".into(),
                tag: None,
                digest: digest.clone(),
                pushed: Some(7),
            }],
            blobs: vec![ListedBlob { digest: digest.clone(), size: 1, part: Some(4) }],
            left_out: vec![ListedBlob { digest, size: 1, part: None }],
        };
        assert_eq!(ContentList::parse(&list.to_bytes()), Ok(list.clone()));
        assert_eq!(list.digests().count(), 2);
        let later = String::from_utf8(list.to_bytes()).unwrap().replace("\"format\": 1", "\"format\": 2");
        assert_eq!(ContentList::parse(later.as_bytes()), Err(ListError::Format(2)));
    }

    proptest! {
        #[test]
        fn never_panics(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = ContentList::parse(&bytes);
        }
    }
}
