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
    /// Faults that were repaired: blobs that were there and not in the index, and a damaged `index.json`.
    pub repaired: u64,
    /// Blobs that were corrupt or missing and that the index no longer has: clients have to push them again.
    #[serde(default)]
    pub set_aside: u64,
    /// Faults of the index, which a rebuild repairs.
    pub index_faults: u64,
    /// Faults of `index.json`, which is rewritten from the index.
    pub layout_faults: u64,
}

/// The state of a fault after it was found.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Outcome {
    /// A repair can do something about it.
    Found,
    /// The repair has removed corrupt or lost content from the index, and moved its file to `damaged/`: a push brings it again.
    SetAside,
    /// Only a push brings the content again.
    NeedsPush,
    /// The repair has repaired it.
    Repaired,
}

impl CheckReport {
    /// Counts a fault.
    pub(super) fn count(&mut self, fault: &Fault, outcome: Outcome) {
        self.faults += 1;
        self.repaired += u64::from(outcome == Outcome::Repaired);
        self.set_aside += u64::from(outcome == Outcome::SetAside);
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
        self.set_aside += other.set_aside;
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

/// The images that a fault concerns.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Affected {
    /// The names: `REPOSITORY:TAG`, or `REPOSITORY@DIGEST` of a manifest without a tag.
    pub images: Vec<String>,
    /// True if there are more.
    pub has_more: bool,
    /// True if each of them has to be pushed: a corrupt manifest loses its tags. For a layer or config one is enough.
    pub push_each: bool,
}

/// A fault that a check has found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FaultFound {
    /// The fault.
    pub fault: Fault,
    /// Its state after a repair.
    pub outcome: Outcome,
    /// The images that it concerns.
    pub affected: Affected,
}

/// An event of a running check.
pub enum CheckEvent {
    /// A fault.
    Fault(FaultFound),
    /// Progress.
    Progress(CheckProgress),
    /// The place that the check has reached.
    Position(CheckPosition),
}
