//! Latch that the htpasswd file had an entry since the process started.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// Latch that keeps an implicitly open registry closed once the htpasswd file had an entry. Apache's `htpasswd`
/// rewrites the file in place, so it can be empty for a moment, and a lost file must not grant anonymous access. Clones
/// share the latch, which outlives a reload of the configuration.
#[derive(Clone, Debug, Default)]
pub struct UsersLatch(Arc<AtomicBool>);

impl UsersLatch {
    /// Notes a version of the file, and returns true if any version so far had an entry.
    pub(super) fn note(&self, is_blank: bool) -> bool {
        if !is_blank {
            self.0.store(true, Ordering::SeqCst);
        }
        self.0.load(Ordering::SeqCst)
    }
}
