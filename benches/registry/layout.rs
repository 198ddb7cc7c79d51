//! Image layouts, from which a start of the daemon rebuilds the index: the quick way to a registry with much content.

use std::fs::{self, File};
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

use holdfast::oci::{Algorithm, Hasher};
use serde_json::{Value, json};

pub const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
pub const CONFIG: &str = "application/vnd.oci.image.config.v1+json";

/// A layout that is being written.
pub struct Layout {
    blobs: PathBuf,
    index: BufWriter<File>,
    has_names: bool,
}

impl Layout {
    /// Creates a data directory with an empty layout and an invalid index, so that the daemon rebuilds it.
    pub fn create(data: &Path) -> io::Result<Self> {
        let blobs = data.join("blobs/sha256");
        fs::create_dir_all(&blobs)?;
        fs::create_dir_all(data.join("index"))?;
        fs::write(data.join("index/data.mdb"), b"no index")?;
        let mut index = BufWriter::new(File::create(data.join("index.json"))?);
        index.write_all(b"{\"schemaVersion\":2,\"manifests\":[")?;
        Ok(Layout { blobs, index, has_names: false })
    }

    /// Writes a blob; returns its descriptor.
    pub fn store(&self, media_type: &str, content: &[u8]) -> io::Result<Value> {
        let digest = Hasher::digest(Algorithm::Sha256, content);
        fs::write(self.blobs.join(digest.hex()), content)?;
        Ok(json!({"mediaType": media_type, "digest": digest, "size": content.len()}))
    }

    /// Names a manifest, given by its descriptor.
    pub fn name(&mut self, mut manifest: Value, repository: &str, tag: &str) -> io::Result<()> {
        manifest["annotations"] = json!({
            "io.holdfast.repository": repository,
            "org.opencontainers.image.ref.name": format!("{repository}:{tag}"),
        });
        let comma = if std::mem::replace(&mut self.has_names, true) { "," } else { "" };
        write!(self.index, "{comma}{manifest}")
    }

    /// Completes `index.json`.
    pub fn finish(mut self) -> io::Result<()> {
        self.index.write_all(b"]}")?;
        self.index.flush()
    }
}
