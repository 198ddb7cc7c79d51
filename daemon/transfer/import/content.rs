//! Content on its way into the sink.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use super::super::chunks::{Chunks, chunks};
use super::super::image_set::Item;
use super::super::progress::watched;
use super::super::reader::{Event, Facts, Mode, Reader};
use super::super::sink::{Put, Sink, SinkError};
use super::super::source::codec::Compression;
use super::super::source::{Catalog, ContentKey, MemberId};
use super::made::Layer;
use super::{ImportError, Observer, Report};
use crate::oci::{Algorithm, Digest, Hasher};

/// A pause of a stream after which the daemon may have ended, because it was idle.
const PAUSE: Duration = Duration::from_millis(50);

/// The content that has been sent, or could not be.
pub(super) struct Copied<'a, S> {
    pub(super) sink: &'a mut S,
    pub(super) observer: &'a mut dyn Observer,
    pub(super) report: Report,
    /// Blobs that were refused, with the reasons.
    pub(super) refused: BTreeMap<Digest, String>,
    /// Layers without a digest in their names.
    pub(super) layers: BTreeMap<ContentKey, Layer>,
    /// The blobs of streams that the sink has, with their sizes if they were stored now.
    pub(super) streamed: BTreeMap<Digest, Option<u64>>,
    /// Bytes that have been sent, and all of them if they are known.
    pub(super) done: u64,
    pub(super) total: Option<u64>,
}

/// Reason why one content could not be copied.
pub(super) enum CopyError {
    /// It alone failed.
    Refused(String),
    /// The sink has no space for it.
    Full(String),
    /// The transfer failed.
    Sink(SinkError),
}

impl<S: Sink> Copied<'_, S> {
    /// Takes the content of all streams, to the catalogs.
    pub(super) async fn streams(
        &mut self,
        reader: &mut Reader,
        is_dry: bool,
    ) -> Result<Vec<Catalog>, ImportError> {
        loop {
            let began = Instant::now();
            let event = reader.event().await;
            if !is_dry && began.elapsed() >= PAUSE {
                self.stay_open().await?;
            }
            match event {
                Event::Catalogs(catalogs) => return Ok(catalogs),
                Event::Failed(error) => return Err(error.into()),
                Event::ReadBack(digest, reply) => {
                    let text = if is_dry { None } else { self.read_back(&digest).await? };
                    // The reader may have failed meanwhile, which is its next event.
                    let _ = reply.send(text);
                }
                Event::Content { .. } if is_dry => {}
                Event::Content { key, size, chunks, facts } => {
                    let facts = async { facts.await.ok() };
                    match key {
                        ContentKey::Digest(digest) => {
                            let item = Item { digest, size: Some(size) };
                            self.stream_blob(&item, chunks).await?;
                        }
                        key @ ContentKey::Layer(_) => match self.post(key, chunks, facts).await {
                            Ok(()) | Err(CopyError::Refused(_)) => {}
                            Err(CopyError::Full(_)) => self.report.is_full = true,
                            // The bytes of a stream come once: this layer is missing, and the others go on.
                            Err(CopyError::Sink(SinkError::Disconnected(_))) => self.sink.reopen().await?,
                            Err(CopyError::Sink(error)) => return Err(error.into()),
                        },
                    }
                    self.progress(size);
                }
            }
        }
    }

    /// Opens the transfer again if the daemon has ended while the medium brought nothing.
    async fn stay_open(&mut self) -> Result<(), SinkError> {
        match self.sink.need(&[]).await {
            Err(SinkError::Disconnected(_)) => self.sink.reopen().await,
            asked => asked.map(drop),
        }
    }

    async fn stream_blob(&mut self, item: &Item, chunks: Chunks) -> Result<(), ImportError> {
        // A question costs less than content that is refused after its first bytes.
        let sent = match self.sink.need(std::slice::from_ref(item)).await {
            Ok(missing) if missing.is_empty() => {
                self.report.present += 1;
                Ok(None)
            }
            Ok(_) => self.put(item, chunks).await.map(|()| item.size),
            Err(error) => Err(CopyError::of(error)),
        };
        match sent {
            Ok(size) => {
                self.refused.remove(&item.digest);
                // A later member may claim the same digest.
                self.streamed.entry(item.digest.clone()).or_insert(size);
                Ok(())
            }
            Err(CopyError::Refused(reason)) => {
                self.refused.entry(item.digest.clone()).or_insert(reason);
                Ok(())
            }
            Err(CopyError::Full(reason)) => {
                self.report.is_full = true;
                self.refused.entry(item.digest.clone()).or_insert(reason);
                Ok(())
            }
            // The bytes of a stream come once: this blob is missing, and the others go on.
            Err(CopyError::Sink(SinkError::Disconnected(reason))) => {
                self.refused.insert(item.digest.clone(), format!("{reason}; import again"));
                Ok(self.sink.reopen().await?)
            }
            Err(CopyError::Sink(error)) => Err(error.into()),
        }
    }

    /// Reads small content back from the sink.
    pub(super) async fn read_back(&mut self, digest: &Digest) -> Result<Option<Vec<u8>>, SinkError> {
        let item = Item::of_digest(digest.clone());
        let missing = self.sink.need(std::slice::from_ref(&item)).await?;
        if missing.is_empty() { self.read_present(digest).await } else { Ok(None) }
    }

    /// Reads small content that the sink has.
    pub(super) async fn read_present(&mut self, digest: &Digest) -> Result<Option<Vec<u8>>, SinkError> {
        match self.sink.read(digest).await {
            Ok(text) => Ok(text.map(|bytes| bytes.to_vec())),
            Err(SinkError::Refused(_)) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Sends a blob.
    async fn put(&mut self, item: &Item, chunks: Chunks) -> Result<(), CopyError> {
        let (taken, done, total) = (chunks.taken(), self.done, self.total);
        let progress = |bytes| self.observer.progress(done + bytes, total);
        let sent = watched(self.sink.put(item, chunks), &taken, progress).await;
        match sent.map_err(CopyError::of)? {
            Put::Stored => {
                self.report.blobs += 1;
                self.report.bytes += item.size.unwrap_or(0);
                Ok(())
            }
            Put::Present(_) => {
                self.report.present += 1;
                Ok(())
            }
            Put::Refused(reason) => Err(CopyError::Refused(reason)),
        }
    }

    /// Sends a layer whose digest is not known.
    async fn post(
        &mut self,
        key: ContentKey,
        chunks: Chunks,
        facts: impl Future<Output = Option<Facts>>,
    ) -> Result<(), CopyError> {
        let (taken, done, total) = (chunks.taken(), self.done, self.total);
        let progress = |bytes| self.observer.progress(done + bytes, total);
        let stored = watched(self.sink.post(chunks), &taken, progress).await.map_err(CopyError::of)?;
        let Some(facts) = facts.await else {
            return Err(CopyError::Refused("the layer was not read to its end".into()));
        };
        if stored.present {
            self.report.present += 1;
        } else {
            self.report.blobs += 1;
            self.report.bytes += stored.size;
        }
        let Facts { compression, diff_id } = facts;
        self.layers.insert(key, Layer { digest: stored.digest, size: stored.size, compression, diff_id });
        Ok(())
    }

    /// Copies a blob from a medium; the first member that matches its digest counts. Returns that member and its size; `None`
    /// if no medium has the blob.
    pub(super) async fn blob(
        &mut self,
        reader: &Reader,
        item: &Item,
    ) -> Result<Option<(MemberId, u64)>, CopyError> {
        let key = ContentKey::Digest(item.digest.clone());
        let members = reader.members(&key).await.map_err(CopyError::source)?;
        let mut last = None;
        for (member, size) in members {
            let (chunks, facts) = reader.content(&member, Mode::Blob).await.map_err(CopyError::source)?;
            let sized = Item { digest: item.digest.clone(), size: Some(size) };
            let sent = self.put(&sized, chunks).await;
            // The reason of the medium is better than that of the sink, which saw an incomplete body.
            let read = facts.await;
            match (sent, read) {
                (Ok(()), _) => {
                    self.progress(size);
                    return Ok(Some((member, size)));
                }
                (Err(CopyError::Sink(error)), Ok(Ok(_)) | Err(_)) => return Err(CopyError::Sink(error)),
                (Err(_), Ok(Err(error))) => last = Some(CopyError::source(error)),
                (Err(refused), _) => last = Some(refused),
            }
        }
        last.map_or(Ok(None), Err)
    }

    /// Stores a layer of an image without a manifest, and returns it. One with a digest in its name is stored as it is,
    /// unless `compresses`.
    pub(super) async fn layer(
        &mut self,
        reader: &Reader,
        key: &ContentKey,
        diff_id: Option<&Digest>,
        gzip: bool,
        compresses: bool,
    ) -> Result<Layer, CopyError> {
        if let Some(known) = self.layers.get(key).cloned() {
            let item = Item { digest: known.digest.clone(), size: Some(known.size) };
            // Another repository may have it, and this one not.
            if !self.sink.is_by_repository()
                || self.sink.need(std::slice::from_ref(&item)).await.map_err(CopyError::of)?.is_empty()
            {
                return Ok(known);
            }
        }
        let members = reader.members(key).await.map_err(CopyError::source)?;
        match key {
            ContentKey::Digest(digest) if !gzip || !compresses || members.is_empty() => {
                let layer = self.whole_layer(reader, digest, members).await?;
                self.layers.insert(key.clone(), layer);
            }
            ContentKey::Digest(_) | ContentKey::Layer(_) => {
                for (member, size) in members {
                    if let Some(present) = self.present_layer(reader, &member, size, diff_id, gzip).await? {
                        return Ok(present);
                    }
                    self.read_layer(reader, key, &member, gzip).await?;
                    self.progress(size);
                    // Of several members that claim one digest, the one with the right content counts.
                    if self.layers.get(key).is_some_and(|layer| layer.diff_id.as_ref() == diff_id) {
                        break;
                    }
                }
            }
        }
        let layer = self.layers.get(key).cloned();
        layer.ok_or_else(|| CopyError::Refused("a layer was not read to its end; import again".into()))
    }

    /// Stores a layer with a digest in its name as it is. Its size is that of the content that the sink has: several members
    /// may claim the digest.
    async fn whole_layer(
        &mut self,
        reader: &Reader,
        digest: &Digest,
        mut members: Vec<(MemberId, u64)>,
    ) -> Result<Layer, CopyError> {
        let item = Item { digest: digest.clone(), size: members.first().map(|(_, size)| *size) };
        let missing = self.sink.need(std::slice::from_ref(&item)).await.map_err(CopyError::of)?;
        let size = if missing.is_empty() {
            let stored = match self.streamed.get(digest).copied().flatten() {
                Some(size) => Some(size),
                None => self.present_size(digest).await?,
            };
            stored.or(item.size).unwrap_or(0)
        } else if let Some((member, size)) = self.blob(reader, &item).await? {
            members = vec![(member, size)];
            size
        } else {
            let reason = self.refused.get(digest).cloned();
            return Err(CopyError::Refused(reason.unwrap_or_else(|| format!("layer {digest} is missing"))));
        };
        let compression = match members.iter().find(|(_, of_member)| *of_member == size) {
            Some((member, _)) => reader.peek(member).await.map_err(CopyError::source)?,
            None => Compression::None,
        };
        let diff_id = (compression == Compression::None).then(|| digest.clone());
        Ok(Layer { digest: digest.clone(), size, compression, diff_id })
    }

    /// Returns the size of content that the sink has, if it states one.
    async fn present_size(&mut self, digest: &Digest) -> Result<Option<u64>, CopyError> {
        // Content that is present is not read.
        let (_, nothing) = chunks();
        let item = Item { digest: digest.clone(), size: Some(0) };
        match self.sink.put(&item, nothing).await.map_err(CopyError::of)? {
            Put::Present(size) => Ok(size),
            Put::Stored => Ok(item.size),
            Put::Refused(reason) => Err(CopyError::Refused(reason)),
        }
    }

    /// Sends a member as a layer, compressed if it is not yet and `gzip`.
    async fn read_layer(
        &mut self,
        reader: &Reader,
        key: &ContentKey,
        member: &MemberId,
        gzip: bool,
    ) -> Result<(), CopyError> {
        let mode = Mode::Layer { gzip };
        let (chunks, facts) = reader.content(member, mode).await.map_err(CopyError::source)?;
        let (reply, answer) = tokio::sync::oneshot::channel();
        let facts = async {
            match facts.await {
                Ok(Ok(facts)) => Some(facts),
                Ok(Err(error)) => {
                    let _ = reply.send(error);
                    None
                }
                Err(_) => None,
            }
        };
        match self.post(key.clone(), chunks, facts).await {
            Ok(()) => Ok(()),
            Err(error) => Err(answer.await.map_or(error, CopyError::source)),
        }
    }

    /// Returns an uncompressed layer that the sink has already: its digest is that in the config.
    async fn present_layer(
        &mut self,
        reader: &Reader,
        member: &MemberId,
        size: u64,
        diff_id: Option<&Digest>,
        gzip: bool,
    ) -> Result<Option<Layer>, CopyError> {
        let Some(digest) = diff_id.filter(|_| !gzip) else { return Ok(None) };
        if reader.peek(member).await.map_err(CopyError::source)? != Compression::None {
            return Ok(None);
        }
        let item = Item { digest: digest.clone(), size: Some(size) };
        if !self.sink.need(std::slice::from_ref(&item)).await.map_err(CopyError::of)?.is_empty() {
            return Ok(None);
        }
        self.report.present += 1;
        let layer = Layer {
            digest: digest.clone(),
            size,
            compression: Compression::None,
            diff_id: Some(digest.clone()),
        };
        Ok(Some(layer))
    }

    /// Stores content in memory, if the sink lacks it.
    pub(super) async fn text(&mut self, text: &[u8]) -> Result<Digest, CopyError> {
        let digest = Hasher::digest(Algorithm::Sha256, text);
        let item = Item { digest: digest.clone(), size: Some(text.len() as u64) };
        if self.sink.need(std::slice::from_ref(&item)).await.map_err(CopyError::of)?.is_empty() {
            return Ok(digest);
        }
        let (sender, receiver) = chunks();
        sender.fill(text);
        drop(sender);
        self.put(&item, receiver).await.map(|()| digest)
    }

    pub(super) fn progress(&mut self, bytes: u64) {
        self.done += bytes;
        self.observer.progress(self.done, self.total);
    }
}

impl CopyError {
    pub(super) fn of(error: SinkError) -> Self {
        match error {
            SinkError::Refused(reason) => CopyError::Refused(reason),
            SinkError::Full(reason) => CopyError::Full(reason),
            error @ (SinkError::Disconnected(_) | SinkError::Denied(_) | SinkError::Interrupted) => {
                CopyError::Sink(error)
            }
        }
    }

    #[expect(clippy::needless_pass_by_value, reason = "so that it can be given to map_err")]
    pub(super) fn source(error: super::SourceError) -> Self {
        CopyError::Refused(error.to_string())
    }
}
