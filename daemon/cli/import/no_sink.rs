//! The sink of a dry run.

use bytes::Bytes;

use crate::oci::Digest;
use crate::transfer::{Chunks, ImageSet, ImagesAnswer, Item, Put, Sink, SinkError, Stored};

/// The sink of a dry run, which is never asked.
pub(super) struct NoSink;

impl NoSink {
    fn refused<T>() -> Result<T, SinkError> {
        Err(SinkError::Refused("a dry run stores nothing".into()))
    }
}

impl Sink for NoSink {
    async fn need(&mut self, _: &[Item]) -> Result<Vec<Item>, SinkError> {
        Self::refused()
    }

    async fn put(&mut self, _: &Item, _: Chunks) -> Result<Put, SinkError> {
        Self::refused()
    }

    async fn post(&mut self, _: Chunks) -> Result<Stored, SinkError> {
        Self::refused()
    }

    async fn read(&mut self, _: &Digest) -> Result<Option<Bytes>, SinkError> {
        Self::refused()
    }

    async fn export(&mut self, _: &str, _: Option<&str>) -> Result<Option<String>, SinkError> {
        Self::refused()
    }

    async fn tagged(&mut self, _: &str, _: &str) -> Result<Option<(Digest, Bytes)>, SinkError> {
        Self::refused()
    }

    async fn reopen(&mut self) -> Result<(), SinkError> {
        Self::refused()
    }

    async fn images(&mut self, _: &ImageSet) -> Result<ImagesAnswer, SinkError> {
        Self::refused()
    }
}
