//! Fuzzes archives that are read in any order: the list of members, links among them, and the contents by their positions.
#![no_main]

use std::cell::RefCell;
use std::fs::File;
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::PathBuf;

use holdfast::transfer::source::{ContentKey, Library, Root, SourceError, StreamVisitor, open_archive};
use libfuzzer_sys::fuzz_target;

/// Bytes that are read of each content.
const LIMIT: u64 = 64 << 10;

/// A compressed archive is a stream, which the target `archive` reads.
struct NoStream;

impl StreamVisitor for NoStream {
    fn content(&mut self, _: ContentKey, _: u64, _: &mut dyn Read) -> Result<(), SourceError> {
        Err(SourceError::Stopped)
    }
}

thread_local! {
    /// A file without a name.
    static FILE: RefCell<File> = {
        let path = std::env::temp_dir().join(format!("holdfast-fuzz-{}", std::process::id()));
        let options = File::options().read(true).write(true).create_new(true).open(&path);
        let file = options.expect("a file");
        std::fs::remove_file(&path).expect("the file is removed");
        RefCell::new(file)
    };
}

/// Returns a file with these bytes.
fn file(bytes: &[u8]) -> File {
    FILE.with_borrow_mut(|file| {
        file.set_len(0).expect("an empty file");
        file.seek(SeekFrom::Start(0)).expect("its start");
        file.write_all(bytes).expect("the bytes");
        file.seek(SeekFrom::Start(0)).expect("its start");
        file.try_clone().expect("a descriptor")
    })
}

fn read(library: &mut Library, key: &ContentKey) {
    for member in library.members(key) {
        let size = library.size(&member);
        if let Ok(Some(content)) = library.open(&member) {
            let mut text = Vec::new();
            let read = content.take(LIMIT).read_to_end(&mut text).map(|read| read as u64);
            assert!(read.is_err() || read.ok() <= size);
        }
    }
}

fuzz_target!(|bytes: &[u8]| {
    let Ok(medium) = open_archive(file(bytes), &[PathBuf::from("fuzz.tar")]) else { return };
    let mut library = Library::default();
    if library.add(medium, &mut NoStream).is_err() {
        return;
    }
    let Ok(catalogs) = library.catalogs(&mut |_| Ok(None)) else { return };
    for entry in catalogs.iter().flat_map(|catalog| &catalog.images) {
        match &entry.root {
            Root::Manifest { digest, .. } => {
                let _ = library.read(digest);
                read(&mut library, &ContentKey::Digest(digest.clone()));
            }
            Root::Made(made) => made.layers.iter().for_each(|layer| read(&mut library, layer)),
        }
    }
});
