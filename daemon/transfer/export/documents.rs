//! The files of an export that describe it: `oci-layout`, `index.json` and `manifest.json`.

use std::collections::BTreeMap;

use serde::Serialize;

use super::super::platforms::is_platform;
use super::super::source::{is_host, limits};
use super::files::blob_path;
use super::walk::{Node, Root, Walk};
use crate::oci::annotations::{CONTAINERD_NAME, PUSHED, REF_NAME, REPOSITORY};
use crate::oci::{Digest, MediaType, RepositoryName};

pub(super) const LAYOUT: &str = "oci-layout";
pub(super) const INDEX: &str = "index.json";
pub(super) const MANIFEST: &str = "manifest.json";

/// The host of Docker Hub, which engines add to names without a host.
const DOCKER_HUB: &str = "docker.io";

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Index<'a> {
    schema_version: u8,
    media_type: &'a str,
    manifests: Vec<IndexEntry<'a>>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct IndexEntry<'a> {
    media_type: &'a str,
    digest: &'a Digest,
    size: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    artifact_type: Option<&'a str>,
    annotations: BTreeMap<&'static str, String>,
}

/// Returns `oci-layout`.
pub(super) fn layout() -> Vec<u8> {
    br#"{"imageLayoutVersion":"1.0.0"}"#.to_vec()
}

/// Returns `index.json`: a descriptor for each name.
pub(super) fn index(roots: &[&Root], walk: &Walk, host: Option<&str>) -> Vec<u8> {
    let entries = roots.iter().filter_map(|root| {
        let node = walk.nodes.get(&root.digest)?;
        let mut annotations = BTreeMap::from([(REPOSITORY, root.repository.to_string())]);
        if let Some(tag) = &root.tag {
            annotations.insert(REF_NAME, tag.to_string());
            annotations.insert(CONTAINERD_NAME, format!("{}:{tag}", whole_name(&root.repository, host)));
        }
        if let Some(pushed) = root.pushed {
            annotations.insert(PUSHED, pushed.to_string());
        }
        Some(IndexEntry {
            media_type: node.media_type.as_str(),
            digest: &root.digest,
            size: node.size,
            artifact_type: node.shape.artifact_type.as_deref(),
            annotations,
        })
    });
    json(&Index { schema_version: 2, media_type: MediaType::OCI_INDEX, manifests: entries.collect() })
}

/// Returns the name of a repository with a host, as docker and containerd show it.
pub(super) fn whole_name(repository: &RepositoryName, host: Option<&str>) -> String {
    let name = repository.as_str();
    let has_host = name.split_once('/').is_some_and(|(first, _)| is_host(first));
    match host {
        _ if has_host => name.to_owned(),
        Some(host) => format!("{host}/{name}"),
        None if name.contains('/') => format!("{DOCKER_HUB}/{name}"),
        None => format!("{DOCKER_HUB}/library/{name}"),
    }
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct DockerImage {
    config: String,
    repo_tags: Vec<String>,
    layers: Vec<String>,
}

/// Returns `manifest.json`, which `docker load` reads: one image for each name, for one platform. Images whose content is not
/// whole in the export are left out.
pub(super) fn docker(
    roots: &[&Root],
    walk: &Walk,
    (host, platform): (Option<&str>, &str),
    is_whole: impl Fn(&Digest) -> bool,
) -> Vec<u8> {
    let mut images: BTreeMap<&Digest, DockerImage> = BTreeMap::new();
    for root in roots {
        let Some(tag) = &root.tag else { continue };
        let Some((digest, node)) = image_of(&root.digest, walk, platform, 0) else { continue };
        let Some(config) = &node.shape.config else { continue };
        if !node.shape.blobs().all(|blob| is_whole(&blob.digest)) {
            continue;
        }
        let image = images.entry(digest).or_insert_with(|| DockerImage {
            config: blob_path(config),
            repo_tags: Vec::new(),
            layers: node.shape.layers.iter().map(|layer| blob_path(&layer.digest)).collect(),
        });
        image.repo_tags.push(format!("{}:{tag}", whole_name(&root.repository, host)));
    }
    json(&images.into_values().collect::<Vec<_>>())
}

/// Returns the image of a platform behind a manifest.
fn image_of<'a>(
    digest: &'a Digest,
    walk: &'a Walk,
    platform: &str,
    depth: usize,
) -> Option<(&'a Digest, &'a Node)> {
    let node = walk.nodes.get(digest)?;
    if !node.media_type.is_index() {
        return Some((digest, node)).filter(|_| node.shape.is_image);
    }
    // The walk has refused deeper indexes.
    let nested = |child: &'a Digest| {
        (depth < limits::NESTING).then(|| image_of(child, walk, platform, depth + 1)).flatten()
    };
    let of_platform = node.shape.children.iter().filter(|child| {
        child.platform.as_ref().is_some_and(|found| is_platform(found, platform))
            && child.attached_to.is_none()
    });
    let without = node.shape.children.iter().filter(|child| child.platform.is_none());
    of_platform
        .chain(without)
        .filter(|child| node.children.contains(&child.item.digest))
        .find_map(|child| nested(&child.item.digest))
}

fn json(value: &impl Serialize) -> Vec<u8> {
    // Only maps with keys that are not strings fail.
    serde_json::to_vec(value).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_get_a_host_unless_they_have_one() {
        let of = |name: &str, host| whole_name(&name.parse().unwrap(), host);
        assert_eq!(of("ghcr.io/team/app", Some("hub")), "ghcr.io/team/app");
        assert_eq!(of("team/app", Some("hub:5000")), "hub:5000/team/app");
        assert_eq!(
            (of("team/app", None), of("alpine", None)),
            ("docker.io/team/app".into(), "docker.io/library/alpine".into())
        );
        assert_eq!(of("v1.2", Some("hub")), "hub/v1.2");
    }
}
