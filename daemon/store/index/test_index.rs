//! An index with its writer and its files in a temporary directory, for unit tests.

use std::ops::Deref;
use std::path::Path;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use super::batch::Batch;
use super::database::Index;
use super::inspect::Inspection;
use super::push::NewManifest;
use super::schema;
use super::writer::Writer;
use crate::oci::{Algorithm, Digest, Hasher, Manifest, RepositoryName, Tag};
use crate::store::clock::StoreTime;
use crate::store::disk::Disk;
use crate::store::error::StoreError;
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
        let (writer, thread) = Writer::start(Arc::clone(&index), Arc::clone(&disk), || ()).unwrap();
        TestIndex { index, disk, writer, thread, directory }
    }

    /// Closes the index and returns its directory.
    pub(in crate::store) fn close(self) -> tempfile::TempDir {
        let TestIndex { writer, thread, directory, .. } = self;
        drop(writer);
        thread.join().unwrap();
        directory
    }

    pub(in crate::store) async fn submit<T: Send + 'static>(
        &self,
        change: impl FnMut(&mut Batch) -> Result<T, StoreError> + Send + 'static,
    ) -> T {
        self.writer.submit(change).await.unwrap()
    }

    /// Stores a manifest with its file.
    pub(in crate::store) async fn push(&self, manifest: &TestManifest) {
        self.write_file(&manifest.digest, &manifest.bytes);
        let new = manifest.new.clone();
        let push = move |batch: &mut Batch| {
            batch.record_blob(&new.digest, new.size)?;
            batch.index_manifest(&new)
        };
        self.submit(push).await;
    }

    /// Stores a blob with its file, and adds it to the repositories.
    pub(in crate::store) async fn push_blob(&self, repositories: &[&str], content: &str) -> Digest {
        let digest = digest(content);
        self.write_file(&digest, content.as_bytes());
        let repositories: Vec<RepositoryName> = repositories.iter().map(|name| repository(name)).collect();
        let (wanted, size) = (digest.clone(), content.len() as u64);
        let push = move |batch: &mut Batch| {
            batch.record_blob(&wanted, size)?;
            repositories.iter().try_for_each(|repository| batch.link_blob(repository, &wanted, size))
        };
        self.submit(push).await;
        digest
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
    pub(in crate::store) async fn set_version(&self, version: u32) {
        let set = move |batch: &mut Batch| {
            schema::put_row(batch.index.tables.meta, &mut batch.txn, b"version", &version)
        };
        self.submit(set).await;
    }

    /// Returns the names of files in the data directory that begin with `prefix`.
    pub(in crate::store) fn names(directory: &Path, prefix: &str) -> Vec<String> {
        let names = std::fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().file_name());
        names.filter_map(|name| name.into_string().ok()).filter(|name| name.starts_with(prefix)).collect()
    }

    /// Lets store time pass.
    pub(in crate::store) fn advance(&self, by: Duration) {
        self.index.clock.advance_to(StoreTime::from_seconds(self.index.clock.now().seconds() + by.as_secs()));
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
    };
    TestManifest { new, bytes }
}
