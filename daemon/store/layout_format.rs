//! The form of `index.json`: its annotations, its head and its entries. `docs/reference/format.md` describes it.

use uuid::Uuid;

use super::clock::StoreTime;
use super::error::StoreError;
use super::index::tables::link_exceptions::LinkException;
use super::index::tables::names::Name;

/// Annotations of a manifest: `REPOSITORY:TAG`, as other tools that read layouts expect it; its repository, also for an
/// untagged one; and when the name was set, in seconds since 1970.
pub(super) use crate::oci::annotations::{PUSHED, REF_NAME, REPOSITORY};

/// Annotation of a manifest: when the name was set, in store time.
pub(super) const SINCE: &str = "io.holdfast.since";
/// Annotation of a manifest: present if it is sparse.
pub(super) const SPARSE: &str = "io.holdfast.sparse";

/// Annotation of a manifest: the sequence number of the name.
pub(super) const ORDER: &str = "io.holdfast.order";
/// Annotations of the file: its change number, and the store time at which it was written.
pub(super) const CHANGE: &str = "io.holdfast.change";
pub(super) const NOW: &str = "io.holdfast.now";

/// Annotation of the file: the id of the registry.
pub(super) const ID: &str = "io.holdfast.id";

/// Annotation of the file: the collection hold, present while names may be lost.
pub(super) const HOLD: &str = "io.holdfast.hold";

/// The list of link exceptions, and their three kinds.
pub(super) const LINK_EXCEPTIONS: &str = "io.holdfast.links";
pub(super) const DELETED: &str = "deleted";
pub(super) const LINKED: &str = "linked";
pub(super) const MISSING: &str = "missing";

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
