//! A registry with very many names: writes blobs and `index.json`, from which the daemon rebuilds its index.

use std::fmt::Write;
use std::path::{Path, PathBuf};

use super::{OCI_MANIFEST, digest};

/// Writer of a data directory.
pub struct Bulk {
    data: PathBuf,
    entries: String,
    config: String,
}

impl Bulk {
    /// Prepares an empty data directory.
    pub fn new(data: &Path) -> Self {
        std::fs::create_dir_all(data.join("blobs/sha256")).unwrap();
        let mut bulk = Bulk { data: data.to_owned(), entries: String::new(), config: String::new() };
        bulk.config = bulk.blob(b"{}");
        bulk
    }

    /// Writes a blob; returns its digest.
    pub fn blob(&self, content: &[u8]) -> String {
        let digest = digest(content);
        let path = self.data.join("blobs/sha256").join(digest.strip_prefix("sha256:").unwrap());
        std::fs::write(path, content).unwrap();
        digest
    }

    /// Returns the manifest of an image, different for each number.
    pub fn image(&self, number: usize, subject: Option<&str>) -> Vec<u8> {
        let part = |kind: &str| serde_json::json!({"mediaType": kind, "digest": self.config, "size": 2});
        let mut image = serde_json::json!({
            "schemaVersion": 2, "mediaType": OCI_MANIFEST, "annotations": {"number": number.to_string()},
            "config": part("application/vnd.oci.image.config.v1+json"),
            "layers": [part("application/vnd.oci.image.layer.v1.tar")],
        });
        if let Some(subject) = subject {
            image["subject"] = serde_json::json!({"mediaType": OCI_MANIFEST, "digest": subject, "size": 1});
            image["artifactType"] = "application/x-signature".into();
        }
        serde_json::to_vec(&image).unwrap()
    }

    /// Adds a manifest to a repository, by a tag or by its digest; returns the digest.
    pub fn name(&mut self, repository: &str, tag: Option<&str>, manifest: &[u8]) -> String {
        let digest = self.blob(manifest);
        let separator = if self.entries.is_empty() { "" } else { "," };
        let tag = tag.map_or_else(String::new, |tag| {
            format!(r#","org.opencontainers.image.ref.name":"{repository}:{tag}""#)
        });
        let size = manifest.len();
        write!(
            self.entries,
            r#"{separator}
{{"mediaType":"{OCI_MANIFEST}","digest":"{digest}","size":{size},"annotations":{{"io.holdfast.repository":"{repository}"{tag}}}}}"#
        )
        .unwrap();
        digest
    }

    /// Writes `index.json`.
    pub fn write(self) {
        let head = r#"{"schemaVersion":2,"manifests":["#;
        let tail = "\n],\"annotations\":{\"io.holdfast.change\":\"5\",\"io.holdfast.now\":\"9\"}}\n";
        std::fs::write(self.data.join("index.json"), format!("{head}{}{tail}", self.entries)).unwrap();
    }
}
