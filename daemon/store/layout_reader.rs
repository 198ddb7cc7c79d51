//! Reading `index.json` entry by entry, so that memory does not grow with the number of names.
//!
//! The head (change number, store time, hold) is at the end of the file, where Holdfast writes it, and a start reads
//! only that. A file in another form, such as one that another tool has rewritten, is read as a whole.

use std::collections::BTreeMap;
use std::fmt;
use std::fs::File;
use std::io::{self, BufReader, Read};
use std::os::unix::fs::FileExt;

use serde::Deserialize;
use serde::de::{DeserializeSeed, Deserializer, Error as _, IgnoredAny, MapAccess, SeqAccess, Visitor};

use super::clock::StoreTime;
use super::disk::Disk;
use super::error::StoreError;
use super::index::tables::link_exceptions::LinkException;
use super::index::tables::names::Name;
use super::index::tables::rows::{LinkExceptionRow, NameTimestamps};
use super::layout_checksum::{Checksum, ChecksumReader};
use super::layout_format::{
    CHANGE, DELETED, Entry, EntryVisitor, HOLD, Head, ID, LINK_EXCEPTIONS, LINKED, MISSING, NOW, ORDER,
    PUSHED, REF_NAME, REPOSITORY, SINCE, SPARSE, TAIL,
};
use super::regular_file::{if_exists, open_regular};
use crate::oci::{Descriptor, Digest, Reference, RepositoryName};

/// The bytes at the end of the file that are searched for the head, which is much shorter.
const TAIL_BYTES: u64 = 4096;

/// The result of reading the file to its end.
pub(super) struct LayoutRead {
    pub(super) head: Head,
    pub(super) checksum: Checksum,
}

/// Reads the head; without a file it is empty.
///
/// # Errors
/// [`StoreError::Io`] of kind `InvalidData` when the file is not an image index.
pub(super) fn read_head(disk: &Disk) -> Result<Head, StoreError> {
    let Some(file) = open(disk)? else { return Ok(Head::default()) };
    match head_at_end(&file).map_err(|error| StoreError::io("read index.json", error))? {
        Some(head) => Ok(head),
        None => read(file, &mut |_| Ok(())).map(|read| read.head),
    }
}

/// Calls `visit` with every entry in file order, and returns the head and the result of the checksum. Skips entries
/// of other tools, which name no repository. Without a file there are no entries.
///
/// # Errors
/// As [`read_head`], or the error of `visit`. The entries before the damage have been visited then.
pub(super) fn read_entries(disk: &Disk, visit: &mut EntryVisitor) -> Result<LayoutRead, StoreError> {
    let empty = || LayoutRead { head: Head::default(), checksum: Checksum::Absent };
    Ok(read_existing(disk, visit)?.unwrap_or_else(empty))
}

/// As [`read_entries`]; returns `None` without a file.
pub(super) fn read_existing(disk: &Disk, visit: &mut EntryVisitor) -> Result<Option<LayoutRead>, StoreError> {
    open(disk)?.map(|file| read(file, visit)).transpose()
}

fn open(disk: &Disk) -> Result<Option<File>, StoreError> {
    if_exists(open_regular(&disk.path("index.json")))
        .map_err(|error| StoreError::io("read index.json", error))
}

/// Reads the head from the last bytes of a file that Holdfast has written.
fn head_at_end(file: &File) -> io::Result<Option<Head>> {
    let length = file.metadata()?.len();
    let mut tail = vec![0; usize::try_from(length.min(TAIL_BYTES)).unwrap_or_default()];
    file.read_exact_at(&mut tail, length.saturating_sub(TAIL_BYTES))?;
    Ok(parse_tail(&tail))
}

fn parse_tail(tail: &[u8]) -> Option<Head> {
    let begins = tail.windows(TAIL.len()).rposition(|part| part == TAIL.as_bytes())?;
    // The rest after the marker is the value of `annotations` and the closing brace of the file.
    let annotations = tail[begins + TAIL.len()..].trim_ascii_end().strip_suffix(b"}")?;
    serde_json::from_slice(annotations).ok().map(|annotations| head_of(&annotations))
}

fn read(file: File, visit: &mut EntryVisitor) -> Result<LayoutRead, StoreError> {
    let mut reader = ChecksumReader::new(file);
    let head = parse(BufReader::with_capacity(64 << 10, &mut reader), visit)?;
    Ok(LayoutRead { head, checksum: reader.verdict() })
}

/// Parses the file.
pub(super) fn parse(bytes: impl Read, visit: &mut EntryVisitor) -> Result<Head, StoreError> {
    let mut refused = None;
    let mut json = serde_json::Deserializer::from_reader(bytes);
    let read = FileSeed { visit, refused: &mut refused }.deserialize(&mut json);
    match (read.and_then(|head| json.end().map(|()| head)), refused) {
        (_, Some(refused)) => Err(refused),
        (Ok(head), None) => Ok(head),
        (Err(error), None) => {
            // A read error says nothing about the content of the file.
            let source =
                if error.is_io() { error.into() } else { io::Error::new(io::ErrorKind::InvalidData, error) };
            Err(StoreError::Io { action: "read index.json".into(), source })
        }
    }
}

fn head_of(annotations: &BTreeMap<String, String>) -> Head {
    Head {
        change: number(annotations, CHANGE).unwrap_or_default(),
        now: StoreTime::from_seconds(number(annotations, NOW).unwrap_or_default()),
        hold: annotations.contains_key(HOLD),
        id: annotations.get(ID).and_then(|id| id.parse().ok()),
    }
}

fn number(annotations: &BTreeMap<String, String>, name: &str) -> Option<u64> {
    annotations.get(name)?.parse().ok()
}

/// Parses the object of the file, and passes on the entries of its lists.
struct FileSeed<'a, 'b> {
    visit: &'a mut EntryVisitor<'b>,
    refused: &'a mut Option<StoreError>,
}

impl<'de> DeserializeSeed<'de> for FileSeed<'_, '_> {
    type Value = Head;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Head, D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for FileSeed<'_, '_> {
    type Value = Head;

    fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str("an OCI image index")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Head, A::Error> {
        let (mut head, mut has_manifests) = (Head::default(), false);
        while let Some(key) = map.next_key::<String>()? {
            match key.as_str() {
                "manifests" => {
                    has_manifests = true;
                    let (visit, refused) = (&mut *self.visit, &mut *self.refused);
                    map.next_value_seed(ListSeed { entry: name_of, visit, refused })?;
                }
                LINK_EXCEPTIONS => {
                    let (visit, refused) = (&mut *self.visit, &mut *self.refused);
                    map.next_value_seed(ListSeed { entry: StoredException::read, visit, refused })?;
                }
                "annotations" => head = head_of(&map.next_value()?),
                _ => drop(map.next_value::<IgnoredAny>()?),
            }
        }
        if has_manifests { Ok(head) } else { Err(A::Error::missing_field("manifests")) }
    }
}

/// Parses a list with one item in memory at a time.
struct ListSeed<'a, 'b, T> {
    entry: fn(T) -> Option<Entry>,
    visit: &'a mut EntryVisitor<'b>,
    refused: &'a mut Option<StoreError>,
}

impl<'de, T: Deserialize<'de>> DeserializeSeed<'de> for ListSeed<'_, '_, T> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_seq(self)
    }
}

impl<'de, T: Deserialize<'de>> Visitor<'de> for ListSeed<'_, '_, T> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str("a list")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<(), A::Error> {
        while let Some(item) = list.next_element()? {
            let Some(entry) = (self.entry)(item) else { continue };
            if let Err(error) = (self.visit)(entry) {
                *self.refused = Some(error);
                return Err(A::Error::custom("the entry is refused"));
            }
        }
        Ok(())
    }
}

/// A link exception in the form of the file.
#[derive(Deserialize)]
struct StoredException {
    repository: String,
    digest: Digest,
    kind: String,
}

impl StoredException {
    /// Returns the exception; `None` for a kind of a newer release.
    fn read(self) -> Option<Entry> {
        let kind = match self.kind.as_str() {
            DELETED => LinkExceptionRow::Deleted,
            LINKED => LinkExceptionRow::Linked,
            MISSING => LinkExceptionRow::Missing,
            _ => return None,
        };
        let repository = self.repository.parse().ok()?;
        Some(Entry::Exception(LinkException { repository, digest: self.digest, kind }))
    }
}

fn name_of(descriptor: Descriptor) -> Option<Entry> {
    let annotations = &descriptor.annotations;
    let repository: RepositoryName = annotations.get(REPOSITORY)?.parse().ok()?;
    let reference = match annotations.get(REF_NAME) {
        Some(name) => Reference::Tag(name.rsplit_once(':')?.1.parse().ok()?),
        None => Reference::Digest(descriptor.digest.clone()),
    };
    let timestamps = number(annotations, SINCE).zip(number(annotations, PUSHED));
    // Files of other tools and older releases have no sequence number.
    let order = number(annotations, ORDER).unwrap_or_default();
    let timestamps = timestamps.map(|(since, pushed)| NameTimestamps {
        pushed,
        since: StoreTime::from_seconds(since),
        order,
    });
    let is_sparse = annotations.contains_key(SPARSE);
    let Descriptor { digest, size, media_type, .. } = descriptor;
    Some(Entry::Name(Name { repository, reference, digest, size, media_type, timestamps, is_sparse }))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const FILE: &str = concat!(
        r#"{"schemaVersion":2,"manifests":["#,
        "\n],\"annotations\":{\"io.holdfast.change\":\"12\",\"io.holdfast.now\":\"7\"}}\n"
    );

    fn heads(file: &str) -> (Option<Head>, Option<Head>) {
        (parse_tail(file.as_bytes()), parse(file.as_bytes(), &mut |_| Ok(())).ok())
    }

    #[test]
    fn head_is_found_at_the_end() {
        let head = Head { change: 12, now: StoreTime::from_seconds(7), hold: false, id: None };
        assert_eq!(heads(FILE), (Some(head), Some(head)));
        let without_newline = FILE.trim_end();
        assert_eq!(parse_tail(without_newline.as_bytes()), Some(head));
    }

    #[test]
    fn truncated_file_has_no_head() {
        for length in 0..FILE.trim_end().len() {
            assert_eq!(heads(&FILE[..length]), (None, None), "{length}");
        }
    }

    #[test]
    fn visitor_error_ends_the_read() {
        let exception = format!(
            r#"{{"io.holdfast.links":[{{"repository":"a","digest":"sha256:{}","kind":"deleted"}}],"manifests":[]}}"#,
            "0".repeat(64)
        );
        let read = parse(exception.as_bytes(), &mut |_| Err(StoreError::Full));
        assert!(matches!(read, Err(StoreError::Full)));
        let mut seen = 0;
        parse(exception.as_bytes(), &mut |_| {
            seen += 1;
            Ok(())
        })
        .unwrap();
        assert_eq!(seen, 1);
    }

    proptest! {
        #[test]
        fn never_panics(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = parse(&bytes[..], &mut |_| Ok(()));
            let _ = parse_tail(&bytes);
        }
    }
}
