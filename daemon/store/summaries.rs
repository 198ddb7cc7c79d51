//! Cache of manifest summaries, and permits to read more of them.
//!
//! The key has the repository: content with a digest never changes, but which of it a summary may show depends on the
//! content of the repository.

use std::num::NonZeroUsize;
use std::sync::Arc;

use lru::LruCache;

use super::error::StoreError;
use super::holder::Holder;
use crate::base::Lock;
use crate::oci::{Attachment, Digest, RepositoryName};
use crate::queue::{FairPermit, FairPool, Limits};

/// The number of summaries in the cache.
const KEPT: NonZeroUsize = NonZeroUsize::new(2000).unwrap();
/// The number of pages that read manifests at once, which bounds the memory for that.
const READERS: usize = 2;
/// The number of pages of one holder that wait for a permit; more are refused.
const WAITING: usize = 64;

/// The summary of a manifest.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Summary {
    /// The platform of an image, or the platforms of an index.
    pub platforms: Vec<String>,
    /// The creation time, as its builder wrote it.
    pub created: Option<String>,
    /// The type of an artifact; `None` for an image.
    pub artifact: Option<String>,
    /// The kinds of the attestations within an index.
    pub attached: Vec<Attachment>,
}

/// The cache of summaries, and the pool of permits.
pub(super) struct Summaries {
    kept: Lock<LruCache<(RepositoryName, Digest), Arc<Summary>>>,
    permits: Arc<FairPool<Holder>>,
}

/// A permit to read manifests and configs for a page, until it is dropped. The number of permits, not that of the
/// clients, decides the memory.
pub struct ReadPermit(#[expect(dead_code, reason = "dropping it returns the permit")] FairPermit<Holder>);

impl Default for Summaries {
    fn default() -> Self {
        let limits = Limits {
            places: READERS,
            places_per_holder: READERS,
            reserved: 0,
            waiting_per_holder: WAITING,
            holders: super::work::HOLDERS,
        };
        Summaries { kept: Lock::new(LruCache::new(KEPT)), permits: Arc::new(FairPool::new(limits)) }
    }
}

impl Summaries {
    /// Waits for a permit for a holder.
    ///
    /// # Errors
    /// [`StoreError::TooManyWaiting`].
    pub(super) async fn acquire(&self, holder: Holder) -> Result<ReadPermit, StoreError> {
        Ok(ReadPermit(self.permits.acquire(holder).await?))
    }

    /// Returns the cached summary of a manifest.
    pub(super) fn find(&self, repository: &RepositoryName, digest: &Digest) -> Option<Arc<Summary>> {
        self.kept.lock().get(&(repository.clone(), digest.clone())).cloned()
    }

    /// Caches the summary of a manifest.
    pub(super) fn keep(&self, repository: &RepositoryName, digest: &Digest, summary: &Arc<Summary>) {
        self.kept.lock().put((repository.clone(), digest.clone()), Arc::clone(summary));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::oci::{Algorithm, Hasher};

    #[test]
    fn the_cache_is_bounded_and_separate_for_each_repository() {
        let (summaries, summary) = (Summaries::default(), Arc::new(Summary::default()));
        let (here, elsewhere) = ("a".parse().unwrap(), "b".parse().unwrap());
        let digest = |number: usize| Hasher::digest(Algorithm::Sha256, &number.to_le_bytes());
        for number in 0..=KEPT.get() {
            summaries.keep(&here, &digest(number), &summary);
        }
        assert!(summaries.find(&here, &digest(0)).is_none(), "the oldest one is dropped");
        assert!(summaries.find(&here, &digest(KEPT.get())).is_some());
        assert!(summaries.find(&elsewhere, &digest(1)).is_none());
    }
}
