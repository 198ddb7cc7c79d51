//! One type for all sinks, so that the engine is compiled once and not for each of them.

use std::pin::Pin;

use bytes::Bytes;

use super::chunks::Chunks;
use super::image_set::{ImageSet, ImagesAnswer, Item, Stored};
use super::sink::{Put, Sink, SinkError};
use crate::oci::{Digest, RepositoryName};

type Boxed<'a, T> = Pin<Box<dyn Future<Output = Result<T, SinkError>> + Send + 'a>>;

/// Any sink.
pub(super) struct AnySink<'a>(&'a mut dyn DynSink);

impl<'a> AnySink<'a> {
    pub(super) fn new(sink: &'a mut impl Sink) -> Self {
        AnySink(sink)
    }
}

/// [`Sink`] with boxed futures.
trait DynSink: Send {
    fn is_by_repository(&self) -> bool;
    fn enter(&mut self, repository: &RepositoryName);
    fn need<'a>(&'a mut self, items: &'a [Item]) -> Boxed<'a, Vec<Item>>;
    fn put<'a>(&'a mut self, item: &'a Item, content: Chunks) -> Boxed<'a, Put>;
    fn post(&mut self, content: Chunks) -> Boxed<'_, Stored>;
    fn read<'a>(&'a mut self, digest: &'a Digest) -> Boxed<'a, Option<Bytes>>;
    fn export<'a>(&'a mut self, content: &'a str, signature: Option<&'a str>) -> Boxed<'a, Option<String>>;
    fn tagged<'a>(&'a mut self, repository: &'a str, tag: &'a str) -> Boxed<'a, Option<(Digest, Bytes)>>;
    fn reopen(&mut self) -> Boxed<'_, ()>;
    fn images<'a>(&'a mut self, set: &'a ImageSet) -> Boxed<'a, ImagesAnswer>;
}

impl<S: Sink> DynSink for S {
    fn is_by_repository(&self) -> bool {
        Sink::is_by_repository(self)
    }

    fn enter(&mut self, repository: &RepositoryName) {
        Sink::enter(self, repository);
    }

    fn need<'a>(&'a mut self, items: &'a [Item]) -> Boxed<'a, Vec<Item>> {
        Box::pin(Sink::need(self, items))
    }

    fn put<'a>(&'a mut self, item: &'a Item, content: Chunks) -> Boxed<'a, Put> {
        Box::pin(Sink::put(self, item, content))
    }

    fn post(&mut self, content: Chunks) -> Boxed<'_, Stored> {
        Box::pin(Sink::post(self, content))
    }

    fn read<'a>(&'a mut self, digest: &'a Digest) -> Boxed<'a, Option<Bytes>> {
        Box::pin(Sink::read(self, digest))
    }

    fn export<'a>(&'a mut self, content: &'a str, signature: Option<&'a str>) -> Boxed<'a, Option<String>> {
        Box::pin(Sink::export(self, content, signature))
    }

    fn tagged<'a>(&'a mut self, repository: &'a str, tag: &'a str) -> Boxed<'a, Option<(Digest, Bytes)>> {
        Box::pin(Sink::tagged(self, repository, tag))
    }

    fn reopen(&mut self) -> Boxed<'_, ()> {
        Box::pin(Sink::reopen(self))
    }

    fn images<'a>(&'a mut self, set: &'a ImageSet) -> Boxed<'a, ImagesAnswer> {
        Box::pin(Sink::images(self, set))
    }
}

impl Sink for AnySink<'_> {
    fn is_by_repository(&self) -> bool {
        self.0.is_by_repository()
    }

    fn enter(&mut self, repository: &RepositoryName) {
        self.0.enter(repository);
    }

    async fn need(&mut self, items: &[Item]) -> Result<Vec<Item>, SinkError> {
        self.0.need(items).await
    }

    async fn put(&mut self, item: &Item, content: Chunks) -> Result<Put, SinkError> {
        self.0.put(item, content).await
    }

    async fn post(&mut self, content: Chunks) -> Result<Stored, SinkError> {
        self.0.post(content).await
    }

    async fn read(&mut self, digest: &Digest) -> Result<Option<Bytes>, SinkError> {
        self.0.read(digest).await
    }

    async fn export(&mut self, content: &str, signature: Option<&str>) -> Result<Option<String>, SinkError> {
        self.0.export(content, signature).await
    }

    async fn tagged(&mut self, repository: &str, tag: &str) -> Result<Option<(Digest, Bytes)>, SinkError> {
        self.0.tagged(repository, tag).await
    }

    async fn reopen(&mut self) -> Result<(), SinkError> {
        self.0.reopen().await
    }

    async fn images(&mut self, set: &ImageSet) -> Result<ImagesAnswer, SinkError> {
        self.0.images(set).await
    }
}
