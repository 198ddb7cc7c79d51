//! Locking of a plain [`Mutex`], for the places that do not use [`crate::base::Lock`] yet.

use std::sync::{Mutex, MutexGuard, PoisonError};

/// Takes a lock; ignores that a thread panicked while it held the lock.
pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
