//! The contract between media, formats and the engine.
//!
//! A medium is a tree of members or a stream of them. A [`Format`] is pure: it classifies members by their names, and
//! makes the [`Catalog`] from the documents among them. So one implementation serves directories, archives and streams:
//!
//! - random access: all members are listed and classified, documents are read, and `catalog` is called first; the
//!   engine then reads content by [`ContentKey`] as it needs it.
//! - stream: each member is classified as it arrives. Documents are kept, blobs and layers go to the sink, and
//!   `catalog` is called at the end. [`Members::read`] reads small content back from the sink.
//!
//! A member gets the role that the first format of [`FORMATS`] gives it; a medium has the first format whose
//! `catalog` returns images. All text and all sizes come from outside and are untrusted.

mod catalog;
pub mod codec;
mod directory;
mod docker;
mod error;
mod formats;
mod index_descriptor;
mod indexed_medium;
mod library;
pub mod limits;
mod listing;
mod media;
mod member;
mod name;
mod oci_layout;
mod parts;
mod tar;
#[cfg(test)]
mod testing;

pub use catalog::{Catalog, Config, ContentKey, ExportFile, ImageEntry, MadeImage, MemberId, Refusal, Root};
pub use docker::DockerArchive;
pub use error::SourceError;
pub(in crate::transfer) use formats::parse_manifest;
pub use index_descriptor::{Index, IndexDescriptor};
pub use indexed_medium::{StreamVisitor, role_of};
pub use library::Library;
pub use media::{Medium, MediumKind, open_archive, open_media, open_stream};
pub use member::{MemberName, Role};
pub(super) use name::is_host;
pub use name::{ImageName, ParseImageNameError};
pub use oci_layout::OciLayout;
pub use parts::group as group_parts;
pub use tar::truncated;

use bytes::Bytes;

use self::limits::Bounds;
use crate::oci::Digest;

/// A format of archives and directories.
pub trait Format: Sync {
    /// Returns the name of the format, such as `OCI layout`.
    fn name(&self) -> &'static str;

    /// Returns the role of a member in this format; `None` if the format does not know it. Depends on the name alone,
    /// because a stream may end with the documents that identify its format.
    fn role(&self, name: &MemberName) -> Option<Role>;

    /// Returns the images of a medium; `None` if the medium is of another format.
    ///
    /// An image that cannot be read is a [`Refusal`] in the catalog, and the others are still listed.
    ///
    /// # Errors
    /// Fails only if nothing of the medium can be read, for example because `index.json` is not JSON.
    fn catalog(&self, members: &mut dyn Members) -> Result<Option<Catalog>, SourceError>;
}

/// The members of one medium, as a format sees them.
pub trait Members {
    /// Returns the content of a document by its name.
    fn document(&self, name: &str) -> Option<Bytes>;

    /// Returns the names of all documents, sorted.
    fn documents(&self) -> Vec<String>;

    /// Returns the key of a blob or a layer by the name of its member. Links are resolved within the list of members.
    fn content(&self, name: &str) -> Option<ContentKey>;

    /// Returns true if a medium of this import has a blob with this digest. In a stream, content that the sink had
    /// counts if its member was seen.
    fn has(&self, digest: &Digest) -> bool;

    /// Reads a blob of at most [`limits::MANIFEST`] bytes, such as a manifest or a config; `None` if no medium of this
    /// import has it.
    ///
    /// # Errors
    /// Fails if the medium cannot be read, or if the blob is larger.
    fn read(&mut self, digest: &Digest) -> Result<Option<Vec<u8>>, SourceError>;

    /// Returns the last component of the path of the medium, for formats whose images have no names inside.
    fn place(&self) -> Option<&str>;

    /// Returns the limits of the catalog.
    fn bounds(&self) -> Bounds {
        Bounds::COMMAND
    }
}

/// All formats, in the order in which they are asked.
pub const FORMATS: [&dyn Format; 6] = [
    &formats::RegistryTree,
    &formats::Hauler,
    &formats::Zarf,
    &formats::SkopeoDir,
    &OciLayout,
    &DockerArchive,
];
