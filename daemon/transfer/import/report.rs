//! The result of an import.

use std::sync::Arc;

use serde::Serialize;

use super::super::image_set::Item;
use crate::oci::Digest;

/// The outcome of one name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Outcome {
    /// It is new.
    Taken,
    /// The registry had it.
    Present,
    /// The tag named another image before.
    Moved,
    /// The tag names another image, and keeps it.
    Kept,
    /// Content is missing.
    Missing,
    /// It cannot be imported.
    Refused,
}

impl Outcome {
    /// Returns the outcome as a word.
    pub fn as_str(self) -> &'static str {
        match self {
            Outcome::Taken => "taken",
            Outcome::Present => "present",
            Outcome::Moved => "moved",
            Outcome::Kept => "kept",
            Outcome::Missing => "missing",
            Outcome::Refused => "refused",
        }
    }

    /// Returns true if content is neither missing nor refused. A tag that was kept is no failure.
    pub fn is_done(self) -> bool {
        match self {
            Outcome::Taken | Outcome::Present | Outcome::Moved | Outcome::Kept => true,
            Outcome::Missing | Outcome::Refused => false,
        }
    }
}

/// The result for one name.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Row {
    /// The name in the registry, else that on the medium.
    pub name: String,
    /// The digest of the image.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub digest: Option<Digest>,
    /// The outcome.
    pub outcome: Outcome,
    /// The reason of an outcome that is not good, in one line.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// The digest that the tag had before, or still has.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub old: Option<Digest>,
    /// Content that is missing. The names of one image share it.
    #[serde(skip_serializing_if = "<[Item]>::is_empty")]
    pub missing: Arc<[Item]>,
}

impl Row {
    /// Makes the row of an image that cannot be imported.
    pub fn refused(name: impl Into<String>, digest: Option<Digest>, reason: impl std::fmt::Display) -> Self {
        Row {
            name: name.into(),
            digest,
            outcome: Outcome::Refused,
            reason: Some(reason.to_string()),
            old: None,
            missing: Arc::default(),
        }
    }
}

/// The result of an import.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Report {
    /// The names, in the order of the media.
    pub images: Vec<Row>,
    /// Blobs that were stored.
    pub blobs: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Blobs that the registry had.
    pub present: u64,
    /// True if the registry had no space for some content, whose images are refused.
    pub is_full: bool,
    /// The signer of the content list, if the registry has checked it.
    pub signer: Option<String>,
}
