//! Whether the file of users had a line since the process began.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// Remembers that the file of users had a line. A registry that is open only because it has no users stays closed from
/// then on: Apache's `htpasswd` rewrites the file in place, so it can be empty for a moment, and a file that is lost is no
/// wish to let everyone in. Clones share what they remember, which outlives a reload of the configuration.
#[derive(Clone, Debug, Default)]
pub struct SeenLines(Arc<AtomicBool>);

impl SeenLines {
    /// Takes note of a file that was read, and returns true if it has or had a line.
    pub(super) fn note(&self, is_blank: bool) -> bool {
        if !is_blank {
            self.0.store(true, Ordering::SeqCst);
        }
        self.0.load(Ordering::SeqCst)
    }
}
