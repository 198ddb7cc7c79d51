//! The data directory as an OCI Image Layout: `oci-layout` and `index.json`.
//!
//! `index.json` names every manifest of every repository, so that the index can be made again from it, and so
//! that other tools can read the card. It is rewritten soon after changes settle, whole at any moment.

use std::collections::BTreeMap;
use std::io::Write;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::{Duration, Instant};

use heed::RoTxn;
use serde::Serialize;

use super::disk::Disk;
use super::error::StoreError;
use super::index::Index;
use super::index::link_exceptions::LinkException;
use super::index::names::{Name, Named};
use super::index::rows::{LinkExceptionRow, NameTimestamps};
use super::layout_checksum::ChecksumWriter;
use super::layout_format::{
    CHANGE, DELETED, Entry, EntryVisitor, HOLD, Head, LINK_EXCEPTIONS, LINKED, NOW, ORDER, PUSHED, REF_NAME,
    REPOSITORY, SINCE, TAIL,
};
use super::layout_reader::read_entries;
use crate::oci::{Digest, Reference};

/// The link exceptions that one read of the index returns.
const PAGE: usize = 1000;

/// How long nothing has to change before `index.json` is rewritten.
const SETTLED: Duration = Duration::from_secs(1);
/// How long a rewrite is put off at most while changes go on, and after how long one that failed is tried again.
const AT_MOST: Duration = Duration::from_secs(10);

#[derive(Serialize)]
struct NameEntry<'a> {
    #[serde(rename = "mediaType")]
    media_type: &'a str,
    digest: &'a Digest,
    size: u64,
    annotations: BTreeMap<&'static str, String>,
}

/// Writes `oci-layout` where it is missing.
pub(super) fn mark(disk: &Disk) -> Result<(), StoreError> {
    if disk.has_file("oci-layout") {
        return Ok(());
    }
    disk.replace("oci-layout", |file| {
        file.write_all(b"{\"imageLayoutVersion\":\"1.0.0\"}\n")
            .map_err(|error| StoreError::io("write oci-layout", error))
    })
}

/// Writes `index.json` from the index. Where the index has become unreadable, what the file says so far stays in it,
/// and nothing is written to the store any more.
pub(super) fn write(disk: &Disk, index: &Index) -> Result<(), StoreError> {
    let (_lock, _held) = (disk.lock_layout()?, disk.hold_index_file()?);
    let mut damage = None;
    let written = disk.replace("index.json", |file| {
        let mut list = List::new(file);
        list.begin()?;
        // All of one snapshot, so that the change number is that of all entries: a check compares them with the index.
        let txn = index.env.read_txn()?;
        let exceptions_damage = write_exceptions(&mut list, disk, index, &txn)?;
        list.begin_manifests()?;
        let mut named = index.for_each_name(&txn, &mut |name| list.add(name))?;
        // Where that cannot be read names may well be lost.
        let hold = index.tables.collection_is_held(&txn).unwrap_or(true);
        drop(txn);
        named.damage = named.damage.or(exceptions_damage);
        if named.damage.is_some() {
            keep_unreadable(&mut list, disk, index, &named)?;
        }
        damage = named.damage;
        list.end(Head { change: named.change, now: index.clock.now(), hold })
    });
    match (written, damage) {
        (Err(error @ StoreError::Index(_)), _) | (Ok(()), Some(error)) => Err(disk.failed(error)),
        (written, _) => written,
    }
}

/// Writes the links that the manifests do not imply. Where the index cannot show them all, those of the old file stay,
/// other than those that it knows to be gone; returns why it cannot.
fn write_exceptions<W: Write>(
    list: &mut List<W>,
    disk: &Disk,
    index: &Index,
    txn: &RoTxn,
) -> Result<Option<StoreError>, StoreError> {
    let mut after = None;
    let damage = loop {
        let page = match index.tables.link_exceptions_after(txn, after.as_ref(), PAGE) {
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
        Entry::Exception(old) => match index.tables.link_exception(txn, &old.repository, &old.digest) {
            Ok(None) => Ok(()),
            Ok(Some(kind)) => list.add_exception(&LinkException { kind, ..old }),
            Err(_) => list.add_exception(&old),
        },
    })?;
    Ok(Some(damage))
}

/// Reads the file that is about to be replaced, as far as it can be read.
fn read_old(disk: &Disk, visit: &mut EntryVisitor) -> Result<(), StoreError> {
    match read_entries(disk, visit) {
        Err(error) if error.is_corrupt_file() => Ok(()),
        read => read.map(drop),
    }
}

/// Adds the names of the old file that an index with damaged rows cannot show, other than those that were deleted. A
/// name that the index still finds by itself is added as it is there, since the walk may have ended before it.
fn keep_unreadable<W: Write>(
    list: &mut List<W>,
    disk: &Disk,
    index: &Index,
    named: &Named,
) -> Result<(), StoreError> {
    read_old(disk, &mut |entry| match entry {
        Entry::Exception(_) => Ok(()),
        Entry::Name(name) => match index.name_of(&name.repository, &name.reference) {
            // Where rows are missing this may be one of them: a deleted name that comes back does less harm than a lost one.
            Ok(None) if named.rows_missing => list.add(&name),
            Ok(None) => Ok(()),
            Ok(Some(_)) if named.complete => Ok(()),
            Ok(Some(current)) => list.add(&current),
            Err(_) => list.add(&name),
        },
    })
}

/// The file while it is written.
struct List<W: Write> {
    file: ChecksumWriter<W>,
    first: bool,
    /// The entry that is written next.
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
        self.file.write(text.as_bytes()).map_err(failed)
    }

    /// Writes one of the link exceptions, which come before the manifests. A file without any has no list of them.
    fn add_exception(&mut self, exception: &LinkException) -> Result<(), StoreError> {
        let LinkException { repository, digest, kind } = exception;
        let kind = match kind {
            LinkExceptionRow::Deleted => DELETED,
            LinkExceptionRow::Linked => LINKED,
        };
        let separator =
            if std::mem::take(&mut self.first) { format!("\"{LINK_EXCEPTIONS}\":[\n") } else { ",\n".into() };
        // Neither names nor digests have characters that JSON would escape.
        self.write(&format!(
            "{separator}{{\"repository\":\"{repository}\",\"digest\":\"{digest}\",\"kind\":\"{kind}\"}}"
        ))
    }

    fn begin_manifests(&mut self) -> Result<(), StoreError> {
        let closing = if std::mem::replace(&mut self.first, true) { "" } else { "\n],\n" };
        self.write(&format!("{closing}\"manifests\":["))
    }

    fn add(&mut self, name: &Name) -> Result<(), StoreError> {
        self.entry.clear();
        self.entry.extend_from_slice(if std::mem::take(&mut self.first) { b"\n" } else { b",\n" });
        serde_json::to_writer(&mut self.entry, &entry(name)).map_err(|error| failed(error.into()))?;
        self.file.write(&self.entry).map_err(failed)
    }

    fn end(mut self, head: Head) -> Result<(), StoreError> {
        let (change, now) = (head.change, head.now.number());
        let hold = if head.hold { format!(",\"{HOLD}\":\"true\"") } else { String::new() };
        self.write(&format!("{TAIL}{{\"{CHANGE}\":\"{change}\",\"{NOW}\":\"{now}\"{hold}"))?;
        self.file.end().map_err(failed)
    }
}

fn failed(error: std::io::Error) -> StoreError {
    StoreError::io("write index.json", error)
}

fn entry(name: &Name) -> NameEntry<'_> {
    let Name { repository, reference, digest, size, media_type, timestamps } = name;
    let mut annotations = BTreeMap::from([(REPOSITORY, repository.to_string())]);
    if let Reference::Tag(tag) = reference {
        annotations.insert(REF_NAME, format!("{repository}:{tag}"));
    }
    if let Some(NameTimestamps { pushed, since, order }) = timestamps {
        annotations.insert(SINCE, since.number().to_string());
        annotations.insert(PUSHED, pushed.to_string());
        annotations.insert(ORDER, order.to_string());
    }
    NameEntry { media_type: media_type.as_str(), digest, size: *size, annotations }
}

/// Rewrites `index.json` after changes have settled, until the sender is gone. Whether it says everything then.
pub(super) fn keep_current(disk: &Disk, index: &Index, changed: &Receiver<()>) -> bool {
    let mut current = true;
    loop {
        // What could not be written is tried again, also if nothing changes.
        let goes_on = if current {
            changed.recv().is_ok()
        } else {
            changed.recv_timeout(AT_MOST) != Err(RecvTimeoutError::Disconnected)
        };
        if !goes_on && current {
            return true;
        }
        settle(changed);
        let written = write(disk, index);
        match &written {
            Ok(()) | Err(StoreError::ReadOnly) => {}
            Err(error) if current => log::error!("index.json is not up to date: {error}; it is tried again"),
            Err(error) => log::debug!("index.json is still not up to date: {error}"),
        }
        current = written.is_ok();
        if !goes_on {
            return current;
        }
    }
}

/// Waits until nothing has changed for a while, or for long enough.
fn settle(changed: &Receiver<()>) {
    let first = Instant::now();
    while first.elapsed() < AT_MOST && changed.recv_timeout(SETTLED).is_ok() {}
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::clock::Moment;
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
    fn a_name_reads_back() {
        let digest = crate::oci::Hasher::digest(crate::oci::Algorithm::Sha256, b"x");
        let timestamps = Some(NameTimestamps { pushed: 7, since: Moment::of(3), order: 11 });
        let head = Head { change: 5, now: Moment::of(9), hold: true };
        for reference in [Reference::Tag("1.0".parse().unwrap()), Reference::Digest(digest.clone())] {
            let name = Name {
                repository: "team/app".parse().unwrap(),
                reference: reference.clone(),
                digest: digest.clone(),
                size: 1,
                media_type: "a/b".parse().unwrap(),
                timestamps,
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
        }
    }

    #[test]
    fn link_exceptions_read_back() {
        let digest = crate::oci::Hasher::digest(crate::oci::Algorithm::Sha256, b"x");
        let exception = |repository: &str, kind| LinkException {
            repository: repository.parse().unwrap(),
            digest: digest.clone(),
            kind,
        };
        let (deleted, foreign) =
            (exception("a", LinkExceptionRow::Deleted), exception("b/c", LinkExceptionRow::Linked));
        for exceptions in [&[][..], std::slice::from_ref(&deleted), &[deleted.clone(), foreign]] {
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
