//! Results of a collection.

use serde::Serialize;

use super::waiting::WaitingContent;
use crate::base::human::{count, size};
use crate::oci::{Digest, RepositoryName, Tag};
use crate::store::index::tables::candidates::Amount;

/// An item that a collection freed, or that a dry run would free.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "kind", rename_all = "lowercase")]
pub enum CollectedItem {
    /// A tag that no retention rule keeps, or one that was attached to a freed manifest.
    Tag {
        /// The repository.
        repository: RepositoryName,
        /// The tag.
        tag: Tag,
        /// The manifest that the tag pointed to.
        digest: Digest,
    },
    /// An untagged manifest.
    Manifest {
        /// The repository.
        repository: RepositoryName,
        /// The manifest.
        digest: Digest,
    },
    /// A blob that no manifest references.
    Blob {
        /// The blob.
        digest: Digest,
        /// Its length.
        bytes: u64,
    },
    /// An expired upload.
    Upload {
        /// The upload id.
        id: String,
        /// The number of bytes that were uploaded.
        bytes: u64,
    },
}

/// The totals of a collection.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct CollectionReport {
    /// True for a dry run, which frees nothing.
    pub dry_run: bool,
    /// True if the run was cancelled before its end.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub cancelled: bool,
    /// Repositories scanned.
    pub repositories: u64,
    /// Tags removed.
    pub freed_tags: u64,
    /// Manifests removed.
    pub freed_manifests: u64,
    /// Blobs removed.
    pub freed_blobs: Amount,
    /// Uploads removed.
    pub freed_uploads: Amount,
    /// Blobs that manifests reference, and manifests.
    pub kept_needed: Amount,
    /// Unreferenced blobs within the grace period.
    pub kept_young: Amount,
    /// Content that waits for the end of its grace period, also by manifests without a tag.
    pub waiting: WaitingContent,
    /// Uploads that have not expired.
    pub kept_uploads: Amount,
    /// Files in `blobs/` that were not in the index; they are indexed and get a grace period.
    pub found: u64,
    /// Duration of the collection in milliseconds.
    pub milliseconds: u64,
}

/// The last collection of this process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LastCollection {
    /// The time of its end, in seconds since 1970.
    pub at: u64,
    /// Its totals.
    pub report: CollectionReport,
    /// The state of the content at its end, if nothing was left that expires later.
    pub(in crate::store) settled: Option<ContentState>,
}

/// The state of the content, as far as a later collection could find something to free: two equal ones have the same content
/// and names. The numbers of objects, and that of the committed changes of names in this process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::store) struct ContentState(pub(in crate::store) [u64; 6]);

impl CollectionReport {
    /// Returns true if items were freed or files found.
    pub fn did_work(&self) -> bool {
        let files = self.freed_blobs.count + self.freed_uploads.count + self.found;
        self.freed_tags + self.freed_manifests + files > 0
    }

    /// Says in one line how much was freed, or would be, and what waits.
    pub fn outcome(&self) -> String {
        match self.waiting.sentence() {
            Some(waiting) => format!("{}; {waiting}", self.freed()),
            None if !self.did_work() => "nothing to free, and nothing waits".to_owned(),
            None => self.freed(),
        }
    }

    fn freed(&self) -> String {
        if !self.did_work() {
            return "nothing due yet".to_owned();
        }
        let bytes = self.freed_blobs.bytes + self.freed_uploads.bytes;
        let images = count(self.freed_manifests, "image");
        let blobs = count(self.freed_blobs.count, "blob");
        let verb = if self.dry_run { "would be freed" } else { "freed" };
        let mut text = format!("{} {verb}: {images}, {blobs}", size(bytes));
        for (number, noun) in [(self.freed_tags, "tag"), (self.freed_uploads.count, "upload")] {
            if number > 0 {
                text += &format!(", {}", count(number, noun));
            }
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_to_free_is_said_only_if_nothing_waits() {
        assert_eq!(CollectionReport::default().outcome(), "nothing to free, and nothing waits");
        let waiting =
            WaitingContent { manifests: 1, until: Some(1_764_102_667), ..WaitingContent::default() };
        let report = CollectionReport { waiting, ..CollectionReport::default() };
        assert_eq!(report.outcome(), "nothing due yet; 1 image waits until 2025-11-25 20:31 UTC");
        let report =
            CollectionReport { freed_manifests: 1, freed_blobs: Amount { count: 2, bytes: 11 }, ..report };
        assert!(report.outcome().starts_with("11 B freed: 1 image, 2 blobs; 1 image waits until"));
    }

    #[test]
    fn freed_items_and_found_files_are_reported_as_work() {
        let one = Amount { count: 1, bytes: 0 };
        let kept = CollectionReport {
            kept_needed: one,
            kept_young: one,
            kept_uploads: one,
            ..CollectionReport::default()
        };
        assert!(!kept.did_work());
        for report in [
            CollectionReport { freed_tags: 1, ..kept },
            CollectionReport { freed_manifests: 1, ..kept },
            CollectionReport { freed_blobs: one, ..kept },
            CollectionReport { freed_uploads: one, ..kept },
            CollectionReport { found: 1, ..kept },
        ] {
            assert!(report.did_work(), "{report:?}");
        }
    }
}
