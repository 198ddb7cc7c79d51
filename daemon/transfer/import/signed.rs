//! The signed content lists of the media of an import (`--signers`). Pure.

use std::collections::BTreeSet;

use super::super::content_list::{ContentList, ListError};
use super::super::image_set::Item;
use super::super::source::{ImageEntry, ImageName, Root};
use super::resolve::{Nodes, Scope};
use crate::oci::Digest;

/// Reason why an image is refused.
pub(super) const NOT_LISTED: &str = "the signed list does not name it";
const MADE: &str = "its manifest would be made here, and only signed manifests are imported with --signers";

/// The content lists of all media, whose signatures have been verified.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SignedLists {
    /// The images of each medium.
    roots: Vec<BTreeSet<SignedRoot>>,
    /// The content of all of them, also content that was left out.
    digests: BTreeSet<Digest>,
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct SignedRoot {
    digest: Digest,
    repository: String,
    tag: Option<String>,
    pushed: Option<u64>,
}

impl SignedLists {
    /// Adds the list of the next medium, by the bytes that are signed.
    ///
    /// # Errors
    /// [`ListError`] if it is malformed or of a later format.
    pub fn add(&mut self, content: &[u8]) -> Result<(), ListError> {
        let list = ContentList::parse(content)?;
        self.digests.extend(list.digests().cloned());
        self.digests.extend(list.roots.iter().map(|root| root.digest.clone()));
        let roots = list.roots.into_iter().map(|root| SignedRoot {
            digest: root.digest,
            repository: root.repository,
            tag: root.tag,
            pushed: root.pushed,
        });
        self.roots.push(roots.collect());
        Ok(())
    }

    /// Returns true if the list of a medium has the image under this name, with its time.
    pub(super) fn names(&self, medium: usize, name: &ImageName, entry: &ImageEntry) -> bool {
        let (Root::Manifest { digest, .. }, Some(repository)) = (&entry.root, &name.repository) else {
            return false;
        };
        let root = SignedRoot {
            digest: digest.clone(),
            repository: repository.to_string(),
            tag: name.tag.as_ref().map(ToString::to_string),
            pushed: entry.pushed,
        };
        self.roots.get(medium).is_some_and(|roots| roots.contains(&root))
    }

    /// Returns the reason for which an image is refused. `is_remade` tells whether its manifest would be made again.
    pub(super) fn refusal(
        &self,
        root: &Root,
        (nodes, scope): (&Nodes, &Scope),
        is_remade: impl Fn(&Digest) -> bool,
    ) -> Option<String> {
        let digest = match root {
            Root::Manifest { digest, .. } if !is_remade(digest) => digest,
            Root::Manifest { .. } | Root::Made(_) => return Some(MADE.into()),
        };
        // An image that cannot be used is refused for its own reason.
        let content = nodes.content(scope, &Item::of_digest(digest.clone())).ok()?;
        let foreign = content.manifests.iter().find(|(digest, _)| !self.digests.contains(digest));
        foreign.map(|(digest, _)| format!("manifest {digest}: {NOT_LISTED}"))
    }
}
