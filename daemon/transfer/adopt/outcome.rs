//! The settings and the results of an adoption.

use std::collections::BTreeSet;

use serde::Serialize;

use super::super::image_set::{ImagesAnswer, ManifestOutcome, TagOutcome};
use super::super::sink::SinkError;
use super::super::source::Refusal;
use super::plan::RepositorySelection;
use crate::oci::Digest;

/// The options of an adoption.
#[derive(Clone, Debug, Default)]
pub struct Settings {
    /// The repositories that are adopted.
    pub selection: RepositorySelection,
    /// Removes content from the tree that the sink has acknowledged.
    pub moves: bool,
    /// True if the tree and the registry are on one file system, so that removed content makes room.
    pub is_same_disk: bool,
    /// Changes nothing.
    pub dry_run: bool,
}

/// Watches an adoption.
pub trait AdoptionObserver: Send {
    /// Bytes have been sent; with all bytes that are missing, if they are known.
    fn progress(&mut self, done: u64, total: Option<u64>);
    /// An image has its outcome.
    fn image(&mut self, image: AdoptedImage);
}

/// The result of an adoption.
#[derive(Debug, Default)]
pub struct Adopted {
    /// Objects that were not adopted, beside images: unusable links, manifests that cannot be read, sources that cannot be removed.
    pub skipped: Vec<Refusal>,
    /// Remarks, one line each.
    pub notes: Vec<String>,
    /// The number of images.
    pub images: usize,
    /// The number of images that are as in the tree, or would be.
    pub adopted: usize,
    /// The number of those that were so before.
    pub present: usize,
    /// The number of images that failed.
    pub failed: usize,
    /// The number of those whose source is no longer whole.
    pub partly_moved: usize,
    /// Bytes that were sent.
    pub bytes: u64,
    /// Bytes that were removed from the tree.
    pub removed: u64,
    /// Reason why the work ended early.
    pub stopped: Option<SinkError>,
}

/// The outcome of an image.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct AdoptedImage {
    /// Its names, for messages.
    #[serde(skip)]
    pub names: String,
    /// Its repository in this registry.
    pub repository: String,
    /// Its digest.
    pub digest: Digest,
    /// Its tags.
    pub tags: Vec<AdoptedTag>,
    /// Its state.
    pub outcome: ImageState,
    /// The reason of a failure.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// Bytes that were sent, or would be.
    pub bytes: u64,
}

/// The outcome of a tag.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct AdoptedTag {
    /// The tag.
    pub tag: String,
    /// The outcome; `None` if the image was not named.
    pub outcome: Option<TagOutcome>,
}

/// The state of an image.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum ImageState {
    /// It is in the registry, and was not before.
    Adopted,
    /// It was in the registry.
    Present,
    /// It would be adopted.
    Planned,
    /// A tag has another digest in the registry, and keeps it.
    Kept,
    /// Content is missing.
    Incomplete,
    /// Content was refused.
    Refused,
}

impl ImageState {
    /// Returns true if the image is not as in the tree.
    pub fn is_failure(self) -> bool {
        match self {
            ImageState::Adopted | ImageState::Present | ImageState::Planned => false,
            ImageState::Kept | ImageState::Incomplete | ImageState::Refused => true,
        }
    }
}

/// An outcome of an image before it is reported.
pub(super) struct Outcome {
    pub(super) state: ImageState,
    pub(super) reason: Option<String>,
    pub(super) tags: Vec<Option<TagOutcome>>,
}

impl Outcome {
    pub(super) fn failed(state: ImageState, reason: String) -> Self {
        Outcome { state, reason: Some(reason), tags: Vec::new() }
    }
}

/// Returns the outcome of an image that was named.
pub(super) fn outcome(answer: ImagesAnswer) -> Outcome {
    let incomplete = answer.manifests.iter().filter(|manifest| manifest.outcome != ManifestOutcome::Stored);
    let missing = incomplete
        .flat_map(|manifest| &manifest.missing)
        .chain(answer.tags.iter().flat_map(|tag| &tag.missing));
    let missing: BTreeSet<String> = missing.map(|item| item.digest.to_string()).collect();
    let is_incomplete = answer.manifests.iter().any(|manifest| manifest.outcome != ManifestOutcome::Stored)
        || answer.tags.iter().any(|tag| tag.outcome == TagOutcome::Incomplete);
    let kept = answer.tags.iter().find(|tag| tag.outcome == TagOutcome::Kept);
    let (state, reason) = if is_incomplete {
        let missing: Vec<String> = missing.into_iter().collect();
        (ImageState::Incomplete, Some(format!("the registry lacks {}", missing.join(", "))))
    } else if let Some(kept) = kept {
        let old = kept.old.as_ref().map(|old| format!(" {old}")).unwrap_or_default();
        let why = kept.reason.as_deref().unwrap_or("it is newer");
        (ImageState::Kept, Some(format!("the tag {} keeps{old}: {why}", kept.tag)))
    } else {
        (ImageState::Adopted, None)
    };
    let tags = answer.tags.into_iter().map(|tag| Some(tag.outcome)).collect();
    Outcome { state, reason, tags }
}
