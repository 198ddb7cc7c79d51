//! Fuzzes the readers of archives: compression, tar, and the documents of all formats.
#![no_main]

use std::collections::BTreeMap;
use std::io::{Cursor, Read};

use holdfast::oci::Digest;
use holdfast::transfer::source::codec::{Compression, decode};
use holdfast::transfer::source::{ContentKey, Library, Medium, MediumKind, SourceError, StreamVisitor};
use libfuzzer_sys::fuzz_target;

/// Bytes that are decompressed at most.
const LIMIT: u64 = 4 << 20;
/// Content that is kept, as the registry would have it, so that manifests below an index are read.
const KEPT: u64 = 64 << 10;

/// Reads content and keeps what is small.
#[derive(Default)]
struct Keep(BTreeMap<Digest, Vec<u8>>);

impl StreamVisitor for Keep {
    fn content(&mut self, key: ContentKey, size: u64, content: &mut dyn Read) -> Result<(), SourceError> {
        let mut text = Vec::new();
        let read = (&mut *content).take(KEPT).read_to_end(&mut text);
        let Ok(rest) = std::io::copy(content, &mut std::io::sink()) else { return Err(SourceError::Stopped) };
        let Ok(read) = read else { return Err(SourceError::Stopped) };
        assert_eq!(read as u64 + rest, size);
        match key {
            ContentKey::Digest(digest) => drop(self.0.insert(digest, text)),
            ContentKey::Layer(_) => {}
        }
        Ok(())
    }
}

fn read(stream: Box<dyn Read + Send>) {
    let kind = MediumKind::Stream(stream, None);
    let medium = Medium { place: "fuzz".into(), folder: None, kind };
    let (mut library, mut keep) = (Library::default(), Keep::default());
    if library.add(medium, &mut keep).is_ok() {
        let _ = library.catalogs(&mut |digest| Ok(keep.0.get(digest).cloned()));
    }
}

/// Sets the checksum of each header. A changed archive would otherwise end at its first one.
fn set_checksums(bytes: &mut [u8]) {
    let mut at = 0_usize;
    while let Some(header) = bytes.get_mut(at..at.saturating_add(512)) {
        if header.iter().all(|byte| *byte == 0) {
            return;
        }
        let sum: u32 = header.iter().enumerate().map(|(at, byte)| if (148..156).contains(&at) { 32 } else { u32::from(*byte) }).sum();
        header[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
        let size = String::from_utf8_lossy(&header[124..136]).into_owned();
        let size = usize::from_str_radix(size.trim_matches(['\0', ' ']), 8).unwrap_or(0);
        at = at.saturating_add(512).saturating_add(size.saturating_add(511) / 512 * 512);
    }
}

fuzz_target!(|bytes: &[u8]| {
    let stream = || decode(Compression::of(bytes), Cursor::new(bytes.to_vec())).take(LIMIT);
    read(Box::new(stream()));
    let mut plain = Vec::new();
    // What was decoded before an error is read as well.
    let _ = stream().read_to_end(&mut plain);
    set_checksums(&mut plain);
    read(Box::new(Cursor::new(plain)));
});
