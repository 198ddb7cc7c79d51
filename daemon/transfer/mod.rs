//! Transfer of images between archives, directories and registries, without a temporary copy.
//!
//! [`export`] is the way out of a registry; the rest of this page is about the way in.
//!
//! An import reads from a source and writes to a [`Sink`]. The room knows neither the store nor HTTP: the command line
//! implements [`Sink`] over the local API, and the daemon can implement it over its own handlers.
//!
//! # Sources
//!
//! A medium is a directory, an archive, or a stream. Its members are named content; a [`source::Format`] says which of
//! them matter ([`source::Role`]) and which images they make ([`source::Catalog`]). Members are never unpacked, and
//! their names are only compared, never used as paths.
//!
//! | kind | media | order of the work |
//! |---|---|---|
//! | random access | directories, uncompressed archives in regular files | catalog, manifests, the missing digests, only their content, names |
//! | stream | pipes, compressed archives | content in the order of the archive, which the sink refuses where it has it; catalog, manifests, names |
//!
//! Media are read on one blocking thread by synchronous `Read`; content reaches the sink in bounded [`Chunks`].
//!
//! # Guarantees
//!
//! - Blobs come before manifests, children before parents, and tags last: an image becomes visible in one step.
//! - A transfer is idempotent: the sink never gets content that it has.
//! - An image that fails never stops the others; each image has an outcome.
//! - Memory is bounded by the limits in [`source::limits`].

pub mod adopt;
mod any_sink;
mod beneath;
mod chunks;
pub mod content_list;
pub mod export;
mod image_set;
mod import;
pub mod inventory;
mod links;
mod names;
mod platforms;
mod progress;
mod reader;
mod registry2;
mod set_sender;
pub mod signature;
pub mod signers_file;
mod sink;
pub mod source;
#[cfg(test)]
mod test_registry;
mod wording;

pub use chunks::{ChunkSender, Chunks, chunks};
pub use image_set::{
    ImageSet, ImagesAnswer, Item, ManifestAnswer, ManifestOutcome, Origin, OtherNames, Policy, SetManifest,
    SetTag, SourceName, Stored, TagAnswer, TagOutcome,
};
pub use import::{
    Compress, ImportError, ImportOptions, Observer, Outcome, Plan, Report, Row, SignedLists, Target, import,
    import_media, plan,
};
pub use names::{NameMode, NamePattern, NameRules, TargetName};
pub use platforms::PlatformFilter;
pub use progress::{Pace, Phase, Progress};
pub use reader::Media;
pub use sink::{Put, Sink, SinkError};
pub use wording::Wording;
