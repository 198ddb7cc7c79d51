//! The images of a medium.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::limits::Bounds;
use super::name::ImageName;
use crate::oci::{Digest, MediaType};

/// The images of a medium, in the order in which they stand there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Catalog {
    /// The name of the format.
    pub format: &'static str,
    /// The images.
    pub images: Vec<ImageEntry>,
    /// Manifests whose member is a document and not a blob, by their digests. The engine takes their text from here.
    pub manifests: BTreeMap<Digest, Vec<u8>>,
    /// Images and members that cannot be imported.
    pub refused: Vec<Refusal>,
    /// Members that were skipped, and other remarks: one line each.
    pub notes: Vec<String>,
    /// The list of contents that Holdfast's export has written.
    pub export: Option<ExportFile>,
    /// The maximum number of images and refusals together.
    pub(in crate::transfer) max_images: usize,
}

impl Default for Catalog {
    fn default() -> Self {
        Catalog::within(Bounds::COMMAND)
    }
}

impl Catalog {
    /// Makes an empty catalog with limits.
    pub fn within(bounds: Bounds) -> Self {
        Catalog {
            format: "",
            images: Vec::new(),
            manifests: BTreeMap::new(),
            refused: Vec::new(),
            notes: Vec::new(),
            export: None,
            max_images: bounds.images,
        }
    }

    /// Adds an image. Beyond [`Bounds::images`] the rest of the medium is one refusal.
    pub fn add(&mut self, image: ImageEntry) {
        if self.has_room() {
            self.images.push(image);
        }
    }

    /// Adds a refusal. Beyond [`Bounds::images`] the rest of the medium is one refusal.
    pub fn refuse(&mut self, refusal: Refusal) {
        if self.has_room() {
            self.refused.push(refusal);
        }
    }

    /// Returns true if nothing more is added.
    pub fn is_full(&self) -> bool {
        self.images.len() + self.refused.len() > self.max_images
    }

    fn has_room(&mut self) -> bool {
        if self.images.len() + self.refused.len() == self.max_images {
            let reason = format!(
                "the medium has more than {} images and faults, which is the limit; split it into several media",
                self.max_images
            );
            self.refused.push(Refusal { name: "(further images)".to_owned(), reason });
        }
        !self.is_full()
    }
}

/// An image, an index or an artifact.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ImageEntry {
    /// Its names. Without a repository in any of them, the image needs one from the user.
    pub names: Vec<ImageName>,
    /// Its content.
    pub root: Root,
    /// The time of its push at the registry of origin, in seconds since 1970.
    pub pushed: Option<u64>,
}

/// The content of an image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Root {
    /// A manifest or an index that the medium has, or should have. It is stored as it is.
    Manifest {
        /// Its digest.
        digest: Digest,
        /// Its media type; if it is missing here, the manifest states it.
        media_type: Option<MediaType>,
    },
    /// Config and layers, for which a manifest has to be made.
    Made(MadeImage),
}

/// An image without a manifest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MadeImage {
    /// The config.
    pub config: Config,
    /// The layers, the lowest first.
    pub layers: Arc<[ContentKey]>,
}

/// The config of an image without a manifest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Config {
    /// A blob of the medium.
    Blob(Digest),
    /// The text of a document.
    Text(Arc<[u8]>),
}

/// The key by which content is read.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ContentKey {
    /// Content with a known digest.
    Digest(Digest),
    /// A layer whose digest is not known before it has been read.
    Layer(MemberId),
}

/// A member of one of the media of an import.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MemberId {
    /// The number of the medium.
    pub medium: usize,
    /// The number of the member in it.
    pub member: usize,
}

/// An image or a member that cannot be imported.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// Its name on the medium.
    pub name: String,
    /// The reason, in one line.
    pub reason: String,
}

/// `holdfast/export.json` and its signature.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExportFile {
    /// The exact text.
    pub content: String,
    /// The signature in the format SSHSIG.
    pub signature: Option<String>,
    /// The id of the registry that has written it.
    pub registry: Option<String>,
    /// Content that the export has, or has left out because its receivers have it: none of it may be missing.
    pub content_digests: BTreeSet<Digest>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn images_beyond_the_limit_are_one_refusal() {
        let mut catalog = Catalog::within(Bounds::DAEMON);
        for number in 0..Bounds::DAEMON.images + 100 {
            catalog.refuse(Refusal { name: number.to_string(), reason: "x".into() });
        }
        assert_eq!(catalog.refused.len(), Bounds::DAEMON.images + 1);
        assert_eq!(catalog.refused[Bounds::DAEMON.images].name, "(further images)");
        assert!(catalog.is_full());
    }
}
