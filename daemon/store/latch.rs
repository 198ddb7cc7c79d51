//! The latch: after a write or a sync has failed the store is read-only until the daemon restarts.
//!
//! A sync that fails may have dropped pages from the page cache, so that the next sync succeeds without having written
//! them, and no later write could be trusted. The latch closes on the first failed sync, whatever the reason, and on
//! the first write that fails for another reason than a full disk or an obstacle in the place of a file
//! (`obstacles.rs`). A lack of descriptors or memory does not close it: the request fails and the store keeps working.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};

use super::error::StoreError;

/// The state of the latch of one data directory.
pub(super) struct Latch {
    /// The error that closed it.
    error: OnceLock<String>,
    /// True once an error of the index was reported, also after the latch was closed.
    index_failed: AtomicBool,
    /// Called with the reason when it closes.
    on_close: Box<dyn Fn(&str) + Send + Sync>,
}

impl Latch {
    pub(super) fn new(on_close: impl Fn(&str) + Send + Sync + 'static) -> Self {
        let on_close = Box::new(on_close);
        Latch { error: OnceLock::new(), index_failed: AtomicBool::new(false), on_close }
    }

    pub(super) fn is_closed(&self) -> bool {
        self.error.get().is_some()
    }

    /// Closes the latch if the error is a failure of the disk or the index. Returns the reason the first time.
    pub(super) fn close_on(&self, error: &StoreError) -> Option<String> {
        if !matches!(error, StoreError::Io { .. } | StoreError::Index(_)) {
            return None;
        }
        if matches!(error, StoreError::Index(_)) {
            self.index_failed.store(true, Ordering::Relaxed);
        }
        self.error.set(error.to_string()).ok()?;
        let reason = self.reason()?;
        log::error!("the store is {reason}");
        (self.on_close)(&reason);
        Some(reason)
    }

    /// Returns true if an error of the index was reported, whichever error closed the latch.
    pub(super) fn index_failed(&self) -> bool {
        self.index_failed.load(Ordering::Relaxed)
    }

    /// Returns why the store is read-only; `None` while it writes.
    pub(super) fn reason(&self) -> Option<String> {
        let error = self.error.get()?;
        Some(format!("read-only: {error}; check the disk, then restart the daemon"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::index_error::IndexError;

    #[test]
    fn the_first_failure_closes_it_and_a_full_disk_does_not() {
        let latch = Latch::new(|_| {});
        assert_eq!(latch.close_on(&StoreError::Full), None);
        assert!(!latch.is_closed());
        let failure = |action: &str| StoreError::io(action, std::io::Error::other("I/O error"));
        assert!(latch.close_on(&failure("sync")).unwrap().contains("sync"));
        assert_eq!(latch.close_on(&failure("write")), None);
        assert!(latch.is_closed() && latch.reason().unwrap().contains("sync"));
    }

    #[test]
    fn index_failure_after_another_failure_is_remembered() {
        let latch = Latch::new(|_| {});
        assert!(latch.close_on(&StoreError::io("sync", std::io::Error::other("I/O error"))).is_some());
        assert!(!latch.index_failed());
        assert_eq!(latch.close_on(&StoreError::from(IndexError::Row("a row".into()))), None);
        assert!(latch.index_failed());
    }
}
