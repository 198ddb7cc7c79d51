//! Bytes on their way from an async sender to a thread that reads them.

use std::io::{self, Read};

use bytes::{Buf, Bytes};
use tokio::sync::mpsc;

/// Chunks that wait for the reader.
const WAITING: usize = 4;

/// The sending side. Dropping it before [`ByteSender::finish`] makes the stream a truncated one.
#[derive(Debug)]
pub struct ByteSender(mpsc::Sender<io::Result<Bytes>>);

/// The reading side, for a thread of its own: its reads block.
#[derive(Debug)]
pub struct ByteReader {
    receiver: mpsc::Receiver<io::Result<Bytes>>,
    current: Bytes,
    is_finished: bool,
}

/// Makes a bounded stream.
pub fn byte_stream() -> (ByteSender, ByteReader) {
    let (sender, receiver) = mpsc::channel(WAITING);
    (ByteSender(sender), ByteReader { receiver, current: Bytes::new(), is_finished: false })
}

impl ByteSender {
    /// Sends bytes; returns false if the reader wants no more.
    pub async fn send(&self, bytes: Bytes) -> bool {
        bytes.is_empty() || self.0.send(Ok(bytes)).await.is_ok()
    }

    /// Ends the stream.
    pub async fn finish(self) {
        // The reader may have failed before.
        let _ = self.0.send(Ok(Bytes::new())).await;
    }

    /// Ends the stream with an error.
    pub async fn fail(self, reason: &str) {
        let _ = self.0.send(Err(io::Error::other(reason.to_owned()))).await;
    }
}

impl Read for ByteReader {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.current.is_empty() && !self.is_finished {
            match self.receiver.blocking_recv() {
                Some(Ok(bytes)) => {
                    self.is_finished = bytes.is_empty();
                    self.current = bytes;
                }
                Some(Err(error)) => return Err(error),
                None => return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the upload ended early")),
            }
        }
        let count = self.current.len().min(buffer.len());
        self.current.copy_to_slice(&mut buffer[..count]);
        Ok(count)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(mut reader: ByteReader) -> std::thread::JoinHandle<io::Result<Vec<u8>>> {
        std::thread::spawn(move || {
            let mut bytes = Vec::new();
            reader.read_to_end(&mut bytes).map(|_| bytes)
        })
    }

    #[tokio::test]
    async fn only_a_finished_stream_is_whole() {
        let (sender, reader) = byte_stream();
        let thread = read(reader);
        assert!(sender.send("ab".into()).await && sender.send("c".into()).await);
        sender.finish().await;
        assert_eq!(thread.join().unwrap().unwrap(), b"abc");
        let (sender, reader) = byte_stream();
        let thread = read(reader);
        assert!(sender.send("ab".into()).await);
        drop(sender);
        assert!(thread.join().unwrap().is_err());
        let (sender, reader) = byte_stream();
        drop(reader);
        assert!(!sender.send("ab".into()).await);
    }
}
