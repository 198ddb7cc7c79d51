//! Observers of the file operations of a data directory, in unit tests.
//!
//! A test registers an observer for the path of a data directory; each store that is opened there gets it. So neither
//! the settings of the store nor the way from them to the files know of tests.

use std::collections::HashMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::FileOperation;
use crate::base::Lock;

/// The observers by data directory. Tests run in parallel, each in a directory of its own.
static OBSERVERS: Lock<Option<HashMap<PathBuf, Arc<dyn Observer>>>> = Lock::new(None);

/// Sees the file operations of a data directory.
pub(in crate::store) trait Observer: Send + Sync {
    /// Refuses an operation with an error, which the store gets instead of a result; may block.
    fn before(&self, operation: FileOperation<'_>) -> io::Result<()>;

    /// Learns the result of an operation that was carried out.
    fn after(&self, operation: FileOperation<'_>, error: Option<&io::Error>);
}

/// The registration of an observer, withdrawn on drop.
pub(in crate::store) struct Registration(PathBuf);

/// Registers an observer for the stores that are opened at this path from now on.
pub(in crate::store) fn observe(root: &Path, observer: Arc<dyn Observer>) -> Registration {
    OBSERVERS.lock().get_or_insert_default().insert(root.to_owned(), observer);
    Registration(root.to_owned())
}

/// Returns the observer of the data directory at this path.
pub(super) fn of(root: &Path) -> Option<Arc<dyn Observer>> {
    OBSERVERS.lock().as_ref()?.get(root).cloned()
}

impl Drop for Registration {
    fn drop(&mut self) {
        if let Some(observers) = OBSERVERS.lock().as_mut() {
            observers.remove(&self.0);
        }
    }
}
