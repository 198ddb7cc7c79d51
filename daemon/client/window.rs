//! The last bytes of an upload, which are sent again after its connection broke.

use std::collections::VecDeque;

use bytes::Bytes;

/// Bytes that are kept: more than the buffers of a connection on both sides hold.
const KEPT: usize = 12 << 20;

/// The last bytes that were sent.
#[derive(Default)]
pub(super) struct Window {
    chunks: VecDeque<Bytes>,
    /// The length of all chunks.
    length: usize,
    /// The position of the first byte that is kept.
    start: u64,
}

impl Window {
    /// Returns the position behind the last byte.
    pub(super) fn end(&self) -> u64 {
        self.start + self.length as u64
    }

    /// Adds the next bytes.
    pub(super) fn push(&mut self, chunk: Bytes) {
        self.length += chunk.len();
        self.chunks.push_back(chunk);
        while self.length > KEPT
            && let Some(first) = self.chunks.pop_front()
        {
            self.length -= first.len();
            self.start += first.len() as u64;
        }
    }

    /// Returns the bytes from a position on; `None` if they are not kept.
    pub(super) fn from(&self, position: u64) -> Option<Vec<Bytes>> {
        if position < self.start || position > self.end() {
            return None;
        }
        let mut skip = usize::try_from(position - self.start).ok()?;
        let mut rest = Vec::new();
        for chunk in &self.chunks {
            let skipped = skip.min(chunk.len());
            skip -= skipped;
            if skipped < chunk.len() {
                rest.push(chunk.slice(skipped..));
            }
        }
        Some(rest)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn last_bytes_are_kept_from_any_position() {
        let mut window = Window::default();
        assert_eq!(window.from(0), Some(Vec::new()));
        window.push(Bytes::from_static(b"abc"));
        window.push(Bytes::from_static(b"defg"));
        let from = |at| window.from(at).map(|chunks| chunks.concat());
        assert_eq!(from(0).as_deref(), Some(&b"abcdefg"[..]));
        assert_eq!(from(2).as_deref(), Some(&b"cdefg"[..]));
        assert_eq!(from(3).as_deref(), Some(&b"defg"[..]));
        assert_eq!((from(7).as_deref(), from(8)), (Some(&b""[..]), None));
    }

    #[test]
    fn older_bytes_are_dropped() {
        let mut window = Window::default();
        let chunk = Bytes::from(vec![0; 1 << 20]);
        for _ in 0..20 {
            window.push(chunk.clone());
        }
        assert_eq!(window.end(), 20 << 20);
        assert_eq!(window.from((8 << 20) - 1), None);
        assert_eq!(window.from(8 << 20).unwrap().len(), 12);
    }
}
