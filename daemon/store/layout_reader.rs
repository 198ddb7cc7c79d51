//! Reading `index.json` and its journal entry by entry, so that memory does not grow with the number of names.
//!
//! The head (change number, store time, hold) is at the end of the file, where Holdfast writes it, and a start reads
//! only that. A file in another form, such as one that another tool has rewritten, is read as a whole.

use std::fmt;
use std::fs::File;
use std::io::{self, BufReader, Read, Seek};
use std::os::unix::fs::FileExt;

use serde::Deserialize;
use serde::de::{DeserializeSeed, Deserializer, Error as _, IgnoredAny, MapAccess, SeqAccess, Visitor};

use super::disk::Disk;
use super::error::StoreError;
use super::layout_checksum::{Checksum, ChecksumReader};
use super::layout_format::{
    Entry, EntryVisitor, Head, LINK_EXCEPTIONS, StoredException, TAIL, head_of, name_of,
};
use super::layout_journal::{self, Condition, Journal};
use super::regular_file::{if_exists, is_obstacle_error, open_regular};
use super::top_files::JOURNAL;

/// The bytes at the end of the file that are searched for the head, which is much shorter.
const TAIL_BYTES: u64 = 4096;

/// The result of reading the file to its end.
pub(super) struct LayoutRead {
    pub(super) head: Head,
    pub(super) checksum: Checksum,
    /// True if the last batch of the journal was cut off: the newest changes may be lost.
    pub(super) is_cut: bool,
}

/// Reads the head of `index.json` with its journal; without a file it is empty.
///
/// # Errors
/// [`StoreError::Io`] of kind `InvalidData` when the file is not an image index.
pub(super) fn read_head(disk: &Disk) -> Result<Head, StoreError> {
    let journal = read_journal(disk)?;
    let Some(file) = open(disk)? else { return Ok(Head::default()) };
    let head = head_of_file(&file)?;
    Ok(journal.filter(|journal| journal.is_newer_than(&head)).map_or(head, |journal| journal.head))
}

/// Reads the head of `index.json` alone, if the file ends as Holdfast writes it, and its length in bytes.
pub(super) fn read_head_of_file(disk: &Disk) -> Result<Option<(Head, u64)>, StoreError> {
    let Some(file) = open(disk)? else { return Ok(None) };
    let length = file.metadata().map_err(read_error)?.len();
    Ok(head_at_end(&file).map_err(read_error)?.map(|head| (head, length)))
}

/// Calls `visit` with every entry, link exceptions before names, and returns the head and the result of the checksum.
/// Skips entries of other tools, which name no repository. Without a file there are no entries.
///
/// # Errors
/// As [`read_head`], or the error of `visit`. The entries before the damage have been visited then.
pub(super) fn read_entries(disk: &Disk, visit: &mut EntryVisitor) -> Result<LayoutRead, StoreError> {
    let empty = || LayoutRead { head: Head::default(), checksum: Checksum::Absent, is_cut: false };
    Ok(read_existing(disk, visit)?.unwrap_or_else(empty))
}

/// As [`read_entries`]; returns `None` without a file.
pub(super) fn read_existing(disk: &Disk, visit: &mut EntryVisitor) -> Result<Option<LayoutRead>, StoreError> {
    // First the journal: one that is older than the file which is opened then is ignored.
    let journal = read_journal(disk)?;
    let Some(file) = open(disk)? else { return Ok(None) };
    let Some(journal) = journal else { return read(&file, visit).map(Some) };
    let newer = match head_of_file(&file) {
        Ok(head) => journal.is_newer_than(&head),
        Err(error) if error.is_lack_of_resources() => return Err(error),
        // The entries before the damage are visited below.
        Err(_) => false,
    };
    (&file).rewind().map_err(read_error)?;
    if !newer {
        let read = read(&file, visit)?;
        return Ok(Some(LayoutRead { is_cut: journal.is_empty(), ..read }));
    }
    let read = journal.replay(|visit| read(&file, visit), visit)?;
    let checksum = journal.verdict(&read.head, read.checksum);
    Ok(Some(LayoutRead { head: journal.head, checksum, is_cut: journal.condition == Condition::Cut }))
}

/// Reads the journal; `None` if there is no such file.
pub(super) fn read_journal(disk: &Disk) -> Result<Option<Journal>, StoreError> {
    let failed = |error| StoreError::io("read names.journal", error);
    let file = match if_exists(open_regular(&disk.path(JOURNAL))) {
        Ok(Some(file)) => file,
        Ok(None) => return Ok(None),
        // The next write sets it aside.
        Err(error) if is_obstacle_error(&error) => return Ok(None),
        Err(error) => return Err(failed(error)),
    };
    let mut bytes = Vec::new();
    file.take(layout_journal::MAX_LENGTH).read_to_end(&mut bytes).map_err(failed)?;
    Ok(Some(Journal::parse(&bytes)))
}

fn open(disk: &Disk) -> Result<Option<File>, StoreError> {
    if_exists(open_regular(&disk.path("index.json"))).map_err(read_error)
}

fn read_error(error: io::Error) -> StoreError {
    StoreError::io("read index.json", error)
}

/// Returns the head of a file; reads all of it if it is in another form than that of Holdfast.
fn head_of_file(file: &File) -> Result<Head, StoreError> {
    match head_at_end(file).map_err(read_error)? {
        Some(head) => Ok(head),
        None => read(file, &mut |_| Ok(())).map(|read| read.head),
    }
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

fn read(file: &File, visit: &mut EntryVisitor) -> Result<LayoutRead, StoreError> {
    let mut reader = ChecksumReader::new(file);
    let head = parse(BufReader::with_capacity(64 << 10, &mut reader), visit)?;
    Ok(LayoutRead { head, checksum: reader.verdict(), is_cut: false })
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
                    let entry = |descriptor| name_of(descriptor).map(Entry::Name);
                    map.next_value_seed(ListSeed { entry, visit, refused })?;
                }
                LINK_EXCEPTIONS => {
                    let (visit, refused) = (&mut *self.visit, &mut *self.refused);
                    let entry = |stored: StoredException| stored.read().map(Entry::Exception);
                    map.next_value_seed(ListSeed { entry, visit, refused })?;
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

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::store::clock::StoreTime;

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
