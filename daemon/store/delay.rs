//! How long the operations take that the disk has not finished yet: the sign of a disk that hangs.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use super::lock;

/// A disk that takes longer than this for one operation is reported.
const SLOW: Duration = Duration::from_secs(5);

/// The operations of one kind that run now.
#[derive(Default)]
pub(super) struct Operations {
    running: Mutex<BTreeMap<u64, Instant>>,
    next: AtomicU64,
}

/// An operation that runs until this is dropped.
pub(super) struct Operation<'a> {
    operations: &'a Operations,
    number: u64,
}

/// How long the oldest operations of a disk have run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DiskDelay {
    /// The oldest read, if one runs.
    pub read: Option<Duration>,
    /// The oldest write or sync, if one runs.
    pub write: Option<Duration>,
}

impl Operations {
    /// Notes that an operation begins.
    pub(super) fn begin(&self) -> Operation<'_> {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        lock(&self.running).insert(number, Instant::now());
        Operation { operations: self, number }
    }

    /// How long the oldest operation has run, if one runs.
    pub(super) fn oldest(&self) -> Option<Duration> {
        lock(&self.running).first_key_value().map(|(_, began)| began.elapsed())
    }
}

impl Drop for Operation<'_> {
    fn drop(&mut self) {
        lock(&self.operations.running).remove(&self.number);
    }
}

impl DiskDelay {
    /// Describes a disk that has not answered for several seconds; `None` while it answers.
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
