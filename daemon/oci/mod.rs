//! The standard's own terms as types: digest, name, tag, reference, media type, manifest, error code.
//!
//! Pure values: no I/O, nothing async. Fields are private and parsing is the only way to make one, so a
//! [`RepositoryName`] that exists is valid and nothing behind the edge of the daemon checks it again.

mod attached;
mod contents;
mod count;
mod digest;
mod error_code;
mod hasher;
mod image_config;
mod json_text;
mod lenient;
mod listed;
mod manifest;
mod media_type;
mod name;
mod pattern;
mod problem;
mod reference;

pub use attached::AttachedTo;
pub use contents::{Contents, Part, Platform};
pub use digest::{Algorithm, Digest, ParseDigestError};
pub use error_code::ErrorCode;
pub use hasher::Hasher;
pub use image_config::{ImageConfig, Setting, Step};
pub use json_text::JsonTextError;
pub use lenient::{List, Pairs};
pub use listed::{Listed, referrers_of_index};
pub use manifest::{Descriptor, Link, LinkKind, Manifest, ManifestError};
pub use media_type::{MediaType, ParseMediaTypeError};
pub use name::{ParseNameError, RepositoryName};
pub use pattern::Pattern;
pub use problem::{Problem, ProblemKind, RETRY_LATER};
pub use reference::{ParseReferenceError, ParseTagError, Reference, Tag};
