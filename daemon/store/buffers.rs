//! A pool of buffers for the content of pulls and pushes.
//!
//! Buffers are reused: the page faults of fresh memory cost more than the copy into it. Their sizes are fixed, so that
//! clients do not decide how much memory is held.
//!
//! An upload that is longer than one buffer gets large ones while there are any: each buffer is handed over to a blocking
//! thread, which costs two context switches. The number of large buffers is fixed, and one holder has only a part of
//! them; without one an upload goes on with the ordinary size.

use std::sync::Arc;

use super::holder::Holder;
use crate::base::Lock;
use crate::queue::{FairPermit, FairPool, Limits};

/// The size of a buffer in bytes.
pub(super) const SIZE: usize = 128 << 10;
/// The maximum number of unused buffers that are kept; more are freed.
const SPARE: usize = 8;

/// The size of a large buffer in bytes: with both buffers of an upload, it fits in the cache of a small processor.
const LARGE: usize = 512 << 10;
/// The maximum number of large buffers at once, those of one holder, and those reserved for holders without one. An
/// upload has two.
const LARGE_BUFFERS: (usize, usize, usize) = (16, 8, 4);

/// The unused buffers.
pub(super) struct Buffers {
    spare: Lock<Vec<Box<[u8]>>>,
    /// Unused large buffers. They are kept only while another one is in use, so that an idle daemon holds none.
    spare_large: Lock<Vec<Box<[u8]>>>,
    large: Arc<FairPool<Holder>>,
}

impl Default for Buffers {
    fn default() -> Self {
        let (places, places_per_holder, reserved) = LARGE_BUFFERS;
        // No upload waits for a large buffer.
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

    /// Returns an empty large buffer; an ordinary one while the current holder may have no further large one.
    pub(super) fn take_large(self: &Arc<Self>) -> Buffer {
        let Some(permit) = self.large.try_acquire(&Holder::current()) else { return self.take() };
        let spare = self.spare_large.lock().pop();
        let memory = spare.unwrap_or_else(|| vec![0; LARGE].into_boxed_slice());
        Buffer { memory, filled: 0, large: Some(permit), pool: Arc::clone(self) }
    }

    /// Returns the number of large buffers in use.
    #[cfg(test)]
    pub(super) fn large_in_use(&self) -> usize {
        self.large.used()
    }

    fn give_back(&self, memory: Box<[u8]>) {
        let mut spare = self.spare.lock();
        if spare.len() < SPARE {
            spare.push(memory);
        }
    }

    fn give_back_large(&self, memory: Box<[u8]>, permit: FairPermit<Holder>) {
        let mut spare = self.spare_large.lock();
        spare.push(memory);
        // Under the lock, so that of two last buffers the second one sees that no other is in use.
        drop(permit);
        if self.large.used() == 0 {
            spare.clear();
        }
    }
}

/// A buffer, filled from its beginning.
pub(super) struct Buffer {
    memory: Box<[u8]>,
    filled: usize,
    /// The place of a large buffer.
    large: Option<FairPermit<Holder>>,
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
        let memory = std::mem::take(&mut self.memory);
        match self.large.take() {
            Some(permit) => self.pool.give_back_large(memory, permit),
            None => self.pool.give_back(memory),
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

    /// Takes as many large buffers as this holder gets, and one ordinary buffer.
    async fn take_all(buffers: &Arc<Buffers>, holder: Holder) -> Vec<Buffer> {
        holder
            .run(async {
                let mut taken = vec![buffers.take_large()];
                while taken.last().is_some_and(|buffer| buffer.large.is_some()) {
                    taken.push(buffers.take_large());
                }
                taken
            })
            .await
    }

    #[tokio::test]
    async fn large_buffers_are_few_and_shared_between_holders() {
        let buffers = Arc::new(Buffers::default());
        let (places, per_holder, _) = LARGE_BUFFERS;
        let mut all = Vec::new();
        for number in 0..2 * places {
            let taken = take_all(&buffers, Holder::User(number.to_string().into())).await;
            assert!(taken.len() <= per_holder + 1);
            assert_eq!(taken.last().unwrap().memory.len(), SIZE, "an ordinary buffer in their place");
            assert!(number > 2 || taken.len() > 1, "a holder without a large buffer gets one");
            all.extend(taken.into_iter().filter(|buffer| buffer.large.is_some()));
        }
        assert_eq!(all.len(), places);
        assert!(all.iter().all(|buffer| buffer.memory.len() == LARGE));
    }

    #[tokio::test]
    async fn spare_large_buffers_are_kept_only_while_one_is_in_use() {
        let buffers = Arc::new(Buffers::default());
        let (first, second) = (buffers.take_large(), buffers.take_large());
        drop(first);
        assert_eq!(buffers.spare_large.lock().len(), 1);
        let third = buffers.take_large();
        assert!(buffers.spare_large.lock().is_empty(), "it is reused");
        drop((second, third));
        assert!(buffers.spare_large.lock().is_empty());
        assert_eq!(buffers.large_in_use(), 0);
    }
}
