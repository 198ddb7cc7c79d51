//! Locks between the threads of the process that owns the store.

use std::sync::Arc;

use tokio::sync::Semaphore;

use crate::base::Lock;

/// The locks of the threads of this process.
pub(super) struct ThreadLocks {
    /// Held while `index.json` is written.
    pub(super) layout: Lock<()>,
    /// Has one permit, for the collection that runs.
    pub(super) collection: Arc<Semaphore>,
}

impl Default for ThreadLocks {
    fn default() -> Self {
        ThreadLocks { layout: Lock::default(), collection: Arc::new(Semaphore::new(1)) }
    }
}
