//! The damaged blobs that were met, so that each is named once in the log however often clients ask for it, and that no HEAD
//! says that they are there.

use std::collections::HashSet;
use std::sync::Mutex;

use super::lock;
use crate::oci::Digest;

/// The number of digests that are kept: beyond it damage is not reported one by one. `holdfast check` finds all.
const MOST: usize = 1000;

/// The blobs that were reported.
#[derive(Default)]
pub(super) struct Reported(Mutex<HashSet<Digest>>);

impl Reported {
    /// Returns true if a blob was not reported before, and notes that it is now.
    pub(super) fn is_new(&self, digest: &Digest) -> bool {
        let mut reported = lock(&self.0);
        reported.len() < MOST && reported.insert(digest.clone())
    }

    /// Returns true for a blob that was met damaged and has had no new file since.
    pub(super) fn contains(&self, digest: &Digest) -> bool {
        lock(&self.0).contains(digest)
    }

    /// Lets a blob be reported again: it has a new file.
    pub(super) fn forget(&self, digest: &Digest) {
        lock(&self.0).remove(digest);
    }
}
