//! The messages between the sender of a transfer and the receiving registry, as the local API writes them in JSON.

use serde::{Deserialize, Serialize};

use crate::oci::Digest;

/// A digest with the size of its content.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Item {
    /// The digest.
    pub digest: Digest,
    /// The size in bytes, if it is known.
    #[serde(default)]
    pub size: Option<u64>,
}

impl Item {
    /// Returns an item whose size does not matter.
    pub fn of_digest(digest: Digest) -> Self {
        Item { digest, size: None }
    }

    /// Formats items as a request for missing content has them: a JSON object in each line.
    ///
    /// # Errors
    /// None in practice: an item has no map.
    pub fn lines(items: &[Item]) -> serde_json::Result<Vec<u8>> {
        let mut lines = Vec::new();
        for item in items {
            serde_json::to_writer(&mut lines, item)?;
            lines.push(b'\n');
        }
        Ok(lines)
    }
}

/// Content that the sink has stored.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stored {
    /// The digest of the content.
    pub digest: Digest,
    /// Its size in bytes.
    pub size: u64,
    /// True if the sink had the content before.
    #[serde(default)]
    pub present: bool,
}

/// Manifests and tags of one repository. Children stand before their parents; a large set is sent in several requests,
/// tags in the last of them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ImageSet {
    /// The repository.
    pub repository: String,
    /// The manifests.
    #[serde(default)]
    pub manifests: Vec<SetManifest>,
    /// The tags.
    #[serde(default)]
    pub tags: Vec<SetTag>,
    /// The origin of the images.
    #[serde(default)]
    pub origin: Origin,
    /// The treatment of tags that exist.
    #[serde(default)]
    pub policy: Policy,
    /// True if manifests of an index may be missing.
    #[serde(default)]
    pub sparse: bool,
    /// Names nothing: the answer is the outcome that the set has once all its blobs are there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dry_run: Option<OtherNames>,
}

/// Names that other sets bring before that of a dry run. They count towards the limits of the registry.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct OtherNames {
    /// Manifests and tags.
    pub names: u64,
    /// The tags among them in the same repository.
    pub tags: u64,
}

/// A manifest of a set.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SetManifest {
    /// The media type; `None` if the manifest itself names it.
    #[serde(default)]
    pub media_type: Option<String>,
    /// The exact text; `None` if the sink has it as a blob of this transfer.
    #[serde(default)]
    pub data: Option<String>,
    /// The digest.
    pub digest: Digest,
}

/// A tag of a set.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SetTag {
    /// The tag.
    pub tag: String,
    /// The digest of its manifest.
    pub digest: Digest,
    /// The time of the push at the registry of origin, in seconds since 1970.
    #[serde(default)]
    pub pushed: Option<u64>,
    /// The name on the medium, under which a signed list has it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source: Option<SourceName>,
}

/// The name of an image on a medium.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SourceName {
    /// The repository.
    pub repository: String,
    /// The tag; `None` for an image that is named by its digest.
    #[serde(default)]
    pub tag: Option<String>,
}

/// The registry of origin.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Origin {
    /// Its id, a UUID.
    #[serde(default)]
    pub registry: Option<String>,
}

/// The treatment of tags that exist with another digest.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Policy {
    /// Keeps them always.
    #[serde(default)]
    pub keep_existing: bool,
    /// Moves them always.
    #[serde(default)]
    pub force: bool,
}

/// The outcome of a set.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct ImagesAnswer {
    /// The outcome of each tag.
    pub tags: Vec<TagAnswer>,
    /// The outcome of each manifest.
    pub manifests: Vec<ManifestAnswer>,
}

/// The outcome of a tag.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TagAnswer {
    /// The tag.
    pub tag: String,
    /// The outcome.
    pub outcome: TagOutcome,
    /// The digest that it had before.
    #[serde(default)]
    pub old: Option<Digest>,
    /// Reason why it was kept.
    #[serde(default)]
    pub reason: Option<String>,
    /// Content that is missing.
    #[serde(default)]
    pub missing: Vec<Item>,
}

/// The outcome of a tag.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum TagOutcome {
    /// It is new.
    Set,
    /// It had another digest.
    Moved,
    /// It had this digest.
    Unchanged,
    /// It has another digest, and keeps it.
    Kept,
    /// Content is missing.
    Incomplete,
}

/// The outcome of a manifest.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ManifestAnswer {
    /// The digest of the manifest.
    pub digest: Digest,
    /// The outcome.
    pub outcome: ManifestOutcome,
    /// Content that is missing.
    #[serde(default)]
    pub missing: Vec<Item>,
}

/// The outcome of a manifest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ManifestOutcome {
    /// It is in the repository.
    Stored,
    /// Content is missing.
    Incomplete,
}
