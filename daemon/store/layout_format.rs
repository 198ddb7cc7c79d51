//! The form of `index.json`: its annotations, its head and its entries.

use super::clock::Moment;
use super::error::StoreError;
use super::index::link_exceptions::LinkException;
use super::index::names::Name;

/// Names `REPOSITORY:TAG`, as tools that read layouts expect.
pub(super) const REF_NAME: &str = "org.opencontainers.image.ref.name";
/// Names the repository, also where there is no tag.
pub(super) const REPOSITORY: &str = "io.holdfast.repository";

/// When the name was given, in the store's own time and in seconds since 1970.
pub(super) const SINCE: &str = "io.holdfast.since";
pub(super) const PUSHED: &str = "io.holdfast.pushed";
/// The place of the name among those that were given in the same second.
pub(super) const ORDER: &str = "io.holdfast.order";
/// The number of the change of names that the file is from, and the store's own time then.
pub(super) const CHANGE: &str = "io.holdfast.change";
pub(super) const NOW: &str = "io.holdfast.now";

/// There where names may be lost, so that nothing is collected before a person says so.
pub(super) const HOLD: &str = "io.holdfast.hold";

/// The list of links that the manifests do not imply, and the two kinds of them.
pub(super) const LINK_EXCEPTIONS: &str = "io.holdfast.links";
pub(super) const DELETED: &str = "deleted";
pub(super) const LINKED: &str = "linked";

/// Stands between the last manifest and the head, and nowhere else: JSON text has no line break inside of a string.
pub(super) const TAIL: &str = "\n],\"annotations\":";

/// The annotations of `index.json` itself.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Head {
    /// The number of the change of names that the file is from.
    pub(super) change: u64,
    /// The store's time when it was written.
    pub(super) now: Moment,
    /// Whether names may be lost, so that only a person may collect.
    pub(super) hold: bool,
}

/// An entry of `index.json`.
pub(super) enum Entry {
    /// A manifest with one of its names.
    Name(Name),
    /// A link that the manifests do not imply.
    Exception(LinkException),
}

/// Receives each entry; an error ends the reading.
pub(super) type EntryVisitor<'a> = dyn FnMut(Entry) -> Result<(), StoreError> + 'a;
