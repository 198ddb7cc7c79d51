//! The images that are adopted from a tree, and the content that has to stay in it.

use std::collections::{BTreeMap, BTreeSet};

use serde::Deserialize;

use super::super::registry2::RepositoryLinks;
use super::super::source::{Refusal, SourceError, limits, parse_manifest};
use super::links::{self, Links};
use super::tree::Tree;
use crate::oci::{Digest, Hasher, Manifest, ManifestError, MediaType, Pattern, ReferenceKind};
use crate::oci::{RepositoryName, Tag};

/// The repositories that are adopted, and their names.
#[derive(Clone, Debug, Default)]
pub struct RepositorySelection {
    /// Patterns of repositories; none means all.
    pub only: Vec<Pattern>,
    /// The beginning of the new names, such as `old/`; may be empty.
    pub prefix: String,
}

/// The work of an adoption.
#[derive(Debug, Default)]
pub struct AdoptionPlan {
    /// The images.
    pub images: Vec<PlannedImage>,
    /// Objects that cannot be adopted.
    pub skipped: Vec<Refusal>,
    /// Remarks, one line each.
    pub notes: Vec<String>,
    /// The blobs of all images, with their place in the tree.
    pub(super) blobs: BTreeMap<Digest, Source>,
    /// Content that has to stay in the tree.
    pub(super) kept: BTreeSet<Digest>,
    /// Manifests without content in the tree.
    pub(super) absent: BTreeSet<Digest>,
    /// The repositories that are adopted.
    pub(super) repositories: BTreeMap<RepositoryName, Progress>,
}

/// An image that is adopted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PlannedImage {
    /// Its repository in the tree.
    pub source: RepositoryName,
    /// Its repository in this registry.
    pub target: RepositoryName,
    /// Its manifest.
    pub digest: Digest,
    /// Its tags, with the time of their push in seconds since 1970.
    pub tags: Vec<(Tag, Option<u64>)>,
    /// All its manifests, children before parents.
    pub manifests: Vec<(Digest, MediaType)>,
    /// Its blobs, each once.
    pub blobs: Vec<Digest>,
}

impl PlannedImage {
    /// Returns the digests of all its content.
    pub fn content(&self) -> impl Iterator<Item = &Digest> {
        self.blobs.iter().chain(self.manifests.iter().map(|(digest, _)| digest))
    }
}

/// The place of a blob.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Source {
    /// In the tree, with this length.
    Tree(u64),
    /// Not in the tree; the sink may have it.
    Absent,
    /// In the tree, but not readable.
    Unreadable(String),
}

/// The progress of a repository.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Progress {
    /// The images that are not adopted yet.
    pub(super) images: usize,
    /// True if a part of the repository cannot be adopted.
    pub(super) has_skipped: bool,
}

/// The parts of a manifest that a plan needs.
#[derive(Debug)]
struct Facts {
    media_type: MediaType,
    blobs: Vec<Digest>,
    foreign: Vec<Digest>,
    children: Vec<Digest>,
}

/// A manifest of the tree.
#[derive(Debug)]
enum Found {
    Known(Facts),
    Absent,
    Refused { reason: String, needs: Vec<Digest> },
}

/// A repository of the tree, with its manifests.
struct Repository {
    name: RepositoryName,
    links: Links,
    manifests: BTreeMap<Digest, Found>,
}

impl AdoptionPlan {
    /// Reads the tree. `texts` are manifests whose content is not in the tree. With `moves`, the content of repositories that
    /// are not selected is looked up, so that it stays.
    ///
    /// # Errors
    /// Fails if the list of repositories cannot be read or, with `moves`, if it is not known what has to stay.
    pub fn read(
        tree: &Tree,
        selection: &RepositorySelection,
        moves: bool,
        texts: &BTreeMap<Digest, Vec<u8>>,
    ) -> Result<Self, SourceError> {
        let (names, refused) = links::repositories(tree)?;
        if let Some(Refusal { name, reason }) = refused.first().filter(|_| moves) {
            let reason = format!("{reason}; its content may have to stay, so that nothing is moved");
            return Err(SourceError::invalid(name, reason));
        }
        let mut plan = AdoptionPlan { skipped: refused, ..AdoptionPlan::default() };
        for name in names {
            let is_selected =
                selection.only.is_empty() || selection.only.iter().any(|only| only.matches(name.as_str()));
            if !is_selected && !moves {
                continue;
            }
            let repository = Repository::read(tree, name, texts);
            if is_selected {
                plan.add(tree, repository, &selection.prefix);
            } else {
                plan.kept.extend(links::layers(tree, &repository.name)?);
                plan.keep(repository.manifests.iter());
            }
        }
        Ok(plan)
    }

    /// Adds the images of a repository.
    fn add(&mut self, tree: &Tree, repository: Repository, prefix: &str) {
        let Repository { name, links, manifests } = repository;
        let Links { names: RepositoryLinks { tags, revisions }, refused, uploads } = links;
        if uploads > 0 {
            self.notes
                .push(format!("{name}: {} skipped", crate::base::human::count(uploads, "unfinished upload")));
        }
        let skipped_before = self.skipped.len();
        self.skipped.extend(refused);
        let absent = manifests.iter().filter(|(_, found)| matches!(found, Found::Absent));
        self.absent.extend(absent.map(|(digest, _)| digest.clone()));
        let mut progress = Progress::default();
        match format!("{prefix}{name}").parse::<RepositoryName>() {
            Ok(target) => {
                let mut planned = BTreeSet::new();
                for (digest, tags) in self.roots(&name, tags, &revisions, &manifests) {
                    let names = image_names(&name, &digest, &tags);
                    match assemble(&digest, &manifests) {
                        Ok(mut image) => {
                            self.add_blobs(tree, &mut image);
                            self.note_holes(&names, &image, &manifests);
                            planned.extend(image.manifests.iter().map(|(digest, _)| digest.clone()));
                            let Assembled { manifests, blobs, .. } = image;
                            let (source, target) = (name.clone(), target.clone());
                            self.images.push(PlannedImage { source, target, digest, tags, manifests, blobs });
                            progress.images += 1;
                        }
                        Err(reason) => self.skipped.push(Refusal { name: names, reason }),
                    }
                }
                self.keep(manifests.iter().filter(|(digest, _)| !planned.contains(*digest)));
            }
            Err(error) => {
                self.skipped.push(Refusal { name: format!("{prefix}{name}"), reason: error.to_string() });
                self.keep(manifests.iter());
            }
        }
        progress.has_skipped = self.skipped.len() > skipped_before;
        self.repositories.insert(name, progress);
    }

    /// Returns the manifests with tags, and those that no other manifest of the repository lists.
    fn roots(
        &mut self,
        name: &RepositoryName,
        tags: BTreeMap<Tag, (Digest, Option<u64>)>,
        revisions: &BTreeSet<Digest>,
        manifests: &BTreeMap<Digest, Found>,
    ) -> BTreeMap<Digest, Vec<(Tag, Option<u64>)>> {
        let mut roots: BTreeMap<Digest, Vec<_>> = BTreeMap::new();
        for (tag, (digest, pushed)) in tags {
            if revisions.contains(&digest) {
                roots.entry(digest).or_default().push((tag, pushed));
            } else {
                let reason = format!("its manifest {digest} was deleted, or has an unusable link file");
                self.skipped.push(Refusal { name: format!("{name}:{tag}"), reason });
            }
        }
        let mut children = BTreeSet::new();
        for found in manifests.values() {
            if let Found::Known(facts) = found {
                children.extend(&facts.children);
            }
        }
        for digest in revisions.iter().filter(|digest| !children.contains(digest)) {
            roots.entry(digest.clone()).or_default();
        }
        roots
    }

    /// Looks up the blobs of an image. A foreign layer belongs to it if the tree has it.
    fn add_blobs(&mut self, tree: &Tree, image: &mut Assembled) {
        for digest in image.blobs.iter().chain(&image.foreign) {
            self.blobs.entry(digest.clone()).or_insert_with(|| match tree.blob(digest) {
                Ok(Some((_, length))) => Source::Tree(length),
                Ok(None) => Source::Absent,
                Err(error) => Source::Unreadable(error.to_string()),
            });
        }
        let foreign = std::mem::take(&mut image.foreign).into_iter();
        image.blobs.extend(foreign.filter(|digest| matches!(self.blobs.get(digest), Some(Source::Tree(_)))));
    }

    fn note_holes(&mut self, names: &str, image: &Assembled, manifests: &BTreeMap<Digest, Found>) {
        let listed = image.listed.iter().filter(|digest| !manifests.contains_key(*digest));
        let holes = listed.count();
        if holes > 0 {
            let manifests = crate::base::human::count(holes, "manifest");
            self.notes
                .push(format!("{names}: the index lists {manifests} that the repository does not have"));
        }
    }

    /// Notes content that has to stay: manifests, and all that they name.
    fn keep<'a>(&mut self, manifests: impl Iterator<Item = (&'a Digest, &'a Found)>) {
        for (digest, found) in manifests {
            self.kept.insert(digest.clone());
            match found {
                Found::Known(Facts { blobs, foreign, children, .. }) => {
                    self.kept.extend(blobs.iter().chain(foreign).chain(children).cloned());
                }
                Found::Refused { needs, .. } => self.kept.extend(needs.iter().cloned()),
                Found::Absent => {}
            }
        }
    }
}

impl Repository {
    /// Reads the links and the manifests of a repository.
    fn read(tree: &Tree, name: RepositoryName, texts: &BTreeMap<Digest, Vec<u8>>) -> Self {
        let links = links::links(tree, &name);
        let tagged = links.names.tags.values().map(|(digest, _)| digest);
        let digests: BTreeSet<Digest> = links.names.revisions.iter().chain(tagged).cloned().collect();
        let manifests = digests.into_iter().map(|digest| {
            let found = Found::read(tree, &digest, texts);
            (digest, found)
        });
        Repository { name, manifests: manifests.collect(), links }
    }
}

impl Found {
    fn read(tree: &Tree, digest: &Digest, texts: &BTreeMap<Digest, Vec<u8>>) -> Self {
        let text = match tree.manifest(digest) {
            Ok(Some(text)) => text,
            Ok(None) => match texts.get(digest) {
                Some(text) => text.clone(),
                None => return Found::Absent,
            },
            Err(error) => return Found::Refused { reason: error.to_string(), needs: Vec::new() },
        };
        if Hasher::digest(digest.algorithm(), &text) != *digest {
            let reason = format!("the content of its manifest {digest} does not match the digest");
            return Found::Refused { reason, needs: Vec::new() };
        }
        match parse_manifest(&text, None) {
            Ok(manifest) => Found::Known(Facts::of(&manifest)),
            Err(ManifestError::Schema1) => Found::Refused {
                reason: "a manifest of schema 1, which is not supported; pull it with an old client and push it again"
                    .to_owned(),
                needs: schema1_layers(&text),
            },
            Err(error) => Found::Refused { reason: format!("{digest}: {error}"), needs: Vec::new() },
        }
    }
}

impl Facts {
    fn of(manifest: &Manifest) -> Self {
        let of_kind = |kind| {
            let references = manifest.references().iter();
            references.filter(move |one| one.kind == kind).map(|one| one.digest.clone()).collect()
        };
        Facts {
            media_type: manifest.media_type().clone(),
            blobs: of_kind(ReferenceKind::Blob),
            foreign: of_kind(ReferenceKind::Foreign),
            children: of_kind(ReferenceKind::Manifest),
        }
    }
}

/// Returns the layers of a schema 1 manifest, which stay for an older client.
fn schema1_layers(text: &[u8]) -> Vec<Digest> {
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Schema1 {
        #[serde(default)]
        fs_layers: Vec<Layer>,
    }
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Layer {
        blob_sum: Digest,
    }
    serde_json::from_slice(text).map_or_else(
        |_| Vec::new(),
        |Schema1 { fs_layers }| fs_layers.into_iter().map(|layer| layer.blob_sum).collect(),
    )
}

/// The content of an image.
#[derive(Debug, Default)]
struct Assembled {
    manifests: Vec<(Digest, MediaType)>,
    blobs: Vec<Digest>,
    foreign: Vec<Digest>,
    /// All manifests that its indexes list.
    listed: BTreeSet<Digest>,
    seen: BTreeSet<Digest>,
}

/// Collects the content of an image from its manifests.
fn assemble(root: &Digest, manifests: &BTreeMap<Digest, Found>) -> Result<Assembled, String> {
    let mut image = Assembled::default();
    image.add(root, manifests, 0)?;
    Ok(image)
}

impl Assembled {
    fn add(
        &mut self,
        digest: &Digest,
        manifests: &BTreeMap<Digest, Found>,
        depth: usize,
    ) -> Result<(), String> {
        if depth > limits::NESTING {
            return Err(format!("its indexes are nested deeper than {}", limits::NESTING));
        }
        // A manifest that is not in the repository is a hole of the index.
        let Some(found) = manifests.get(digest) else { return Ok(()) };
        if !self.seen.insert(digest.clone()) {
            return Ok(());
        }
        match found {
            Found::Known(Facts { media_type, blobs, foreign, children }) => {
                for child in children {
                    self.listed.insert(child.clone());
                    self.add(child, manifests, depth + 1)?;
                }
                self.manifests.push((digest.clone(), media_type.clone()));
                for (from, to) in [(blobs, &mut self.blobs), (foreign, &mut self.foreign)] {
                    to.extend(from.iter().filter(|blob| self.seen.insert((*blob).clone())).cloned());
                }
                Ok(())
            }
            Found::Absent => {
                Err(format!("neither the directory nor this registry has the manifest {digest}"))
            }
            Found::Refused { reason, .. } => Err(reason.clone()),
        }
    }
}

/// Returns the names of an image, for messages.
pub(super) fn image_names(
    repository: &RepositoryName,
    digest: &Digest,
    tags: &[(Tag, Option<u64>)],
) -> String {
    const SHOWN: usize = 3;
    if tags.is_empty() {
        return format!("{repository}@{digest}");
    }
    let shown: Vec<&str> = tags.iter().take(SHOWN).map(|(tag, _)| tag.as_str()).collect();
    let more = if tags.len() > SHOWN { format!(" and {} more", tags.len() - SHOWN) } else { String::new() };
    format!("{repository}:{}{more}", shown.join(","))
}
