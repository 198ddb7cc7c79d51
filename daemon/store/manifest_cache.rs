//! Cache of the bytes of small manifests, each verified against its digest when it is read from the disk.
//!
//! A GET of a manifest is the most frequent read of clients that poll. The index decides on each request whether a
//! repository has the manifest, so that the cache never serves a deleted one; it only saves the file's open, read and
//! close on a blocking thread. `holdfast check` reads files, never the cache.

use bytes::Bytes;
use lru::LruCache;

use crate::base::Lock;
use crate::oci::Digest;

/// The largest manifest that is kept, in bytes.
pub(super) const LARGEST_KEPT: u64 = 64 << 10;
/// The maximum memory of the cache, in bytes.
const MAX_MEMORY: usize = 2 << 20;
/// The memory of an entry beside its content, in bytes: digest, links of the list, and the share of the table.
const ENTRY: usize = 320;

/// The kept manifests.
pub(super) struct ManifestCache(Lock<Kept>);

struct Kept {
    contents: LruCache<Digest, Bytes>,
    /// The memory of all entries, in bytes.
    memory: usize,
}

impl Default for ManifestCache {
    fn default() -> Self {
        ManifestCache(Lock::new(Kept { contents: LruCache::unbounded(), memory: 0 }))
    }
}

impl ManifestCache {
    /// Returns the bytes of a manifest, if they are kept.
    pub(super) fn find(&self, digest: &Digest) -> Option<Bytes> {
        self.0.lock().contents.get(digest).cloned()
    }

    /// Keeps the bytes of a manifest that were verified against its digest, in the place of those that were not used
    /// for the longest time. Larger ones than [`LARGEST_KEPT`] are not kept.
    pub(super) fn keep(&self, digest: &Digest, bytes: &Bytes) {
        if bytes.len() as u64 > LARGEST_KEPT {
            return;
        }
        let mut kept = self.0.lock();
        kept.memory += ENTRY + bytes.len();
        if let Some(replaced) = kept.contents.put(digest.clone(), bytes.clone()) {
            kept.memory -= ENTRY + replaced.len();
        }
        while kept.memory > MAX_MEMORY
            && let Some((_, dropped)) = kept.contents.pop_lru()
        {
            kept.memory -= ENTRY + dropped.len();
        }
    }

    /// Drops a manifest whose file is removed or replaced.
    pub(super) fn forget(&self, digest: &Digest) {
        let mut kept = self.0.lock();
        if let Some(dropped) = kept.contents.pop(digest) {
            kept.memory -= ENTRY + dropped.len();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::oci::{Algorithm, Hasher};

    fn content(number: usize, length: usize) -> (Digest, Bytes) {
        let mut content = vec![b' '; length];
        content[..8].copy_from_slice(&number.to_le_bytes());
        (Hasher::digest(Algorithm::Sha256, &content), content.into())
    }

    #[test]
    fn memory_is_bounded_and_the_least_recently_used_goes_first() {
        let cache = ManifestCache::default();
        let (first, bytes) = content(0, 1000);
        cache.keep(&first, &bytes);
        let (second, other) = content(1, 1000);
        cache.keep(&second, &other);
        let largest = usize::try_from(LARGEST_KEPT).unwrap();
        for number in 2..MAX_MEMORY / largest + 2 {
            assert_eq!(cache.find(&first), Some(bytes.clone()), "it is used");
            let (digest, bytes) = content(number, largest);
            cache.keep(&digest, &bytes);
            // Twice the same counts once.
            cache.keep(&digest, &bytes);
        }
        assert_eq!(cache.find(&second), None);
        let kept = cache.0.lock();
        let sum: usize = kept.contents.iter().map(|(_, bytes)| ENTRY + bytes.len()).sum();
        assert_eq!(kept.memory, sum);
        assert!(sum <= MAX_MEMORY && sum > MAX_MEMORY - 2 * largest);
    }

    #[test]
    fn a_forgotten_or_large_manifest_is_not_kept() {
        let cache = ManifestCache::default();
        let (digest, bytes) = content(0, 100);
        cache.keep(&digest, &bytes);
        cache.forget(&digest);
        cache.forget(&digest);
        assert_eq!(cache.find(&digest), None);
        let (digest, bytes) = content(0, usize::try_from(LARGEST_KEPT).unwrap() + 1);
        cache.keep(&digest, &bytes);
        assert_eq!(cache.find(&digest), None);
        assert_eq!(cache.0.lock().memory, 0);
    }
}
