//! What a collection finds and takes: the types that mark and sweep share.

use crate::oci::{Digest, RepositoryName, Tag};
use crate::store::clock::Moment;

/// Files, and their length together.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub struct Amount {
    /// How many.
    pub count: u64,
    /// Their length in bytes.
    pub bytes: u64,
}

impl Amount {
    /// One more.
    pub(in crate::store) fn add(&mut self, bytes: u64) {
        self.count += 1;
        self.bytes += bytes;
    }

    /// All of another amount more.
    pub(in crate::store) fn add_all(&mut self, other: Amount) {
        self.count += other.count;
        self.bytes += other.bytes;
    }
}

/// One page of the files in `blobs/`, sorted by what is to become of them.
#[derive(Default)]
pub(in crate::store) struct BlobPage {
    /// Those that a manifest needs.
    pub needed: Amount,
    /// Those that a push may be counting on.
    pub young: Amount,
    /// Those that nobody needs, and their length.
    pub garbage: Vec<(Digest, u64)>,
    /// Blobs that are needed, but not by this repository, which has them.
    pub strays: Vec<(Digest, RepositoryName)>,
    /// Where the next page begins; none after the last one.
    pub next: Option<Vec<u8>>,
}

/// A tag as retention sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::store) struct TagAge {
    pub tag: Tag,
    pub digest: Digest,
    pub since: Moment,
    /// Its place among the tags that were set in the same second.
    pub order: u64,
}

/// A manifest that may be needed by nobody, and since when.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::store) struct Unneeded {
    pub digest: Digest,
    pub size: u64,
    pub since: Moment,
    /// Whether a delete left it behind.
    pub deleted: bool,
}

/// A manifest that may be an orphan, and its subject.
pub(in crate::store) type WithSubject = (Unneeded, Option<Digest>);

/// A manifest that was collected, and the tags that went with it: those that were attached to it.
pub(in crate::store) struct CollectedManifest {
    pub(in crate::store) digest: Digest,
    pub(in crate::store) tags: Vec<(Tag, Digest)>,
}

/// A thing that a transaction was to take.
pub(in crate::store) enum Handled<T, R = T> {
    /// It was taken.
    Taken(R),
    /// The transaction was large enough without it.
    Postponed(T),
}
