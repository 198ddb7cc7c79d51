//! Limits for what a medium may make a reader hold.

/// Maximum length of a manifest or config that is read into memory, in bytes.
pub const MANIFEST: u64 = crate::oci::MAX_MANIFEST as u64;
/// Maximum length of a document, such as `index.json`, in bytes.
pub const DOCUMENT: u64 = 32 << 20;
/// Maximum length of all documents of a medium together, in bytes.
pub const DOCUMENTS: u64 = 64 << 20;
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
/// Maximum number of images and refusals of a medium together.
pub const IMAGES: usize = 100_000;
/// Maximum number of elements of a list in a document, and of names and layers of all images of a document.
pub const LISTED: usize = 200_000;
/// Maximum number of layers of an image without a manifest.
pub const LAYERS: usize = 500;
/// Maximum number of annotations of a descriptor.
pub const ANNOTATIONS: usize = 1000;
/// Maximum number of children of indexes that are remembered to tell which manifests are images of their own.
pub const CHILDREN: usize = 500_000;
/// Maximum number of remarks that are kept for a medium.
pub const NOTES: usize = 100;
