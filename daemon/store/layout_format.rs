//! The form of `index.json`: its annotations, its head and its entries. `docs/format.md` describes it.

use super::clock::StoreTime;
use super::error::StoreError;
use super::index::link_exceptions::LinkException;
use super::index::names::Name;

/// Annotation of a manifest: `REPOSITORY:TAG`, as other tools that read layouts expect it.
pub(super) const REF_NAME: &str = "org.opencontainers.image.ref.name";
/// Annotation of a manifest: its repository, also for an untagged one.
pub(super) const REPOSITORY: &str = "io.holdfast.repository";

/// Annotations of a manifest: when the name was set, in store time and in seconds since 1970.
pub(super) const SINCE: &str = "io.holdfast.since";
pub(super) const PUSHED: &str = "io.holdfast.pushed";
/// Annotation of a manifest: the sequence number of the name.
pub(super) const ORDER: &str = "io.holdfast.order";
/// Annotations of the file: its change number, and the store time at which it was written.
pub(super) const CHANGE: &str = "io.holdfast.change";
pub(super) const NOW: &str = "io.holdfast.now";

/// Annotation of the file: the collection hold, present while names may be lost.
pub(super) const HOLD: &str = "io.holdfast.hold";

/// The list of link exceptions, and their two kinds.
pub(super) const LINK_EXCEPTIONS: &str = "io.holdfast.links";
pub(super) const DELETED: &str = "deleted";
pub(super) const LINKED: &str = "linked";

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
