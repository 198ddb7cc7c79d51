//! The blobs that a read or a check found missing or damaged: the log names each once, a HEAD of one checks its file
//! first, and the lists of the admin page mark the images that need one.

use std::collections::HashMap;

use crate::base::Lock;
use crate::oci::Digest;

/// The maximum number of digests that are remembered; damage beyond that is not logged blob by blob. `holdfast check`
/// finds all of it.
const MAX_REPORTED: usize = 1000;

/// The reported blobs; true for one that is not whole although its file has the right length.
#[derive(Default)]
pub(super) struct Reported(Lock<HashMap<Digest, bool>>);

impl Reported {
    /// Remembers a blob; returns true if it was not reported before.
    pub(super) fn insert(&self, digest: &Digest) -> bool {
        self.note(digest, false)
    }

    /// Remembers a blob whose content a check has read; returns true if it was not reported before.
    pub(super) fn insert_checked(&self, digest: &Digest) -> bool {
        self.note(digest, true)
    }

    fn note(&self, digest: &Digest, is_checked: bool) -> bool {
        let mut reported = self.0.lock();
        if let Some(known) = reported.get_mut(digest) {
            *known |= is_checked;
            return false;
        }
        reported.len() < MAX_REPORTED && reported.insert(digest.clone(), is_checked).is_none()
    }

    /// Returns the reported blobs.
    pub(super) fn all(&self) -> Vec<Digest> {
        self.0.lock().keys().cloned().collect()
    }

    /// Returns true if the blob was reported and has not been replaced since.
    pub(super) fn contains(&self, digest: &Digest) -> bool {
        self.0.lock().contains_key(digest)
    }

    /// Returns true if a check has read the blob, and it has not been replaced since.
    pub(super) fn is_checked(&self, digest: &Digest) -> bool {
        self.0.lock().get(digest) == Some(&true)
    }

    /// Forgets a blob whose file is there, unless a check has read it: the length of a file does not tell that it is whole.
    pub(super) fn forget_present(&self, digest: &Digest) {
        let mut reported = self.0.lock();
        if reported.get(digest) == Some(&false) {
            reported.remove(digest);
        }
    }

    /// Forgets a blob that has a new file.
    pub(super) fn forget(&self, digest: &Digest) {
        self.0.lock().remove(digest);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::oci::{Algorithm, Hasher};

    #[test]
    fn only_a_new_file_replaces_what_a_check_has_read() {
        let (reported, digest) = (Reported::default(), Hasher::digest(Algorithm::Sha256, b"x"));
        assert!(reported.insert(&digest) && !reported.insert(&digest));
        reported.forget_present(&digest);
        assert!(!reported.contains(&digest));
        assert!(reported.insert_checked(&digest) && !reported.insert(&digest));
        reported.forget_present(&digest);
        assert_eq!(reported.all(), std::slice::from_ref(&digest));
        assert!(reported.is_checked(&digest));
        reported.forget(&digest);
        assert!(reported.all().is_empty());
    }
}
