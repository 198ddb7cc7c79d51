//! The one error type of the store.

use std::io;
use std::sync::atomic::{AtomicBool, Ordering};

use super::obstacles::is_in_the_way;
use crate::oci::{Digest, Reference, RepositoryName, Tag};

/// Why a verb of the store did not do what it was asked. What is not there, what is wrong with the request,
/// what is wrong with the disk, and what may go better next time are different variants.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The repository has no such blob.
    #[error("blob {0} is not in this repository")]
    BlobUnknown(Digest),
    /// The repository has no such manifest.
    #[error("manifest {0} is not in this repository")]
    ManifestUnknown(Reference),
    /// There is no such repository.
    #[error("repository {0} does not exist")]
    NameUnknown(RepositoryName),
    /// There is no such upload session in this repository.
    #[error("there is no such upload")]
    UploadUnknown,
    /// Another request has continued this upload.
    #[error("the upload was continued by another request")]
    UploadTakenOver,
    /// The content is not what its digest says.
    #[error("the content has digest {actual}, not {claimed}")]
    DigestMismatch {
        /// What the client said.
        claimed: Digest,
        /// What arrived.
        actual: Digest,
    },
    /// A manifest points at content that the repository does not have.
    #[error("the manifest points at content that is not in this repository")]
    ManifestBlobUnknown(Vec<Digest>),
    /// Requests use as many uploads as there may be.
    #[error("there may be no more unfinished uploads (limits.unfinished_uploads); try again later")]
    TooManyUploads,
    /// The client has as many waiting requests of this kind as it may, or waited too long for its turn.
    #[error("too many requests of this client are waiting; try again later")]
    TooManyWaiting,
    /// The repository would have more tags than it may.
    #[error(
        "repository {repository} may have at most {limit} tags; delete some, or raise limits.tags_per_repository"
    )]
    TooManyTags {
        /// The repository.
        repository: RepositoryName,
        /// `limits.tags_per_repository`.
        limit: u64,
    },
    /// The tag can be set once, and names another manifest.
    #[error(
        "tag {tag} of {repository} is immutable and already names another manifest; push another tag ([[immutable]])"
    )]
    TagImmutable {
        /// The repository.
        repository: RepositoryName,
        /// The tag.
        tag: Tag,
    },
    /// The tag can be set once, and must not be deleted.
    #[error("tag {tag} of {repository} is immutable and must not be deleted ([[immutable]])")]
    TagKept {
        /// The repository.
        repository: RepositoryName,
        /// The tag.
        tag: Tag,
    },
    /// A manifest of a repository with tags that must not be deleted references the content.
    #[error(
        "a manifest of {repository} references {digest}, and {repository} has immutable tags ([[immutable]]); delete that \
         manifest first"
    )]
    ContentKept {
        /// The repository.
        repository: RepositoryName,
        /// The blob or manifest.
        digest: Digest,
    },
    /// The registry would have more tags and manifests than it may.
    #[error("the registry may have at most {limit} tags and manifests; delete some, or raise limits.names")]
    TooManyNames {
        /// `limits.names`.
        limit: u64,
    },
    /// The disk has no room.
    #[error("the disk is full")]
    Full,
    /// Blobs and uploads may not have more bytes than this.
    #[error("the registry is full: storage.quota is used up")]
    Quota,
    /// The index has no room.
    #[error("the index is full; set storage.index_map_size higher")]
    IndexFull,
    /// The index has no free page at this moment: what was freed lately is held back for those who still read it.
    #[error("the index is full; set storage.index_map_size higher, or try again")]
    PagesHeld,
    /// A write or a sync failed earlier; nothing is written until a restart.
    #[error("the store is read-only since a write failed; see the log, and restart when the disk is well")]
    ReadOnly,
    /// A blob that the index knows is not on the disk as it should be.
    #[error("blob {0} is missing or damaged on the disk")]
    Damaged(Digest),
    /// Another daemon serves this data directory.
    #[error("another holdfast already serves {0}; stop it first, or choose another --data")]
    InUse(String),
    /// The index has to be made again, which a daemon does when it starts.
    #[error(
        "the index is broken or not complete; start the daemon, or run `holdfast check --repair`, which makes it again"
    )]
    Unready,
    /// The daemon has put another index into the place of the one that was opened.
    #[error("the daemon has made the index again meanwhile; run the command once more")]
    Replaced,
    /// `index.json` lacks names that the index has, so that the index must not be made again from it.
    #[error(
        "index.json lacks what was pushed last, and making the index again would lose that; start the daemon that \
         served it last, which writes index.json, and see in its log why it could not"
    )]
    LayoutStale,
    /// The data directory was written by a newer release.
    #[error(
        "the index has format {found}, and this release knows {known}; install a newer release, or run \
         `holdfast check --rebuild`, which makes the index again from index.json"
    )]
    Format {
        /// The version in the data directory.
        found: u32,
        /// The version of this release.
        known: u32,
    },
    /// The process or the system is out of descriptors, memory or the like for now. Nothing is wrong with the disk, and
    /// the request can be tried again.
    #[error("cannot {action} for now: {source}")]
    OutOfResources {
        /// The operation, for the log.
        action: String,
        /// What the system said.
        source: io::Error,
    },
    /// A directory, a FIFO, a symbolic link or the like is in the place of a file and could not be set aside. That says
    /// nothing about the disk.
    #[error("cannot {action}: {source}")]
    InTheWay {
        /// The operation, for the log.
        action: String,
        /// What the system said.
        source: io::Error,
    },
    /// A file operation failed.
    #[error("cannot {action}: {source}")]
    Io {
        /// What was being done, for the log.
        action: String,
        /// What the system said.
        source: io::Error,
    },
    /// The index failed.
    #[error("the index failed: {0}")]
    Index(#[source] heed::Error),
    /// The store is shutting down.
    #[error("the store is closing")]
    Closing,
}

impl StoreError {
    /// An error of the file system while doing something; a full disk and a lack of resources are told apart.
    pub(super) fn io(action: impl Into<String>, source: io::Error) -> Self {
        match source.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => StoreError::Full,
            _ if is_lack_of_resources(&source) => {
                StoreError::OutOfResources { action: action.into(), source }
            }
            _ if is_in_the_way(&source) => StoreError::InTheWay { action: action.into(), source },
            _ => StoreError::Io { action: action.into(), source },
        }
    }

    /// An error of a sync. Also one that says that the disk is full means that what was written before may be lost.
    ///
    /// Even a lack of resources may mean that: write-back that failed for lack of memory is reported by the sync once, and
    /// its pages count as written afterwards. So the caller must not sync the same content again and believe it: it gives
    /// up the file. Nothing is wrong with the medium, though, and what was synced before is not affected, so that the
    /// store goes on.
    pub(super) fn sync(action: impl Into<String>, source: io::Error) -> Self {
        if is_lack_of_resources(&source) {
            return StoreError::OutOfResources { action: action.into(), source };
        }
        StoreError::Io { action: action.into(), source }
    }

    /// Whether an error that was met while reading the index is about the machine, and not about what was read.
    pub fn says_nothing_of_the_index(&self) -> bool {
        use io::ErrorKind::{PermissionDenied, QuotaExceeded, ResourceBusy, StorageFull};
        if let StoreError::OutOfResources { source, .. } = self {
            // Too little memory says nothing either way: a damaged page may claim that the index is endless.
            return source.raw_os_error() != Some(libc::ENOMEM);
        }
        let StoreError::Index(heed::Error::Io(error)) = self else {
            return matches!(
                self,
                StoreError::Full
                    | StoreError::IndexFull
                    | StoreError::PagesHeld
                    | StoreError::Io { .. }
                    | StoreError::InTheWay { .. }
            );
        };
        let kinds = [PermissionDenied, QuotaExceeded, ResourceBusy, StorageFull];
        kinds.contains(&error.kind())
    }

    /// Returns true if a file could be read and is not what it should be: `index.json` is corrupt.
    pub(super) fn is_corrupt_file(&self) -> bool {
        match self {
            StoreError::Io { source, .. } => source.kind() == io::ErrorKind::InvalidData,
            StoreError::InTheWay { .. } => true,
            _ => false,
        }
    }

    /// Returns true if the system lacked descriptors or memory: that says nothing about the medium, and may pass.
    pub(super) fn is_lack_of_resources(&self) -> bool {
        matches!(self, StoreError::OutOfResources { .. })
    }

    /// Returns true if the disk or the index has no room: fewer changes at a time may succeed, and so may the same later.
    pub(super) fn is_lack_of_room(&self) -> bool {
        matches!(self, StoreError::Full | StoreError::IndexFull | StoreError::PagesHeld)
    }

    /// Whether the index transaction that met this error can only be given up.
    pub(super) fn ends_transaction(&self) -> bool {
        use StoreError::{
            Full, InTheWay, Index, IndexFull, Io, OutOfResources, PagesHeld, ReadOnly, Replaced,
        };
        let of_the_disk =
            matches!(self, Full | Index(_) | Io { .. } | InTheWay { .. } | OutOfResources { .. });
        of_the_disk || matches!(self, IndexFull | PagesHeld | ReadOnly | Replaced)
    }
}

impl From<heed::Error> for StoreError {
    fn from(error: heed::Error) -> Self {
        match error {
            heed::Error::Mdb(heed::MdbError::MapFull) => StoreError::PagesHeld,
            heed::Error::Io(error)
                if matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded) =>
            {
                StoreError::Full
            }
            heed::Error::Io(source) if is_lack_of_resources(&source) => {
                if source.raw_os_error() == Some(libc::ENOMEM) {
                    // A damaged page may claim that the index is endless.
                    INDEX_FAILED.store(true, Ordering::Relaxed);
                }
                StoreError::OutOfResources { action: "use the index".into(), source }
            }
            // As many read it as LMDB has places for.
            error @ heed::Error::Mdb(heed::MdbError::ReadersFull | heed::MdbError::TlsFull) => {
                StoreError::OutOfResources {
                    action: "read the index".into(),
                    source: io::Error::other(error),
                }
            }
            error => {
                INDEX_FAILED.store(true, Ordering::Relaxed);
                StoreError::Index(error)
            }
        }
    }
}

/// Whether an error is about what the process or the system has at this moment, and not about the medium.
pub(super) fn is_lack_of_resources(error: &io::Error) -> bool {
    const CODES: [i32; 5] = [libc::EMFILE, libc::ENFILE, libc::ENOMEM, libc::EAGAIN, libc::EINTR];
    error.raw_os_error().is_some_and(|code| CODES.contains(&code))
}

/// Whether the index has failed in this process: it is looked at before it is used the next time.
pub(super) fn index_failed() -> bool {
    INDEX_FAILED.load(Ordering::Relaxed)
}

static INDEX_FAILED: AtomicBool = AtomicBool::new(false);
