//! Options and results of a check.

use serde::{Deserialize, Serialize};

use crate::oci::{Digest, RepositoryName, Tag};
use crate::store::index::tables::candidates::Amount;

/// The options of a check.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CheckOptions {
    /// The maximum number of bytes that are read per second.
    pub rate: Option<u64>,
    /// True to repair faults where that is possible.
    pub repair: bool,
    /// True to leave a damaged `index.json` as it is, unless `repair` is set.
    pub leave_layout: bool,
}

/// A fault of the data directory.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "kind", rename_all = "kebab-case")]
pub enum Fault {
    /// The file of a blob is missing.
    Missing {
        /// The blob.
        digest: Digest,
    },
    /// The file of a blob has another length than the index.
    Length {
        /// The blob.
        digest: Digest,
        /// The length in the index, in bytes.
        indexed: u64,
        /// The length of the file, in bytes.
        actual: u64,
    },
    /// The content of a blob does not have its digest.
    // The JSON report keeps the names of earlier releases.
    #[serde(rename = "rotten")]
    Corrupt {
        /// The blob.
        digest: Digest,
        /// The digest of its content.
        actual: Digest,
    },
    /// The disk cannot read the content of a blob.
    Unreadable {
        /// The blob.
        digest: Digest,
        /// The error of the system.
        error: String,
    },
    /// The bytes of an indexed manifest are not a manifest.
    #[serde(rename = "no-manifest")]
    MalformedManifest {
        /// The repository.
        repository: RepositoryName,
        /// The manifest.
        digest: Digest,
    },
    /// A manifest references content that its repository does not have.
    Incomplete {
        /// The repository.
        repository: RepositoryName,
        /// The manifest.
        digest: Digest,
        /// The content that it references.
        missing: Digest,
    },
    /// The totals of a repository are wrong.
    Miscounted {
        /// The repository.
        repository: RepositoryName,
    },
    /// The index is damaged, or its tables contradict each other.
    Index,
    /// `index.json` is damaged, or contradicts the index.
    Layout {
        /// The description of the damage.
        problem: String,
    },
    /// A tag points to a manifest that its repository does not have.
    Dangling {
        /// The repository.
        repository: RepositoryName,
        /// The tag.
        tag: Tag,
        /// The manifest.
        digest: Digest,
    },
}

impl Fault {
    /// Returns true if the content is healthy and the index is not: rebuilding the index is the repair.
    pub(super) fn is_index_fault(&self) -> bool {
        match self {
            Fault::Length { .. }
            | Fault::MalformedManifest { .. }
            | Fault::Miscounted { .. }
            | Fault::Index
            | Fault::Dangling { .. } => true,
            Fault::Missing { .. }
            | Fault::Corrupt { .. }
            | Fault::Unreadable { .. }
            | Fault::Incomplete { .. }
            | Fault::Layout { .. } => false,
        }
    }
}

/// The progress of a check.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CheckProgress {
    /// The blobs that have been read.
    pub done: Amount,
    /// All blobs.
    pub all: Amount,
}

/// The totals of a check.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct CheckReport {
    /// Blobs and manifests that were read.
    pub blobs: Amount,
    /// Manifests, counted once for each repository.
    pub manifests: u64,
    /// Tags.
    pub tags: u64,
    /// Files that are not in the index; the next collection indexes them.
    pub unknown_files: u64,
    /// Faults.
    pub faults: u64,
    /// Faults that were repaired: corrupt blobs moved aside, which clients have to push again, and missing blobs found.
    pub repaired: u64,
    /// Faults of the index, which a rebuild repairs.
    pub index_faults: u64,
    /// Faults of `index.json`, which is rewritten from the index.
    pub layout_faults: u64,
}

impl CheckReport {
    /// Counts a fault.
    pub(super) fn count(&mut self, fault: &Fault, repaired: bool) {
        self.faults += 1;
        self.repaired += u64::from(repaired);
        self.index_faults += u64::from(fault.is_index_fault());
        self.layout_faults += u64::from(matches!(fault, Fault::Layout { .. }));
    }

    /// Adds the totals of another part of the check.
    pub(super) fn add(&mut self, other: &CheckReport) {
        self.blobs.add_all(other.blobs);
        self.manifests += other.manifests;
        self.tags += other.tags;
        self.unknown_files += other.unknown_files;
        self.faults += other.faults;
        self.repaired += other.repaired;
        self.index_faults += other.index_faults;
        self.layout_faults += other.layout_faults;
    }
}

/// A place among the blobs at which a later check continues.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CheckPosition {
    /// The last blob that was read.
    pub after: Digest,
    /// The totals of the blobs up to this one.
    pub report: CheckReport,
}

/// An event of a running check.
pub enum CheckEvent {
    /// A fault, and whether it was repaired.
    Fault(Fault, bool),
    /// Progress.
    Progress(CheckProgress),
    /// The place that the check has reached.
    Position(CheckPosition),
}
