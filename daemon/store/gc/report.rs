//! Results of a collection.

use serde::{Deserialize, Serialize};
use time::OffsetDateTime;
use time::macros::format_description;

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
    /// Uploads that have not expired.
    pub kept_uploads: Amount,
    /// Files in `blobs/` that were not in the index; they are indexed and get a grace period.
    pub found: u64,
    /// The content that waits for the end of its grace period; `None` if nothing does.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub waiting: Option<WaitingContent>,
    /// Duration of the collection in milliseconds.
    pub milliseconds: u64,
}

/// Content that no image needs any more, and that a collection frees once its grace period has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct WaitingContent {
    /// Untagged manifests.
    pub manifests: u64,
    /// Blobs, manifests among them.
    pub blobs: Amount,
    /// The time at which the last grace period has ended, in seconds since 1970.
    pub until: u64,
}

impl WaitingContent {
    /// Returns the sentence that the page, `gc` and `gc --dry-run` say.
    pub fn sentence(&self) -> String {
        let manifests = match self.manifests {
            0 => String::new(),
            number => format!(" of {}", count(number, "deleted image")),
        };
        let verb = if self.blobs.count == 1 { "waits" } else { "wait" };
        let blobs = count(self.blobs.count, "blob");
        let (bytes, until) = (size(self.blobs.bytes), date(self.until));
        format!("{blobs}{manifests} ({bytes}) {verb} for the end of the grace period, {until} at the latest")
    }
}

/// Formats a time for people.
fn date(seconds: u64) -> String {
    let format = format_description!("[year]-[month]-[day] [hour]:[minute] UTC");
    let time = i64::try_from(seconds).ok().and_then(|time| OffsetDateTime::from_unix_timestamp(time).ok());
    time.and_then(|time| time.format(format).ok()).unwrap_or_else(|| "an unknown time".into())
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
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waiting_content_is_described_with_its_end() {
        let blobs = Amount { count: 3, bytes: 2048 };
        let waiting = WaitingContent { manifests: 1, blobs, until: 1_767_225_600 };
        assert_eq!(
            waiting.sentence(),
            "3 blobs of 1 deleted image (2.0 KiB) wait for the end of the grace period, 2026-01-01 00:00 UTC at the latest"
        );
        let one = WaitingContent { manifests: 0, blobs: Amount { count: 1, bytes: 5 }, until: 0 };
        assert!(one.sentence().starts_with("1 blob (5 B) waits for the end"));
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
