//! The types that mark and sweep share: what a collection finds, and what it has removed.

use std::time::Duration;

use crate::oci::{Digest, RepositoryName, Tag};
use crate::store::clock::StoreTime;

/// The maximum number of tags that one transaction removes, and the maximum number of referrers that it
/// orphans.
pub(in crate::store) const MAX_PER_TRANSACTION: usize = 256;

/// A number of files and their total length.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Amount {
    /// The number of files.
    pub count: u64,
    /// Their length in bytes.
    pub bytes: u64,
}

impl Amount {
    /// Adds one file.
    pub(in crate::store) fn add(&mut self, bytes: u64) {
        self.count += 1;
        self.bytes += bytes;
    }

    /// Adds another amount.
    pub(in crate::store) fn add_all(&mut self, other: Amount) {
        self.count += other.count;
        self.bytes += other.bytes;
    }
}

/// The shortest and the longest remaining time of content that waits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(in crate::store) struct Remaining(Option<(Duration, Duration)>);

impl Remaining {
    /// Adds the remaining time of one item.
    pub(in crate::store) fn add(&mut self, time: Duration) {
        self.0 = Some(self.0.map_or((time, time), |(first, last)| (first.min(time), last.max(time))));
    }

    /// Returns the shortest and the longest time.
    pub(in crate::store) fn range(self) -> Option<(Duration, Duration)> {
        self.0
    }

    /// Adds those of other items.
    pub(in crate::store) fn add_all(&mut self, other: Remaining) {
        if let Some((first, last)) = other.0 {
            self.add(first);
            self.add(last);
        }
    }
}

/// A blob that a collection looks at, and the repository in which nothing may reference it; see `blob_candidates`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::store) struct BlobCandidate {
    pub digest: Digest,
    /// `None` for a file that no repository may have.
    pub repository: Option<RepositoryName>,
}

/// One page of the files in `blobs/`, classified by the mark phase.
#[derive(Default)]
pub(in crate::store) struct BlobPage {
    /// Unreferenced files within their grace period.
    pub leased: Amount,
    /// Their remaining times.
    pub remaining: Remaining,
    /// Orphaned files and their lengths.
    pub orphans: Vec<(Digest, u64)>,
    /// Stale links: repositories that have a referenced blob without a manifest that needs it there.
    pub stale_links: Vec<(Digest, RepositoryName)>,
    /// Rows of candidates that are none.
    pub settled: Vec<BlobCandidate>,
    /// Candidates that stay: of a page of all blobs they may lack their rows.
    pub waiting: Vec<BlobCandidate>,
    /// True if a blob has more links than were looked at.
    pub is_partial: bool,
    /// The key after which the next page begins; `None` after the last page.
    pub next: Option<Vec<u8>>,
}

/// A tag and the time at which it was set.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::store) struct DatedTag {
    pub tag: Tag,
    pub digest: Digest,
    pub since: StoreTime,
    /// The sequence number, which orders tags of the same second.
    pub order: u64,
}

/// A manifest that may be an orphan, and the store time at which it became one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::store) struct OrphanCandidate {
    pub digest: Digest,
    pub size: u64,
    pub since: StoreTime,
    /// True if a delete orphaned it.
    pub by_delete: bool,
}

/// A candidate, and the subject of its manifest.
pub(in crate::store) type CandidateWithSubject = (OrphanCandidate, Option<Digest>);

/// A manifest that was collected, and the attached tags that were removed with it.
#[derive(Debug)]
pub(in crate::store) struct CollectedManifest {
    pub(in crate::store) digest: Digest,
    pub(in crate::store) tags: Vec<(Tag, Digest)>,
}

/// The outcome for one candidate of a sweep transaction.
#[derive(Debug)]
pub(in crate::store) enum SweepOutcome<T, R = T> {
    /// Removed.
    Swept(R),
    /// Left to the next transaction, because this one was large enough.
    Postponed(T),
}
