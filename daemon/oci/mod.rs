//! The terms of the OCI specifications as types: digest, repository name, tag, reference, media type, manifest, error
//! code.
//!
//! Pure values without I/O and without async code. Fields are private and parsing is the only constructor, so that a
//! [`RepositoryName`] is valid by type and no later stage validates it again. Content of clients is read in bounded
//! memory.

mod actor;
pub mod annotations;
mod attached;
mod attachment;
mod bill;
mod build_step;
mod count;
mod digest;
mod document;
mod error_code;
mod hasher;
mod image_config;
mod json_find;
mod json_text;
mod lenient;
mod listed;
mod manifest;
mod manifest_error;
mod manifest_view;
mod media_type;
mod name;
mod pattern;
mod problem;
mod reference;
mod spdx;

pub use actor::{Actor, ActorKind};
pub use attached::AttachmentTarget;
pub use attachment::{Attachment, Signer};
pub use bill::{Bill, Package, PackageFilter};
pub use build_step::dockerfile_step;
pub use digest::{Algorithm, Digest, ParseDigestError};
pub use document::{Document, Signed, Statement};
pub use error_code::ErrorCode;
pub use hasher::Hasher;
pub use image_config::{HistoryEntry, ImageConfig, RuntimeSetting};
pub use json_text::JsonTextError;
pub use lenient::{BoundedList, BoundedMap, lenient};
pub use listed::{ListedDescriptor, MAX_REFERRERS, referrers_of_index};
pub use manifest::{Descriptor, MAX_MANIFEST, Manifest, ReferenceKind, ReferencedContent};
pub use manifest_error::ManifestError;
pub use manifest_view::{DescriptorView, ManifestView, Platform};
pub use media_type::{MediaType, ParseMediaTypeError};
pub use name::{ParseNameError, RepositoryName};
pub use pattern::Pattern;
pub use problem::{Problem, ProblemKind, RETRY_LATER};
pub use reference::{ParseReferenceError, ParseTagError, Reference, Tag};
