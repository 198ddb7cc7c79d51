//! The changes as data: one enum, with a typed reply for each of its variants.
//!
//! Each variant is a struct in the file of its subject, which implements [`Apply`] there. The enum is what the writer
//! queues; the struct is what a caller submits, so that it gets the reply of its own change and of no other.

use super::applier::Applier;
use super::apply::{Apply, Needs};
use super::blob_candidates::{NoteCandidates, NoteFullCollection, SettleCandidates};
use super::blobs::{AdmitBlob, MountBlob, Mounted};
use super::deletes::{
    DeleteBlob, DeleteManifest, DeleteTag, DeleteTags, DeleteUntaggedManifest, Deleted, OrphanReferrers,
    TagsDeleted,
};
use super::feed::RecordNotes;
use super::identity::Identify;
use super::jobs::NoteJob;
use super::leases::{RenewBlobLease, RenewManifestLease};
use super::link_exceptions::{RemoveLinkExceptions, RestoreLinkExceptions};
use super::marks::{HoldCollection, MarkComplete, SaveClock, StartRebuild};
use super::name_image::{NameImage, Named};
use super::outcome::{FileActions, Now};
use super::push::PutManifest;
use super::repair::{DeleteBrokenManifest, RestoreLink, SetBlobAside};
use super::restore::{RecordBlobs, RestoreNames};
use super::sparse::RemoveSparseMarks;
use super::sweep::{
    AdoptBlobs, RecordUploads, RemoveUploadRows, RetireTags, SweepBlobs, SweepManifests, UnlinkStaleLinks,
};
use super::uses::{NoteUses, PullRecord};
use crate::oci::Digest;
use crate::store::error::StoreError;
use crate::store::index::event::{Event, Origin};
use crate::store::index::tables::WriteTables;
use crate::store::index::tables::candidates::{
    CandidateWithSubject, CollectedManifest, DatedTag, SweepOutcome,
};

/// A change of the enum, with its own type of reply.
pub(in crate::store) trait TypedChange: Apply + Into<Change> + Send + 'static {
    /// Returns the reply of this change; `None` for that of another one.
    fn typed(reply: Reply) -> Option<Self::Reply>;
}

/// Defines the enums from the list of changes and their replies.
macro_rules! changes {
    ($($(#[$doc:meta])* $name:ident => $reply:ty,)*) => {
        /// A change of the index.
        #[derive(Debug)]
        pub(in crate::store) enum Change {
            $($(#[$doc])* $name($name),)*
        }

        /// The reply to a change.
        #[derive(Debug)]
        pub(in crate::store) enum Reply {
            $(
                #[doc = concat!("The reply to [`Change::", stringify!($name), "`].")]
                $name($reply),
            )*
        }

        impl Change {
            /// Applies the change; see [`Apply::apply`].
            pub(super) fn dispatch<T: WriteTables>(
                &self,
                to: &mut Applier<'_, T>,
            ) -> Result<Reply, StoreError> {
                match self {
                    $(Change::$name(change) => change.apply(to).map(Reply::$name),)*
                }
            }

            /// Returns the needs of the change; see [`Apply::needs`].
            pub(in crate::store) fn needs(&mut self) -> Needs<'_> {
                match self {
                    $(Change::$name(change) => change.needs(),)*
                }
            }
        }

        $(
            impl From<$name> for Change {
                fn from(change: $name) -> Self {
                    Change::$name(change)
                }
            }

            impl TypedChange for $name {
                fn typed(reply: Reply) -> Option<$reply> {
                    let Reply::$name(reply) = reply else { return None };
                    Some(reply)
                }
            }
        )*
    };
}

changes! {
    /// Makes an upload a blob of a repository, or a loose one.
    AdmitBlob => (),
    /// Adds a blob of one repository to another.
    MountBlob => Mounted,
    /// Stores a manifest and sets its tags.
    PutManifest => (),
    /// Stores the manifests of an import and sets its tags.
    NameImage => Named,
    /// Removes a tag.
    DeleteTag => (),
    /// Removes tags that still name the manifests given with them.
    DeleteTags => TagsDeleted,
    /// Removes a manifest with its tags, or some of its tags.
    DeleteManifest => Deleted,
    /// Removes a manifest without a tag.
    DeleteUntaggedManifest => Option<Deleted>,
    /// Orphans some referrers of a deleted manifest; returns the last of them if there may be more.
    OrphanReferrers => Option<Digest>,
    /// Removes a blob from a repository.
    DeleteBlob => (),
    /// Renews the lease of a blob.
    RenewBlobLease => (),
    /// Renews the lease of an untagged manifest.
    RenewManifestLease => (),
    /// Removes blobs that are still orphans; returns those that were removed or postponed.
    SweepBlobs => Vec<SweepOutcome<(Digest, u64)>>,
    /// Removes links of repositories that are still stale.
    UnlinkStaleLinks => (),
    /// Removes rows of candidates that are none.
    SettleCandidates => (),
    /// Adds rows for candidates that a full collection has found.
    NoteCandidates => (),
    /// Notes that a full collection has ended.
    NoteFullCollection => (),
    /// Removes tags that were not set again; returns them.
    RetireTags => Vec<DatedTag>,
    /// Removes manifests that are still orphans; returns those that were removed or postponed.
    SweepManifests => Vec<SweepOutcome<CandidateWithSubject, CollectedManifest>>,
    /// Adds rows for files that the index does not know; returns those that it got.
    AdoptBlobs => Vec<(Digest, u64)>,
    /// Records the lengths of unfinished uploads.
    RecordUploads => (),
    /// Removes the rows of uploads that are gone.
    RemoveUploadRows => (),
    /// Removes link exceptions that no manifest needs.
    RemoveLinkExceptions => (),
    /// Removes the marks of sparse manifests that have no holes any more.
    RemoveSparseMarks => (),
    /// Records pulls.
    NoteUses => (),
    /// Begins or ends the record of pulls.
    PullRecord => (),
    /// Stores the record of a background job.
    NoteJob => (),
    /// Gives a new index its identity.
    Identify => (),
    /// Sets or clears the collection hold.
    HoldCollection => (),
    /// Marks the index as complete.
    MarkComplete => (),
    /// Saves the clock, and trims the event feed.
    SaveClock => (),
    /// Removes a manifest whose file is corrupt, or some of its tags; `None` if the file was replaced.
    DeleteBrokenManifest => Option<Deleted>,
    /// Forgets a corrupt blob; false if its file was replaced.
    SetBlobAside => bool,
    /// Adds a blob to a repository again; false if its file is missing.
    RestoreLink => bool,
    /// Sets the change number of `index.json` in a new index.
    StartRebuild => (),
    /// Adds rows for files during a rebuild.
    RecordBlobs => (),
    /// Restores link exceptions of `index.json`.
    RestoreLinkExceptions => (),
    /// Writes notes to the event feed.
    RecordNotes => (),
    /// Restores names of `index.json`; returns how many could be restored.
    RestoreNames => u64,
}

/// The outcome of an applied change.
#[derive(Debug)]
pub(in crate::store) struct Outcome {
    /// The answer to the caller.
    pub(in crate::store) result: Reply,
    /// The events of the change, in their order.
    pub(in crate::store) events: Vec<Event>,
    /// The work on files after the commit.
    pub(in crate::store) files: FileActions,
    /// The value of [`Now::names_set`] for the next change.
    pub(in crate::store) names_set: u64,
    /// True if old events are trimmed even if none is written.
    pub(in crate::store) trims_feed: bool,
}

/// Applies a change to the tables. Uses no disk, no clock and no socket: the facts of the outside are in the change and
/// in `now`.
///
/// # Errors
/// The refusal of the change, which has written nothing then; or an error that ends the transaction
/// ([`StoreError::ends_transaction`]).
pub(in crate::store) fn apply<T: WriteTables>(
    change: &Change,
    origin: &Origin,
    tables: &mut T,
    now: &Now,
) -> Result<Outcome, StoreError> {
    let mut applier = Applier::new(tables, now, origin);
    let result = change.dispatch(&mut applier)?;
    let Applier { events, files, names_set, trims_feed, .. } = applier;
    Ok(Outcome { result, events, files, names_set, trims_feed })
}

/// Stores a manifest and its tags without a check, for tests.
#[cfg(test)]
pub(in crate::store) fn put_unchecked(
    tables: &mut impl WriteTables,
    now: &Now,
    new: &super::push::NewManifest,
) -> Result<(), StoreError> {
    let origin = Origin::system();
    let mut applier = Applier::new(tables, now, &origin);
    applier.record_blob(&new.digest, new.size)?;
    applier.index_manifest(new)
}

/// Stores a blob and adds it to repositories without a check, for tests.
#[cfg(test)]
pub(in crate::store) fn put_blob_unchecked(
    tables: &mut impl WriteTables,
    now: &Now,
    repositories: &[crate::oci::RepositoryName],
    (digest, size): (&Digest, u64),
) -> Result<(), StoreError> {
    let origin = Origin::system();
    let mut applier = Applier::new(tables, now, &origin);
    applier.record_blob(digest, size)?;
    repositories.iter().try_for_each(|repository| applier.link_blob(repository, digest, size))
}
