//! Opens the media of an import: directories, archives, archives in parts, and streams.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read, Seek, SeekFrom};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use rustix::fs::{Mode, OFlags, open};

use super::codec::{self, Compression};
use super::error::SourceError;
use super::parts::{self, Parts};
use super::tar::{Input, truncated};

/// Bytes that are read at once from a stream.
const BUFFER: usize = 256 << 10;

/// A medium.
pub struct Medium {
    /// Its path, for messages.
    pub place: String,
    /// The last component of its path.
    pub folder: Option<String>,
    /// Its content.
    pub kind: MediumKind,
}

/// The content of a medium.
pub enum MediumKind {
    /// A directory.
    Directory(OwnedFd),
    /// An uncompressed archive that is read in any order.
    Archive(Parts),
    /// An archive that is read in its order, with its size if it is known.
    Stream(Box<dyn Read + Send>, Option<u64>),
}

/// Opens the media that the user names; `-` is standard input. Parts of one archive are one medium.
///
/// # Errors
/// Fails if a medium cannot be opened, or has a compression that is not supported.
pub fn open_media(paths: &[PathBuf]) -> Result<Vec<Medium>, SourceError> {
    let mut media = Vec::new();
    for group in parts::group(paths) {
        media.push(match group.as_slice() {
            [path] if path.as_os_str() == "-" => {
                let input = BufReader::with_capacity(BUFFER, io::stdin());
                let kind = stream("standard input", input, None)?;
                Medium { place: "standard input".into(), folder: None, kind }
            }
            group => open_path(group)?,
        });
    }
    Ok(media)
}

/// Opens an archive whose first file is open already, with the paths of its files.
///
/// # Errors
/// As [`open_media`].
pub fn open_archive(file: File, group: &[PathBuf]) -> Result<Medium, SourceError> {
    let Some(first) = group.first() else { return Err(SourceError::Stopped) };
    let place = first.display().to_string();
    let kind = archive(&place, Parts::open(file, group)?)?;
    Ok(Medium { folder: folder(first), place, kind })
}

/// Opens a stream of bytes as an archive.
///
/// # Errors
/// As [`open_media`].
pub fn open_stream(place: String, input: Box<dyn Read + Send>) -> Result<Medium, SourceError> {
    let kind = stream(&place, BufReader::with_capacity(BUFFER, input), None)?;
    Ok(Medium { place, folder: None, kind })
}

fn open_path(group: &[PathBuf]) -> Result<Medium, SourceError> {
    let first = &group[0];
    let place = first.display().to_string();
    let failed = |error: io::Error| SourceError::io(place.clone(), error);
    // A pipe without a writer must not hang here; the flag has no effect on files.
    let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK | OFlags::NOCTTY;
    let opened = open(first, flags, Mode::empty()).map_err(|error| failed(error.into()))?;
    let file = File::from(opened);
    let kind = file.metadata().map_err(failed)?.file_type();
    let kind = if kind.is_dir() {
        MediumKind::Directory(file.into())
    } else if kind.is_file() {
        archive(&place, Parts::open(file, group)?)?
    } else {
        rustix::fs::fcntl_setfl(&file, OFlags::empty()).map_err(|error| failed(error.into()))?;
        stream(&place, BufReader::with_capacity(BUFFER, file), None)?
    };
    Ok(Medium { folder: folder(first), place, kind })
}

/// Returns the last component of a path, without the endings of archives.
fn folder(path: &Path) -> Option<String> {
    let path = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
    path.file_name().map(|name| name.to_string_lossy().into_owned())
}

fn archive(place: &str, mut parts: Parts) -> Result<MediumKind, SourceError> {
    let failed = |error| SourceError::io(place, error);
    let mut magic = Vec::new();
    parts.by_ref().take(codec::MAGIC as u64).read_to_end(&mut magic).map_err(failed)?;
    parts.seek(SeekFrom::Start(0)).map_err(failed)?;
    match Compression::of(&magic) {
        Compression::None if codec::unsupported(&magic).is_none() => Ok(MediumKind::Archive(parts)),
        Compression::None | Compression::Gzip | Compression::Zstd => {
            let size = parts.size();
            stream(place, BufReader::with_capacity(BUFFER, parts), Some(size))
        }
    }
}

fn stream(
    place: &str,
    mut input: impl BufRead + Send + 'static,
    size: Option<u64>,
) -> Result<MediumKind, SourceError> {
    let start = input.fill_buf().map_err(|error| SourceError::io(place, error))?;
    if let Some(program) = codec::unsupported(start) {
        let hint = format!("compressed with {program}; use: {program} -dc FILE | holdfast import -");
        return Err(SourceError::invalid(place, hint));
    }
    let compression = Compression::of(start);
    Ok(MediumKind::Stream(codec::decode(compression, input), size))
}

/// The bytes of a stream, for the walk through an archive.
pub struct StreamInput<'a>(pub &'a mut (dyn Read + Send));

impl Read for StreamInput<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.0.read(buffer)
    }
}

impl Input for StreamInput<'_> {
    fn skip(&mut self, count: u64) -> io::Result<()> {
        let skipped = io::copy(&mut Read::take(&mut *self.0, count), &mut io::sink())?;
        if skipped == count { Ok(()) } else { Err(truncated()) }
    }
}

/// The bytes of a file that can be positioned, for the walk through an archive.
pub struct FileInput<'a>(pub &'a mut Parts);

impl Read for FileInput<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.0.read(buffer)
    }
}

impl Input for FileInput<'_> {
    fn skip(&mut self, count: u64) -> io::Result<()> {
        if self.0.position().saturating_add(count) > self.0.size() {
            return Err(truncated());
        }
        let count = i64::try_from(count).map_err(|_| truncated())?;
        self.0.seek(SeekFrom::Current(count)).map(drop)
    }
}
