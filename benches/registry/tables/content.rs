//! The content of a registry of a given size, written as files for the daemon and for registry:2.
//!
//! Every tag has a manifest of its own. To be quick to fill, the layers are shared: one is the base of all images, and each
//! repository has one more layer and one config for all its images.

use std::fs;
use std::io;
use std::path::Path;

use holdfast::oci::{Algorithm, Hasher};
use serde_json::json;

use super::super::layout::{CONFIG, Layout, MANIFEST};
use super::super::peers;

const LAYER: &str = "application/vnd.oci.image.layer.v1.tar";
const BASE: &[u8] = b"the base of all images";

/// The size of a registry.
#[derive(Clone, Copy)]
pub struct Content {
    pub repositories: usize,
    pub tags_each: usize,
}

impl Content {
    pub fn tags(self) -> usize {
        self.repositories * self.tags_each
    }

    /// Returns the repository of an image; images are numbered from 0, those of a repository in a row.
    pub fn repository(self, image: usize) -> String {
        let number = image / self.tags_each;
        format!("team{}/app{number:05}", number % 10)
    }

    pub fn tag(self, image: usize) -> String {
        let number = image % self.tags_each;
        format!("{}.{}.{}", number / 1000 + 1, number / 10 % 100, number % 10)
    }

    /// Returns the path of an image's manifest by its tag.
    pub fn manifest_path(self, image: usize) -> String {
        format!("/v2/{}/manifests/{}", self.repository(image), self.tag(image))
    }

    pub fn manifest(self, image: usize) -> String {
        let describe = |media_type: &str, content: &[u8]| {
            let digest = Hasher::digest(Algorithm::Sha256, content);
            json!({"mediaType": media_type, "digest": digest, "size": content.len()})
        };
        let [config, layer] = self.blobs(image);
        let manifest = json!({
            "schemaVersion": 2,
            "mediaType": MANIFEST,
            "config": describe(CONFIG, config.as_bytes()),
            "layers": [describe(LAYER, BASE), describe(LAYER, layer.as_bytes())],
            "annotations": {"number": image.to_string()},
        });
        manifest.to_string()
    }

    /// Returns an image for the `number`th operation: far from its neighbours, as pushes to a busy registry are.
    pub fn spread(self, number: usize) -> usize {
        const STRIDE: usize = 7919;
        (number * STRIDE) % self.tags()
    }

    /// Returns the config and the layer of all images of a repository.
    fn blobs(self, image: usize) -> [String; 2] {
        let number = image / self.tags_each;
        let config = json!({"os": "linux", "architecture": "arm64", "created": "2026-01-02T03:04:05Z",
            "author": number.to_string()});
        [config.to_string(), format!("layer of repository {number}")]
    }

    /// Returns the numbers of all images.
    pub fn images(self) -> impl Iterator<Item = usize> {
        0..self.tags()
    }

    /// Writes an image layout, and lets a build of the daemon rebuild its index from it.
    pub fn fill(self, binary: &Path, data: &Path) -> io::Result<()> {
        let mut layout = Layout::create(data)?;
        layout.store(LAYER, BASE)?;
        for image in self.images() {
            if image % self.tags_each == 0 {
                let [config, layer] = self.blobs(image);
                layout.store(CONFIG, config.as_bytes())?;
                layout.store(LAYER, layer.as_bytes())?;
            }
            let manifest = layout.store(MANIFEST, self.manifest(image).as_bytes())?;
            layout.name(manifest, &self.repository(image), &self.tag(image))?;
        }
        layout.finish()?;
        // Dropping the server shuts it down cleanly.
        drop(peers::build_of_holdfast(binary, data)?);
        Ok(())
    }

    /// Writes the same content as files of registry:2.
    pub fn fill_registry_2(self, data: &Path) -> io::Result<()> {
        let root = data.join("data/docker/registry/v2");
        let link = |place: &Path, digest: &str| {
            fs::create_dir_all(place)?;
            fs::write(place.join("link"), digest)
        };
        let blob = |content: &[u8]| -> io::Result<String> {
            let digest = Hasher::digest(Algorithm::Sha256, content);
            let place = root.join("blobs/sha256").join(&digest.hex()[..2]).join(digest.hex());
            fs::create_dir_all(&place)?;
            fs::write(place.join("data"), content)?;
            Ok(digest.to_string())
        };
        let base = blob(BASE)?;
        for image in self.images() {
            let repository = root.join("repositories").join(self.repository(image));
            if image % self.tags_each == 0 {
                let [config, layer] = self.blobs(image);
                for digest in [base.clone(), blob(config.as_bytes())?, blob(layer.as_bytes())?] {
                    link(&repository.join("_layers").join(digest.replace(':', "/")), &digest)?;
                }
            }
            let digest = blob(self.manifest(image).as_bytes())?;
            let manifests = repository.join("_manifests");
            link(&manifests.join("revisions").join(digest.replace(':', "/")), &digest)?;
            link(&manifests.join("tags").join(self.tag(image)).join("current"), &digest)?;
        }
        Ok(())
    }
}
