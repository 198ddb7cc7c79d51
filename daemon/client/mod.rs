//! Another registry, as its client: challenges and tokens, manifests, blobs, lists and pushes.
//!
//! | module | contents |
//! |---|---|
//! | `credentials`, `docker_config` | how to log in, and what Docker's configuration says about it |
//! | `docker_hub` | the hosts of Docker Hub |
//! | `challenge`, `realm` | what a 401 asks for, and whether a token server may see the credentials; pure |
//! | `token` | bearer tokens, which are kept while they are valid |
//! | `registry` | requests with authorization, repeated where that helps |
//! | `manifests`, `blobs`, `lists`, `referrers`, `upload` | the resources of a registry |
//!
//! # Guarantees
//!
//! - Credentials go to the registry itself, and to a token server only if that is on the registry's host or the operator named
//!   it. Others are asked without them.
//! - Bytes count only if they match their digest; what a header says about them does not matter.
//! - An answer is read in bounded memory, whatever length it has.

mod blobs;
mod challenge;
mod credentials;
mod docker_config;
pub mod docker_hub;
mod error;
#[cfg(fuzzing)]
mod fuzz;
mod lists;
mod manifests;
mod realm;
mod referrers;
mod registry;
mod scope;
mod token;
mod upload;
mod window;

pub use self::blobs::{BlobContent, Mounted};
pub use self::credentials::Credentials;
pub use self::docker_config::stored_credentials;
pub use self::error::ClientError;
#[cfg(fuzzing)]
pub use self::fuzz::{challenges, error_text, names_in_page, next_page};
pub use self::manifests::{MANIFEST_TYPES, Manifest, ManifestHead, PutAnswer};
pub use self::registry::{RegistryClient, Settings};
pub use self::upload::{Content, UploadError, Uploaded};
