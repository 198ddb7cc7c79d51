//! The plan of an export: its files in their order. Pure, and the same for the same walk and options.

use std::collections::{BTreeMap, BTreeSet};

use super::content::BlobRef;
use super::documents::{self, INDEX, LAYOUT, MANIFEST};
use super::error::ExportError;
use super::files::{FileContent, PlannedFile, archive_length, blob_path};
use super::layout::PartSize;
use super::walk::{Root, Walk};
use crate::oci::Digest;
use crate::transfer::content_list::{
    CONTENT_LIST, ContentList, ExportOrigin, FORMAT, ListedBlob, ListedRoot, SIGNATURE,
};
use crate::transfer::signature::SigningKey;

/// Options of a plan.
pub struct Options {
    /// The host in the names that docker and containerd show.
    pub host: Option<String>,
    /// The platform of images in `manifest.json`.
    pub platform: String,
    /// True if `manifest.json` is written.
    pub docker: bool,
    /// The registry, for the list of contents.
    pub origin: ExportOrigin,
    /// The comment of the operator.
    pub comment: String,
    /// The key that signs the list of contents.
    pub key: Option<SigningKey>,
    /// Content that all receivers have.
    pub have: BTreeSet<Digest>,
    /// Content that a receiver misses, which is never left out.
    pub wanted: BTreeSet<Digest>,
    /// The division of single blobs; only in a directory.
    pub blob_parts: Option<PartSize>,
}

/// An image that is not exported.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Exclusion {
    /// Its name.
    pub image: String,
    /// The reason.
    pub reason: String,
}

/// The files of an export.
#[derive(Clone, Debug, Default)]
pub struct ExportPlan {
    pub(super) files: Vec<PlannedFile>,
    /// The names of the images, with the digests of their manifests.
    pub images: Vec<(String, Digest)>,
    /// Images that are not exported.
    pub excluded: Vec<Exclusion>,
    /// The number of blobs with the manifests.
    pub blobs: u64,
    /// The length of all content.
    pub bytes: u64,
    /// The number of blobs that were left out because all receivers have them, and their length.
    pub left_out: (u64, u64),
    /// The number of blobs that are cut into parts.
    pub cut: u64,
}

impl ExportPlan {
    /// Returns the path and the length of each file.
    pub fn files(&self) -> impl Iterator<Item = (&str, u64)> {
        self.files.iter().map(|file| (file.path.as_str(), file.size()))
    }

    /// Returns the length of the export as a tar.
    pub fn archive_length(&self) -> u64 {
        archive_length(&self.files)
    }
}

/// Makes the plan. `damaged` is content that turned out to be unreadable, with the reason: its images are left out.
///
/// # Errors
/// [`ExportError::Refused`] if the key does not sign.
pub fn plan(
    walk: &Walk,
    options: &Options,
    damaged: &BTreeMap<Digest, String>,
) -> Result<ExportPlan, ExportError> {
    let mut plan = ExportPlan::default();
    let roots = included_roots(walk, damaged, &mut plan.excluded);
    let content = Content::of(&roots, walk, options, damaged);
    let index = documents::index(&roots, walk, options.host.as_deref());
    plan.push(LAYOUT, documents::layout());
    plan.push(INDEX, index);
    if options.docker {
        let names = (options.host.as_deref(), options.platform.as_str());
        let present: BTreeSet<&Digest> = content.blobs.iter().map(|blob| &blob.digest).collect();
        plan.push(MANIFEST, documents::docker(&roots, walk, names, |digest| present.contains(digest)));
    }
    let listed = |blob: &BlobRef| ListedBlob {
        digest: blob.digest.clone(),
        size: blob.size,
        part: options.blob_parts.and_then(|parts| parts.for_length(blob.size)),
    };
    let list = ContentList {
        format: FORMAT,
        from: options.origin.clone(),
        comment: options.comment.clone(),
        whole: content.left_out.is_empty(),
        roots: roots.iter().map(|root| listed_root(root)).collect(),
        blobs: content.blobs.iter().map(listed).collect(),
        left_out: content.left_out.iter().map(listed).collect(),
    };
    let list = list.to_bytes();
    let signature = options.key.as_ref().map(|key| key.sign(&list)).transpose();
    let signature = signature.map_err(|error| ExportError::Refused(format!("cannot sign: {error}")))?;
    plan.push(CONTENT_LIST, list);
    if let Some(signature) = signature {
        plan.push(SIGNATURE, signature.into_bytes());
    }
    plan.images = roots.iter().map(|root| (root.name(), root.digest.clone())).collect();
    plan.left_out =
        (content.left_out.len() as u64, content.left_out.iter().map(|blob| blob.size).sum::<u64>());
    for blob in content.blobs {
        let part = options.blob_parts.and_then(|parts| parts.for_length(blob.size));
        plan.blobs += 1;
        plan.bytes += blob.size;
        plan.cut += u64::from(part.is_some());
        plan.files.push(PlannedFile {
            path: blob_path(&blob.digest),
            content: FileContent::Blob(blob),
            part,
        });
    }
    Ok(plan)
}

impl ExportPlan {
    fn push(&mut self, path: &str, bytes: Vec<u8>) {
        let content = FileContent::Bytes(bytes.into());
        self.files.push(PlannedFile { path: path.into(), content, part: None });
    }
}

fn listed_root(root: &Root) -> ListedRoot {
    ListedRoot {
        repository: root.repository.to_string(),
        tag: root.tag.as_ref().map(ToString::to_string),
        digest: root.digest.clone(),
        pushed: root.pushed,
    }
}

/// Returns the roots whose content is whole, without what is attached to other images.
fn included_roots<'a>(
    walk: &'a Walk,
    damaged: &BTreeMap<Digest, String>,
    excluded: &mut Vec<Exclusion>,
) -> Vec<&'a Root> {
    let (mut whole, mut included) = (Vec::new(), BTreeSet::new());
    // Many tags may name one index, which is looked through once.
    let mut faults: BTreeMap<&Digest, Option<String>> = BTreeMap::new();
    for root in &walk.roots {
        let fault = faults.entry(&root.digest).or_insert_with(|| fault(&root.digest, walk, damaged));
        match fault.clone() {
            None => whole.push(root),
            Some(reason) => excluded.push(Exclusion { image: root.name(), reason }),
        }
    }
    // A referrer may have referrers of its own.
    loop {
        let before = included.len();
        for root in &whole {
            let is_included = root.attached_to.as_ref().is_none_or(|target| included.contains(target));
            if is_included && !included.contains(&root.digest) {
                included.extend(closure(&root.digest, walk));
            }
        }
        if included.len() == before {
            break;
        }
    }
    whole.retain(|root| root.attached_to.as_ref().is_none_or(|target| included.contains(target)));
    whole
}

/// Returns why a manifest cannot be exported with all of its content; `None` if it can.
fn fault(digest: &Digest, walk: &Walk, damaged: &BTreeMap<Digest, String>) -> Option<String> {
    let unreadable = |digest: &Digest| {
        let why = damaged.get(digest).or_else(|| walk.unreadable.get(digest))?;
        Some(format!("{digest} cannot be read: {why}; holdfast check names the damage"))
    };
    if !walk.nodes.contains_key(digest) {
        let absent = || format!("the registry does not have its manifest {digest}");
        return unreadable(digest).or_else(|| Some(absent()));
    }
    for digest in closure(digest, walk) {
        let node = &walk.nodes[&digest];
        // A manifest that an index lists may be absent, but not damaged.
        let damaged_child = || node.children.iter().find_map(unreadable);
        if let Some(reason) = node.fault.clone().or_else(|| unreadable(&digest)).or_else(damaged_child) {
            return Some(reason);
        }
        for layer in node.shape.blobs() {
            let is_there = walk.blobs.get(&layer.digest).is_some_and(|blob| blob.size.is_some());
            if !is_there && !layer.is_foreign {
                return Some(format!("the registry does not have {}", layer.digest));
            }
            if let Some(reason) = unreadable(&layer.digest) {
                return Some(reason);
            }
        }
    }
    None
}

/// Returns the manifests behind a manifest that the registry has, children first.
fn closure(digest: &Digest, walk: &Walk) -> Vec<Digest> {
    type Found = (Vec<Digest>, BTreeSet<Digest>);
    fn visit(digest: &Digest, walk: &Walk, depth: usize, found: &mut Found) {
        let Some(node) = walk.nodes.get(digest).filter(|_| depth <= 16 && !found.1.contains(digest)) else {
            return;
        };
        for child in &node.children {
            visit(child, walk, depth + 1, found);
        }
        if found.1.insert(digest.clone()) {
            found.0.push(digest.clone());
        }
    }
    let mut found = Found::default();
    visit(digest, walk, 0, &mut found);
    found.0
}

/// The content of an export.
struct Content {
    /// Manifests, children first; then configs; then layers, image by image. Each blob once.
    blobs: Vec<BlobRef>,
    left_out: Vec<BlobRef>,
}

impl Content {
    fn of(roots: &[&Root], walk: &Walk, options: &Options, damaged: &BTreeMap<Digest, String>) -> Self {
        let (mut manifests, mut seen) = (Vec::new(), BTreeSet::new());
        for root in roots {
            // One that was seen came with its children.
            if seen.contains(&root.digest) {
                continue;
            }
            for digest in closure(&root.digest, walk) {
                if seen.insert(digest.clone()) {
                    manifests.push(digest);
                }
            }
        }
        let mut content = Content { blobs: Vec::new(), left_out: Vec::new() };
        for digest in &manifests {
            let node = &walk.nodes[digest];
            content.blobs.push(BlobRef {
                digest: digest.clone(),
                size: node.size,
                repositories: node.repositories.iter().cloned().collect(),
                is_manifest: true,
            });
        }
        let configs = manifests.iter().filter_map(|digest| walk.nodes[digest].shape.config.clone());
        let layers = manifests.iter().flat_map(|digest| &walk.nodes[digest].shape.layers);
        for digest in configs.chain(layers.map(|layer| layer.digest.clone())) {
            let found = walk.blobs.get(&digest).and_then(|blob| Some((blob, blob.size?)));
            // A foreign layer that is not here, or a blob that two images share.
            let Some((blob, size)) = found.filter(|_| seen.insert(digest.clone())) else { continue };
            let repositories = blob.repositories.iter().cloned().collect();
            let is_left_out = options.have.contains(&digest) && !options.wanted.contains(&digest);
            let blob = BlobRef { digest, size, repositories, is_manifest: false };
            if is_left_out { content.left_out.push(blob) } else { content.blobs.push(blob) }
        }
        let extra = walk.extra.iter().filter(|blob| !damaged.contains_key(&blob.digest));
        content.blobs.extend(extra.filter(|blob| seen.insert(blob.digest.clone())).cloned());
        content
    }
}
