//! The mark of one open index that a read met corruption.
//!
//! A store that closes vouches for its index (`index/clean`), so that the next start skips the inspection. It must not
//! do so after a row or a page turned out to be corrupt, also if the error went no further than one request.

use std::sync::atomic::{AtomicBool, Ordering};

use super::index_error::IndexError;

/// Set once an operation on the index, or the decoding of one of its rows, failed in a way that may be corruption.
#[derive(Debug, Default)]
pub(super) struct IndexFailure(AtomicBool);

impl IndexFailure {
    /// Sets the mark if the error may come from corruption.
    pub(super) fn note(&self, error: &IndexError) {
        if error.may_be_corruption() {
            self.0.store(true, Ordering::Relaxed);
        }
    }

    /// Returns true if the mark is set.
    pub(super) fn is_set(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_possible_corruption_sets_the_mark() {
        let (first, second) = (IndexFailure::default(), IndexFailure::default());
        first.note(&IndexError::PagesHeld);
        assert!(!first.is_set());
        first.note(&IndexError::Row("a row".into()));
        assert!(first.is_set() && !second.is_set(), "each index has its own mark");
    }
}
