//! The formats, one file each.

mod hauler;
mod layout_index;
mod registry_tree;
mod skopeo_dir;
#[cfg(test)]
mod test_members;
mod zarf;

pub use hauler::Hauler;
pub(in crate::transfer) use layout_index::manifest as parse_manifest;
pub use registry_tree::{RegistryTree, is_of_registry_tree};
pub use skopeo_dir::SkopeoDir;
pub use zarf::Zarf;
