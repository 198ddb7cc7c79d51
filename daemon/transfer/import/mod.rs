//! The import: from media to a sink.
//!
//! 1. Streams are read to their ends, and their content goes to the sink as it comes. Directories and archives are
//!    listed.
//! 2. The plan gives names to images (`plan`), and the manifests say which content they need (`resolve`).
//! 3. Image by image: the content that the sink lacks, then the manifests, then the tags. An import that is interrupted
//!    leaves whole images behind.
//!
//! An image that fails has its row in the [`Report`], and the next one follows. Only an error of the transfer itself, such
//! as a full disk before the first byte, ends the import.

mod content;
mod image;
mod made;
mod plan;
mod report;
mod resolve;
mod rows;
mod run;
mod signed;
#[cfg(test)]
mod tests;

use std::path::PathBuf;

pub use plan::{Plan, Target, plan};
pub use report::{Outcome, Report, Row};
pub use signed::SignedLists;

use super::any_sink::AnySink;
use super::image_set::Policy;
use super::names::NameRules;
use super::platforms::PlatformFilter;
use super::reader::{Media, Reader};
use super::sink::{Sink, SinkError};
use super::source::{ExportFile, SourceError};

/// The layers that are compressed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Compress {
    /// Uncompressed layers of images for which a manifest has to be made.
    #[default]
    Auto,
    /// Those, and the ones of images with a manifest of their own, which is made again. An image with referrers, and one
    /// in an index, stays as it is.
    Gzip,
    /// None.
    None,
}

impl Compress {
    /// Returns true if layers of images without a manifest are compressed.
    fn is_for_made(self) -> bool {
        match self {
            Compress::Auto | Compress::Gzip => true,
            Compress::None => false,
        }
    }
}

/// The options of an import.
#[derive(Clone, Debug, Default)]
pub struct ImportOptions {
    /// The rules for names.
    pub names: NameRules,
    /// The platforms of indexes; all without any.
    pub platforms: PlatformFilter,
    /// The treatment of tags that exist.
    pub policy: Policy,
    /// The layers that are compressed.
    pub compress: Compress,
    /// Ends after the plan.
    pub dry_run: bool,
}

/// Reason why an import ended before its images.
#[derive(Debug, thiserror::Error)]
pub enum ImportError {
    /// The media cannot be read.
    #[error(transparent)]
    Source(#[from] SourceError),
    /// The sink ended the transfer.
    #[error(transparent)]
    Sink(#[from] SinkError),
    /// The options do not fit the media.
    #[error("{0}")]
    Usage(String),
    /// The content list is not signed as required.
    #[error("{0}")]
    Unsigned(String),
    /// The media have no images, or none that is selected.
    #[error("{0}")]
    Empty(String),
}

/// Watches an import.
pub trait Observer: Send {
    /// The plan has been made: names on the medium and in the registry.
    fn planned(&mut self, _plan: &Plan, _notes: &[String]) {}
    /// Bytes have been read; with all bytes that will be, if they are known.
    fn progress(&mut self, _done: u64, _total: Option<u64>) {}
    /// An image has its outcome.
    fn row(&mut self, _row: &Row) {}
    /// Checks the content lists of the media, none for a medium without one, before any name is set. Returns the lists if only
    /// what they name is imported. By default only the sink checks signatures.
    ///
    /// # Errors
    /// Returns the reason for which the import ends.
    fn check(&mut self, _exports: &[Option<&ExportFile>]) -> Result<Option<SignedLists>, String> {
        Ok(None)
    }
}

/// Imports media into a sink.
///
/// # Errors
/// Fails if nothing can be imported; an image that fails is a row of the report.
pub async fn import<S: Sink>(
    paths: Vec<PathBuf>,
    options: &ImportOptions,
    sink: &mut S,
    observer: &mut dyn Observer,
) -> Result<Report, ImportError> {
    import_media(Media::Paths(paths), options, sink, observer).await
}

/// As [`import`], from media of any kind.
///
/// # Errors
/// As [`import`].
pub async fn import_media<S: Sink>(
    media: Media,
    options: &ImportOptions,
    sink: &mut S,
    observer: &mut dyn Observer,
) -> Result<Report, ImportError> {
    run::run(media, options, &mut AnySink::new(sink), observer).await
}

fn start(media: Media, compress: Compress) -> Result<Reader, ImportError> {
    Ok(Reader::start(media, compress.is_for_made()).map_err(|error| SourceError::io("the media", error))?)
}
