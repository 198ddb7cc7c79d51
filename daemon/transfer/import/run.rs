//! The steps of an import.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::super::image_set::Item;
use super::super::reader::{Media, Reader};
use super::super::sink::{Sink, SinkError, missing_of};
use super::super::source::{Catalog, ExportFile, Root};
use super::content::Copied;
use super::plan::{Target, emptiness, plan_signed};
use super::report::{Report, Row};
use super::resolve::{Node, Nodes, Scope};
use super::signed::SignedLists;
use super::{ImportError, ImportOptions, Observer, start};
use crate::oci::{Digest, MediaType};

/// Manifests at one depth, with their media types.
type Level = BTreeMap<Digest, Option<MediaType>>;

/// The state of an import.
pub(super) struct Import<'a, S> {
    pub(super) options: &'a ImportOptions,
    pub(super) reader: Reader,
    pub(super) copied: Copied<'a, S>,
    pub(super) nodes: Nodes,
    /// The blobs of all images.
    blobs: BTreeMap<Scope, BTreeMap<Digest, Option<u64>>>,
    /// Those that the sink lacks.
    pub(super) missing: BTreeSet<(Scope, Digest)>,
    /// Images whose content the media do not have, with that content: an archive may name one image many times.
    pub(super) incomplete: BTreeMap<(Scope, Digest), Arc<[Item]>>,
    /// True if not all of it fits.
    pub(super) is_short: bool,
    /// The content lists of the media.
    pub(super) exports: Vec<ExportFile>,
    /// The only images that are imported, if there are signers.
    pub(super) signed: Option<SignedLists>,
}

/// Runs an import.
pub(super) async fn run<S: Sink>(
    media: Media,
    options: &ImportOptions,
    sink: &mut S,
    observer: &mut dyn Observer,
) -> Result<Report, ImportError> {
    let (place, bounds) = (media_names(&media), media.bounds());
    let mut reader = start(media, options.compress)?;
    let mut copied = Copied {
        sink,
        observer,
        report: Report::default(),
        refused: BTreeMap::new(),
        layers: BTreeMap::new(),
        streamed: BTreeMap::new(),
        done: 0,
        total: None,
    };
    let catalogs = copied.streams(&mut reader, options.dry_run).await?;
    let exports: Vec<Option<&ExportFile>> = catalogs.iter().map(|catalog| catalog.export.as_ref()).collect();
    let signed = copied.observer.check(&exports).map_err(ImportError::Unsigned)?;
    let plan = plan_signed(&catalogs, &options.names, signed.as_ref()).map_err(ImportError::Usage)?;
    copied.observer.planned(&plan, &notes(&catalogs));
    if let Some(reason) = emptiness(&plan, &catalogs, &place, &options.names) {
        return Err(ImportError::Empty(reason));
    }
    if options.dry_run {
        plan.refused.iter().for_each(|row| copied.observer.row(row));
        return Ok(Report { images: plan.refused, ..Report::default() });
    }
    let exports = catalogs.into_iter().filter_map(|catalog| catalog.export).collect();
    let mut import = Import {
        options,
        reader,
        copied,
        nodes: Nodes::within(bounds),
        blobs: BTreeMap::new(),
        missing: BTreeSet::new(),
        incomplete: BTreeMap::new(),
        is_short: false,
        exports,
        signed,
    };
    for row in plan.refused {
        import.row(row);
    }
    import.send_exports().await?;
    import.resolve(&plan.targets).await?;
    import.blobs = import.all_blobs(&plan.targets);
    import.copied.report.present += import.find_missing().await?;
    import.add_layers(&plan.targets).await?;
    for target in &plan.targets {
        for row in import.image(target).await? {
            import.row(row);
        }
    }
    Ok(import.copied.report)
}

fn media_names(media: &Media) -> String {
    let paths = match media {
        Media::Paths(paths) | Media::Archive(_, paths) => paths,
        Media::Stream(name, _) => return name.clone(),
    };
    let name = |path: &std::path::PathBuf| match path.to_str() {
        Some("-") => "standard input".to_owned(),
        _ => path.display().to_string(),
    };
    paths.iter().map(name).collect::<Vec<_>>().join(", ")
}

fn notes(catalogs: &[Catalog]) -> Vec<String> {
    catalogs.iter().flat_map(|catalog| catalog.notes.iter().cloned()).collect()
}

impl<S: Sink> Import<'_, S> {
    fn row(&mut self, row: Row) {
        self.copied.observer.row(&row);
        self.copied.report.images.push(row);
    }

    pub(super) async fn send_exports(&mut self) -> Result<(), ImportError> {
        for export in &self.exports {
            let signer = self.copied.sink.export(&export.content, export.signature.as_deref()).await?;
            self.copied.report.signer = signer;
        }
        Ok(())
    }

    /// Reads the manifests of all targets, level by level: those of the targets, then those that their indexes list.
    async fn resolve(&mut self, targets: &[Target]) -> Result<(), ImportError> {
        let at_once = if self.copied.sink.is_by_repository() { 1 } else { targets.len().max(1) };
        for group in targets.chunks(at_once) {
            let (mut scope, mut level, mut seen) = (None, Level::new(), BTreeSet::new());
            for target in group {
                scope = self.scope(target);
                self.copied.sink.enter(&target.repository);
                if let Root::Manifest { digest, media_type } = &target.root {
                    level.entry(digest.clone()).or_insert_with(|| media_type.clone());
                }
            }
            while !level.is_empty() {
                seen.extend(level.keys().cloned());
                self.read_level(&scope, &level).await?;
                level = self.children(&scope, &level);
                level.retain(|digest, _| !seen.contains(digest));
            }
        }
        Ok(())
    }

    /// Reads the manifests that are not known yet. The sink is asked once for all those that the media do not have.
    async fn read_level(&mut self, scope: &Scope, level: &Level) -> Result<(), ImportError> {
        let mut elsewhere = Vec::new();
        for (digest, media_type) in level {
            if self.nodes.is_known(scope, digest) {
                continue;
            }
            match self.reader.read(digest).await {
                Ok(Some(text)) => {
                    let node = Node::parse(&text, media_type.as_ref(), &self.options.platforms);
                    self.nodes.add_of_media(digest.clone(), node);
                }
                Ok(None) => elsewhere.push((digest, media_type)),
                Err(error) => self.nodes.add_broken(digest.clone(), error.to_string()),
            }
        }
        let items: Vec<Item> =
            elsewhere.iter().map(|(digest, _)| Item::of_digest((*digest).clone())).collect();
        let missing = missing_of(self.copied.sink, &items).await?;
        for (digest, media_type) in elsewhere {
            let is_missing = missing.contains(digest);
            let text = if is_missing { None } else { self.copied.read_present(digest).await? };
            match (text, self.copied.refused.get(digest)) {
                (Some(text), _) => {
                    let node = Node::parse(&text, media_type.as_ref(), &self.options.platforms);
                    self.nodes.add_of_sink(scope, digest.clone(), node);
                }
                (None, Some(reason)) => self.nodes.add_broken(digest.clone(), reason.clone()),
                (None, None) => self.nodes.add_absent(scope, digest.clone()),
            }
        }
        Ok(())
    }

    /// Returns the manifests that those of a level list.
    fn children(&self, scope: &Scope, level: &Level) -> Level {
        let nodes = level.keys().filter_map(|digest| self.nodes.get(scope, digest));
        let children = nodes.flat_map(|node| &node.children);
        children.map(|child| (child.item.digest.clone(), child.media_type.clone())).collect()
    }

    pub(super) fn scope(&self, target: &Target) -> Scope {
        self.copied.sink.is_by_repository().then(|| target.repository.clone())
    }

    /// Returns the blobs of all images, each once for a scope.
    fn all_blobs(&self, targets: &[Target]) -> BTreeMap<Scope, BTreeMap<Digest, Option<u64>>> {
        let mut all: BTreeMap<Scope, BTreeMap<Digest, Option<u64>>> = BTreeMap::new();
        let mut add = |scope, blobs: Vec<Item>| {
            all.entry(scope).or_default().extend(blobs.into_iter().map(|item| (item.digest, item.size)));
        };
        if !self.copied.sink.is_by_repository() {
            add(None, self.nodes.all(&None).flat_map(|node| node.blobs.iter().cloned()).collect());
            return all;
        }
        for target in targets {
            let root = target.digest().map(|digest| Item::of_digest(digest.clone()));
            let scope = self.scope(target);
            // An image that cannot be used is refused when its turn comes.
            if let Some(Ok(content)) = root.map(|root| self.nodes.content(&scope, &root)) {
                add(scope, content.blobs);
            }
        }
        all
    }

    /// Asks the sink for all content, before the first byte of random access. Returns the number of blobs that it has.
    pub(super) async fn find_missing(&mut self) -> Result<u64, ImportError> {
        let (mut bytes, mut present) = (self.copied.done, 0);
        (self.missing, self.is_short) = (BTreeSet::new(), false);
        for (scope, blobs) in &self.blobs {
            if let Some(repository) = scope {
                self.copied.sink.enter(repository);
            }
            let items = blobs.iter().map(|(digest, size)| Item { digest: digest.clone(), size: *size });
            let items: Vec<Item> = items.collect();
            let missing = match missing_of(self.copied.sink, &items).await {
                // One image may be too large, or state an impossible size: each is asked for before its content.
                Err(SinkError::Full(_)) => {
                    self.is_short = true;
                    let unsized_items = items.iter().map(|item| Item::of_digest(item.digest.clone()));
                    missing_of(self.copied.sink, &unsized_items.collect::<Vec<_>>()).await?
                }
                found => found?,
            };
            let is_missing = |item: &&Item| missing.contains(&item.digest);
            let sizes = items.iter().filter(is_missing).filter_map(|item| item.size);
            bytes = sizes.fold(bytes, u64::saturating_add);
            // The content of streams has been counted.
            let is_counted =
                |item: &&Item| is_missing(item) || self.copied.streamed.contains_key(&item.digest);
            present += items.iter().filter(|item| !is_counted(item)).count() as u64;
            self.missing.extend(missing.into_iter().map(|digest| (scope.clone(), digest)));
        }
        self.copied.total = (!self.is_short).then_some(bytes);
        Ok(present)
    }

    /// Adds the layers of images without a manifest to the bytes to come.
    async fn add_layers(&mut self, targets: &[Target]) -> Result<(), ImportError> {
        let mut keys = BTreeSet::new();
        for target in targets {
            match &target.root {
                Root::Manifest { .. } => {}
                Root::Made(image) => keys.extend(image.layers.iter()),
            }
        }
        for key in keys {
            let size = self.reader.members(key).await?.first().map_or(0, |(_, size)| *size);
            self.copied.total = self.copied.total.map(|total| total.saturating_add(size));
        }
        Ok(())
    }
}
