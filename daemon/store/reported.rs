//! The blobs that a read found missing or damaged: the log names each once, and a HEAD of one checks its file
//! first.

use std::collections::HashSet;

use crate::base::Lock;
use crate::oci::Digest;

/// The maximum number of digests that are remembered; damage beyond that is not logged blob by blob. `holdfast check`
/// finds all of it.
const MAX_REPORTED: usize = 1000;

/// The reported blobs.
#[derive(Default)]
pub(super) struct Reported(Lock<HashSet<Digest>>);

impl Reported {
    /// Remembers a blob; returns true if it was not reported before.
    pub(super) fn insert(&self, digest: &Digest) -> bool {
        let mut reported = self.0.lock();
        reported.len() < MAX_REPORTED && reported.insert(digest.clone())
    }

    /// Returns true if the blob was reported and has not been replaced since.
    pub(super) fn contains(&self, digest: &Digest) -> bool {
        self.0.lock().contains(digest)
    }

    /// Forgets a blob that has a new file.
    pub(super) fn forget(&self, digest: &Digest) {
        self.0.lock().remove(digest);
    }
}
