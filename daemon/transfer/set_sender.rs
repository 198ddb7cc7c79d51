//! Sends the names of an image in as many requests as they need.

use super::image_set::{ImageSet, ImagesAnswer, ManifestOutcome, OtherNames, SetManifest, SetTag};
use super::sink::{Sink, SinkError};

/// Bytes of manifests in one request.
const BYTES: usize = 8 << 20;
/// Manifests, and tags, in one request.
const COUNT: usize = 5_000;

/// The names of an image on their way to a sink: manifests, then tags.
pub(super) struct SetSender {
    /// The next request.
    set: ImageSet,
    /// Bytes of its manifests.
    bytes: usize,
    /// The tags that wait for all manifests.
    tags: Vec<SetTag>,
    /// All names of a dry run, with those that other images bring before.
    all: Option<OtherNames>,
    answer: ImagesAnswer,
}

impl SetSender {
    /// Makes a sender of a number of manifests, and of a set that has the tags and everything else.
    pub(super) fn new(mut set: ImageSet, manifests: usize) -> Self {
        let tags = std::mem::take(&mut set.tags);
        let all = set.dry_run.map(|others| OtherNames {
            names: others.names + (manifests + tags.len()) as u64,
            tags: others.tags + tags.len() as u64,
        });
        SetSender { set, bytes: 0, tags, all, answer: ImagesAnswer::default() }
    }

    /// Adds the next manifest; sends the earlier ones if a request has no room for it.
    ///
    /// # Errors
    /// As [`Sink::images`].
    pub(super) async fn add<S: Sink>(
        &mut self,
        manifest: SetManifest,
        sink: &mut S,
    ) -> Result<(), SinkError> {
        let length = manifest.data.as_ref().map_or(0, String::len);
        let count = self.set.manifests.len();
        if count >= COUNT || (count > 0 && self.bytes + length > BYTES) {
            self.send(sink).await?;
        }
        self.bytes += length;
        self.set.manifests.push(manifest);
        Ok(())
    }

    /// Sends the rest; returns the outcome of all names. Nothing follows a manifest that is not complete: without it, an index
    /// would be named with a hole.
    ///
    /// # Errors
    /// As [`Sink::images`].
    pub(super) async fn finish<S: Sink>(mut self, sink: &mut S) -> Result<ImagesAnswer, SinkError> {
        loop {
            self.set.tags = self.tags.drain(..self.tags.len().min(COUNT)).collect();
            self.send(sink).await?;
            if self.tags.is_empty() {
                return Ok(self.answer);
            }
        }
    }

    async fn send<S: Sink>(&mut self, sink: &mut S) -> Result<(), SinkError> {
        if self.answer.manifests.iter().all(|manifest| manifest.outcome == ManifestOutcome::Stored) {
            let (manifests, tags) = (self.set.manifests.len(), self.set.tags.len());
            self.set.dry_run = self.all.map(|all| OtherNames {
                names: all.names.saturating_sub((manifests + tags) as u64),
                tags: all.tags.saturating_sub(tags as u64),
            });
            let part = sink.images(&self.set).await?;
            self.answer.manifests.extend(part.manifests);
            self.answer.tags.extend(part.tags);
        }
        self.set.manifests.clear();
        self.bytes = 0;
        Ok(())
    }
}
