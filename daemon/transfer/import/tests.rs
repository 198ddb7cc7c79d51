//! Imports from media on a disk into a registry in memory.
#![expect(clippy::disallowed_methods, reason = "the tests write media")]

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use super::super::test_registry::{Registry, digest};
use super::*;
use crate::oci::Digest;

/// Members of a layout, in the order of an archive.
struct Medium {
    files: Vec<(String, Vec<u8>)>,
    index: Vec<Value>,
    directory: tempfile::TempDir,
}

impl Medium {
    fn new() -> Self {
        Medium { files: Vec::new(), index: Vec::new(), directory: tempfile::tempdir().unwrap() }
    }

    fn file(&mut self, name: &str, content: &[u8]) {
        self.files.push((name.into(), content.into()));
    }

    fn blob(&mut self, content: &[u8]) -> Digest {
        let digest = digest(content);
        self.file(&format!("blobs/sha256/{}", digest.hex()), content);
        digest
    }

    /// Adds an image that states a size of its layer.
    fn image(&mut self, layer: &[u8], size: u64) -> Digest {
        let config = self.blob(format!("{{\"length\":{}}}", layer.len()).as_bytes());
        let layer = self.blob(layer);
        let manifest = json!({"schemaVersion": 2, "config": {"digest": config, "size": 1}, "layers": [{"digest": layer, "size": size}]});
        self.blob(manifest.to_string().as_bytes())
    }

    fn index(&mut self, children: &[Digest]) -> Digest {
        let children: Vec<Value> =
            children.iter().map(|digest| json!({"digest": digest, "size": 1})).collect();
        self.blob(json!({"schemaVersion": 2, "manifests": children}).to_string().as_bytes())
    }

    fn name(&mut self, name: &str, digest: &Digest) {
        let annotations = json!({"io.containerd.image.name": name});
        self.index.push(json!({"digest": digest, "size": 1, "annotations": annotations}));
    }

    /// Removes the file of a blob.
    fn remove(&mut self, digest: &Digest) {
        self.files.retain(|(name, _)| !name.ends_with(&digest.hex()));
    }

    fn tar(&self) -> Vec<u8> {
        let mut tar = tar::Builder::new(Vec::new());
        for (name, content) in &self.files {
            let mut header = tar::Header::new_ustar();
            header.set_size(content.len() as u64);
            tar.append_data(&mut header, name, &content[..]).unwrap();
        }
        tar.into_inner().unwrap()
    }

    /// Writes an image layout as a directory, as an archive, and as a stream.
    fn write_layout(&mut self) -> [PathBuf; 3] {
        let index = json!({"manifests": self.index}).to_string();
        self.file("index.json", index.as_bytes());
        let tree = self.directory.path().join("tree");
        for (name, content) in &self.files {
            let path = tree.join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, content).unwrap();
        }
        let [archive, stream] = self.write_archives();
        [tree, archive, stream]
    }

    /// Writes an archive and a stream.
    fn write_archives(&self) -> [PathBuf; 2] {
        let (archive, stream) = (self.directory.path().join("x.tar"), self.directory.path().join("x.tar.gz"));
        fs::write(&archive, self.tar()).unwrap();
        let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        gzip.write_all(&self.tar()).unwrap();
        fs::write(&stream, gzip.finish().unwrap()).unwrap();
        [archive, stream]
    }
}

struct Quiet;

impl Observer for Quiet {}

/// Imports a medium; returns a line for each image, and the reasons.
fn run(path: &Path, registry: &mut Registry) -> (Vec<String>, String) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    let options = ImportOptions::default();
    let report = runtime.block_on(import(vec![path.to_owned()], &options, registry, &mut Quiet)).unwrap();
    let lines = report.images.iter().map(|row| format!("{} {}", row.name, row.outcome.as_str())).collect();
    let reasons = report.images.iter().filter_map(|row| row.reason.clone()).collect::<Vec<_>>();
    (lines, reasons.join("; "))
}

#[test]
fn an_impossible_size_stops_only_its_image() {
    let mut medium = Medium::new();
    let images = [("huge:1", &b"huge"[..], 1 << 60), ("good:1", b"good", 4), ("overflow:1", b"x", u64::MAX)];
    for (name, layer, size) in images {
        let digest = medium.image(layer, size);
        medium.name(name, &digest);
    }
    let [tree, archive, _] = medium.write_layout();
    for path in [tree, archive] {
        let nothing = tempfile::tempdir().unwrap();
        let disk = Some((nothing.path().to_owned(), 1 << 20));
        let mut registry = Registry { disk, ..Registry::default() };
        let (lines, reasons) = run(&path, &mut registry);
        assert_eq!(lines, ["huge:1 refused", "good:1 taken", "overflow:1 refused"]);
        assert!(reasons.contains("bytes needed"), "{reasons}");
    }
}

#[test]
fn images_that_do_not_fit_leave_the_room_to_others() {
    let mut medium = Medium::new();
    for (name, length) in [("small:1", 1000), ("large:1", 5000), ("other:1", 1001)] {
        let digest = medium.image(&vec![7; length], length as u64);
        medium.name(name, &digest);
    }
    let [tree, ..] = medium.write_layout();
    let nothing = tempfile::tempdir().unwrap();
    let mut registry = Registry { disk: Some((nothing.path().to_owned(), 4000)), ..Registry::default() };
    assert_eq!(run(&tree, &mut registry).0, ["small:1 taken", "large:1 refused", "other:1 taken"]);
}

#[test]
fn absent_manifests_are_asked_for_together() {
    let mut medium = Medium::new();
    let absent = (0..500).map(|number: u32| digest(&number.to_le_bytes()));
    let children: Vec<Digest> = [medium.image(b"layer", 5)].into_iter().chain(absent).collect();
    let (first, second) = (medium.index(&children[..400]), medium.index(&children[..401]));
    medium.name("first:1", &first);
    medium.name("second:1", &second);
    for path in medium.write_layout() {
        let mut registry = Registry::default();
        assert_eq!(run(&path, &mut registry).0, ["first:1 taken", "second:1 taken"]);
        assert!(registry.questions < 20, "{} requests", registry.questions);
    }
}

#[test]
fn a_made_manifest_has_the_size_of_the_stored_layer() {
    let layer = b"the content of a layer".repeat(100);
    let wrong = &layer[..layer.len() - 7];
    for (first, second) in [(wrong, &layer[..]), (&layer[..], wrong)] {
        let mut medium = Medium::new();
        let id = digest(&layer);
        let config = json!({"rootfs": {"type": "layers", "diff_ids": [id]}}).to_string();
        let config = medium.blob(config.as_bytes());
        let name = format!("blobs/sha256/{}", id.hex());
        medium.file(&name, first);
        medium.file(&name, second);
        let list = json!([{"Config": format!("blobs/sha256/{}", config.hex()), "RepoTags": ["a:1"], "Layers": [name]}]);
        medium.file("manifest.json", list.to_string().as_bytes());
        for (path, is_present) in
            medium.write_archives().iter().flat_map(|path| [(path, false), (path, true)])
        {
            let mut registry = Registry::default();
            if is_present {
                registry.blobs.insert(id.clone(), layer.clone());
            }
            let (lines, reasons) = run(path, &mut registry);
            assert_eq!(lines, ["a:1 taken"], "{reasons}");
            let made: Value = serde_json::from_slice(&registry.blobs[&registry.tags["a:1"]]).unwrap();
            assert_eq!(made["layers"][0]["size"], layer.len());
            assert_eq!(made["layers"][0]["digest"], id.to_string());
        }
    }
}

#[test]
fn a_listed_manifest_is_no_missing_platform() {
    for is_listed in [false, true] {
        let mut medium = Medium::new();
        let (whole, damaged) = (medium.image(b"whole", 5), medium.image(b"damaged", 7));
        let index = medium.index(&[whole.clone(), damaged.clone()]);
        medium.name("multi:1", &index);
        medium.remove(&damaged);
        if is_listed {
            let blobs: Vec<Value> = [&index, &whole, &damaged]
                .iter()
                .map(|digest| json!({"digest": digest, "size": 1}))
                .collect();
            let list = json!({"format": 1, "whole": true, "roots": [], "blobs": blobs});
            medium.file("holdfast/export.json", list.to_string().as_bytes());
        }
        for path in medium.write_layout() {
            let outcome = if is_listed { "multi:1 missing" } else { "multi:1 taken" };
            assert_eq!(run(&path, &mut Registry::default()).0, [outcome], "{}", path.display());
        }
        // Other bytes under its name.
        medium.file(&format!("blobs/sha256/{}", damaged.hex()), b"{}");
        for path in medium.write_layout() {
            let (lines, reasons) = run(&path, &mut Registry::default());
            assert_eq!(lines, ["multi:1 refused"], "{}", path.display());
            assert!(reasons.contains("does not match"), "{reasons}");
        }
    }
}
