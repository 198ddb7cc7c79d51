//! Deletes in progress that search for tags outside of the writer's transaction.
//!
//! To find the tags of a manifest, all tags of its repository have to be read, in short reads beside the writer. The
//! writer records the tags that are set after that search began. Only the daemon sets tags, so that its memory
//! suffices.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::tables::keys;
use crate::base::Lock;
use crate::oci::{Digest, RepositoryName, Tag};

/// The watched manifests, by the keys of their rows.
#[derive(Default)]
pub(in crate::store) struct Watches(Lock<BTreeMap<Vec<u8>, Watched>>);

/// The watches on one manifest.
#[derive(Default)]
struct Watched {
    /// The number of deletes that watch the manifest.
    watchers: usize,
    /// Tags that were set since the first watch began. Their transaction may have failed, so that the delete looks them
    /// up.
    tags: BTreeSet<Tag>,
}

impl Watches {
    /// Records the tags of a push, if the manifest is watched.
    pub(in crate::store) fn record_push(&self, repository: &RepositoryName, digest: &Digest, tags: &[Tag]) {
        let mut watches = self.0.lock();
        // Deletes that have to be told are rare.
        if watches.is_empty() {
            return;
        }
        if let Some(watched) = watches.get_mut(&keys::content_key(repository, digest)) {
            watched.tags.extend(tags.iter().cloned());
        }
    }

    /// Returns the tags that were recorded for a manifest.
    pub(in crate::store) fn recorded(&self, repository: &RepositoryName, digest: &Digest) -> BTreeSet<Tag> {
        self.recorded_by_key(&keys::content_key(repository, digest))
    }

    fn recorded_by_key(&self, key: &[u8]) -> BTreeSet<Tag> {
        self.0.lock().get(key).map(|watched| watched.tags.clone()).unwrap_or_default()
    }
}

/// A watch on a manifest, until it is dropped.
pub(in crate::store) struct Watch {
    watches: Arc<Watches>,
    key: Vec<u8>,
}

impl Watch {
    /// Watches a manifest from the next transaction of the writer on.
    pub(in crate::store) fn new(
        watches: &Arc<Watches>,
        repository: &RepositoryName,
        digest: &Digest,
    ) -> Self {
        let key = keys::content_key(repository, digest);
        watches.0.lock().entry(key.clone()).or_default().watchers += 1;
        Watch { watches: Arc::clone(watches), key }
    }

    /// Returns the tags that were set since the watch began.
    pub(in crate::store) fn recorded(&self) -> BTreeSet<Tag> {
        self.watches.recorded_by_key(&self.key)
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        let mut watches = self.watches.0.lock();
        if let Some(watched) = watches.get_mut(&self.key) {
            watched.watchers -= 1;
            if watched.watchers == 0 {
                watches.remove(&self.key);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::oci::{Algorithm, Hasher};

    #[test]
    fn watches_record_tags_until_the_last_is_dropped() {
        let watches = Arc::new(Watches::default());
        let (repository, digest) = ("a".parse().unwrap(), Hasher::digest(Algorithm::Sha256, b"x"));
        let tag: Tag = "1".parse().unwrap();
        watches.record_push(&repository, &digest, std::slice::from_ref(&tag));
        let (first, second) =
            (Watch::new(&watches, &repository, &digest), Watch::new(&watches, &repository, &digest));
        assert!(first.recorded().is_empty());
        watches.record_push(&repository, &digest, std::slice::from_ref(&tag));
        drop(first);
        assert!(second.recorded().contains(&tag));
        drop(second);
        assert!(watches.0.lock().is_empty());
    }
}
