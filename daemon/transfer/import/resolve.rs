//! Manifests below a root: which content an image needs.

use std::collections::{BTreeMap, BTreeSet};

use super::super::image_set::Item;
use super::super::links::{Child, Link, Links};
use super::super::platforms::PlatformFilter;
use super::super::source::limits;
use super::super::source::limits::Bounds;
use crate::oci::{Digest, MediaType, RepositoryName};

/// The links of a manifest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Node {
    pub(super) media_type: String,
    /// Manifests of an index.
    pub(super) children: Vec<Child>,
    /// Config and layers that have to be in the registry.
    pub(super) blobs: Vec<Item>,
    /// The manifest that this one refers to.
    pub(super) subject: Option<Digest>,
    /// Config and layers of an image of which a layer is not compressed.
    pub(super) plain: Option<PlainImage>,
    /// True if the user wants some platforms only.
    is_filtered: bool,
    /// True if it has platforms that the user does not want.
    has_others: bool,
}

/// An image of which a layer is not compressed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct PlainImage {
    pub(super) config: Digest,
    pub(super) layers: Vec<Digest>,
}

impl PlainImage {
    /// Returns config and layers of an image that can be made again from them alone, if a layer is not compressed.
    fn of(links: &Links) -> Option<Self> {
        let is_simple =
            links.annotations.is_none() && links.artifact_type.is_none() && links.subject.is_none();
        let (config, layers) = (links.config.as_ref()?, links.layers.as_ref()?);
        let kind = |layer: &Link| layer.media_type.clone().unwrap_or_default();
        let is_usual = |layer: &Link| {
            let kind = kind(layer);
            !layer.is_foreign()
                && (kind.starts_with("application/vnd.oci.image.layer.v1.tar")
                    || kind.starts_with("application/vnd.docker.image.rootfs.diff.tar"))
        };
        let is_plain = |layer: &Link| {
            matches!(
                kind(layer).as_str(),
                "application/vnd.oci.image.layer.v1.tar" | "application/vnd.docker.image.rootfs.diff.tar"
            )
        };
        let is_wanted = is_simple
            && links.has_image_config()
            && layers.iter().all(is_usual)
            && layers.iter().any(is_plain);
        is_wanted.then(|| PlainImage {
            config: config.digest.clone(),
            layers: layers.iter().map(|layer| layer.digest.clone()).collect(),
        })
    }
}

impl Node {
    /// Parses a manifest. The platforms choose among the children of an index.
    pub(super) fn parse(
        bytes: &[u8],
        media_type: Option<&MediaType>,
        platforms: &PlatformFilter,
    ) -> Result<Self, String> {
        let links = Links::parse(bytes).map_err(|error| format!("it is no manifest: {error}"))?;
        let inside = links.media_type.as_deref().filter(|text| !text.is_empty()).map(str::to_owned);
        let guess = || match (&links.manifests, &links.config) {
            (Some(_), None) => Some(MediaType::OCI_INDEX),
            (None, Some(_)) => Some(MediaType::OCI_MANIFEST),
            _ => None,
        };
        let media_type = inside
            .or_else(|| media_type.map(ToString::to_string))
            .or_else(|| guess().map(str::to_owned))
            .ok_or("its media type is unknown")?;
        if links.schema_version == Some(1) {
            return Err("Docker schema 1 manifests are not supported".into());
        }
        let blobs = links.config.iter().chain(links.files());
        let blobs = blobs.filter(|link| !link.is_foreign()).map(Link::item).collect();
        let all = links.children();
        let children: Vec<Child> = platforms.chosen(&all).cloned().collect();
        let has_others = children.len() < all.len();
        let is_filtered = !platforms.is_empty();
        let plain = PlainImage::of(&links);
        let subject = links.subject.map(|subject| subject.digest);
        Ok(Node { media_type, children, blobs, subject, plain, is_filtered, has_others })
    }
}

/// The repository to which content belongs, if the sink keeps it by repository.
pub(super) type Scope = Option<RepositoryName>;

/// The manifests of all images, by digest.
pub(super) struct Nodes {
    bounds: Bounds,
    /// The references of all manifests.
    references: usize,
    /// Those of the media.
    media: BTreeMap<Digest, Node>,
    /// Those that only the sink may have. What one repository has, another may lack.
    sink: BTreeMap<Scope, SinkNodes>,
    /// Manifests that cannot be used.
    broken: BTreeMap<Digest, String>,
}

/// The manifests that no medium has.
#[derive(Default)]
struct SinkNodes {
    known: BTreeMap<Digest, Node>,
    /// Those that the sink does not have either.
    absent: BTreeSet<Digest>,
}

/// The content of an image.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Content {
    /// The manifests with their media types, children before parents.
    pub(super) manifests: Vec<(Digest, String)>,
    /// Config and layers.
    pub(super) blobs: Vec<Item>,
    /// Manifests of an index that are missing.
    pub(super) absent: Vec<Item>,
    /// Manifests of platforms that the user wants, and those of them that are missing.
    wanted: usize,
    wanted_absent: Vec<Item>,
    /// True if an index has platforms that the user does not want.
    has_others: bool,
}

impl Content {
    /// Checks that the image has one of the platforms that the user wants.
    ///
    /// # Errors
    /// Returns the reason, in words.
    pub(super) fn check_platforms(&self, platforms: &PlatformFilter) -> Result<(), String> {
        if self.wanted > 0 || !self.has_others {
            return Ok(());
        }
        Err(platforms.absence())
    }

    /// Returns the manifests of the platforms that the user wants, if none of them is there.
    pub(super) fn missing_platforms(&self) -> &[Item] {
        if self.wanted == self.wanted_absent.len() { &self.wanted_absent } else { &[] }
    }
}

impl Nodes {
    /// Makes an empty set with these limits.
    pub(super) fn within(bounds: Bounds) -> Self {
        let (media, sink, broken) = (BTreeMap::new(), BTreeMap::new(), BTreeMap::new());
        Nodes { bounds, references: 0, media, sink, broken }
    }

    /// Counts the references of a manifest. Beyond the limit it cannot be used.
    fn counted(&mut self, node: Result<Node, String>) -> Result<Node, String> {
        let node = node?;
        let references = self.references.saturating_add(node.blobs.len() + node.children.len());
        if references > self.bounds.references {
            return Err(self.bounds.limit_of_references());
        }
        self.references = references;
        Ok(node)
    }

    /// Adds a manifest of a medium.
    pub(super) fn add_of_media(&mut self, digest: Digest, node: Result<Node, String>) {
        match self.counted(node) {
            Ok(node) => drop(self.media.insert(digest, node)),
            Err(reason) => self.add_broken(digest, reason),
        }
    }

    /// Adds a manifest that the sink has.
    pub(super) fn add_of_sink(&mut self, scope: &Scope, digest: Digest, node: Result<Node, String>) {
        match self.counted(node) {
            Ok(node) => drop(self.of_sink(scope).known.insert(digest, node)),
            Err(reason) => self.add_broken(digest, reason),
        }
    }

    /// Adds a manifest that neither the media nor the sink have.
    pub(super) fn add_absent(&mut self, scope: &Scope, digest: Digest) {
        self.of_sink(scope).absent.insert(digest);
    }

    /// Adds a manifest that cannot be used, with the reason.
    pub(super) fn add_broken(&mut self, digest: Digest, reason: String) {
        self.broken.insert(digest, reason);
    }

    fn of_sink(&mut self, scope: &Scope) -> &mut SinkNodes {
        self.sink.entry(scope.clone()).or_default()
    }

    /// Returns a manifest.
    pub(super) fn get(&self, scope: &Scope, digest: &Digest) -> Option<&Node> {
        self.media.get(digest).or_else(|| self.sink.get(scope)?.known.get(digest))
    }

    /// Returns all manifests of a scope.
    pub(super) fn all(&self, scope: &Scope) -> impl Iterator<Item = &Node> {
        self.media.values().chain(self.sink.get(scope).into_iter().flat_map(|sink| sink.known.values()))
    }

    /// Returns true if a manifest has been looked for, and is not there.
    pub(super) fn is_absent(&self, scope: &Scope, digest: &Digest) -> bool {
        self.sink.get(scope).is_some_and(|sink| sink.absent.contains(digest))
    }

    /// Returns true if a manifest has been looked for.
    pub(super) fn is_known(&self, scope: &Scope, digest: &Digest) -> bool {
        self.get(scope, digest).is_some() || self.is_absent(scope, digest) || self.broken.contains_key(digest)
    }

    /// Returns the content below a root.
    ///
    /// # Errors
    /// Returns the reason for which the image cannot be used, in words.
    pub(super) fn content(&self, scope: &Scope, root: &Item) -> Result<Content, String> {
        let (mut content, mut seen) = (Content::default(), BTreeSet::new());
        self.collect(scope, root, 0, &mut seen, &mut content)?;
        let mut known = BTreeSet::new();
        content.blobs.retain(|item| known.insert(item.digest.clone()));
        Ok(content)
    }

    fn collect(
        &self,
        scope: &Scope,
        item: &Item,
        depth: usize,
        seen: &mut BTreeSet<Digest>,
        content: &mut Content,
    ) -> Result<(), String> {
        if depth > limits::NESTING {
            return Err(format!("its indexes are nested deeper than {}", limits::NESTING));
        }
        if !seen.insert(item.digest.clone()) {
            return Ok(());
        }
        if let Some(reason) = self.broken.get(&item.digest) {
            return Err(format!("{}: {reason}", item.digest));
        }
        let Some(node) = self.get(scope, &item.digest) else {
            content.absent.push(item.clone());
            return Ok(());
        };
        content.has_others |= node.has_others;
        for child in &node.children {
            if node.is_filtered && child.platform.is_some() {
                content.wanted += 1;
                let is_known = self.get(scope, &child.item.digest).is_some();
                content.wanted_absent.extend((!is_known).then(|| child.item.clone()));
            }
            self.collect(scope, &child.item, depth + 1, seen, content)?;
        }
        content.blobs.extend(node.blobs.iter().cloned());
        content.manifests.push((item.digest.clone(), node.media_type.clone()));
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn digest(fill: char) -> Digest {
        format!("sha256:{}", fill.to_string().repeat(64)).parse().unwrap()
    }

    fn index(children: &[(char, &str)]) -> String {
        let of = |(fill, arch): &(char, &str)| {
            let os = if *arch == "unknown" { "unknown" } else { "linux" };
            format!(
                r#"{{"digest":"{}","size":1,"platform":{{"os":"{os}","architecture":"{arch}"}}}}"#,
                digest(*fill)
            )
        };
        format!(r#"{{"manifests":[{}]}}"#, children.iter().map(of).collect::<Vec<_>>().join(","))
    }

    #[test]
    fn references_of_all_manifests_are_bounded() {
        let mut nodes = Nodes::within(Bounds { references: 5, ..Bounds::DAEMON });
        let image = |layers: usize| {
            let layers = vec![format!(r#"{{"digest":"{}"}}"#, digest('1')); layers].join(",");
            let text = format!(r#"{{"config":{{"digest":"{}"}},"layers":[{layers}]}}"#, digest('2'));
            Node::parse(text.as_bytes(), None, &PlatformFilter::default())
        };
        nodes.add_of_media(digest('a'), image(2));
        nodes.add_of_media(digest('b'), image(2));
        nodes.add_of_sink(&None, digest('c'), image(1));
        assert!(nodes.content(&None, &Item::of_digest(digest('a'))).is_ok());
        for refused in ['b', 'c'] {
            let reason = match nodes.content(&None, &Item::of_digest(digest(refused))) {
                Err(reason) => reason,
                Ok(_) => String::new(),
            };
            assert_eq!(refused == 'b', reason.contains("reference more than 5 layers"), "{refused} {reason}");
        }
    }

    #[test]
    fn platforms_choose_children() {
        let wanted = PlatformFilter::parse(["linux/arm"]).unwrap();
        let text = index(&[('a', "arm"), ('b', "amd64"), ('c', "unknown")]);
        let node = Node::parse(text.as_bytes(), None, &wanted).unwrap();
        assert_eq!(node.children.len(), 2);
        assert_eq!(node.media_type, MediaType::OCI_INDEX);
        let content = |platform: &str| {
            let wanted = PlatformFilter::parse([platform]).unwrap();
            let mut nodes = Nodes::within(Bounds::DAEMON);
            nodes.add_of_media(digest('e'), Node::parse(text.as_bytes(), None, &wanted));
            let content = nodes.content(&None, &Item::of_digest(digest('e'))).unwrap();
            (content.check_platforms(&wanted), content.missing_platforms().len())
        };
        assert_eq!(content("linux/arm"), (Ok(()), 1));
        assert_eq!(content("linux/s390x"), (Err("it has no linux/s390x".into()), 0));
    }

    #[test]
    fn children_stand_before_parents_and_each_blob_once() {
        let image = format!(
            r#"{{"config":{{"digest":"{0}","size":2}},"layers":[{{"digest":"{0}","size":2}},
            {{"digest":"{1}","size":3,"urls":["x"]}}]}}"#,
            digest('1'),
            digest('2')
        );
        let mut nodes = Nodes::within(Bounds::DAEMON);
        let parse = |text: &str| Node::parse(text.as_bytes(), None, &PlatformFilter::default());
        nodes.add_of_media(digest('e'), parse(&index(&[('a', "x"), ('b', "y")])));
        nodes.add_of_media(digest('a'), parse(&image));
        let content = nodes.content(&None, &Item::of_digest(digest('e'))).unwrap();
        assert_eq!(
            content.manifests.iter().map(|(digest, _)| digest.clone()).collect::<Vec<_>>(),
            [digest('a'), digest('e')]
        );
        assert_eq!(content.blobs, [Item { digest: digest('1'), size: Some(2) }]);
        assert_eq!(content.absent, [Item { digest: digest('b'), size: Some(1) }]);
    }

    #[test]
    fn manifests_of_the_sink_belong_to_their_scope() {
        let scopes = ["a", "b"].map(|name| Some(name.parse().unwrap()));
        let parse = |text: &str| Node::parse(text.as_bytes(), None, &PlatformFilter::default());
        let mut nodes = Nodes::within(Bounds::DAEMON);
        nodes.add_of_media(digest('e'), parse(&index(&[('a', "x")])));
        nodes.add_of_sink(&scopes[0], digest('a'), parse(&index(&[])));
        nodes.add_absent(&scopes[1], digest('a'));
        let content = |scope| nodes.content(scope, &Item::of_digest(digest('e'))).unwrap();
        let counts = scopes.each_ref().map(|scope| {
            let content = content(scope);
            (content.manifests.len(), content.absent.len(), nodes.all(scope).count())
        });
        assert_eq!(counts, [(2, 0, 2), (1, 1, 1)]);
        assert!(nodes.is_known(&scopes[1], &digest('a')) && !nodes.is_known(&None, &digest('a')));
    }

    proptest! {
        #[test]
        fn never_panics(text in "\\PC{0,200}") {
            let _ = Node::parse(text.as_bytes(), None, &PlatformFilter::default());
        }
    }
}
