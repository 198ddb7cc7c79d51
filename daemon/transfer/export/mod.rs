//! Export: from a registry to an image layout on a medium, as a directory, as one tar or as parts of one.
//!
//! | module | contents |
//! |---|---|
//! | `selection` | what the command line selects: `REPOSITORY[:TAG|@DIGEST]` with patterns |
//! | `registry`, `walk`, `manifest` | the port to the registry, and the walk from names to all content |
//! | `plan`, `files`, `documents` | the ordered files of the export; pure |
//! | `tar` | headers |
//! | `medium`, `layout`, `parts`, `write`, `directory`, `archive` | the medium: files, parts, resuming and verification |
//! | `content`, `meter` | content on its way from the registry, progress and rate |
//!
//! # Guarantees
//!
//! - The same selection gives the same bytes: no times but those of the registry, no order but that of names.
//! - An interrupted export continues: what the medium has is compared, and only the rest is written.
//! - Names are final only after the content was synced and, unless the operator declines, read back.
//! - Content whose bytes do not match its digest is never part of an export.
//!
//! The writing side is synchronous and runs on a blocking thread; it requests content through [`Fetcher`].

mod archive;
mod content;
mod directory;
mod documents;
mod error;
mod files;
mod layout;
mod manifest;
mod medium;
mod meter;
mod parts;
mod plan;
mod registry;
mod selection;
mod tar;
mod walk;
mod write;

pub use self::archive::{Piece, pieces, write_archive, write_pipe};
pub use self::content::{Fetch, FetchError, Fetcher, fetches};
pub use self::directory::write_directory;
pub use self::error::ExportError;
pub use self::layout::PartSize;
pub use self::medium::Medium;
pub use self::meter::{Meter, StopFlag};
pub use self::plan::{Exclusion, ExportPlan, Options, plan};
pub use self::registry::{ManifestText, Registry, TagEntry};
pub use self::selection::{ExportSelection, Selected, SelectionError, machine_platform};
pub use self::walk::{Walk, WalkOptions, walk};
pub use self::write::Written;
