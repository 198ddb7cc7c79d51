//! A pool of buffers for the content of pulls and pushes.
//!
//! Buffers are reused: the page faults of fresh memory cost more than the copy into it. Their size is fixed, so that
//! clients do not decide how much memory is held.

use std::sync::Arc;

use crate::base::Lock;

/// The size of a buffer in bytes.
pub(super) const SIZE: usize = 128 << 10;
/// The maximum number of unused buffers that are kept; more are freed.
const SPARE: usize = 8;

/// The unused buffers.
#[derive(Default)]
pub(super) struct Buffers {
    spare: Lock<Vec<Box<[u8]>>>,
}

impl Buffers {
    /// Returns an empty buffer, which goes back to the pool on drop.
    pub(super) fn take(self: &Arc<Self>) -> Buffer {
        let spare = self.spare.lock().pop();
        let memory = spare.unwrap_or_else(|| vec![0; SIZE].into_boxed_slice());
        Buffer { memory, filled: 0, pool: Arc::clone(self) }
    }
}

/// A buffer, filled from its beginning.
pub(super) struct Buffer {
    memory: Box<[u8]>,
    filled: usize,
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
        let mut spare = self.pool.spare.lock();
        if spare.len() < SPARE {
            spare.push(std::mem::take(&mut self.memory));
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
}
