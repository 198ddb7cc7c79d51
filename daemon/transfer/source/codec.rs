//! Compression, recognised by magic bytes.

use std::io::{self, BufRead, BufReader, Read};

use flate2::read::MultiGzDecoder;
use ruzstd::decoding::errors::{FrameDecoderError, ReadFrameHeaderError};
use ruzstd::decoding::{BlockDecodingStrategy, FrameDecoder};

use super::limits;

/// The compression of a file or a layer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Compression {
    /// None that is known.
    None,
    /// gzip.
    Gzip,
    /// Zstandard.
    Zstd,
}

/// Bytes that [`Compression::of`] and [`unsupported`] look at.
pub const MAGIC: usize = 6;

impl Compression {
    /// Recognises the compression by the first bytes.
    pub fn of(start: &[u8]) -> Self {
        match start {
            [0x1f, 0x8b, 0x08, ..] => Compression::Gzip,
            // A frame of Zstandard, or a skippable one.
            [0x28, 0xb5, 0x2f, 0xfd, ..] | [0x50..=0x5f, 0x2a, 0x4d, 0x18, ..] => Compression::Zstd,
            _ => Compression::None,
        }
    }
}

/// Returns the program that decompresses a file which this program cannot read.
pub fn unsupported(start: &[u8]) -> Option<&'static str> {
    match start {
        [0xfd, b'7', b'z', b'X', b'Z', 0, ..] => Some("xz"),
        [b'B', b'Z', b'h', b'1'..=b'9', ..] => Some("bzip2"),
        _ => None,
    }
}

/// Decodes a stream.
pub fn decode<'a>(compression: Compression, input: impl BufRead + Send + 'a) -> Box<dyn Read + Send + 'a> {
    match compression {
        Compression::None => Box::new(input),
        Compression::Gzip => Box::new(BufReader::with_capacity(64 << 10, MultiGzDecoder::new(input))),
        Compression::Zstd => Box::new(Zstd { input, decoder: FrameDecoder::new(), is_open: false }),
    }
}

/// A decoder for all frames of a Zstandard stream.
struct Zstd<R> {
    input: R,
    decoder: FrameDecoder,
    is_open: bool,
}

impl<R: BufRead> Zstd<R> {
    /// Begins the next frame; returns false at the end of the stream.
    fn begin(&mut self) -> io::Result<bool> {
        loop {
            if self.input.fill_buf()?.is_empty() {
                return Ok(false);
            }
            self.decoder.set_max_window_size(limits::ZSTD_WINDOW);
            match self.decoder.reset(&mut self.input) {
                Ok(()) => {
                    self.is_open = true;
                    return Ok(true);
                }
                Err(FrameDecoderError::ReadFrameHeaderError(ReadFrameHeaderError::SkipFrame {
                    length,
                    ..
                })) => {
                    let skipped = io::copy(&mut self.input.by_ref().take(length.into()), &mut io::sink())?;
                    if skipped < u64::from(length) {
                        return Err(io::ErrorKind::UnexpectedEof.into());
                    }
                }
                Err(FrameDecoderError::WindowSizeTooBig { requested, .. }) => {
                    return Err(invalid(format!(
                        "the zstd window of {requested} bytes exceeds the limit of {} MiB; compress without --ultra or --long",
                        limits::ZSTD_WINDOW >> 20
                    )));
                }
                Err(error) => return Err(invalid(format!("zstd: {error}"))),
            }
        }
    }
}

impl<R: BufRead> Read for Zstd<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            if !self.is_open && !self.begin()? {
                return Ok(0);
            }
            while self.decoder.can_collect() == 0 && !self.decoder.is_finished() {
                self.decoder
                    .decode_blocks(&mut self.input, BlockDecodingStrategy::UptoBlocks(1))
                    .map_err(|error| invalid(format!("zstd: {error}")))?;
            }
            if self.decoder.can_collect() > 0 {
                return self.decoder.read(buffer);
            }
            let stated = self.decoder.get_checksum_from_data();
            if stated.is_some() && stated != self.decoder.get_calculated_checksum() {
                return Err(invalid("zstd: wrong checksum".into()));
            }
            self.is_open = false;
        }
    }
}

fn invalid(reason: String) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, reason)
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use proptest::prelude::*;

    use super::*;

    fn decoded(bytes: &[u8]) -> io::Result<Vec<u8>> {
        let mut text = Vec::new();
        decode(Compression::of(bytes), bytes).read_to_end(&mut text).map(|_| text)
    }

    fn gzip(text: &[u8]) -> Vec<u8> {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
        encoder.write_all(text).unwrap();
        encoder.finish().unwrap()
    }

    fn zstd(text: &[u8]) -> Vec<u8> {
        ruzstd::encoding::compress_to_vec(text, ruzstd::encoding::CompressionLevel::Fastest)
    }

    #[test]
    fn all_frames_are_decoded() {
        let text = b"abc".repeat(100_000);
        assert!(decoded(&gzip(&text)).unwrap() == text);
        assert!(decoded(&zstd(&text)).unwrap() == text);
        let mut two = zstd(&text);
        // A skippable frame stands between.
        two.extend([0x50, 0x2a, 0x4d, 0x18, 3, 0, 0, 0, 1, 2, 3]);
        two.extend(zstd(b"end"));
        assert!(decoded(&two).unwrap() == [&text[..], b"end"].concat());
    }

    #[test]
    fn large_windows_are_refused_with_their_size() {
        // A frame header with a window of 2 GiB.
        let frame = [0x28, 0xb5, 0x2f, 0xfd, 0x00, 21 << 3, 0x01, 0x00, 0x00];
        let error = decoded(&frame).unwrap_err().to_string();
        assert!(error.contains("128 MiB"), "{error}");
    }

    #[test]
    fn other_programs_are_named() {
        assert_eq!(unsupported(b"\xfd7zXZ\0"), Some("xz"));
        assert_eq!(unsupported(b"BZh91A"), Some("bzip2"));
        assert_eq!(unsupported(b"ustar"), None);
    }

    proptest! {
        #[test]
        fn truncated_streams_fail(at in 1usize..1000) {
            let text: Vec<u8> = (0..2000u32).flat_map(|n| n.wrapping_mul(2_654_435_761).to_le_bytes()).collect();
            for bytes in [gzip(&text), zstd(&text)] {
                let at = at % bytes.len();
                let cut = decoded(&bytes[..at]);
                prop_assert!(at < MAGIC || cut.is_err());
            }
        }

        #[test]
        fn never_panics(mut bytes in prop::collection::vec(any::<u8>(), 0..300), zstd in any::<bool>()) {
            let magic: &[u8] = if zstd { &[0x28, 0xb5, 0x2f, 0xfd] } else { &[0x1f, 0x8b, 8] };
            bytes.splice(..0, magic.iter().copied());
            let _ = decode(Compression::of(&bytes), &bytes[..]).take(1 << 20).read_to_end(&mut Vec::new());
        }
    }
}
