//! Deletes in progress that look for tags outside of the writer's transaction.
//!
//! To find the tags of a manifest, all tags of its repository have to be read. That is done in short reads beside the
//! writer. Tags that are set after the reads have begun are noted here by the writer.
//! Only the daemon sets tags, so that its memory is enough.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::keys;
use crate::oci::{Digest, RepositoryName, Tag};

/// The manifests that are watched, by the keys of their rows.
#[derive(Default)]
pub(super) struct Watches(Mutex<BTreeMap<Vec<u8>, Watched>>);

#[derive(Default)]
struct Watched {
    /// How many deletes watch it.
    watchers: usize,
    /// Tags that were set to it since. The transaction may have failed: they have to be looked up.
    tags: BTreeSet<Tag>,
}

impl Watches {
    fn lock(&self) -> MutexGuard<'_, BTreeMap<Vec<u8>, Watched>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes a push of a manifest, if it is watched.
    pub(super) fn note_push(&self, key: &[u8], tags: &[Tag]) {
        if let Some(watched) = self.lock().get_mut(key) {
            watched.tags.extend(tags.iter().cloned());
        }
    }

    /// Returns the tags that have been noted of a manifest.
    pub(super) fn noted(&self, key: &[u8]) -> BTreeSet<Tag> {
        self.lock().get(key).map(|watched| watched.tags.clone()).unwrap_or_default()
    }
}

/// Watches a manifest while this lives.
pub(in crate::store) struct Watch {
    watches: Arc<Watches>,
    key: Vec<u8>,
}

impl Watch {
    /// Watches a manifest from the next transaction of the writer on.
    pub(super) fn new(watches: &Arc<Watches>, repository: &RepositoryName, digest: &Digest) -> Self {
        let key = keys::content_key(repository, digest);
        watches.lock().entry(key.clone()).or_default().watchers += 1;
        Watch { watches: Arc::clone(watches), key }
    }

    /// Returns the tags that were set to it since.
    pub(in crate::store) fn noted(&self) -> BTreeSet<Tag> {
        self.watches.noted(&self.key)
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        let mut watches = self.watches.lock();
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
    fn only_watched_manifests_are_noted_and_none_for_ever() {
        let watches = Arc::new(Watches::default());
        let (repository, digest) = ("a".parse().unwrap(), Hasher::digest(Algorithm::Sha256, b"x"));
        let key = keys::content_key(&repository, &digest);
        let tag: Tag = "1".parse().unwrap();
        watches.note_push(&key, std::slice::from_ref(&tag));
        let (first, second) =
            (Watch::new(&watches, &repository, &digest), Watch::new(&watches, &repository, &digest));
        assert!(first.noted().is_empty());
        watches.note_push(&key, std::slice::from_ref(&tag));
        drop(first);
        assert!(second.noted().contains(&tag));
        drop(second);
        assert!(watches.lock().is_empty());
    }
}
