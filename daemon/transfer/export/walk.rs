//! The walk from selected names to all content: manifests, the manifests of indexes, referrers, attachment tags and blobs.

use std::collections::{BTreeMap, BTreeSet};

use super::content::BlobRef;
use super::error::ExportError;
use super::manifest::Shape;
use super::registry::{ManifestText, Registry, TagEntry};
use super::selection::{ExportSelection, Selected};
use crate::oci::{AttachmentTarget, Digest, MediaType, RepositoryName, Tag};
use crate::transfer::inventory::WantedContent;
use crate::transfer::platforms::PlatformFilter;
use crate::transfer::source::limits::NESTING;

/// The options of a walk.
#[derive(Clone, Debug, Default)]
pub struct WalkOptions {
    /// The platforms of indexes.
    pub platforms: PlatformFilter,
    /// True if signatures, SBOMs and other referrers are left out.
    pub no_referrers: bool,
    /// The maximum number of names, manifests, blobs and references between them, each time that one is listed; unlimited
    /// without it.
    pub max_entries: Option<usize>,
}

/// All content behind a selection, as it was at the time of the walk.
#[derive(Clone, Debug, Default)]
pub struct Walk {
    pub(super) roots: Vec<Root>,
    pub(super) nodes: BTreeMap<Digest, Node>,
    pub(super) blobs: BTreeMap<Digest, FoundBlob>,
    /// Manifests that cannot be read, with the reasons.
    pub(super) unreadable: BTreeMap<Digest, String>,
    /// Content beside the images, which a receiver misses.
    pub(super) extra: Vec<BlobRef>,
    /// Names that match nothing, and wanted content that is not here, one line each.
    pub missing: Vec<String>,
}

/// A manifest that the export names.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Root {
    pub(super) repository: RepositoryName,
    pub(super) tag: Option<Tag>,
    pub(super) digest: Digest,
    pub(super) pushed: Option<u64>,
    /// The manifest to which this one is attached; it is exported only together with that.
    pub(super) attached_to: Option<Digest>,
}

impl Root {
    pub(super) fn name(&self) -> String {
        match &self.tag {
            Some(tag) => format!("{}:{tag}", self.repository),
            None => format!("{}@{}", self.repository, self.digest),
        }
    }
}

/// A manifest.
#[derive(Clone, Debug)]
pub(super) struct Node {
    pub(super) media_type: MediaType,
    pub(super) size: u64,
    pub(super) repositories: BTreeSet<RepositoryName>,
    pub(super) shape: Shape,
    /// The manifests of an index that are exported, if the registry has them.
    pub(super) children: Vec<Digest>,
    /// Reason why it cannot be exported.
    pub(super) fault: Option<String>,
}

/// A blob; without a size it is missing.
#[derive(Clone, Debug, Default)]
pub(super) struct FoundBlob {
    pub(super) size: Option<u64>,
    pub(super) repositories: BTreeSet<RepositoryName>,
}

/// Walks from selected names to all content.
///
/// # Errors
/// [`ExportError::Registry`] or [`ExportError::Interrupted`].
pub async fn walk<R: Registry>(
    registry: &mut R,
    selections: &[ExportSelection],
    options: &WalkOptions,
    wanted: &BTreeSet<WantedContent>,
) -> Result<Walk, ExportError> {
    let mut walker = Walker {
        registry,
        options,
        walk: Walk::default(),
        visited: BTreeSet::new(),
        rooted: BTreeSet::new(),
        named: BTreeSet::new(),
        attachments: BTreeMap::new(),
        entries: 0,
    };
    walker.select(selections).await?;
    walker.follow().await?;
    walker.find_wanted(wanted).await?;
    let mut walk = walker.walk;
    walk.roots.sort_unstable();
    walk.roots.dedup_by(|next, first| {
        (&next.repository, &next.tag, &next.digest) == (&first.repository, &first.tag, &first.digest)
    });
    Ok(walk)
}

impl Walk {
    /// Returns all content with its length, for the lease.
    pub fn contents(&self) -> impl Iterator<Item = (&Digest, u64)> {
        let manifests = self.nodes.iter().map(|(digest, node)| (digest, node.size));
        let blobs = self.blobs.iter().filter_map(|(digest, blob)| Some((digest, blob.size?)));
        manifests.chain(blobs).chain(self.extra.iter().map(|blob| (&blob.digest, blob.size)))
    }

    /// Returns true if the selection matched nothing.
    pub fn is_empty(&self) -> bool {
        self.roots.is_empty() && self.extra.is_empty()
    }
}

struct Walker<'a, R> {
    registry: &'a mut R,
    options: &'a WalkOptions,
    walk: Walk,
    visited: BTreeSet<(RepositoryName, Digest)>,
    /// The manifests of the roots.
    rooted: BTreeSet<(RepositoryName, Digest)>,
    /// The tags of the roots.
    named: BTreeSet<(RepositoryName, Option<Tag>)>,
    /// The attachment tags of each repository, by the manifest to which they attach content.
    attachments: BTreeMap<RepositoryName, BTreeMap<AttachmentTarget, Vec<TagEntry>>>,
    /// The number of entries so far; see [`WalkOptions::max_entries`].
    entries: usize,
}

impl<R: Registry> Walker<'_, R> {
    async fn select(&mut self, selections: &[ExportSelection]) -> Result<(), ExportError> {
        for selection in selections {
            let found = self.walk.roots.len();
            match &selection.selected {
                Selected::Tags { repository, tag } => {
                    let is_pattern = tag.contains('*');
                    for entry in self.registry.tags(repository, tag).await? {
                        let is_attachment = AttachmentTarget::of(&entry.tag).is_some();
                        if !(is_attachment && is_pattern && self.options.no_referrers) {
                            self.add_root(Root::of(entry, None))?;
                        }
                    }
                }
                Selected::Digest(repository, digest) => {
                    let is_there = self.manifest(repository, digest).await?.is_some();
                    if is_there || self.walk.unreadable.contains_key(digest) {
                        let (repository, digest) = (repository.clone(), digest.clone());
                        let root = Root { repository, tag: None, digest, pushed: None, attached_to: None };
                        self.add_root(root)?;
                    }
                }
            }
            if self.walk.roots.len() == found {
                self.walk.missing.push(format!("{}: no image of the registry has this name", selection.text));
            }
        }
        Ok(())
    }

    fn add_root(&mut self, root: Root) -> Result<(), ExportError> {
        self.count(1)?;
        self.rooted.insert((root.repository.clone(), root.digest.clone()));
        self.named.insert((root.repository.clone(), root.tag.clone()));
        self.walk.roots.push(root);
        Ok(())
    }

    /// Counts entries that the walk keeps in memory.
    fn count(&mut self, more: usize) -> Result<(), ExportError> {
        self.entries += more;
        match self.options.max_entries {
            Some(limit) if self.entries > limit => Err(ExportError::TooLarge { limit }),
            Some(_) | None => Ok(()),
        }
    }

    /// Visits everything behind the roots, with the roots that are attached to it.
    async fn follow(&mut self) -> Result<(), ExportError> {
        let mut next = 0;
        while next < self.walk.roots.len() {
            let root = self.walk.roots[next].clone();
            next += 1;
            let mut queue = vec![(root.digest.clone(), 0)];
            while let Some((digest, depth)) = queue.pop() {
                if !self.visited.insert((root.repository.clone(), digest.clone())) {
                    continue;
                }
                // Reads of a local store never wait. Other tasks get their turn, and a walk whose client has gone ends.
                tokio::task::yield_now().await;
                let children = self.visit(&root.repository, &digest, depth).await?;
                queue.extend(children.into_iter().map(|child| (child, depth + 1)));
                if !self.options.no_referrers && self.walk.nodes.contains_key(&digest) {
                    self.find_attached(&root.repository, &digest).await?;
                }
            }
        }
        Ok(())
    }

    /// Reads a manifest and finds its blobs; returns the manifests of an index that are exported.
    async fn visit(
        &mut self,
        repository: &RepositoryName,
        digest: &Digest,
        depth: usize,
    ) -> Result<Vec<Digest>, ExportError> {
        let Some(ManifestText { media_type, bytes }) = self.manifest(repository, digest).await? else {
            return Ok(Vec::new());
        };
        if let Some(node) = self.walk.nodes.get_mut(digest) {
            node.repositories.insert(repository.clone());
        } else {
            let node = node(repository, media_type, &bytes, depth, &self.options.platforms);
            self.count(1 + node.shape.blobs().count() + node.shape.children.len())?;
            self.walk.nodes.insert(digest.clone(), node);
        }
        let node = &self.walk.nodes[digest];
        let (blobs, children): (BTreeSet<Digest>, _) =
            (node.shape.blobs().map(|layer| layer.digest).collect(), node.children.clone());
        for blob in blobs {
            let known = self.walk.blobs.entry(blob.clone()).or_default();
            if let Some(size) = self.registry.blob_size(repository, &blob).await? {
                known.size = Some(size);
                known.repositories.insert(repository.clone());
            }
        }
        Ok(children)
    }

    /// Reads a manifest; notes one that cannot be read.
    async fn manifest(
        &mut self,
        repository: &RepositoryName,
        digest: &Digest,
    ) -> Result<Option<ManifestText>, ExportError> {
        match self.registry.manifest(repository, digest).await {
            Err(ExportError::Unreadable { digest, why }) => {
                self.walk.unreadable.insert(digest, why);
                Ok(None)
            }
            read => read,
        }
    }

    /// Adds the referrers of a manifest, and the tags that attach content to it.
    async fn find_attached(
        &mut self,
        repository: &RepositoryName,
        digest: &Digest,
    ) -> Result<(), ExportError> {
        for referrer in self.registry.referrers(repository, digest).await? {
            if !self.rooted.contains(&(repository.clone(), referrer.clone())) {
                self.add_root(Root {
                    repository: repository.clone(),
                    tag: None,
                    digest: referrer,
                    pushed: None,
                    attached_to: Some(digest.clone()),
                })?;
            }
        }
        if !self.attachments.contains_key(repository) {
            let found = self.attachments_of(repository).await?;
            self.attachments.insert(repository.clone(), found);
        }
        let target = AttachmentTarget::to(digest);
        let attached = self.attachments.get_mut(repository).and_then(|found| found.remove(&target));
        for entry in attached.unwrap_or_default() {
            let root = Root::of(entry, Some(digest.clone()));
            if !self.named.contains(&(root.repository.clone(), root.tag.clone())) {
                self.add_root(root)?;
            }
        }
        Ok(())
    }

    /// Reads the attachment tags of a repository.
    async fn attachments_of(
        &mut self,
        repository: &RepositoryName,
    ) -> Result<BTreeMap<AttachmentTarget, Vec<TagEntry>>, ExportError> {
        let mut found: BTreeMap<_, Vec<TagEntry>> = BTreeMap::new();
        for pattern in ["sha256-*", "sha512-*"] {
            for entry in self.registry.tags(repository.as_str(), pattern).await? {
                if let Some(target) = AttachmentTarget::of(&entry.tag) {
                    found.entry(target).or_default().push(entry);
                }
            }
        }
        Ok(found)
    }

    /// Finds content that a receiver misses and that the selection does not have.
    async fn find_wanted(&mut self, wanted: &BTreeSet<WantedContent>) -> Result<(), ExportError> {
        for WantedContent { image, digest } in wanted {
            let is_known = self.walk.nodes.contains_key(digest)
                || self.walk.blobs.get(digest).is_some_and(|blob| blob.size.is_some())
                || self.walk.extra.iter().any(|blob| blob.digest == *digest);
            if is_known {
                continue;
            }
            let name = image.split(['@', ':']).next().unwrap_or_default();
            let Ok(repository) = name.parse::<RepositoryName>() else { continue };
            let blob = self.registry.blob_size(&repository, digest).await?;
            let (size, is_manifest) = if blob.is_some() {
                (blob, false)
            } else {
                let manifest = self.manifest(&repository, digest).await?;
                (manifest.map(|manifest| manifest.bytes.len() as u64), true)
            };
            match size {
                Some(size) => self.walk.extra.push(BlobRef {
                    digest: digest.clone(),
                    size,
                    repositories: vec![repository],
                    is_manifest,
                }),
                None => {
                    self.walk.missing.push(format!("{image}: a receiver wants {digest}, which is not here"));
                }
            }
        }
        Ok(())
    }
}

impl Root {
    fn of(entry: TagEntry, attached_to: Option<Digest>) -> Self {
        let TagEntry { repository, tag, digest, pushed } = entry;
        Root { repository, tag: Some(tag), digest, pushed, attached_to }
    }
}

fn node(
    repository: &RepositoryName,
    media_type: MediaType,
    bytes: &[u8],
    depth: usize,
    platforms: &PlatformFilter,
) -> Node {
    let (shape, mut fault) = match Shape::parse(bytes) {
        Ok(shape) => (shape, None),
        Err(error) => (Shape::default(), Some(format!("its manifest is malformed: {error}"))),
    };
    let children = if depth < NESTING {
        platforms.chosen(&shape.children).map(|child| child.item.digest.clone()).collect()
    } else {
        fault = fault.or_else(|| Some("its indexes are nested too deep".into()));
        Vec::new()
    };
    let has_platforms = shape.children.iter().any(|child| child.platform.is_some());
    if !platforms.is_empty() && has_platforms && children.is_empty() {
        fault = fault.or_else(|| Some(platforms.absence()));
    }
    Node {
        media_type,
        size: bytes.len() as u64,
        repositories: [repository.clone()].into(),
        shape,
        children,
        fault,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::oci::{Algorithm, Hasher};

    /// One repository in memory, which counts its reads.
    #[derive(Default)]
    struct TestRegistry {
        manifests: BTreeMap<Digest, Vec<u8>>,
        tags: Vec<(Tag, Digest)>,
        reads_of_tags: usize,
        reads_of_blobs: usize,
    }

    fn digest(text: &[u8]) -> Digest {
        Hasher::digest(Algorithm::Sha256, text)
    }

    impl TestRegistry {
        fn add(&mut self, text: String) -> Digest {
            let digest = digest(text.as_bytes());
            self.manifests.insert(digest.clone(), text.into_bytes());
            digest
        }

        /// Adds images that list one layer `times` times, and their index as `app`.
        fn add_index(&mut self, images: usize, times: usize) -> Vec<Digest> {
            let layers = vec![format!(r#"{{"digest":"{}","size":1}}"#, digest(b"layer")); times].join(",");
            let image = |at| {
                format!(r#"{{"config":{{"digest":"{}"}},"layers":[{layers}],"n":{at}}}"#, digest(b"config"))
            };
            let images: Vec<Digest> = (0..images).map(|at| self.add(image(at))).collect();
            let children: Vec<_> = images.iter().map(|child| format!(r#"{{"digest":"{child}"}}"#)).collect();
            let index = self.add(format!(r#"{{"manifests":[{}]}}"#, children.join(",")));
            self.tags.push(("app".parse().unwrap(), index));
            images
        }

        async fn walk(&mut self, max_entries: Option<usize>) -> Result<Walk, ExportError> {
            let selected = Selected::Tags { repository: "a".into(), tag: "app".into() };
            let selections = [ExportSelection { text: String::new(), selected }];
            let options = WalkOptions { max_entries, ..WalkOptions::default() };
            walk(self, &selections, &options, &BTreeSet::new()).await
        }
    }

    impl Registry for TestRegistry {
        async fn tags(&mut self, repository: &str, tag: &str) -> Result<Vec<TagEntry>, ExportError> {
            self.reads_of_tags += 1;
            let matching = |known: &Tag| match tag.strip_suffix('*') {
                Some(prefix) => known.as_str().starts_with(prefix),
                None => known.as_str() == tag,
            };
            let entry = |(tag, digest): &(Tag, Digest)| TagEntry {
                repository: repository.parse().unwrap(),
                tag: tag.clone(),
                digest: digest.clone(),
                pushed: None,
            };
            Ok(self.tags.iter().filter(|(tag, _)| matching(tag)).map(entry).collect())
        }

        async fn manifest(
            &mut self,
            _: &RepositoryName,
            digest: &Digest,
        ) -> Result<Option<ManifestText>, ExportError> {
            let media_type: MediaType = MediaType::OCI_MANIFEST.parse().unwrap();
            let text = |bytes: &Vec<u8>| ManifestText { media_type, bytes: bytes.clone().into() };
            Ok(self.manifests.get(digest).map(text))
        }

        async fn blob_size(&mut self, _: &RepositoryName, _: &Digest) -> Result<Option<u64>, ExportError> {
            self.reads_of_blobs += 1;
            Ok(Some(1))
        }

        async fn referrers(&mut self, _: &RepositoryName, _: &Digest) -> Result<Vec<Digest>, ExportError> {
            Ok(Vec::new())
        }
    }

    #[tokio::test]
    async fn layers_that_are_listed_again_are_looked_up_once_and_count_each_time() {
        let mut registry = TestRegistry::default();
        registry.add_index(30, 100);
        let walked = registry.walk(None).await.unwrap();
        // The order of the layers stays, which docker load needs.
        assert!(walked.nodes.values().all(|node| [0, 100].contains(&node.shape.layers.len())));
        assert_eq!((walked.blobs.len(), registry.reads_of_blobs), (2, 60));
        assert!(registry.walk(Some(3200)).await.is_ok());
        assert!(matches!(registry.walk(Some(3000)).await, Err(ExportError::TooLarge { limit: 3000 })));
    }

    #[tokio::test]
    async fn attachment_tags_are_read_once_for_all_manifests() {
        let mut registry = TestRegistry::default();
        let images = registry.add_index(40, 1);
        let signature = registry.add(r#"{"layers":[]}"#.into());
        for image in &images {
            let tag = format!("sha256-{}.sig", image.hex()).parse().unwrap();
            registry.tags.push((tag, signature.clone()));
        }
        for number in 0..200 {
            let tag = format!("sha256-{}", digest(&[number]).hex()).parse().unwrap();
            registry.tags.push((tag, signature.clone()));
        }
        let walked = registry.walk(None).await.unwrap();
        assert_eq!((walked.roots.len(), registry.reads_of_tags), (41, 3));
        let attached = walked.roots.iter().filter_map(|root| root.attached_to.clone());
        assert_eq!(attached.collect::<BTreeSet<_>>(), images.into_iter().collect());
    }
}
