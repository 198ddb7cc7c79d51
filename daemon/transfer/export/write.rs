//! Writes a sequence of bytes and content so that an interrupted run continues, and reads it back.

use bytes::Bytes;

use super::content::{BlobRef, Fetcher};
use super::error::ExportError;
use super::meter::Meter;
use super::parts::Output;
use crate::oci::Hasher;

/// Bytes that are read from the medium at a time.
const BUFFER: usize = 1 << 20;
/// Attempts to read content of the registry, the last of them from its first byte.
const ATTEMPTS: usize = 2;

/// A piece of a file.
#[derive(Clone, Debug)]
pub(super) enum Segment<'a> {
    /// Bytes in memory.
    Bytes(Bytes),
    /// Content of the registry.
    Content(&'a BlobRef),
}

impl Segment<'_> {
    pub(super) fn length(&self) -> u64 {
        match self {
            Segment::Bytes(bytes) => bytes.len() as u64,
            Segment::Content(blob) => blob.size,
        }
    }
}

/// The result of writing an export.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Written {
    /// The files, relative to the medium; a directory has only its folder here.
    pub files: Vec<String>,
    /// Bytes that were written.
    pub written: u64,
    /// Bytes that the medium had.
    pub kept: u64,
    /// True if everything was read back.
    pub verified: bool,
}

/// Compares what exists and writes the rest; returns the number of bytes that were kept.
pub(super) fn write_segments<'a>(
    segments: impl Iterator<Item = Segment<'a>>,
    output: &mut dyn Output,
    fetcher: &Fetcher,
    meter: &mut Meter,
) -> Result<u64, ExportError> {
    let (existing, mut at, mut kept) = (output.existing(), 0, None);
    for segment in segments {
        let end = at + segment.length();
        if kept.is_none() {
            if end <= existing && is_equal(&segment, at, output, meter)? {
                at = end;
                continue;
            }
            kept = Some(at);
            // Content that is there in part may be continued; everything else is written again.
            let is_continued = matches!(segment, Segment::Content(_)) && end > existing;
            if existing > at && !is_continued {
                output.cut(at)?;
            }
        }
        match &segment {
            Segment::Bytes(bytes) => {
                output.append(bytes)?;
                meter.add(bytes.len() as u64)?;
            }
            Segment::Content(blob) => write_content(blob, at, output, fetcher, meter)?,
        }
        at = end;
    }
    if existing > at && kept.is_none() {
        output.cut(at)?;
    }
    Ok(kept.unwrap_or(at))
}

/// Writes content at a position, behind the part of it that exists.
fn write_content(
    blob: &BlobRef,
    at: u64,
    output: &mut dyn Output,
    fetcher: &Fetcher,
    meter: &mut Meter,
) -> Result<(), ExportError> {
    let mut begun = output.existing().saturating_sub(at).min(blob.size);
    for attempt in 1..=ATTEMPTS {
        let mut hasher = Hasher::new(blob.digest.algorithm());
        let done = begun;
        if begun > 0 {
            hash(&mut hasher, at, begun, output, meter)?;
        }
        let mut length = begun;
        let ended = fetcher.read(blob, begun, |bytes| {
            length += bytes.len() as u64;
            if length > blob.size {
                return Err(unreadable(blob, "it has more bytes than the registry says"));
            }
            hasher.update(bytes);
            output.append(bytes)?;
            meter.fetched(bytes.len() as u64)?;
            meter.add(bytes.len() as u64)
        });
        let why = match ended {
            Ok(()) if length < blob.size => unreadable(blob, "the registry ended it too early"),
            Ok(()) if hasher.finish() == blob.digest => return Ok(()),
            Ok(()) => unreadable(blob, "its bytes do not match its digest"),
            Err(error @ ExportError::Unreadable { .. }) => error,
            // What was written stays, so that the next run continues it.
            Err(error) => return Err(error),
        };
        match output.cut(at) {
            // A pipe, on which nothing can be repeated.
            Err(ExportError::Refused(_)) => return Err(why),
            cut => cut?,
        }
        meter.take_back(length.min(blob.size));
        // A part of an earlier run that was damaged is no fault of the registry.
        if attempt == ATTEMPTS || (done == 0 && attempt > 1) {
            return Err(why);
        }
        begun = 0;
    }
    Ok(())
}

fn unreadable(blob: &BlobRef, why: &str) -> ExportError {
    ExportError::Unreadable { digest: blob.digest.clone(), why: why.into() }
}

/// Reads the segments back from a position on.
pub(super) fn verify_segments<'a>(
    segments: impl Iterator<Item = Segment<'a>>,
    from: u64,
    output: &mut dyn Output,
    meter: &mut Meter,
) -> Result<(), ExportError> {
    let mut at = 0;
    for segment in segments {
        let length = segment.length();
        if at + length > from && !is_equal(&segment, at, output, meter)? {
            return Err(output.differs(at));
        }
        at += length;
    }
    Ok(())
}

/// Returns true if the output has a segment at a position.
fn is_equal(
    segment: &Segment<'_>,
    at: u64,
    output: &mut dyn Output,
    meter: &mut Meter,
) -> Result<bool, ExportError> {
    match segment {
        Segment::Bytes(bytes) => {
            let mut read = vec![0; bytes.len()];
            output.read_at(at, &mut read)?;
            let is_equal = read == *bytes;
            meter.add(if is_equal { bytes.len() as u64 } else { 0 })?;
            Ok(is_equal)
        }
        Segment::Content(blob) => {
            let mut hasher = Hasher::new(blob.digest.algorithm());
            hash(&mut hasher, at, blob.size, output, meter)?;
            let is_equal = hasher.finish() == blob.digest;
            if !is_equal {
                meter.take_back(blob.size);
            }
            Ok(is_equal)
        }
    }
}

fn hash(
    hasher: &mut Hasher,
    at: u64,
    length: u64,
    output: &mut dyn Output,
    meter: &mut Meter,
) -> Result<(), ExportError> {
    let mut buffer = vec![0; usize::try_from(length).unwrap_or(BUFFER).min(BUFFER)];
    let mut done = 0;
    while done < length {
        let count = usize::try_from(length - done).unwrap_or(BUFFER).min(buffer.len());
        output.read_at(at + done, &mut buffer[..count])?;
        hasher.update(&buffer[..count]);
        done += count as u64;
        meter.add(count as u64)?;
    }
    Ok(())
}

#[cfg(test)]
pub(super) mod testing {
    //! A registry of tests, which serves content from memory.

    use std::collections::BTreeMap;
    use std::thread::JoinHandle;

    use super::super::content::{FetchError, fetches};
    use super::super::meter::StopFlag;
    use super::*;
    use crate::oci::{Algorithm, Digest};

    pub(in super::super) fn blob(bytes: &[u8]) -> BlobRef {
        let digest = Hasher::digest(Algorithm::Sha256, bytes);
        let repositories = vec!["a".parse().unwrap()];
        BlobRef { digest, size: bytes.len() as u64, repositories, is_manifest: false }
    }

    pub(in super::super) fn meter() -> Meter {
        Meter::new(StopFlag::default(), None, |_| {})
    }

    /// Serves content until all fetchers are dropped.
    pub(in super::super) fn serve(content: BTreeMap<Digest, Vec<u8>>) -> (Fetcher, JoinHandle<()>) {
        let (fetcher, mut receiver) = fetches();
        let thread = std::thread::spawn(move || {
            while let Some(fetch) = receiver.blocking_recv() {
                let chunk = match content.get(&fetch.blob.digest) {
                    Some(bytes) => {
                        Ok(Bytes::copy_from_slice(&bytes[usize::try_from(fetch.offset).unwrap()..]))
                    }
                    None => Err(FetchError::Unreadable("it is not there".into())),
                };
                let _ = fetch.chunks.blocking_send(chunk);
                let _ = fetch.chunks.blocking_send(Ok(Bytes::new()));
            }
        });
        (fetcher, thread)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::testing::{blob, meter, serve};
    use super::*;
    use crate::transfer::export::Medium;
    use crate::transfer::export::layout::Layout;
    use crate::transfer::export::parts::PartFiles;

    /// Writes to parts of a directory that has `before`; returns the bytes and how many were kept.
    fn write(before: &[u8], part: Option<u64>, blobs: &[Vec<u8>]) -> (Vec<u8>, u64) {
        let directory = tempfile::tempdir().unwrap();
        let medium = Medium::open(directory.path()).unwrap();
        let refs: Vec<BlobRef> = blobs.iter().map(|bytes| blob(bytes)).collect();
        let segments = || {
            let head = std::iter::once(Segment::Bytes(Bytes::from_static(b"head")));
            head.chain(refs.iter().map(Segment::Content))
        };
        let total = segments().map(|segment| segment.length()).sum();
        let layout = Layout { name: "x".into(), total, part };
        let mut files = PartFiles::resume(&medium, layout.clone()).unwrap();
        files.append(&before[..before.len().min(usize::try_from(total).unwrap())]).unwrap();
        files.end_writing(true).unwrap();
        drop(files);
        let content = refs.iter().map(|one| one.digest.clone()).zip(blobs.iter().cloned()).collect();
        let (fetcher, thread) = serve(content);
        let mut files = PartFiles::resume(&medium, layout.clone()).unwrap();
        let kept = write_segments(segments(), &mut files, &fetcher, &mut meter()).unwrap();
        files.end_writing(true).unwrap();
        verify_segments(segments(), 0, &mut files, &mut meter()).unwrap();
        files.finish().unwrap();
        drop(fetcher);
        thread.join().unwrap();
        let mut whole = Vec::new();
        for name in layout.names() {
            whole.extend(std::fs::read(directory.path().join(name)).unwrap());
        }
        (whole, kept)
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(40))]
        #[test]
        fn any_prefix_and_any_damage_end_in_the_same_bytes(
            blobs in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..40), 0..4),
            part in prop::option::of(1_u64..30),
            cut in any::<prop::sample::Index>(),
            damage in prop::option::of(any::<prop::sample::Index>()),
        ) {
            let whole = [b"head".to_vec(), blobs.concat()].concat();
            let mut before = whole[..cut.index(whole.len() + 1)].to_vec();
            if let Some(damage) = damage.filter(|_| !before.is_empty()) {
                let at = damage.index(before.len());
                before[at] ^= 1;
            }
            let (written, kept) = write(&before, part, &blobs);
            prop_assert_eq!(&written, &whole);
            prop_assert!(kept <= before.len() as u64);
        }
    }

    #[test]
    fn content_that_does_not_match_its_digest_is_cut_again() {
        let directory = tempfile::tempdir().unwrap();
        let medium = Medium::open(directory.path()).unwrap();
        let one = blob(b"content");
        for (served, why) in [(&b"Content"[..], "digest"), (b"cont", "early"), (b"contents", "more bytes")] {
            let (fetcher, thread) = serve([(one.digest.clone(), served.to_vec())].into());
            let layout = Layout { name: "x".into(), total: 8, part: None };
            let mut files = PartFiles::resume(&medium, layout).unwrap();
            let segments = [Segment::Bytes(Bytes::from_static(b"!")), Segment::Content(&one)];
            let error = write_segments(segments.into_iter(), &mut files, &fetcher, &mut meter()).unwrap_err();
            assert!(error.to_string().contains(why), "{error}");
            assert_eq!(files.existing(), 1);
            drop(fetcher);
            thread.join().unwrap();
        }
    }
}
