//! A store in a temporary directory, for unit tests, with a clock that the test moves.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use super::capacity_limits::CapacityLimits;
use super::clock::StoreTime;
use super::gc::{CollectedItem, CollectionReport};
use super::index::changes::Origin;
use super::index::changes::feed::FeedBounds;
use super::index::inspect::Inspection;
use super::management::Delete;
use super::push::ManifestPush;
use super::retention::{CollectionPolicy, GracePeriods, RetentionRule};
use super::settings::IndexHealth;
use super::{
    CheckEvent, CheckOptions, CheckReport, Fault, Outcome, Role, Settings, Store, StoreError, Upload,
};
use crate::oci::{Algorithm, Digest, Hasher, Manifest, RepositoryName};

/// The grace period of the store and of its collections.
pub(super) const GRACE: Duration = Duration::from_hours(1);

/// A store and its directory.
pub(super) struct TestStore {
    pub(super) store: Store,
    directory: tempfile::TempDir,
}

impl TestStore {
    pub(super) async fn open() -> Self {
        Self::open_changed(|_| ()).await
    }

    /// Opens a store whose index has the given health at each inspection.
    pub(super) async fn open_with(inspect: fn(&Inspection) -> IndexHealth) -> Self {
        Self::open_changed(|settings| settings.inspect = inspect).await
    }

    /// Opens a store with other settings than the usual ones.
    pub(super) async fn open_changed(change: impl FnOnce(&mut Settings)) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let mut settings = settings(directory.path());
        change(&mut settings);
        TestStore { store: Store::open(settings, Role::Daemon).await.unwrap(), directory }
    }

    /// Closes the index and returns the directory of the store, which has to be closed before.
    pub(super) fn into_directory(self) -> tempfile::TempDir {
        self.directory
    }

    /// Moves the clock of the store forward by at least this time.
    pub(super) fn advance(&self, by: Duration) {
        let clock = &self.store.0.index.clock;
        clock.advance_to(StoreTime::from_seconds(clock.now().seconds() + by.as_secs()));
    }

    /// Returns the path of the file of a blob.
    pub(super) fn file(&self, digest: &Digest) -> PathBuf {
        self.path("blobs").join(digest.algorithm().as_str()).join(digest.hex())
    }

    pub(super) fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    pub(super) async fn push_blob(&self, repository: &str, content: &[u8]) -> Digest {
        let (repository, digest) = (name(repository), digest(content));
        let mut upload = Upload::start(&self.store, &repository, Algorithm::Sha256).await.unwrap();
        upload.write(content).await.unwrap();
        upload.commit(digest.clone()).await.unwrap();
        digest
    }

    /// Pushes an image of one layer, with these tags and perhaps a subject.
    pub(super) async fn push_image(
        &self,
        repository: &str,
        tags: &[&str],
        layer: &[u8],
        subject: Option<&Digest>,
    ) -> Digest {
        let layer = self.push_blob(repository, layer).await;
        let config = self.push_blob(repository, b"{}").await;
        let mut image = serde_json::json!({
            "schemaVersion": 2, "mediaType": "application/vnd.oci.image.manifest.v1+json",
            "config": {"mediaType": "a/b", "digest": config, "size": 2},
            "layers": [{"mediaType": "a/b", "digest": layer, "size": 1}],
        });
        if let Some(subject) = subject {
            image["subject"] = serde_json::json!({"mediaType": "a/b", "digest": subject, "size": 1});
        }
        self.put_manifest(repository, tags, &image).await
    }

    pub(super) async fn put_manifest(
        &self,
        repository: &str,
        tags: &[&str],
        manifest: &serde_json::Value,
    ) -> Digest {
        self.store.put_manifest(manifest_push(repository, tags, manifest)).await.unwrap()
    }

    /// Runs a collection or a dry run; returns the report and the items.
    pub(super) async fn collect(
        &self,
        policy: &CollectionPolicy,
        dry_run: bool,
    ) -> Result<(CollectionReport, Vec<CollectedItem>), StoreError> {
        let mut items = Vec::new();
        let report = self.store.collect(policy, dry_run, &mut |item| items.push(item)).await?;
        Ok((report, items))
    }

    pub(super) async fn check(&self, repair: bool) -> (CheckReport, Vec<(Fault, bool)>) {
        let mut faults = Vec::new();
        let mut observe = |event| match event {
            CheckEvent::Fault(found) => {
                let is_changed = matches!(found.outcome, Outcome::Repaired | Outcome::SetAside);
                faults.push((found.fault, is_changed));
            }
            CheckEvent::Progress(_) | CheckEvent::Position(_) => {}
        };
        let checked =
            self.store.check(CheckOptions { repair, ..CheckOptions::default() }, &mut observe).await.unwrap();
        (checked, faults)
    }
}

/// Returns the settings of a store in this directory.
pub(super) fn settings(directory: &Path) -> Settings {
    Settings {
        path: directory.to_owned(),
        index_map_size: 16 << 20,
        idle_uploads: 10,
        grace_periods: GracePeriods { grace: GRACE, retention: Arc::default() },
        capacity: CapacityLimits { reserve: Some(0), ..CapacityLimits::default() },
        immutable: Vec::new(),
        events: FeedBounds::default(),
        inspect: |_| IndexHealth::Healthy,
        on_read_only: |_| (),
        on_opening: |_| (),
    }
}

/// Returns the push of a manifest with these tags, by the registry itself.
pub(super) fn manifest_push(repository: &str, tags: &[&str], manifest: &serde_json::Value) -> ManifestPush {
    let bytes = serde_json::to_vec(manifest).unwrap();
    ManifestPush {
        repository: name(repository),
        manifest: Manifest::parse(&bytes, None).unwrap(),
        bytes: bytes.into(),
        claimed: None,
        tags: tags.iter().map(|tag| tag.parse().unwrap()).collect(),
        may_be_sparse: false,
        origin: Origin::system(),
    }
}

pub(super) fn name(text: &str) -> RepositoryName {
    text.parse().unwrap()
}

pub(super) fn digest(content: &[u8]) -> Digest {
    Hasher::digest(Algorithm::Sha256, content)
}

/// The rules of a collection that the daemon starts by itself.
pub(super) fn policy(retention: Vec<RetentionRule>) -> CollectionPolicy {
    CollectionPolicy { grace: GRACE, uploads_expire: GRACE, retention, by_operator: false, full: false }
}

/// Returns content to delete from a repository.
pub(super) fn delete<T>(repository: &str, object: T) -> Delete<T> {
    Delete { repository: name(repository), object, origin: Origin::system() }
}
