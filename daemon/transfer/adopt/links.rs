//! The names in registry:2's data directory: repositories, tags, and the manifests of a repository.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use super::super::registry2::{Link, REPOSITORIES, RepositoryLinks};
use super::super::source::{Refusal, SourceError};
use super::tree::{Entry, LinkFile, Tree, repository_path};
use crate::oci::{Algorithm, Digest, RepositoryName};

/// The deepest repository; a name has 255 characters.
const MAX_DEPTH: usize = 128;

/// The links of a repository.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Links {
    /// Tags and manifests.
    pub(super) names: RepositoryLinks,
    /// Links that cannot be used.
    pub(super) refused: Vec<Refusal>,
    /// The number of unfinished uploads.
    pub(super) uploads: usize,
}

/// Returns the names of all repositories, and the folders whose names are not valid or which cannot be read.
pub(super) fn repositories(tree: &Tree) -> Result<(Vec<RepositoryName>, Vec<Refusal>), SourceError> {
    // Without this folder nothing can be adopted; the error of one below it concerns only that.
    tree.entries(Path::new(REPOSITORIES))?;
    let (mut names, mut refused) = (Vec::new(), Vec::new());
    let mut waiting = vec![(PathBuf::from(REPOSITORIES), String::new(), 0)];
    while let Some((folder, name, depth)) = waiting.pop() {
        let entries = match tree.entries(&folder) {
            Ok(entries) => entries,
            Err(error) => {
                refused.push(Refusal { name, reason: error.to_string() });
                continue;
            }
        };
        if entries.iter().any(|entry| entry.is_folder && entry.name == "_manifests") {
            match name.parse() {
                Ok(name) => names.push(name),
                Err(error) => refused.push(Refusal { name: name.clone(), reason: format!("{error}") }),
            }
        }
        // No component of a name begins with an underscore.
        let below = entries.into_iter().filter(|entry| entry.is_folder && !entry.name.starts_with('_'));
        for entry in below.filter(|_| depth < MAX_DEPTH) {
            let below = if name.is_empty() { entry.name.clone() } else { format!("{name}/{}", entry.name) };
            waiting.push((folder.join(&entry.name), below, depth + 1));
        }
    }
    names.sort_unstable();
    Ok((names, refused))
}

/// Reads the links of a repository.
pub(super) fn links(tree: &Tree, name: &RepositoryName) -> Links {
    let mut links = Links::default();
    let (repository, folder) = (name.as_str(), repository_path(name));
    for entry in links.entries(tree, &folder.join("_manifests/tags"), name) {
        links.read(tree, Link::Tag { repository, tag: &entry.name });
    }
    for algorithm in Algorithm::ALL.map(Algorithm::as_str) {
        let revisions = folder.join("_manifests/revisions").join(algorithm);
        for entry in links.entries(tree, &revisions, name) {
            links.read(tree, Link::Revision { repository, algorithm, hex: &entry.name });
        }
    }
    links.uploads = tree.entries(&folder.join("_uploads")).map_or(0, |entries| entries.len());
    links
}

impl Links {
    fn entries(&mut self, tree: &Tree, folder: &Path, name: &RepositoryName) -> Vec<Entry> {
        tree.entries(folder).unwrap_or_else(|error| {
            self.refused.push(Refusal { name: name.to_string(), reason: error.to_string() });
            Vec::new()
        })
    }

    fn read(&mut self, tree: &Tree, link: Link<'_>) {
        let added = match (tree.link(Path::new(&link.path())), link) {
            (Ok(Some(LinkFile { text, changed })), _) => self.names.add(link, &text, changed),
            // Deletes leave the folder without its link.
            (Ok(None), Link::Revision { .. }) => Ok(()),
            (Ok(None), Link::Tag { .. }) => Err("the tag has no link file".to_owned()),
            (Err(error), _) => Err(error.to_string()),
        };
        if let Err(reason) = added {
            self.refused.push(Refusal { name: link.to_string(), reason });
        }
    }
}

/// Returns the blobs that a repository has links to.
pub(super) fn layers(tree: &Tree, name: &RepositoryName) -> Result<BTreeSet<Digest>, SourceError> {
    let mut layers = BTreeSet::new();
    for algorithm in Algorithm::ALL {
        let folder = repository_path(name).join("_layers").join(algorithm.as_str());
        let entries = tree.entries(&folder)?.into_iter();
        layers
            .extend(entries.filter_map(|entry| format!("{algorithm}:{}", entry.name).parse::<Digest>().ok()));
    }
    Ok(layers)
}
