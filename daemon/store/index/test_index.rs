//! An index with its writer and its files in a temporary directory, for unit tests.

use std::ops::Deref;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use super::changes::TypedChange;
use super::changes::blobs::{AdmitBlob, NewBlob};
use super::changes::feed::FeedBounds;
use super::changes::push::NewManifest;
use super::changes::restore::{RestoreNames, RestoredName};
use super::inspect::Inspection;
use super::lmdb::Index;
use super::tables::{Table, meta};
use super::writer::Writer;
use crate::oci::{Algorithm, Digest, Hasher, Manifest, RepositoryName, Tag};
use crate::store::disk::Disk;
use crate::store::upload_files::HashedFile;
use crate::store::{CapacityLimits, GracePeriods, IndexHealth, Settings};

/// The size limit of the index.
pub(in crate::store) const MAP_SIZE: usize = 16 << 20;

pub(in crate::store) struct TestIndex {
    pub(in crate::store) index: Arc<Index>,
    pub(in crate::store) disk: Arc<Disk>,
    pub(in crate::store) writer: Writer,
    thread: JoinHandle<()>,
    pub(in crate::store) directory: tempfile::TempDir,
}

impl TestIndex {
    pub(in crate::store) fn new() -> Self {
        Self::open(tempfile::tempdir().unwrap())
    }

    /// Opens the index of a directory, and creates it if it is missing.
    pub(in crate::store) fn open(directory: tempfile::TempDir) -> Self {
        let disk = Arc::new(Disk::open(directory.path(), |_| ()).unwrap());
        let index = Arc::new(Index::open(&disk, MAP_SIZE).unwrap());
        let (writer, thread) =
            Writer::start(Arc::clone(&index), Arc::clone(&disk), Arc::default(), || ()).unwrap();
        TestIndex { index, disk, writer, thread, directory }
    }

    /// Closes the index and returns its directory.
    pub(in crate::store) fn close(self) -> tempfile::TempDir {
        let TestIndex { writer, thread, directory, .. } = self;
        drop(writer);
        thread.join().unwrap();
        directory
    }

    pub(in crate::store) async fn submit<C: TypedChange>(&self, change: C) -> C::Reply {
        self.writer.submit(change).await.unwrap()
    }

    /// Stores a manifest with its file.
    pub(in crate::store) async fn push(&self, manifest: &TestManifest) {
        self.write_file(&manifest.digest, &manifest.bytes);
        let restored = RestoredName::Manifest(Box::new(manifest.new.clone()));
        assert_eq!(self.submit(RestoreNames(vec![restored])).await, 1);
    }

    /// Stores a blob with its file, and adds it to the repositories.
    pub(in crate::store) async fn push_blob(&self, repositories: &[&str], content: &str) -> Digest {
        let digest = digest(content);
        for name in repositories {
            let file = self.write_upload("upload", content.as_bytes());
            let blob = NewBlob { file, digest: digest.clone() };
            self.submit(AdmitBlob { repository: Some(repository(name)), blob }).await;
        }
        digest
    }

    /// Writes a complete upload.
    #[expect(clippy::disallowed_methods, reason = "the test plays an upload")]
    pub(in crate::store) fn write_upload(&self, name: &str, content: &[u8]) -> HashedFile {
        let path = self.disk.upload_path(name);
        std::fs::write(&path, content).unwrap();
        let inode = std::fs::metadata(&path).unwrap().ino();
        HashedFile { name: name.to_owned(), inode, length: content.len() as u64 }
    }

    #[expect(clippy::disallowed_methods, reason = "the test plays an upload")]
    pub(in crate::store) fn write_file(&self, digest: &Digest, content: &[u8]) {
        std::fs::write(self.disk.blob_path(digest), content).unwrap();
    }

    pub(in crate::store) fn has_file(&self, digest: &Digest) -> bool {
        self.disk.blob_path(digest).exists()
    }

    pub(in crate::store) async fn mark_complete(&self) {
        self.writer.mark_complete().await.unwrap();
    }

    /// Overwrites the format version.
    pub(in crate::store) fn set_version(&self, version: u32) {
        let version = postcard::to_allocvec(&version).unwrap();
        self.index.set_row(Table::Meta, meta::FORMAT, Some(&version));
    }

    /// Returns the names of files in the data directory that begin with `prefix`.
    pub(in crate::store) fn names(directory: &Path, prefix: &str) -> Vec<String> {
        let names = std::fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().file_name());
        names.filter_map(|name| name.into_string().ok()).filter(|name| name.starts_with(prefix)).collect()
    }
}

/// Returns the settings of a store on this directory.
pub(in crate::store) fn settings(path: &Path, inspect: fn(&Inspection) -> IndexHealth) -> Settings {
    Settings {
        path: path.to_owned(),
        index_map_size: MAP_SIZE,
        idle_uploads: 1,
        grace_periods: GracePeriods { grace: Duration::ZERO, retention: Arc::default() },
        capacity: CapacityLimits::default(),
        immutable: Vec::new(),
        events: FeedBounds::default(),
        inspect,
        on_read_only: |_| (),
        on_opening: |_| (),
    }
}

/// A manifest and its bytes.
#[derive(Clone)]
pub(in crate::store) struct TestManifest {
    pub(in crate::store) new: NewManifest,
    pub(in crate::store) bytes: Vec<u8>,
}

impl Deref for TestManifest {
    type Target = NewManifest;

    fn deref(&self) -> &NewManifest {
        &self.new
    }
}

pub(in crate::store) fn repository(name: &str) -> RepositoryName {
    name.parse().unwrap()
}

pub(in crate::store) fn tag(name: &str) -> Tag {
    name.parse().unwrap()
}

pub(in crate::store) fn digest(content: &str) -> Digest {
    Hasher::digest(Algorithm::Sha256, content.as_bytes())
}

/// An image index without a subject that references `children`, in the repository `a`.
pub(in crate::store) fn image_index(children: &[Digest], number: usize, tags: &[&str]) -> TestManifest {
    let descriptor = |digest: &Digest| serde_json::json!({"mediaType": "application/vnd.oci.image.manifest.v1+json", "digest": digest, "size": 1});
    let children: Vec<_> = children.iter().map(descriptor).collect();
    new_manifest(
        &serde_json::json!({
            "schemaVersion": 2, "mediaType": "application/vnd.oci.image.index.v1+json", "manifests": children,
            "annotations": {"number": number.to_string()},
        }),
        tags,
    )
}

/// An image whose config is also its layer, in the repository `a`.
pub(in crate::store) fn image(layer: &Digest, subject: Option<&Digest>, tags: &[&str]) -> TestManifest {
    let descriptor = serde_json::json!({"mediaType": "a/b", "digest": layer, "size": 1});
    let mut image = serde_json::json!({
        "schemaVersion": 2, "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "config": descriptor, "layers": [descriptor],
    });
    if let Some(subject) = subject {
        image["subject"] = serde_json::json!({"mediaType": "a/b", "digest": subject, "size": 1});
    }
    new_manifest(&image, tags)
}

fn new_manifest(json: &serde_json::Value, tags: &[&str]) -> TestManifest {
    let bytes = serde_json::to_vec(json).unwrap();
    let new = NewManifest {
        repository: repository("a"),
        manifest: Manifest::parse(&bytes, None).unwrap(),
        digest: Hasher::digest(Algorithm::Sha256, &bytes),
        size: bytes.len() as u64,
        tags: tags.iter().map(|name| tag(name)).collect(),
        timestamps: None,
        may_be_sparse: false,
    };
    TestManifest { new, bytes }
}
