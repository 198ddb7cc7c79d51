//! Limits for what a medium may make a reader hold.

use crate::base::human;

/// Maximum length of a manifest or config that is read into memory, in bytes.
pub const MANIFEST: u64 = crate::oci::MAX_MANIFEST as u64;
/// Maximum number of members of a medium.
pub const MEMBERS: usize = 100_000;
/// Maximum depth of nested indexes.
pub const NESTING: usize = 8;
/// Maximum length of the name of a member, in bytes.
pub const NAME: usize = 4096;
/// Maximum window of a zstd frame, in bytes.
pub const ZSTD_WINDOW: u64 = 128 << 20;
/// Length of the chunks in which content is read, in bytes.
pub const CHUNK: usize = 256 << 10;
/// Maximum number of elements of a list in a document.
pub const LISTED: usize = 200_000;
/// Maximum number of layers of an image without a manifest.
pub const LAYERS: usize = 500;
/// Maximum length of an annotation, in bytes; the longest name of an image is shorter.
pub const ANNOTATION: usize = 1024;
/// Maximum number of children of indexes that are remembered to tell which manifests are images of their own.
pub const CHILDREN: usize = 500_000;
/// Maximum number of remarks that are kept for a medium.
pub const NOTES: usize = 100;

/// Limits that are narrower in the daemon, whose memory is shared by its clients.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bounds {
    /// Maximum length of a document, such as `index.json`, in bytes; all documents of a medium have twice as much.
    pub document: u64,
    /// Maximum number of images and refusals of a medium together; names and layers of all of them may be twice as many.
    pub images: usize,
    /// Maximum number of layers and manifests that the manifests of all images reference, each counted as often as it is
    /// listed.
    pub references: usize,
}

impl Bounds {
    /// The limits of `holdfast import`.
    pub const COMMAND: Bounds = Bounds { document: 32 << 20, images: 100_000, references: 2_000_000 };
    /// The limits of archives that the daemon reads.
    pub const DAEMON: Bounds = Bounds { document: 8 << 20, images: 10_000, references: 50_000 };

    /// Returns the maximum length of all documents of a medium together, in bytes.
    pub fn documents(self) -> u64 {
        2 * self.document
    }

    /// Says the limits of documents, and the command that has wider ones.
    pub fn limit_of_documents(self) -> String {
        let limit = format!("{}, and {} for all", human::size(self.document), human::size(self.documents()));
        if self == Bounds::COMMAND { limit } else { format!("{limit}; holdfast import reads larger ones") }
    }

    /// Says the limit of references, and the command that has a wider one.
    pub fn limit_of_references(self) -> String {
        let limit =
            format!("the manifests reference more than {} layers and manifests together", self.references);
        if self == Bounds::COMMAND { limit } else { format!("{limit}; holdfast import reads more") }
    }

    /// Returns the maximum number of names and layers of all images of a medium.
    pub fn names(self) -> usize {
        2 * self.images
    }
}
