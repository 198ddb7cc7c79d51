//! The form of `index.json` and of its journal: the annotations, the head and the entries. `docs/reference/format.md` describes it.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::clock::StoreTime;
use super::error::StoreError;
use super::index::tables::link_exceptions::LinkException;
use super::index::tables::names::Name;
use super::index::tables::rows::{LinkExceptionRow, NameTimestamps};
use crate::oci::{Descriptor, Digest, Reference, RepositoryName};

/// Annotations of a manifest: `REPOSITORY:TAG`, as other tools that read layouts expect it; its repository, also for an
/// untagged one; and when the name was set, in seconds since 1970.
use crate::oci::annotations::{PUSHED, REF_NAME, REPOSITORY};

/// Annotation of a manifest: when the name was set, in store time.
const SINCE: &str = "io.holdfast.since";
/// Annotation of a manifest: present if it is sparse.
const SPARSE: &str = "io.holdfast.sparse";

/// Annotation of a manifest: the sequence number of the name.
const ORDER: &str = "io.holdfast.order";
/// Annotations of the file: its change number, and the store time at which it was written.
pub(super) const CHANGE: &str = "io.holdfast.change";
pub(super) const NOW: &str = "io.holdfast.now";
/// Annotation of a batch of the journal: the change number of the `index.json` that it belongs to.
pub(super) const BASE: &str = "io.holdfast.base";

/// Annotation of the file: the id of the registry.
pub(super) const ID: &str = "io.holdfast.id";

/// Annotation of the file: the collection hold, present while names may be lost.
pub(super) const HOLD: &str = "io.holdfast.hold";

/// The list of link exceptions, and their three kinds.
pub(super) const LINK_EXCEPTIONS: &str = "io.holdfast.links";
const DELETED: &str = "deleted";
const LINKED: &str = "linked";
const MISSING: &str = "missing";

/// The text between the last manifest and the head. It occurs nowhere else, since JSON strings contain no line break.
pub(super) const TAIL: &str = "\n],\"annotations\":";

/// The head: the annotations of the file itself.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Head {
    /// The change number of the snapshot that the file was written from.
    pub(super) change: u64,
    /// The store time at which it was written.
    pub(super) now: StoreTime,
    /// The collection hold.
    pub(super) hold: bool,
    /// The id of the registry.
    pub(super) id: Option<Uuid>,
}

/// An entry of `index.json`.
pub(super) enum Entry {
    /// A manifest under one of its names.
    Name(Name),
    /// A link exception.
    Exception(LinkException),
}

/// Receives each entry; an error ends the read.
pub(super) type EntryVisitor<'a> = dyn FnMut(Entry) -> Result<(), StoreError> + 'a;

/// A manifest under one of its names, as a descriptor.
#[derive(Serialize)]
pub(super) struct NameEntry<'a> {
    #[serde(rename = "mediaType")]
    media_type: &'a str,
    digest: &'a Digest,
    size: u64,
    annotations: BTreeMap<&'static str, String>,
}

impl<'a> NameEntry<'a> {
    /// Returns the entry of a name.
    pub(super) fn of(name: &'a Name) -> Self {
        let Name { repository, reference, digest, size, media_type, timestamps, is_sparse } = name;
        let mut annotations = BTreeMap::from([(REPOSITORY, repository.to_string())]);
        if let Reference::Tag(tag) = reference {
            annotations.insert(REF_NAME, format!("{repository}:{tag}"));
        }
        if *is_sparse {
            annotations.insert(SPARSE, "true".to_owned());
        }
        if let Some(NameTimestamps { pushed, since, order }) = timestamps {
            annotations.insert(SINCE, since.seconds().to_string());
            annotations.insert(PUSHED, pushed.to_string());
            annotations.insert(ORDER, order.to_string());
        }
        NameEntry { media_type: media_type.as_str(), digest, size: *size, annotations }
    }
}

/// Reads the entry of a name; `None` for a descriptor of another tool, which names no repository.
pub(super) fn name_of(descriptor: Descriptor) -> Option<Name> {
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
    Some(Name { repository, reference, digest, size, media_type, timestamps, is_sparse })
}

/// A link exception as an entry.
#[derive(Serialize, Deserialize)]
pub(super) struct StoredException {
    repository: String,
    digest: Digest,
    kind: String,
}

impl StoredException {
    /// Returns the entry of a link exception.
    pub(super) fn of(exception: &LinkException) -> Self {
        let kind = match exception.kind {
            LinkExceptionRow::Deleted => DELETED,
            LinkExceptionRow::Linked => LINKED,
            LinkExceptionRow::Missing => MISSING,
        };
        let (repository, digest) = (exception.repository.to_string(), exception.digest.clone());
        StoredException { repository, digest, kind: kind.to_owned() }
    }

    /// Reads the entry; `None` for a kind of a newer release.
    pub(super) fn read(self) -> Option<LinkException> {
        let kind = match self.kind.as_str() {
            DELETED => LinkExceptionRow::Deleted,
            LINKED => LinkExceptionRow::Linked,
            MISSING => LinkExceptionRow::Missing,
            _ => return None,
        };
        let repository = self.repository.parse().ok()?;
        Some(LinkException { repository, digest: self.digest, kind })
    }
}

/// Reads the head from the annotations of the file or of a batch.
pub(super) fn head_of(annotations: &BTreeMap<String, String>) -> Head {
    Head {
        change: number(annotations, CHANGE).unwrap_or_default(),
        now: StoreTime::from_seconds(number(annotations, NOW).unwrap_or_default()),
        hold: annotations.contains_key(HOLD),
        id: annotations.get(ID).and_then(|id| id.parse().ok()),
    }
}

/// Reads a number among the annotations.
pub(super) fn number(annotations: &BTreeMap<String, String>, name: &str) -> Option<u64> {
    annotations.get(name)?.parse().ok()
}
