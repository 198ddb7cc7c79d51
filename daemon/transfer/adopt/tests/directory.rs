//! A data directory as registry:2 writes it.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde_json::json;

use super::super::Tree;
use crate::oci::Digest;
use crate::transfer::test_registry::digest;

/// A data directory as registry:2 writes it.
pub(super) struct Directory(pub(super) tempfile::TempDir);

impl Directory {
    pub(super) fn new() -> Self {
        let directory = Directory(tempfile::tempdir().unwrap());
        fs::create_dir_all(directory.path("repositories")).unwrap();
        directory
    }

    pub(super) fn path(&self, below: &str) -> PathBuf {
        self.0.path().join("docker/registry/v2").join(below)
    }

    pub(super) fn write(&self, below: &str, content: &[u8]) {
        let path = self.path(below);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, content).unwrap();
    }

    pub(super) fn blob_path(&self, digest: &Digest) -> PathBuf {
        let hex = digest.hex();
        self.path(&format!("blobs/{}/{}/{hex}/data", digest.algorithm(), &hex[..2]))
    }

    pub(super) fn blob(&self, repository: &str, content: &[u8]) -> Digest {
        let digest = digest(content);
        let path = self.blob_path(&digest);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, content).unwrap();
        let link = format!("repositories/{repository}/_layers/sha256/{}/link", digest.hex());
        self.write(&link, digest.to_string().as_bytes());
        digest
    }

    pub(super) fn manifest(&self, repository: &str, tags: &[&str], text: &[u8]) -> Digest {
        let digest = digest(text);
        let path = self.blob_path(&digest);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
        let manifests = format!("repositories/{repository}/_manifests");
        let link = digest.to_string();
        self.write(&format!("{manifests}/revisions/sha256/{}/link", digest.hex()), link.as_bytes());
        for tag in tags {
            self.write(&format!("{manifests}/tags/{tag}/current/link"), link.as_bytes());
            let index = format!("{manifests}/tags/{tag}/index/sha256/{}/link", digest.hex());
            self.write(&index, link.as_bytes());
        }
        digest
    }

    /// Writes an image; returns the digest of its manifest.
    pub(super) fn image(&self, repository: &str, tags: &[&str], layers: &[&[u8]]) -> Digest {
        let config = self.blob(repository, format!("{{\"config of\":{tags:?}}}").as_bytes());
        let layers: Vec<_> = layers
            .iter()
            .map(|layer| json!({"mediaType": "a/b", "digest": self.blob(repository, layer), "size": layer.len()}))
            .collect();
        let config = json!({"mediaType": "c/d", "digest": config, "size": 2});
        self.manifest(
            repository,
            tags,
            &serde_json::to_vec(&json!({"schemaVersion": 2, "config": config, "layers": layers})).unwrap(),
        )
    }

    pub(super) fn index(&self, repository: &str, tags: &[&str], children: &[&Digest]) -> Digest {
        let children: Vec<_> =
            children.iter().map(|child| json!({"mediaType": "application/vnd.oci.image.manifest.v1+json", "digest": child, "size": 1})).collect();
        self.manifest(
            repository,
            tags,
            &serde_json::to_vec(&json!({"schemaVersion": 2, "manifests": children})).unwrap(),
        )
    }

    /// Returns all files below a folder, relative to the tree.
    pub(super) fn files(&self, below: &str) -> Vec<String> {
        fn walk(top: &Path, folder: &Path, files: &mut Vec<String>) {
            for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
                if entry.path().is_dir() {
                    walk(top, &entry.path(), files);
                } else {
                    files.push(entry.path().strip_prefix(top).unwrap().display().to_string());
                }
            }
        }
        let (top, mut files) = (self.path(""), Vec::new());
        walk(&top, &self.path(below), &mut files);
        files.sort();
        files
    }

    pub(super) fn tree(&self) -> Arc<Tree> {
        Arc::new(Tree::open(self.0.path()).unwrap())
    }
}
