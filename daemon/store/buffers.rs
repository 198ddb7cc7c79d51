//! Buffers that content passes through, used again and again: fresh memory from the system costs more than the
//! copy into it, and what clients send must not decide how much memory is held.

use std::sync::{Arc, Mutex};

use super::lock;

/// How many bytes a buffer takes.
pub(super) const SIZE: usize = 128 << 10;
/// How many buffers are kept while nobody uses them.
const SPARE: usize = 8;

/// The buffers that nobody uses now.
#[derive(Default)]
pub(super) struct Buffers {
    spare: Mutex<Vec<Box<[u8]>>>,
}

impl Buffers {
    /// An empty buffer, which comes back by itself when it is dropped.
    pub(super) fn take(self: &Arc<Self>) -> Buffer {
        let spare = lock(&self.spare).pop();
        let memory = spare.unwrap_or_else(|| vec![0; SIZE].into_boxed_slice());
        Buffer { memory, filled: 0, home: Arc::clone(self) }
    }
}

/// A buffer, filled from its beginning.
pub(super) struct Buffer {
    memory: Box<[u8]>,
    filled: usize,
    home: Arc<Buffers>,
}

impl Buffer {
    /// Takes as many of these bytes as there is room for, and gives how many.
    pub(super) fn fill(&mut self, bytes: &[u8]) -> usize {
        let room = &mut self.memory[self.filled..];
        let taken = bytes.len().min(room.len());
        room[..taken].copy_from_slice(&bytes[..taken]);
        self.filled += taken;
        taken
    }

    /// Fills at most `limit` bytes of an empty buffer by `read`, which gives how many it has read.
    pub(super) fn fill_by<E>(
        &mut self,
        limit: usize,
        read: impl FnOnce(&mut [u8]) -> Result<usize, E>,
    ) -> Result<usize, E> {
        let limit = limit.min(self.memory.len());
        self.filled = read(&mut self.memory[..limit])?.min(limit);
        Ok(self.filled)
    }

    /// Whether there is no room left.
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
        let mut spare = lock(&self.home.spare);
        if spare.len() < SPARE {
            spare.push(std::mem::take(&mut self.memory));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_buffer_takes_what_fits_and_comes_back_empty() {
        let buffers = Arc::new(Buffers::default());
        let mut buffer = buffers.take();
        assert_eq!(buffer.fill(&vec![1; SIZE - 1]), SIZE - 1);
        assert!(!buffer.is_full());
        assert_eq!(buffer.fill(&[2, 3]), 1);
        assert!(buffer.is_full());
        assert_eq!(buffer.as_ref()[SIZE - 2..], [1, 2]);
        drop(buffer);
        assert_eq!(lock(&buffers.spare).len(), 1);
        assert!(buffers.take().as_ref().is_empty());
    }

    #[test]
    fn only_so_many_are_kept() {
        let buffers = Arc::new(Buffers::default());
        drop((0..3 * SPARE).map(|_| buffers.take()).collect::<Vec<_>>());
        assert_eq!(lock(&buffers.spare).len(), SPARE);
    }
}
