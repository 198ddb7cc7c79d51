//! The error type of the store.
//!
//! A [`StoreError`] knows nothing of HTTP: the variant is the kind, its fields are the detail, and `Display` is the
//! message. `wire/error.rs` maps the kinds to statuses. Four groups of kinds matter inside the store: content that does
//! not exist, a request that is refused, a lack of space or resources (the store keeps working, and a retry may
//! succeed), and a failure of the disk or the index ([`StoreError::Io`] and [`StoreError::Index`], which close the
//! latch when a write meets them).

use std::io;

pub(super) use super::error_kinds::is_lack_of_resources;
pub use super::index_error::IndexError;
use super::regular_file::is_obstacle_error;
use crate::oci::{Digest, Reference, RepositoryName, Tag};

/// Reason why an operation of the store failed.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The repository has no such blob.
    #[error("blob {0} is not in this repository")]
    BlobUnknown(Digest),
    /// The repository has no such manifest.
    #[error("manifest {0} is not in this repository")]
    ManifestUnknown(Reference),
    /// The repository does not exist.
    #[error("repository {0} does not exist")]
    NameUnknown(RepositoryName),
    /// The repository has no such upload session.
    #[error("the upload does not exist in this repository")]
    UploadUnknown,
    /// A later request took over this upload.
    #[error("another request took over the upload")]
    UploadTakenOver,
    /// The content does not have the digest that the client gave.
    #[error("the content has digest {actual}, not {claimed}")]
    DigestMismatch {
        /// The digest that the client gave.
        claimed: Digest,
        /// The digest of the content.
        actual: Digest,
    },
    /// A manifest references content that the repository does not have.
    #[error("the manifest references content that is not in this repository")]
    ManifestBlobUnknown(Vec<Digest>),
    /// The limit of unfinished uploads is reached, and requests use all of them.
    #[error("too many unfinished uploads (limits.unfinished_uploads); try again later")]
    TooManyUploads,
    /// The client has too many waiting requests of this kind, or one waited too long for its turn.
    #[error("too many requests of this client are waiting; try again later")]
    TooManyWaiting,
    /// The tag would exceed the limit of the repository.
    #[error(
        "repository {repository} has reached its limit of {limit} tags; delete some, or raise \
         limits.tags_per_repository"
    )]
    TooManyTags {
        /// The repository.
        repository: RepositoryName,
        /// `limits.tags_per_repository`.
        limit: u64,
    },
    /// The tag is immutable and names another manifest.
    #[error(
        "tag {tag} of {repository} is immutable ([[immutable]]) and already names another manifest; push another tag"
    )]
    TagImmutable {
        /// The repository.
        repository: RepositoryName,
        /// The tag.
        tag: Tag,
    },
    /// The tag is immutable and cannot be deleted.
    #[error("tag {tag} of {repository} is immutable ([[immutable]]) and cannot be deleted")]
    TagKept {
        /// The repository.
        repository: RepositoryName,
        /// The tag.
        tag: Tag,
    },
    /// A manifest of a repository with immutable tags references the content.
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
    /// The push would exceed the limit of tags and manifests of the registry.
    #[error(
        "the registry has reached its limit of {limit} tags and manifests; delete some, or raise limits.names"
    )]
    TooManyNames {
        /// `limits.names`.
        limit: u64,
    },
    /// The disk has no space, or only the reserve is left.
    #[error("the disk is full")]
    Full,
    /// Blobs and uploads have used up the quota.
    #[error("the registry is full: storage.quota is used up")]
    Quota,
    /// The index has reached its size limit.
    #[error("the index is full; raise storage.index_map_size")]
    IndexFull,
    /// The index has no free page now: readers still hold the pages that were freed last.
    #[error("the index is full; try again, or raise storage.index_map_size")]
    PagesHeld,
    /// The latch is closed: a write or a sync failed earlier, and nothing is written until a restart.
    #[error(
        "the store is read-only since a write failed; see the log, check the disk, then restart the daemon"
    )]
    ReadOnly,
    /// The file of a blob that the index has is missing or does not match.
    #[error("blob {0} is missing or damaged on the disk")]
    Damaged(Digest),
    /// Another daemon serves this data directory.
    #[error("another holdfast already serves {0}; stop it first, or choose another --data")]
    InUse(String),
    /// The index is corrupt or incomplete; only a daemon that starts, or a repair, rebuilds it.
    #[error(
        "the index is corrupt or incomplete; start the daemon, or run `holdfast check --repair`, to rebuild it"
    )]
    NeedsRecovery,
    /// `index.json` lacks names that the index has, so that a rebuild would lose them.
    #[error(
        "index.json lacks the latest pushes, and a rebuild of the index would lose them; start the daemon that served \
         this directory last, so that it writes index.json, and see its log if it does not"
    )]
    LayoutStale,
    /// A newer release wrote the index.
    #[error(
        "the index has format {found}, but this release knows format {known}; install a newer release, or run \
         `holdfast check --rebuild` to rebuild the index from index.json"
    )]
    Format {
        /// The version in the data directory.
        found: u32,
        /// The version of this release.
        known: u32,
    },
    /// The process or the system is short of descriptors, memory or the like. The disk is healthy, and a retry may
    /// succeed.
    #[error("cannot {action} for now: {source}")]
    OutOfResources {
        /// The operation, for the log.
        action: String,
        /// The error of the system.
        source: io::Error,
    },
    /// An obstacle is in the place of a file and could not be set aside. The disk is healthy.
    #[error("cannot {action}: {source}")]
    Obstacle {
        /// The operation, for the log.
        action: String,
        /// The error of the system.
        source: io::Error,
    },
    /// A file operation failed.
    #[error("cannot {action}: {source}")]
    Io {
        /// The operation, for the log.
        action: String,
        /// The error of the system.
        source: io::Error,
    },
    /// The index failed.
    #[error("the index failed: {0}")]
    Index(#[source] IndexError),
    /// The store is shutting down.
    #[error("the store is shutting down")]
    Closing,
}

/// The error of a read-only file system, with its remedy.
const READ_ONLY: &str = "its file system is read-only; mount it read-write. If it was, the kernel log (dmesg) tells which fault of \
                         the disk changed that";

impl StoreError {
    /// Classifies an error of a file operation: a full disk, a lack of resources, an obstacle, or a failure of the
    /// disk.
    pub(super) fn io(action: impl Into<String>, source: io::Error) -> Self {
        match source.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => StoreError::Full,
            _ if is_lack_of_resources(&source) => {
                StoreError::OutOfResources { action: action.into(), source }
            }
            _ if is_obstacle_error(&source) => StoreError::Obstacle { action: action.into(), source },
            kind @ io::ErrorKind::ReadOnlyFilesystem => {
                let source = io::Error::new(kind, READ_ONLY);
                StoreError::Io { action: action.into(), source }
            }
            _ => StoreError::Io { action: action.into(), source },
        }
    }

    /// Classifies an error of a sync. A full disk is a failure here: earlier writes may be lost.
    ///
    /// A lack of resources is not a failure: the medium is healthy, and content that was synced before is safe. But the
    /// sync reports failed write-back only once, and the pages count as written afterwards. So the caller must not sync
    /// the same file again; it gives the file up.
    pub(super) fn sync(action: impl Into<String>, source: io::Error) -> Self {
        if is_lack_of_resources(&source) {
            return StoreError::OutOfResources { action: action.into(), source };
        }
        StoreError::Io { action: action.into(), source }
    }

    /// Returns true if an inspection failed because of the disk or the system, so that the index may be healthy.
    pub fn is_environment_error(&self) -> bool {
        use io::ErrorKind::{PermissionDenied, QuotaExceeded, ResourceBusy, StorageFull};
        match self {
            // Not ENOMEM: a corrupt page may claim a huge row, so that a lack of memory proves nothing.
            StoreError::OutOfResources { source, .. } => source.raw_os_error() != Some(libc::ENOMEM),
            StoreError::Index(IndexError::Io(error)) => {
                [PermissionDenied, QuotaExceeded, ResourceBusy, StorageFull].contains(&error.kind())
            }
            error => match error.cause() {
                Cause::NoSpace | Cause::Disk => true,
                Cause::Index | Cause::Request | Cause::State => false,
            },
        }
    }

    /// Returns true if `index.json` was read and is corrupt, or is not a file.
    pub(super) fn is_corrupt_file(&self) -> bool {
        match self {
            StoreError::Io { source, .. } => source.kind() == io::ErrorKind::InvalidData,
            error => matches!(error, StoreError::Obstacle { .. }),
        }
    }

    /// Returns true for a lack of descriptors or memory: the medium is healthy, and a retry may succeed.
    pub(super) fn is_lack_of_resources(&self) -> bool {
        matches!(self, StoreError::OutOfResources { .. })
    }

    /// Returns true if the disk or the index is full: a smaller change may succeed, or the same one later.
    pub(super) fn is_lack_of_space(&self) -> bool {
        match self.cause() {
            Cause::NoSpace => true,
            Cause::Disk | Cause::Index | Cause::Request | Cause::State => false,
        }
    }

    /// Returns true if the index transaction that met this error has to be aborted.
    pub(super) fn ends_transaction(&self) -> bool {
        match self.cause() {
            Cause::NoSpace | Cause::Disk | Cause::Index => true,
            Cause::State => matches!(self, StoreError::OutOfResources { .. } | StoreError::ReadOnly),
            Cause::Request => false,
        }
    }

    fn cause(&self) -> Cause {
        match self {
            StoreError::Full | StoreError::IndexFull | StoreError::PagesHeld => Cause::NoSpace,
            StoreError::Io { .. } | StoreError::Obstacle { .. } => Cause::Disk,
            StoreError::Index(_) => Cause::Index,
            StoreError::BlobUnknown(_)
            | StoreError::ManifestUnknown(_)
            | StoreError::NameUnknown(_)
            | StoreError::UploadUnknown
            | StoreError::UploadTakenOver
            | StoreError::DigestMismatch { .. }
            | StoreError::ManifestBlobUnknown(_)
            | StoreError::TooManyUploads
            | StoreError::TooManyWaiting
            | StoreError::TooManyTags { .. }
            | StoreError::TagImmutable { .. }
            | StoreError::TagKept { .. }
            | StoreError::ContentKept { .. }
            | StoreError::TooManyNames { .. }
            | StoreError::Quota
            | StoreError::Damaged(_) => Cause::Request,
            StoreError::ReadOnly
            | StoreError::InUse(_)
            | StoreError::NeedsRecovery
            | StoreError::LayoutStale
            | StoreError::Format { .. }
            | StoreError::OutOfResources { .. }
            | StoreError::Closing => Cause::State,
        }
    }
}

/// The origin of an error.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Cause {
    /// The disk or the index is full.
    NoSpace,
    /// A file operation failed.
    Disk,
    /// The index failed.
    Index,
    /// This one request, or the content that it names.
    Request,
    /// The state of the process or of the data directory.
    State,
}

impl From<IndexError> for StoreError {
    fn from(error: IndexError) -> Self {
        match error {
            IndexError::PagesHeld => StoreError::PagesHeld,
            IndexError::Full => StoreError::IndexFull,
            IndexError::Io(error)
                if matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded) =>
            {
                StoreError::Full
            }
            IndexError::Io(source) if is_lack_of_resources(&source) => {
                StoreError::OutOfResources { action: "use the index".into(), source }
            }
            error @ IndexError::Readers(_) => StoreError::OutOfResources {
                action: "read the index".into(),
                source: io::Error::other(error),
            },
            error @ (IndexError::Row(_)
            | IndexError::Corrupt(_)
            | IndexError::Io(_)
            | IndexError::Other(_)) => StoreError::Index(error),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_disk_is_a_failure_only_of_a_sync() {
        let full = || io::Error::from_raw_os_error(libc::ENOSPC);
        assert!(StoreError::io("write", full()).is_lack_of_space());
        assert!(matches!(StoreError::sync("sync", full()), StoreError::Io { .. }));
        let memory = StoreError::sync("sync", io::Error::from_raw_os_error(libc::ENOMEM));
        assert!(memory.is_lack_of_resources() && memory.ends_transaction());
        assert!(!memory.is_environment_error());
        let read_only = StoreError::io("open /data/x", io::Error::from_raw_os_error(libc::EROFS)).to_string();
        assert!(
            read_only.starts_with("cannot open /data/x: its file system is read-only; mount"),
            "{read_only}"
        );
    }
}
