//! Detection of a hanging disk: the age of the oldest read and of the oldest write that are still running.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use crate::base::Lock;

/// The running time of an operation after which the disk is reported as hanging.
const SLOW: Duration = Duration::from_secs(5);

/// The running operations of one kind.
#[derive(Default)]
pub(super) struct Operations {
    /// Start times by number, so that the first entry is the oldest.
    running: Lock<BTreeMap<u64, Instant>>,
    next: AtomicU64,
}

/// A running operation; it ends when this is dropped.
pub(super) struct Operation<'a> {
    operations: &'a Operations,
    number: u64,
}

/// The ages of the oldest running operations of a disk.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DiskDelay {
    /// The oldest read, if one runs.
    pub read: Option<Duration>,
    /// The oldest write or sync, if one runs.
    pub write: Option<Duration>,
}

impl Operations {
    /// Starts an operation.
    pub(super) fn begin(&self) -> Operation<'_> {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        self.running.lock().insert(number, Instant::now());
        Operation { operations: self, number }
    }

    /// Returns the age of the oldest running operation.
    pub(super) fn oldest(&self) -> Option<Duration> {
        self.running.lock().first_key_value().map(|(_, began)| began.elapsed())
    }
}

impl Drop for Operation<'_> {
    fn drop(&mut self) {
        self.operations.running.lock().remove(&self.number);
    }
}

impl DiskDelay {
    /// Returns a warning if the disk has not answered for five seconds.
    pub fn warning(&self) -> Option<String> {
        let slow = |delay: Option<Duration>| delay.filter(|delay| *delay >= SLOW);
        match (slow(self.read), slow(self.write)) {
            (Some(read), _) => Some(format!(
                "the disk has not answered a read for {} s: pulls and pushes wait",
                read.as_secs()
            )),
            (None, Some(write)) => {
                Some(format!("the disk has not answered a write for {} s: pushes wait", write.as_secs()))
            }
            (None, None) => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_operation_counts_until_it_ends() {
        let operations = Operations::default();
        assert_eq!(operations.oldest(), None);
        let first = operations.begin();
        std::thread::sleep(Duration::from_millis(5));
        let second = operations.begin();
        assert!(operations.oldest().unwrap() >= Duration::from_millis(5));
        drop(first);
        assert!(operations.oldest().is_some());
        drop(second);
        assert_eq!(operations.oldest(), None);
    }

    #[test]
    fn only_a_disk_that_hangs_is_a_warning() {
        let (short, long) = (Some(Duration::from_secs(1)), Some(Duration::from_secs(21)));
        assert_eq!(DiskDelay { read: short, write: short }.warning(), None);
        let write = DiskDelay { read: None, write: long }.warning().unwrap();
        assert!(write.contains("a write for 21 s"), "{write}");
        let read = DiskDelay { read: long, write: long }.warning().unwrap();
        assert!(read.contains("a read for 21 s"), "{read}");
    }
}
