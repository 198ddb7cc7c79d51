//! Adoption: the images of registry:2's data directory into this registry.
//!
//! | module | contents |
//! |---|---|
//! | `tree` | reads the directory, and removes content from it |
//! | `links` | the names in it: tags, manifests of repositories |
//! | `plan` | the images that are adopted, and those that are skipped |
//! | `queue` | the order: the image with the least missing content first |
//! | `run` | the work, image by image |
//! | `run/send`, `run/removal` | sends and names an image; removes its source |
//! | `run/certain` | asks the registry whether an image will get its names |
//! | `outcome` | settings and results |
//! | `open_files` | processes that have files of the tree open |
//!
//! # Guarantees
//!
//! - The sink hashes all content; a blob whose bytes do not match its digest is refused, and its source is never touched.
//! - An image that fails never stops the others. Only a lack of space ends the work: the images after it need more.
//! - Content is removed after the sink has acknowledged it, and never if a repository that is not adopted names it, or a
//!   manifest that was skipped. So a run that was killed is continued by the next one.
//! - Where the missing content of an image does not fit beside its source, it is moved blob by blob, the largest first: if that
//!   one does not fit, the image is not begun, and neither if the registry may not name it.
//! - Files are opened beneath the directory without following symbolic links: other users may be able to write there.

mod links;
mod open_files;
mod outcome;
mod plan;
mod queue;
mod run;
#[cfg(test)]
mod tests;
mod tree;

pub use open_files::{OpenFile, open_file};
pub use outcome::{Adopted, AdoptedImage, AdoptedTag, AdoptionObserver, ImageState, Settings};
pub use plan::{AdoptionPlan, PlannedImage, RepositorySelection};
pub use run::adopt;
pub use tree::Tree;
