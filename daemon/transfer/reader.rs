//! The thread that reads the media.
//!
//! First it lists directories and archives and reads streams to their ends, then it makes the catalogs, then it reads
//! content on request. A thread of its own: a read from a pipe may never return, and must not hold up the end of the
//! process.

use std::fs::File;
use std::io::{self, Read, Write};
use std::path::PathBuf;

use bytes::{Bytes, BytesMut};
use flate2::GzBuilder;
use flate2::write::GzEncoder;
use tokio::sync::{mpsc, oneshot};

use super::chunks::{ChunkSender, Chunks, Unwanted, chunks};
use super::source::codec::Compression;
use super::source::limits::{Bounds, CHUNK};
use super::source::{
    Catalog, ContentKey, Library, MemberId, SourceError, StreamVisitor, open_archive, open_media, open_stream,
};
use crate::oci::{Algorithm, Digest, Hasher};

/// The level of compression: that of gzip itself.
const LEVEL: u32 = 6;

/// Facts about content that has been read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Facts {
    /// The compression of what was sent.
    pub(super) compression: Compression,
    /// The digest of the uncompressed content, if it was read uncompressed as a layer.
    pub(super) diff_id: Option<Digest>,
}

/// The mode in which content is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Mode {
    /// As it is.
    Blob,
    /// As a layer of an image without a manifest, compressed if it is not yet.
    Layer {
        /// Whether it is compressed.
        gzip: bool,
    },
}

/// A message of the thread.
pub(super) enum Event {
    /// Content of a stream.
    Content { key: ContentKey, size: u64, chunks: Chunks, facts: oneshot::Receiver<Facts> },
    /// A question for content that the sink may have.
    ReadBack(Digest, oneshot::Sender<Option<Vec<u8>>>),
    /// The images of all media.
    Catalogs(Vec<Catalog>),
    /// The media cannot be read.
    Failed(SourceError),
}

/// A request to the thread, after the catalogs.
enum Request {
    Read(Digest, oneshot::Sender<Result<Option<Vec<u8>>, SourceError>>),
    Members(ContentKey, oneshot::Sender<Vec<(MemberId, u64)>>),
    Peek(MemberId, oneshot::Sender<Result<Compression, SourceError>>),
    Content(MemberId, Mode, ChunkSender, oneshot::Sender<Result<Facts, SourceError>>),
}

/// The engine's side of the thread.
pub(super) struct Reader {
    events: mpsc::Receiver<Event>,
    requests: mpsc::Sender<Request>,
}

/// Media as the caller gives them.
pub enum Media {
    /// Paths; `-` is standard input.
    Paths(Vec<PathBuf>),
    /// The first file of an archive, which is open, and the paths of all its files. The limits are those of the daemon.
    Archive(File, Vec<PathBuf>),
    /// The name and the bytes of an archive that is read once. The limits are those of the daemon.
    Stream(String, Box<dyn Read + Send>),
}

impl Media {
    /// Returns the limits for what the media may make a reader hold.
    pub(super) fn bounds(&self) -> Bounds {
        match self {
            Media::Paths(_) => Bounds::COMMAND,
            Media::Archive(..) | Media::Stream(..) => Bounds::DAEMON,
        }
    }
}

impl Reader {
    /// Starts the thread.
    pub(super) fn start(media: Media, gzip: bool) -> io::Result<Self> {
        let (event_sender, events) = mpsc::channel(1);
        let (requests, request_receiver) = mpsc::channel(1);
        let run = move || {
            let library = load(media, gzip, &event_sender);
            match library {
                Ok(library) => serve(library, request_receiver),
                // The engine may have ended before.
                Err(error) => drop(event_sender.blocking_send(Event::Failed(error))),
            }
        };
        std::thread::Builder::new().name("import-reader".into()).spawn(run)?;
        Ok(Reader { events, requests })
    }

    /// Returns the next message.
    pub(super) async fn event(&mut self) -> Event {
        self.events.recv().await.unwrap_or(Event::Failed(SourceError::Stopped))
    }

    /// Reads small content; `None` if the media do not have it.
    pub(super) async fn read(&self, digest: &Digest) -> Result<Option<Vec<u8>>, SourceError> {
        let (reply, answer) = oneshot::channel();
        self.ask(Request::Read(digest.clone(), reply)).await?;
        answer.await.map_err(|_| SourceError::Stopped)?
    }

    /// Returns the members that claim to be content, with their sizes; none for content of a stream.
    pub(super) async fn members(&self, key: &ContentKey) -> Result<Vec<(MemberId, u64)>, SourceError> {
        let (reply, answer) = oneshot::channel();
        self.ask(Request::Members(key.clone(), reply)).await?;
        answer.await.map_err(|_| SourceError::Stopped)
    }

    /// Returns the compression of a member.
    pub(super) async fn peek(&self, id: &MemberId) -> Result<Compression, SourceError> {
        let (reply, answer) = oneshot::channel();
        self.ask(Request::Peek(id.clone(), reply)).await?;
        answer.await.map_err(|_| SourceError::Stopped)?
    }

    /// Begins to read a member; the facts come when it has been read.
    pub(super) async fn content(
        &self,
        id: &MemberId,
        mode: Mode,
    ) -> Result<(Chunks, oneshot::Receiver<Result<Facts, SourceError>>), SourceError> {
        let (sender, receiver) = chunks();
        let (reply, answer) = oneshot::channel();
        self.ask(Request::Content(id.clone(), mode, sender, reply)).await?;
        Ok((receiver, answer))
    }

    async fn ask(&self, request: Request) -> Result<(), SourceError> {
        self.requests.send(request).await.map_err(|_| SourceError::Stopped)
    }
}

/// Sends the content of streams, and the catalogs.
struct Visitor<'a> {
    events: &'a mpsc::Sender<Event>,
    gzip: bool,
}

impl Visitor<'_> {
    fn send(&self, event: Event) -> Result<(), SourceError> {
        self.events.blocking_send(event).map_err(|_| SourceError::Stopped)
    }
}

impl StreamVisitor for Visitor<'_> {
    fn content(&mut self, key: ContentKey, size: u64, content: &mut dyn Read) -> Result<(), SourceError> {
        let mode = match &key {
            ContentKey::Digest(_) => Mode::Blob,
            ContentKey::Layer(_) => Mode::Layer { gzip: self.gzip },
        };
        let (sender, receiver) = chunks();
        let (reply, facts) = oneshot::channel();
        self.send(Event::Content { key, size, chunks: receiver, facts })?;
        let read = pump(content, size, mode, &sender)?;
        // The engine asks only for those that it stores.
        let _ = reply.send(read);
        Ok(())
    }
}

fn load(media: Media, gzip: bool, events: &mpsc::Sender<Event>) -> Result<Library, SourceError> {
    let mut library = Library::within(media.bounds());
    let mut visitor = Visitor { events, gzip };
    let media = match media {
        Media::Paths(paths) => open_media(&paths)?,
        Media::Archive(file, group) => vec![open_archive(file, &group)?],
        Media::Stream(name, stream) => vec![open_stream(name, stream)?],
    };
    for medium in media {
        library.add(medium, &mut visitor)?;
    }
    let mut read_back = |digest: &Digest| {
        let (reply, answer) = oneshot::channel();
        visitor.send(Event::ReadBack(digest.clone(), reply))?;
        answer.blocking_recv().map_err(|_| SourceError::Stopped)
    };
    let catalogs = library.catalogs(&mut read_back)?;
    visitor.send(Event::Catalogs(catalogs))?;
    Ok(library)
}

fn serve(mut library: Library, mut requests: mpsc::Receiver<Request>) {
    // A reply that no task waits for belongs to an import that has ended.
    while let Some(request) = requests.blocking_recv() {
        match request {
            Request::Read(digest, reply) => drop(reply.send(library.read(&digest))),
            Request::Members(key, reply) => {
                let members = library.members(&key).into_iter();
                let members = members.filter(|id| library.is_readable(id));
                let sized = members.map(|id| (id.clone(), library.size(&id).unwrap_or(0)));
                drop(reply.send(sized.collect()));
            }
            Request::Peek(id, reply) => drop(reply.send(peek(&mut library, &id))),
            Request::Content(id, mode, chunks, reply) => {
                let read = match library.open(&id) {
                    Ok(Some(mut content)) => {
                        let size = content.limit();
                        pump(&mut content, size, mode, &chunks)
                    }
                    Ok(None) => Err(SourceError::Stopped),
                    Err(error) => Err(error),
                };
                if let Err(error) = &read {
                    // The sink must not take what was sent for the whole content.
                    let _ = chunks.send(Err(io::Error::other(error.to_string())));
                }
                drop(reply.send(read));
            }
        }
    }
}

fn peek(library: &mut Library, id: &MemberId) -> Result<Compression, SourceError> {
    let mut start = Vec::new();
    if let Some(content) = library.open(id)? {
        let read = content.take(super::source::codec::MAGIC as u64).read_to_end(&mut start);
        read.map_err(|error| SourceError::io("a layer", error))?;
    }
    Ok(Compression::of(&start))
}

/// Reads content to its end and sends it in chunks. Stops when the sink wants no more.
fn pump(content: &mut dyn Read, size: u64, mode: Mode, chunks: &ChunkSender) -> Result<Facts, SourceError> {
    let failed = |error: io::Error| {
        let copy = io::Error::new(error.kind(), error.to_string());
        // The sink must not take what was sent for the whole content.
        let _ = chunks.send(Err(copy));
        SourceError::io("the medium", error)
    };
    let mut read = 0;
    let mut next = || {
        let chunk = fill(content, size - read)?;
        read += chunk.len() as u64;
        if chunk.is_empty() && read < size { Err(super::source::truncated()) } else { Ok(chunk) }
    };
    let first = next().map_err(failed)?;
    let compression = Compression::of(&first);
    let is_plain_layer = matches!(mode, Mode::Layer { .. }) && compression == Compression::None;
    let compresses = is_plain_layer && mode == Mode::Layer { gzip: true };
    let mut hasher = is_plain_layer.then(|| Hasher::new(Algorithm::Sha256));
    let mut encoder = compresses
        .then(|| GzBuilder::new().mtime(0).write(ChunkWriter::new(chunks), flate2::Compression::new(LEVEL)));
    let mut chunk = first;
    while !chunk.is_empty() {
        if let Some(hasher) = &mut hasher {
            hasher.update(&chunk);
        }
        let sent = match &mut encoder {
            Some(encoder) => encoder.write_all(&chunk).map_err(|_| Unwanted),
            None => chunks.send(Ok(chunk)),
        };
        if sent.is_err() {
            return Ok(Facts { compression, diff_id: None });
        }
        chunk = next().map_err(failed)?;
    }
    // An encoder that cannot finish has no reader.
    let is_whole = encoder.is_none_or(|encoder| finish(encoder).is_ok());
    let diff_id = hasher.filter(|_| is_whole).map(Hasher::finish);
    Ok(Facts { compression: if compresses { Compression::Gzip } else { compression }, diff_id })
}

fn finish(encoder: GzEncoder<ChunkWriter<'_>>) -> io::Result<()> {
    encoder.finish()?.flush()
}

/// Reads a chunk, which is shorter only at the end.
fn fill(content: &mut dyn Read, rest: u64) -> io::Result<Bytes> {
    let length = usize::try_from(rest).unwrap_or(CHUNK).min(CHUNK);
    let mut chunk = BytesMut::zeroed(length);
    let mut filled = 0;
    while filled < length {
        match content.read(&mut chunk[filled..]) {
            Ok(0) => break,
            Ok(count) => filled += count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    chunk.truncate(filled);
    Ok(chunk.freeze())
}

/// Collects written bytes in chunks.
struct ChunkWriter<'a> {
    chunks: &'a ChunkSender,
    waiting: BytesMut,
}

impl<'a> ChunkWriter<'a> {
    fn new(chunks: &'a ChunkSender) -> Self {
        ChunkWriter { chunks, waiting: BytesMut::new() }
    }
}

impl Write for ChunkWriter<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.waiting.extend_from_slice(bytes);
        if self.waiting.len() >= CHUNK { self.flush().map(|()| bytes.len()) } else { Ok(bytes.len()) }
    }

    fn flush(&mut self) -> io::Result<()> {
        if self.waiting.is_empty() {
            return Ok(());
        }
        let chunk = self.waiting.split().freeze();
        self.chunks.send(Ok(chunk)).map_err(|_| io::ErrorKind::BrokenPipe.into())
    }
}
