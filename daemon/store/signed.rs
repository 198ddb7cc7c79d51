//! The signed content lists of an import: the names, times and content that it may store.

use std::collections::{BTreeSet, HashMap, HashSet};

use uuid::Uuid;

use crate::oci::{Digest, RepositoryName, Tag};

/// A content list whose signature has been verified.
#[derive(Clone, Debug, Default)]
pub struct SignedList {
    /// The id of the registry that wrote it.
    pub registry: Option<Uuid>,
    /// The images.
    pub roots: Vec<SignedRoot>,
    /// The digests of all content, also of content that was left out.
    pub content: Vec<Digest>,
}

/// An image of a signed list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SignedRoot {
    /// The repository.
    pub repository: RepositoryName,
    /// The tag; `None` for a manifest that is named by its digest.
    pub tag: Option<Tag>,
    /// The digest of the manifest.
    pub digest: Digest,
    /// The time of its push at the registry that wrote the list, in seconds since 1970.
    pub pushed: Option<u64>,
}

/// The push of a signed image.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct SignedPush {
    /// The id of the registry.
    pub registry: Option<Uuid>,
    /// The time, in seconds since 1970.
    pub pushed: Option<u64>,
}

type Name = (RepositoryName, Option<Tag>, Digest);

/// The union of the lists of a transfer.
#[derive(Debug, Default)]
pub(super) struct Signed {
    digests: HashSet<Digest>,
    roots: HashMap<Name, BTreeSet<SignedPush>>,
    /// The number of pushes of all roots.
    pushes: usize,
}

impl Signed {
    /// Returns the number of entries in memory.
    pub(super) fn len(&self) -> usize {
        self.digests.len() + self.pushes
    }

    /// Returns the maximum number of entries that a list adds.
    pub(super) fn count_new(&self, list: &SignedList) -> usize {
        let is_new = |digest: &&Digest| !self.digests.contains(*digest);
        let content = list.content.iter().filter(is_new).count();
        let roots = list.roots.iter().map(|root| usize::from(is_new(&&root.digest)));
        let pushes = list.roots.iter().filter(|root| {
            let push = SignedPush { registry: list.registry, pushed: root.pushed };
            let name = (root.repository.clone(), root.tag.clone(), root.digest.clone());
            self.roots.get(&name).is_none_or(|pushes| !pushes.contains(&push))
        });
        content + roots.sum::<usize>() + pushes.count()
    }

    /// Adds a list.
    pub(super) fn add(&mut self, list: SignedList) {
        let SignedList { registry, roots, content } = list;
        for SignedRoot { repository, tag, digest, pushed } in roots {
            self.digests.insert(digest.clone());
            let pushes = self.roots.entry((repository, tag, digest)).or_default();
            self.pushes += usize::from(pushes.insert(SignedPush { registry, pushed }));
        }
        self.digests.extend(content);
    }

    /// Returns true if a list names the content.
    pub(super) fn contains(&self, digest: &Digest) -> bool {
        self.digests.contains(digest)
    }

    /// Returns the pushes of an image, in the order of their times; none if no list has it under this name.
    pub(super) fn pushes(&self, name: &Name) -> Vec<SignedPush> {
        let mut pushes: Vec<SignedPush> = self.roots.get(name).into_iter().flatten().copied().collect();
        pushes.sort_by_key(|push| push.pushed);
        pushes
    }
}
