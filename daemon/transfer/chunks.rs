//! Content on its way from the reading thread to a sink.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};

use bytes::Bytes;
use tokio::sync::mpsc;

/// Chunks that wait between the reader and the sink; with their length the memory of a transfer.
const WAITING: usize = 4;

/// Content in chunks, each of them at most [`CHUNK`](super::source::limits::CHUNK) bytes. Dropping it tells the reader
/// that the sink wants no more of the content.
pub struct Chunks {
    receiver: mpsc::Receiver<io::Result<Bytes>>,
    taken: TakenBytes,
}

/// The number of bytes that a sink has taken of content; clones share it.
#[derive(Clone, Debug, Default)]
pub struct TakenBytes(Arc<AtomicU64>);

impl TakenBytes {
    /// Returns the number.
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// The sending side of [`Chunks`], for the blocking thread of a reader.
pub struct ChunkSender(mpsc::Sender<io::Result<Bytes>>);

/// The sink wants no more of the content.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Unwanted;

/// Makes a bounded channel for content.
pub fn chunks() -> (ChunkSender, Chunks) {
    let (sender, receiver) = mpsc::channel(WAITING);
    (ChunkSender(sender), Chunks { receiver, taken: TakenBytes::default() })
}

impl Chunks {
    /// Returns the next chunk; `None` at the end of the content. An error means that the content is incomplete.
    pub async fn next(&mut self) -> Option<io::Result<Bytes>> {
        std::future::poll_fn(|context| self.poll_next(context)).await
    }

    /// Returns the number of bytes that are taken from now on.
    pub fn taken(&self) -> TakenBytes {
        self.taken.clone()
    }

    /// Polls for the next chunk, for bodies of requests.
    pub fn poll_next(&mut self, context: &mut Context<'_>) -> Poll<Option<io::Result<Bytes>>> {
        let polled = self.receiver.poll_recv(context);
        if let Poll::Ready(Some(Ok(chunk))) = &polled {
            self.taken.0.fetch_add(chunk.len() as u64, Ordering::Relaxed);
        }
        polled
    }
}

impl ChunkSender {
    /// Sends a chunk, or an error that ends the content; waits while the sink is slow. Blocks the thread.
    ///
    /// # Errors
    /// Returns [`Unwanted`] if the sink has dropped the receiving side.
    pub fn send(&self, chunk: io::Result<Bytes>) -> Result<(), Unwanted> {
        self.0.blocking_send(chunk).map_err(|_| Unwanted)
    }

    /// Adds content of at most [`MANIFEST`](super::source::limits::MANIFEST) bytes to an empty channel, without
    /// blocking.
    pub fn fill(&self, text: &[u8]) {
        if !text.is_empty() {
            // The channel is empty, or its reader has gone.
            let _ = self.0.try_send(Ok(Bytes::copy_from_slice(text)));
        }
    }
}
