//! The data directory as an OCI Image Layout: `oci-layout` and `index.json`.
//!
//! `index.json` names every manifest of every repository, so that the index can be made again from it, and so
//! that other tools can read the card. It is rewritten soon after changes settle, whole at any moment.

use std::collections::{BTreeMap, HashSet};
use std::io::Write;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use super::clock::Moment;
use super::disk::Disk;
use super::error::StoreError;
use super::index::Index;
use super::index::schema::Given;
use crate::oci::{Descriptor, Digest, MediaType, Reference, RepositoryName};

/// Names `REPOSITORY:TAG`, as tools that read layouts expect.
const REF_NAME: &str = "org.opencontainers.image.ref.name";
/// Names the repository, also where there is no tag.
const REPOSITORY: &str = "io.holdfast.repository";

/// When the name was given, in the store's own time and in seconds since 1970.
const SINCE: &str = "io.holdfast.since";
const PUSHED: &str = "io.holdfast.pushed";
/// The number of the change of names that the file is from, and the store's own time then.
const CHANGE: &str = "io.holdfast.change";
const NOW: &str = "io.holdfast.now";

/// There where names may be lost, so that nothing is collected before a person says so.
const HOLD: &str = "io.holdfast.hold";

/// How long nothing has to change before `index.json` is rewritten.
const SETTLED: Duration = Duration::from_secs(1);
/// How long a rewrite is put off at most while changes go on, and after how long one that failed is tried again.
const AT_MOST: Duration = Duration::from_secs(10);

/// What `index.json` says.
#[derive(Default)]
pub(super) struct Layout {
    /// What is called what.
    pub(super) names: Vec<Name>,
    /// The number of the change that it is from.
    pub(super) change: u64,
    /// The store's own time when it was written.
    pub(super) now: Moment,
    /// Whether names may be lost, so that only a person may collect.
    pub(super) hold: bool,
}

/// A manifest as `index.json` names it.
pub(super) struct Name {
    pub(super) repository: RepositoryName,
    pub(super) reference: Reference,
    pub(super) digest: Digest,
    pub(super) size: u64,
    pub(super) media_type: MediaType,
    /// When the name was given, if that is said.
    pub(super) given: Option<Given>,
}

#[derive(Serialize)]
struct Entry<'a> {
    #[serde(rename = "mediaType")]
    media_type: &'a str,
    digest: &'a Digest,
    size: u64,
    annotations: BTreeMap<&'static str, String>,
}

/// Writes `oci-layout` where it is missing.
pub(super) fn mark(disk: &Disk) -> Result<(), StoreError> {
    if disk.top("oci-layout").exists() {
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
        let mut list = List { file, first: true };
        list.begin()?;
        let mut named = index.for_each_name(&mut |name| list.add(name))?;
        if named.damage.is_some() {
            for name in names_kept(disk, index)? {
                list.add(&name)?;
            }
            damage = named.damage.take();
        }
        // Where that cannot be read names may well be lost.
        list.end(named.change, index.clock.now(), index.collection_is_held().unwrap_or(true))
    });
    match (written, damage) {
        (Err(error @ StoreError::Index(_)), _) | (Ok(()), Some(error)) => Err(disk.failed(error)),
        (written, _) => written,
    }
}

/// What the old `index.json` names and an index with damaged rows does not, other than what has been deleted.
fn names_kept(disk: &Disk, index: &Index) -> Result<Vec<Name>, StoreError> {
    let key = |name: &Name| (name.repository.clone(), name.reference.to_string());
    let mut readable = HashSet::new();
    index.for_each_name(&mut |name| {
        readable.insert(key(name));
        Ok(())
    })?;
    // One that is broken, too, has nothing to give.
    let mut names = read(disk).unwrap_or_default().names;
    names.retain(|name| {
        let deleted = index.manifest(&name.repository, &name.reference).is_ok_and(|entry| entry.is_none());
        !deleted && !readable.contains(&key(name))
    });
    Ok(names)
}

/// The file while it is written.
struct List<'a, W: Write> {
    file: &'a mut W,
    first: bool,
}

impl<W: Write> List<'_, W> {
    fn begin(&mut self) -> Result<(), StoreError> {
        let head =
            "{\"schemaVersion\":2,\"mediaType\":\"application/vnd.oci.image.index.v1+json\",\"manifests\":[";
        self.file.write_all(head.as_bytes()).map_err(failed)
    }

    fn add(&mut self, name: &Name) -> Result<(), StoreError> {
        let separator: &[u8] = if std::mem::take(&mut self.first) { b"\n" } else { b",\n" };
        self.file.write_all(separator).map_err(failed)?;
        serde_json::to_writer(&mut *self.file, &entry(name)).map_err(|error| failed(error.into()))
    }

    fn end(&mut self, change: u64, now: Moment, hold: bool) -> Result<(), StoreError> {
        let now = now.number();
        let hold = if hold { format!(",\"{HOLD}\":\"true\"") } else { String::new() };
        let tail = format!("\n],\"annotations\":{{\"{CHANGE}\":\"{change}\",\"{NOW}\":\"{now}\"{hold}}}}}\n");
        self.file.write_all(tail.as_bytes()).map_err(failed)
    }
}

fn failed(error: std::io::Error) -> StoreError {
    StoreError::io("write index.json", error)
}

fn entry(name: &Name) -> Entry<'_> {
    let Name { repository, reference, digest, size, media_type, given } = name;
    let mut annotations = BTreeMap::from([(REPOSITORY, repository.to_string())]);
    if let Reference::Tag(tag) = reference {
        annotations.insert(REF_NAME, format!("{repository}:{tag}"));
    }
    if let Some(Given { pushed, since }) = given {
        annotations.insert(SINCE, since.number().to_string());
        annotations.insert(PUSHED, pushed.to_string());
    }
    Entry { media_type: media_type.as_str(), digest, size: *size, annotations }
}

/// What `index.json` says; nothing if there is none. Entries that other tools made and that name no repository are
/// passed over.
pub(super) fn read(disk: &Disk) -> Result<Layout, StoreError> {
    let bytes = match std::fs::read(disk.top("index.json")) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Layout::default()),
        Err(error) => return Err(StoreError::io("read index.json", error)),
    };
    parse(&bytes).map_err(|error| {
        let source = std::io::Error::new(std::io::ErrorKind::InvalidData, error);
        StoreError::Io { action: "read index.json".into(), source }
    })
}

pub(super) fn parse(bytes: &[u8]) -> Result<Layout, serde_json::Error> {
    #[derive(Deserialize)]
    struct IndexFile {
        manifests: Vec<Descriptor>,
        #[serde(default)]
        annotations: BTreeMap<String, String>,
    }
    let file: IndexFile = serde_json::from_slice(bytes)?;
    Ok(Layout {
        names: file.manifests.into_iter().filter_map(name_of).collect(),
        change: number(&file.annotations, CHANGE).unwrap_or_default(),
        now: Moment::of(number(&file.annotations, NOW).unwrap_or_default()),
        hold: file.annotations.contains_key(HOLD),
    })
}

fn number(annotations: &BTreeMap<String, String>, name: &str) -> Option<u64> {
    annotations.get(name)?.parse().ok()
}

fn name_of(descriptor: Descriptor) -> Option<Name> {
    let annotations = &descriptor.annotations;
    let repository = annotations.get(REPOSITORY)?.parse().ok()?;
    let reference = match annotations.get(REF_NAME) {
        Some(name) => Reference::Tag(name.rsplit_once(':')?.1.parse().ok()?),
        None => Reference::Digest(descriptor.digest.clone()),
    };
    let given = number(annotations, SINCE).zip(number(annotations, PUSHED));
    let given = given.map(|(since, pushed)| Given { pushed, since: Moment::of(since) });
    let Descriptor { digest, size, media_type, .. } = descriptor;
    Some(Name { repository, reference, digest, size, media_type, given })
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
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_name_reads_back() {
        let digest = crate::oci::Hasher::digest(crate::oci::Algorithm::Sha256, b"x");
        let given = Some(Given { pushed: 7, since: Moment::of(3) });
        for reference in [Reference::Tag("1.0".parse().unwrap()), Reference::Digest(digest.clone())] {
            let name = Name {
                repository: "team/app".parse().unwrap(),
                reference,
                digest: digest.clone(),
                size: 1,
                media_type: "a/b".parse().unwrap(),
                given,
            };
            let mut file = Vec::new();
            let mut list = List { file: &mut file, first: true };
            list.begin().unwrap();
            list.add(&name).unwrap();
            list.end(5, Moment::of(9), true).unwrap();
            let layout = parse(&file).unwrap();
            assert_eq!((layout.change, layout.now, layout.hold), (5, Moment::of(9), true));
            let read = &layout.names[0];
            assert_eq!((&read.repository, &read.reference), (&name.repository, &name.reference));
            assert_eq!((&read.digest, read.size, read.given), (&name.digest, 1, given));
        }
    }

    proptest! {
        #[test]
        fn never_panics(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = parse(&bytes);
        }
    }
}
