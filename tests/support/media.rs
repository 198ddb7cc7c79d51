//! Media with images, as other programs write them.

use std::collections::BTreeMap;
use std::path::Path;

use serde_json::{Value, json};

use super::{OCI_INDEX, OCI_MANIFEST, digest};

/// Files by their names, which become a directory or an archive.
#[derive(Clone, Default)]
pub struct Media {
    files: BTreeMap<String, Vec<u8>>,
}

/// An image with its content.
#[derive(Clone)]
pub struct Image {
    pub digest: String,
    pub media_type: &'static str,
    pub manifest: Vec<u8>,
    /// All content by digest, with the manifest.
    pub content: BTreeMap<String, Vec<u8>>,
}

impl Image {
    /// Makes an image of layers.
    pub fn of_layers(layers: &[&[u8]]) -> Self {
        let config = br#"{"architecture":"arm64","os":"linux"}"#.to_vec();
        let descriptor = |kind: &str, content: &[u8]| json!({"mediaType": format!("application/vnd.oci.image.{kind}"), "digest": digest(content), "size": content.len()});
        let list: Vec<Value> = layers.iter().map(|layer| descriptor("layer.v1.tar", layer)).collect();
        let manifest = json!({"schemaVersion": 2, "mediaType": OCI_MANIFEST, "config": descriptor("config.v1+json", &config), "layers": list});
        let manifest = serde_json::to_vec(&manifest).unwrap();
        let content = layers.iter().map(|layer| layer.to_vec()).chain([config, manifest.clone()]);
        let content = content.map(|content| (digest(&content), content)).collect();
        Image { digest: digest(&manifest), media_type: OCI_MANIFEST, manifest, content }
    }

    /// Makes an image of one layer.
    pub fn of(layer: &[u8]) -> Self {
        Self::of_layers(&[layer])
    }

    /// Makes an index of images.
    pub fn index(children: &[&Image]) -> Self {
        let list: Vec<Value> = children
            .iter()
            .map(|child| json!({"mediaType": child.media_type, "digest": child.digest, "size": child.manifest.len()}))
            .collect();
        let manifest =
            serde_json::to_vec(&json!({"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": list}))
                .unwrap();
        let mut content: BTreeMap<_, _> = children.iter().flat_map(|child| child.content.clone()).collect();
        content.insert(digest(&manifest), manifest.clone());
        Image { digest: digest(&manifest), media_type: OCI_INDEX, manifest, content }
    }

    /// Returns its descriptor with annotations.
    pub fn descriptor(&self, annotations: &[(&str, &str)]) -> Value {
        let annotations: BTreeMap<_, _> = annotations.iter().copied().collect();
        json!({"mediaType": self.media_type, "digest": self.digest, "size": self.manifest.len(), "annotations": annotations})
    }
}

impl Media {
    pub fn add(&mut self, name: &str, content: &[u8]) -> &mut Self {
        self.files.insert(name.to_owned(), content.to_vec());
        self
    }

    pub fn remove(&mut self, name: &str) {
        assert!(self.files.remove(name).is_some(), "{name}");
    }

    /// Adds an image layout below `top` ("" or with a slash at its end).
    pub fn layout(&mut self, top: &str, images: &[&Image], index: &[Value]) -> &mut Self {
        self.add(&format!("{top}oci-layout"), br#"{"imageLayoutVersion":"1.0.0"}"#);
        let index = json!({"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": index});
        self.add(&format!("{top}index.json"), index.to_string().as_bytes());
        for (digest, content) in images.iter().flat_map(|image| &image.content) {
            self.add(&format!("{top}blobs/{}", digest.replace(':', "/")), content);
        }
        self
    }

    /// Adds an image to a data directory of registry:2.
    pub fn registry_tree(&mut self, repository: &str, tag: Option<&str>, image: &Image) -> &mut Self {
        let root = "docker/registry/v2";
        for (digest, content) in &image.content {
            self.add(&format!("{root}/{}", registry_blob(digest)), content);
            let hex = digest.replace(':', "/");
            self.add(&format!("{root}/repositories/{repository}/_layers/{hex}/link"), digest.as_bytes());
        }
        let manifests = format!("{root}/repositories/{repository}/_manifests");
        let revision = format!("{manifests}/revisions/{}/link", image.digest.replace(':', "/"));
        self.add(&revision, image.digest.as_bytes());
        if let Some(tag) = tag {
            self.add(&format!("{manifests}/tags/{tag}/current/link"), image.digest.as_bytes());
        }
        self
    }

    /// Adds a directory of `skopeo copy ... dir:`.
    pub fn skopeo_directory(&mut self, top: &str, image: &Image) -> &mut Self {
        self.add(&format!("{top}version"), b"Directory Transport Version: 1.1\n");
        self.add(&format!("{top}manifest.json"), &image.manifest);
        for (digest, content) in image.content.iter().filter(|(digest, _)| **digest != image.digest) {
            let is_manifest =
                content.starts_with(br#"{"config""#) || content.starts_with(br#"{"schemaVersion"#);
            let ending = if is_manifest { ".manifest.json" } else { "" };
            let hex = digest.split_once(':').unwrap().1;
            self.add(&format!("{top}{hex}{ending}"), content);
        }
        self
    }

    /// Returns the files with their names, sorted.
    pub fn files(&self) -> impl Iterator<Item = (&str, &[u8])> {
        self.files.iter().map(|(name, content)| (name.as_str(), content.as_slice()))
    }

    /// Writes the files into a directory.
    pub fn write_to(&self, directory: &Path) {
        for (name, content) in &self.files {
            let path = directory.join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, content).unwrap();
        }
    }

    /// Writes the files into a tar archive.
    pub fn write_tar(&self, path: &Path) {
        let mut archive = tar::Builder::new(std::fs::File::create(path).unwrap());
        for (name, content) in &self.files {
            let mut header = tar::Header::new_ustar();
            header.set_size(content.len() as u64);
            header.set_mode(0o644);
            archive.append_data(&mut header, name, &content[..]).unwrap();
        }
        archive.into_inner().unwrap().sync_all().unwrap();
    }

    /// Splits the files in two: those whose name `first` accepts, and the others.
    pub fn split(self, first: impl Fn(&str) -> bool) -> (Self, Self) {
        let (one, other) = self.files.into_iter().partition(|(name, _)| first(name));
        (Media { files: one }, Media { files: other })
    }
}

/// Returns the path of a blob in the tree of registry:2.
pub fn registry_blob(digest: &str) -> String {
    let (algorithm, hex) = digest.split_once(':').unwrap();
    format!("blobs/{algorithm}/{}/{hex}/data", &hex[..2])
}
