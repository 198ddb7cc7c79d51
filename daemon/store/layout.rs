//! The data directory as an OCI Image Layout: `oci-layout` and `index.json`.
//!
//! `index.json` names every manifest of every repository, so that the index can be rebuilt from it and other tools
//! can read the card. It is written as a whole, by atomic replacement: at any moment the file is whole. When rows of
//! the index are corrupt, the entries that they had in the old file are kept, and the store becomes read-only.
//! `layout_writer.rs` decides when it is written, and when changes go to its journal instead.

use std::io::Write;

use super::disk::Disk;
use super::error::StoreError;
use super::index::Index;
use super::index::tables::ReadTables;
use super::index::tables::link_exceptions::{LinkException, LinkExceptions};
use super::index::tables::meta::Meta;
use super::index::tables::names::{Name, Named, Names};
use super::index_error::IndexError;
use super::layout_checksum::{Checksum, ChecksumWriter};
use super::layout_format::{
    CHANGE, Entry, EntryVisitor, HOLD, Head, ID, LINK_EXCEPTIONS, NOW, NameEntry, StoredException, TAIL,
};
use super::layout_reader::read_entries;

/// The link exceptions that one read of the index returns.
const PAGE: usize = 1000;

/// Writes `oci-layout` if it is missing.
pub(super) fn write_marker(disk: &Disk) -> Result<(), StoreError> {
    if disk.has_file("oci-layout") {
        return Ok(());
    }
    disk.replace("oci-layout", |file| {
        file.write_all(b"{\"imageLayoutVersion\":\"1.0.0\"}\n")
            .map_err(|error| StoreError::io("write oci-layout", error))
    })
}

/// Writes `index.json` from the index, and removes its journal.
///
/// # Errors
/// [`StoreError::Index`] when rows of the index are corrupt. The file has been written then, with the entries that
/// only the old file has, and the store is read-only.
pub(super) fn write(disk: &Disk, index: &Index) -> Result<(), StoreError> {
    write_names(disk, index, false)
}

/// Writes `index.json` from an index whose rows are missing or contradict each other: all names that it shows, and those
/// that only the old file has. A damaged file stays: it may have names that are in neither.
///
/// # Errors
/// As [`write`]: [`StoreError::Index`] also when the file has been written.
pub(super) fn write_readable(disk: &Disk, index: &Index) -> Result<(), StoreError> {
    if read_entries(disk, &mut |_| Ok(()))?.checksum == Checksum::Wrong {
        return Ok(());
    }
    write_names(disk, index, true)
}

fn write_names(disk: &Disk, index: &Index, rows_missing: bool) -> Result<(), StoreError> {
    let _lock = disk.lock_layout();
    let mut damage = rows_missing.then(|| IndexError::Row("rows of the index are missing".into()).into());
    let mut change = 0;
    let written = disk.replace("index.json", |file| {
        let mut list = List::new(file);
        list.begin()?;
        // One snapshot for all entries: a check compares them with the index at the change number of the file.
        let tables = index.read()?;
        let exceptions_damage = write_exceptions(&mut list, disk, &tables)?;
        list.begin_manifests()?;
        let mut named = tables.for_each_name(&mut |name| list.add(name))?;
        // If the hold cannot be read, names may be lost.
        let hold = tables.collection_is_held().unwrap_or(true);
        let id = tables.registry_id().unwrap_or_default();
        drop(tables);
        named.damage = named.damage.or(exceptions_damage).or(damage.take());
        named.rows_missing |= rows_missing;
        if named.damage.is_some() {
            keep_unreadable_names(&mut list, disk, index, &named)?;
        }
        damage = named.damage;
        change = named.change;
        list.end(Head { change: named.change, now: index.clock.now(), hold, id })
    });
    if written.is_ok() {
        index.changed_names.forget(change);
        disk.remove_journal();
    }
    match (written, damage) {
        (Err(error @ StoreError::Index(_)), _) | (Ok(()), Some(error)) => Err(disk.latch_on(error)),
        (written, _) => written,
    }
}

/// Writes the link exceptions. If the index cannot read all of them, keeps those of the old file that it does not
/// know to be removed, and returns the read error.
fn write_exceptions<W: Write>(
    list: &mut List<W>,
    disk: &Disk,
    tables: &impl ReadTables,
) -> Result<Option<StoreError>, StoreError> {
    let mut after = None;
    let damage = loop {
        let page = match tables.link_exceptions_after(after.as_ref(), PAGE) {
            Ok(page) => page,
            Err(error) => break error,
        };
        for exception in &page {
            list.add_exception(exception)?;
        }
        after = page.into_iter().next_back();
        if after.is_none() {
            return Ok(None);
        }
    };
    read_old(disk, &mut |entry| match entry {
        Entry::Name(_) => Ok(()),
        Entry::Exception(old) => match tables.link_exception(&old.repository, &old.digest) {
            Ok(None) => Ok(()),
            Ok(Some(kind)) => list.add_exception(&LinkException { kind, ..old }),
            Err(_) => list.add_exception(&old),
        },
    })?;
    Ok(Some(damage))
}

/// Reads the file that is about to be replaced, up to the first damage.
fn read_old(disk: &Disk, visit: &mut EntryVisitor) -> Result<(), StoreError> {
    match read_entries(disk, visit) {
        Err(error) if error.is_corrupt_file() => Ok(()),
        read => read.map(drop),
    }
}

/// Adds the names of the old file that an index with corrupt rows does not show, other than deleted ones. A name that
/// a lookup finds is added as the index has it, since the walk may have ended before it.
fn keep_unreadable_names<W: Write>(
    list: &mut List<W>,
    disk: &Disk,
    index: &Index,
    named: &Named,
) -> Result<(), StoreError> {
    read_old(disk, &mut |entry| match entry {
        Entry::Exception(_) => Ok(()),
        Entry::Name(name) => match index.name_of(&name.repository, &name.reference) {
            // With missing rows the name may be one of them: a deleted name that returns does less harm than a lost
            // one.
            Ok(None) if named.rows_missing => list.add(&name),
            Ok(None) => Ok(()),
            Ok(Some(_)) if named.complete => Ok(()),
            Ok(Some(current)) => list.add(&current),
            Err(_) => list.add(&name),
        },
    })
}

/// The writer of the file's form.
struct List<W: Write> {
    file: ChecksumWriter<W>,
    first: bool,
    /// The buffer of the next entry.
    entry: Vec<u8>,
}

impl<W: Write> List<W> {
    fn new(file: W) -> Self {
        List { file: ChecksumWriter::new(file), first: true, entry: Vec::new() }
    }

    fn begin(&mut self) -> Result<(), StoreError> {
        self.write("{\"schemaVersion\":2,\"mediaType\":\"application/vnd.oci.image.index.v1+json\",")
    }

    fn write(&mut self, text: &str) -> Result<(), StoreError> {
        self.file.write(text.as_bytes()).map_err(write_error)
    }

    /// Writes a link exception; all of them come before the manifests. A file without any has no such list.
    fn add_exception(&mut self, exception: &LinkException) -> Result<(), StoreError> {
        let separator =
            if std::mem::take(&mut self.first) { &format!("\"{LINK_EXCEPTIONS}\":[\n") } else { ",\n" };
        self.write(separator)?;
        let entry = serde_json::to_string(&StoredException::of(exception));
        self.write(&entry.map_err(|error| write_error(error.into()))?)
    }

    fn begin_manifests(&mut self) -> Result<(), StoreError> {
        let closing = if std::mem::replace(&mut self.first, true) { "" } else { "\n],\n" };
        self.write(&format!("{closing}\"manifests\":["))
    }

    fn add(&mut self, name: &Name) -> Result<(), StoreError> {
        self.entry.clear();
        self.entry.extend_from_slice(if std::mem::take(&mut self.first) { b"\n" } else { b",\n" });
        serde_json::to_writer(&mut self.entry, &NameEntry::of(name))
            .map_err(|error| write_error(error.into()))?;
        self.file.write(&self.entry).map_err(write_error)
    }

    fn end(mut self, head: Head) -> Result<(), StoreError> {
        let (change, now) = (head.change, head.now.seconds());
        let hold = if head.hold { format!(",\"{HOLD}\":\"true\"") } else { String::new() };
        let id = head.id.map_or_else(String::new, |id| format!(",\"{ID}\":\"{id}\""));
        self.write(&format!("{TAIL}{{\"{CHANGE}\":\"{change}\",\"{NOW}\":\"{now}\"{id}{hold}"))?;
        self.file.end().map_err(write_error)
    }
}

fn write_error(error: std::io::Error) -> StoreError {
    StoreError::io("write index.json", error)
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;
    use crate::oci::Reference;
    use crate::store::clock::StoreTime;
    use crate::store::index::tables::rows::{LinkExceptionRow, NameTimestamps};
    use crate::store::layout_reader::parse;

    fn written(names: &[Name], exceptions: &[LinkException], head: Head) -> Vec<u8> {
        let mut file = Vec::new();
        let mut list = List::new(&mut file);
        list.begin().unwrap();
        for exception in exceptions {
            list.add_exception(exception).unwrap();
        }
        list.begin_manifests().unwrap();
        for name in names {
            list.add(name).unwrap();
        }
        list.end(head).unwrap();
        file
    }

    #[test]
    fn name_round_trips() {
        let digest = crate::oci::Hasher::digest(crate::oci::Algorithm::Sha256, b"x");
        let timestamps = Some(NameTimestamps { pushed: 7, since: StoreTime::from_seconds(3), order: 11 });
        let head =
            Head { change: 5, now: StoreTime::from_seconds(9), hold: true, id: Some(Uuid::from_u128(7)) };
        for reference in [Reference::Tag("1.0".parse().unwrap()), Reference::Digest(digest.clone())] {
            let name = Name {
                repository: "team/app".parse().unwrap(),
                reference: reference.clone(),
                digest: digest.clone(),
                size: 1,
                media_type: "a/b".parse().unwrap(),
                timestamps,
                is_sparse: true,
            };
            let file = written(&[name], &[], head);
            let mut names = Vec::new();
            let read = parse(&file[..], &mut |entry| {
                if let Entry::Name(name) = entry {
                    names.push(name);
                }
                Ok(())
            });
            assert_eq!(read.unwrap(), head);
            let read = &names[0];
            assert_eq!((read.repository.as_str(), &read.reference), ("team/app", &reference));
            assert_eq!((&read.digest, read.size, read.timestamps), (&digest, 1, timestamps));
            assert!(read.is_sparse);
        }
    }

    #[test]
    fn link_exceptions_round_trip() {
        let digest = crate::oci::Hasher::digest(crate::oci::Algorithm::Sha256, b"x");
        let exception = |repository: &str, kind| LinkException {
            repository: repository.parse().unwrap(),
            digest: digest.clone(),
            kind,
        };
        let (deleted, foreign) =
            (exception("a", LinkExceptionRow::Deleted), exception("b/c", LinkExceptionRow::Linked));
        let missing = exception("d", LinkExceptionRow::Missing);
        for exceptions in [&[][..], std::slice::from_ref(&deleted), &[deleted.clone(), foreign, missing]] {
            let file = written(&[], exceptions, Head::default());
            let mut read = Vec::new();
            parse(&file[..], &mut |entry| {
                if let Entry::Exception(exception) = entry {
                    read.push(exception);
                }
                Ok(())
            })
            .unwrap();
            assert_eq!(read, exceptions);
        }
    }
}
