//! The data directory as an OCI Image Layout: `oci-layout` and `index.json`.
//!
//! `index.json` names every manifest of every repository, so that the index can be made again from it, and so
//! that other tools can read the card. It is rewritten soon after changes settle, whole at any moment.

use std::io::Write;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use super::disk::Disk;
use super::error::StoreError;
use super::index::{Index, ManifestEntry};
use crate::oci::{Descriptor, Digest, MediaType, RepositoryName, Tag};

/// Names `REPOSITORY:TAG`, as tools that read layouts expect.
const REF_NAME: &str = "org.opencontainers.image.ref.name";
/// Names the repository, also where there is no tag.
const REPOSITORY: &str = "io.holdfast.repository";

/// How long nothing has to change before `index.json` is rewritten.
const SETTLED: Duration = Duration::from_secs(1);
/// How long a rewrite is put off at most while changes go on.
const AT_MOST: Duration = Duration::from_secs(10);

/// A manifest as `index.json` names it.
pub(super) struct Name {
    pub(super) repository: RepositoryName,
    pub(super) tag: Option<Tag>,
    pub(super) digest: Digest,
    pub(super) media_type: MediaType,
}

#[derive(Serialize)]
struct Entry<'a> {
    #[serde(rename = "mediaType")]
    media_type: &'a str,
    digest: &'a Digest,
    size: u64,
    annotations: Annotations<'a>,
}

#[derive(Serialize)]
struct Annotations<'a> {
    #[serde(rename = "io.holdfast.repository")]
    repository: &'a str,
    #[serde(rename = "org.opencontainers.image.ref.name", skip_serializing_if = "Option::is_none")]
    ref_name: Option<String>,
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

/// Writes `index.json` from the index.
pub(super) fn write(disk: &Disk, index: &Index) -> Result<(), StoreError> {
    let failed = |error| StoreError::io("write index.json", error);
    let (_lock, _held) = (disk.lock_layout()?, disk.hold_index_file()?);
    disk.replace("index.json", |file| {
        file.write_all(
            b"{\"schemaVersion\":2,\"mediaType\":\"application/vnd.oci.image.index.v1+json\",\"manifests\":[",
        )
        .map_err(failed)?;
        let mut first = true;
        index.for_each_name(&mut |repository, tag, entry| {
            let separator: &[u8] = if std::mem::take(&mut first) { b"\n" } else { b",\n" };
            file.write_all(separator).map_err(failed)?;
            serde_json::to_writer(&mut *file, &named(repository, tag, entry))
                .map_err(|error| failed(error.into()))
        })?;
        file.write_all(b"\n]}\n").map_err(failed)
    })
}

fn named<'a>(repository: &'a RepositoryName, tag: Option<&Tag>, entry: &'a ManifestEntry) -> Entry<'a> {
    Entry {
        media_type: entry.media_type.as_str(),
        digest: &entry.digest,
        size: entry.size,
        annotations: Annotations {
            repository: repository.as_str(),
            ref_name: tag.map(|tag| format!("{repository}:{tag}")),
        },
    }
}

/// What `index.json` names; nothing if there is none. Entries that other tools made and that name no repository
/// are passed over.
pub(super) fn read(disk: &Disk) -> Result<Vec<Name>, StoreError> {
    let bytes = match std::fs::read(disk.top("index.json")) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(StoreError::io("read index.json", error)),
    };
    parse(&bytes).map_err(|error| {
        let source = std::io::Error::new(std::io::ErrorKind::InvalidData, error);
        StoreError::Io { action: "read index.json".into(), source }
    })
}

pub(super) fn parse(bytes: &[u8]) -> Result<Vec<Name>, serde_json::Error> {
    #[derive(Deserialize)]
    struct IndexFile {
        manifests: Vec<Descriptor>,
    }
    let file: IndexFile = serde_json::from_slice(bytes)?;
    Ok(file.manifests.into_iter().filter_map(name_of).collect())
}

fn name_of(descriptor: Descriptor) -> Option<Name> {
    let repository = descriptor.annotations.get(REPOSITORY)?.parse().ok()?;
    let tag = match descriptor.annotations.get(REF_NAME) {
        Some(name) => Some(name.rsplit_once(':')?.1.parse().ok()?),
        None => None,
    };
    Some(Name { repository, tag, digest: descriptor.digest, media_type: descriptor.media_type })
}

/// Rewrites `index.json` after changes have settled, until the sender is gone; then once more.
pub(super) fn keep_current(disk: &Disk, index: &Index, changed: &Receiver<()>) {
    while changed.recv().is_ok() {
        let first = Instant::now();
        while first.elapsed() < AT_MOST {
            match changed.recv_timeout(SETTLED) {
                Ok(()) => {}
                Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => break,
            }
        }
        match write(disk, index) {
            Ok(()) | Err(StoreError::ReadOnly) => {}
            Err(error) => log::error!(
                "index.json is not up to date: {error}; it is written again after the next change"
            ),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_name_reads_back() {
        let entry = ManifestEntry {
            digest: crate::oci::Hasher::digest(crate::oci::Algorithm::Sha256, b"x"),
            size: 1,
            media_type: "a/b".parse().unwrap(),
            pushed: 0,
        };
        let repository: RepositoryName = "team/app".parse().unwrap();
        let tag: Tag = "1.0".parse().unwrap();
        for tag in [Some(&tag), None] {
            let text = serde_json::to_string(&named(&repository, tag, &entry)).unwrap();
            let names = parse(format!("{{\"manifests\":[{text}]}}").as_bytes()).unwrap();
            assert_eq!(names[0].repository, repository);
            assert_eq!(names[0].tag.as_ref(), tag);
            assert_eq!(names[0].digest, entry.digest);
        }
    }

    proptest! {
        #[test]
        fn never_panics(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = parse(&bytes);
        }
    }
}
