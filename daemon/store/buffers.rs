//! A pool of buffers for the content of pulls and pushes.
//!
//! Buffers are reused: the page faults of fresh memory cost more than the copy into it. Their sizes are fixed, so that
//! clients do not decide how much memory is held.
//!
//! An upload that is longer than one buffer gets large ones: each buffer is handed over to a blocking thread, which costs
//! several context switches. Only a fixed number of uploads has large buffers at once, and one holder has only a part of
//! them; the other uploads go on with the ordinary size.

use std::sync::Arc;

use super::holder::Holder;
use crate::base::Lock;
use crate::queue::{FairPermit, FairPool, Limits};

/// The size of a buffer in bytes.
pub(super) const SIZE: usize = 128 << 10;
/// The maximum number of unused buffers that are kept; more are freed.
const SPARE: usize = 8;

/// The size of a large buffer in bytes.
const LARGE: usize = 512 << 10;
/// The maximum number of uploads with large buffers at once, those of one holder, and those reserved for holders without
/// one. An upload has two buffers.
const LARGE_UPLOADS: (usize, usize, usize) = (8, 4, 2);

/// The unused buffers.
pub(super) struct Buffers {
    spare: Lock<Vec<Box<[u8]>>>,
    /// Unused large buffers. They are freed with the last [`LargeBuffers`], so that an idle daemon holds none.
    spare_large: Lock<Vec<Box<[u8]>>>,
    large: Arc<FairPool<Holder>>,
}

impl Default for Buffers {
    fn default() -> Self {
        let (places, places_per_holder, reserved) = LARGE_UPLOADS;
        // No upload waits for large buffers.
        let limits = Limits { places, places_per_holder, reserved, waiting_per_holder: 0, holders: places };
        Buffers {
            spare: Lock::default(),
            spare_large: Lock::default(),
            large: Arc::new(FairPool::new(limits)),
        }
    }
}

impl Buffers {
    /// Returns an empty buffer, which goes back to the pool on drop.
    pub(super) fn take(self: &Arc<Self>) -> Buffer {
        let spare = self.spare.lock().pop();
        let memory = spare.unwrap_or_else(|| vec![0; SIZE].into_boxed_slice());
        Buffer { memory, filled: 0, large: None, pool: Arc::clone(self) }
    }

    /// Admits one more upload of the current holder to large buffers; returns `None` while it may have none.
    pub(super) fn admit_to_large(self: &Arc<Self>) -> Option<Arc<LargeBuffers>> {
        let permit = self.large.try_acquire(&Holder::current())?;
        Some(Arc::new(LargeBuffers { permit: Some(permit), pool: Arc::clone(self) }))
    }

    /// Returns the number of uploads with large buffers.
    #[cfg(test)]
    pub(super) fn large_uploads(&self) -> usize {
        self.large.used()
    }

    /// Returns the number of unused large buffers.
    #[cfg(test)]
    pub(super) fn spare_large_for_test(&self) -> usize {
        self.spare_large.lock().len()
    }
}

/// The right of one upload to large buffers, which ends with the upload and its last buffer.
pub(super) struct LargeBuffers {
    /// Taken on drop.
    permit: Option<FairPermit<Holder>>,
    pool: Arc<Buffers>,
}

impl LargeBuffers {
    /// Returns an empty large buffer, which goes back to the pool on drop.
    pub(super) fn take(self: &Arc<Self>) -> Buffer {
        let spare = self.pool.spare_large.lock().pop();
        let memory = spare.unwrap_or_else(|| vec![0; LARGE].into_boxed_slice());
        Buffer { memory, filled: 0, large: Some(Arc::clone(self)), pool: Arc::clone(&self.pool) }
    }
}

impl Drop for LargeBuffers {
    fn drop(&mut self) {
        drop(self.permit.take());
        if self.pool.large.used() == 0 {
            self.pool.spare_large.lock().clear();
        }
    }
}

/// A buffer, filled from its beginning.
pub(super) struct Buffer {
    memory: Box<[u8]>,
    filled: usize,
    /// Of a large buffer. Dropped after the memory went back to the pool.
    large: Option<Arc<LargeBuffers>>,
    pool: Arc<Buffers>,
}

impl Buffer {
    /// Appends as many of these bytes as fit; returns how many.
    pub(super) fn fill(&mut self, bytes: &[u8]) -> usize {
        let free = &mut self.memory[self.filled..];
        let taken = bytes.len().min(free.len());
        free[..taken].copy_from_slice(&bytes[..taken]);
        self.filled += taken;
        taken
    }

    /// Fills at most `limit` bytes of an empty buffer with `read`, which returns the number of bytes read.
    pub(super) fn fill_with<E>(
        &mut self,
        limit: usize,
        read: impl FnOnce(&mut [u8]) -> Result<usize, E>,
    ) -> Result<usize, E> {
        let limit = limit.min(self.memory.len());
        self.filled = read(&mut self.memory[..limit])?.min(limit);
        Ok(self.filled)
    }

    /// Returns true if no byte fits any more.
    pub(super) fn is_full(&self) -> bool {
        self.filled == self.memory.len()
    }
}

impl AsRef<[u8]> for Buffer {
    fn as_ref(&self) -> &[u8] {
        &self.memory[..self.filled]
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        let (pool, memory) = (&self.pool, std::mem::take(&mut self.memory));
        if self.large.is_some() {
            pool.spare_large.lock().push(memory);
            return;
        }
        let mut spare = pool.spare.lock();
        if spare.len() < SPARE {
            spare.push(memory);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_buffer_takes_the_bytes_that_fit_and_returns_empty() {
        let buffers = Arc::new(Buffers::default());
        let mut buffer = buffers.take();
        assert_eq!(buffer.fill(&vec![1; SIZE - 1]), SIZE - 1);
        assert!(!buffer.is_full());
        assert_eq!(buffer.fill(&[2, 3]), 1);
        assert!(buffer.is_full());
        assert_eq!(buffer.as_ref()[SIZE - 2..], [1, 2]);
        drop(buffer);
        assert_eq!(buffers.spare.lock().len(), 1);
        assert!(buffers.take().as_ref().is_empty());
    }

    #[test]
    fn the_pool_keeps_a_bounded_number() {
        let buffers = Arc::new(Buffers::default());
        drop((0..3 * SPARE).map(|_| buffers.take()).collect::<Vec<_>>());
        assert_eq!(buffers.spare.lock().len(), SPARE);
    }

    /// Admits as many uploads of this holder to large buffers as it may have.
    async fn admit_all(buffers: &Arc<Buffers>, holder: Holder) -> Vec<Arc<LargeBuffers>> {
        holder.run(async { std::iter::from_fn(|| buffers.admit_to_large()).collect() }).await
    }

    #[tokio::test]
    async fn few_uploads_have_large_buffers_and_holders_share_them() {
        let buffers = Arc::new(Buffers::default());
        let (places, per_holder, reserved) = LARGE_UPLOADS;
        let mut admitted = Vec::new();
        for number in 0..2 * places {
            let own = admit_all(&buffers, Holder::User(number.to_string().into())).await;
            assert!(own.len() <= per_holder);
            assert!(!own.is_empty() || admitted.len() == places, "a holder without any gets its share");
            assert!(own.len() <= 1 || admitted.len() + own.len() <= places - reserved);
            admitted.extend(own);
        }
        assert_eq!(admitted.len(), places);
        drop(admitted);
        assert_eq!(buffers.large_uploads(), 0);
    }

    #[tokio::test]
    async fn large_buffers_are_reused_until_the_last_upload_ends() {
        let buffers = Arc::new(Buffers::default());
        let (upload, other) = (buffers.admit_to_large().unwrap(), buffers.admit_to_large().unwrap());
        drop((upload.take(), upload.take()));
        assert_eq!(buffers.spare_large_for_test(), 2);
        let (first, second) = (upload.take(), other.take());
        assert!(buffers.spare_large.lock().is_empty());
        assert_eq!(first.memory.len(), LARGE);
        drop((upload, other, first));
        assert_eq!((buffers.large_uploads(), buffers.spare_large_for_test()), (1, 1));
        drop(second);
        assert_eq!((buffers.large_uploads(), buffers.spare_large_for_test()), (0, 0));
    }
}
