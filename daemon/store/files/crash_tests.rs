//! Crash tests of the store over the crashing file layer: the machine stops before each file operation in turn, or the
//! operation fails. Whatever was acknowledged is there afterwards, and nothing is half there.
//!
//! A stop leaves what [`super::durable`] says, once with all unsynced content lost and once with all content kept, and
//! LMDB's file as of its last commit. The power-cut tests in `tests/durability/` do the same with real file systems and
//! LMDB's own writes.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::crash::{At, Crash};
use super::durable::{Tree, read_tree, write_tree};
use crate::oci::{Algorithm, Digest, Hasher, Manifest, Reference, RepositoryName};
use crate::store::retention::CollectionPolicy;
use crate::store::test_store::{self, delete, manifest_push};
use crate::store::{
    CheckEvent, CheckOptions, ImageImport, ImportedManifest, IndexHealth, Inspection, Named, Origin, Purpose,
    Role, Settings, Store, StoreError, TagOutcome, TagPolicy, TransferError, Upload, WantedTag, inspect,
};

/// The contents of the layers by the tags of their images.
type Tags = BTreeMap<String, String>;

/// The error of an index that this process has open.
const IN_USE: &str = "already open";

/// A change that the store acknowledges.
#[derive(Clone, Copy, Debug)]
enum Step {
    /// Pushes an image with this layer, and sets this tag.
    Push(&'static str, &'static str),
    /// Imports an image with this layer as a transfer does, and sets this tag.
    Import(&'static str, &'static str),
    /// Deletes the manifest of the image with this layer, and its tags.
    Delete(&'static str),
    /// Deletes a tag.
    Untag(&'static str),
    /// Collects everything that no name refers to.
    Collect,
}

/// Push, import, tag move, delete and collection, with content that a collection takes and that is pushed again.
const SCRIPT: [Step; 10] = [
    Step::Push("a", "one"),
    Step::Push("b", "two"),
    Step::Push("a", "three"),
    Step::Delete("one"),
    Step::Collect,
    Step::Push("c", "one"),
    Step::Import("d", "four"),
    Step::Delete("two"),
    Step::Untag("c"),
    Step::Collect,
];

impl Step {
    /// Changes the tags as the step does.
    fn apply(self, tags: &mut Tags) {
        match self {
            Step::Push(tag, layer) | Step::Import(tag, layer) => drop(tags.insert(tag.into(), layer.into())),
            Step::Delete(layer) => tags.retain(|_, other| other != layer),
            Step::Untag(tag) => drop(tags.remove(tag)),
            Step::Collect => {}
        }
    }

    async fn run(self, store: &Store) -> Result<(), StoreError> {
        match self {
            Step::Push(tag, layer) => push(store, tag, layer).await,
            Step::Import(tag, layer) => import(store, tag, layer).await,
            Step::Delete(layer) => store.delete_manifest(delete("a", sha256(&image_bytes(layer)))).await,
            Step::Untag(tag) => store.delete_tag(delete("a", tag.parse().unwrap())).await,
            Step::Collect => collect(store).await,
        }
    }
}

fn repository() -> RepositoryName {
    "a".parse().unwrap()
}

fn sha256(content: &[u8]) -> Digest {
    Hasher::digest(Algorithm::Sha256, content)
}

/// Returns the manifest of an image with this layer.
fn image(layer: &str) -> serde_json::Value {
    let descriptor = |content: &[u8]| serde_json::json!({"mediaType": "a/b", "digest": sha256(content), "size": content.len()});
    serde_json::json!({
        "schemaVersion": 2, "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "config": descriptor(b"{}"), "layers": [descriptor(layer.as_bytes())],
    })
}

fn image_bytes(layer: &str) -> Vec<u8> {
    serde_json::to_vec(&image(layer)).unwrap()
}

async fn push(store: &Store, tag: &str, layer: &str) -> Result<(), StoreError> {
    for content in [layer.as_bytes(), b"{}"] {
        let mut upload = Upload::start(store, &repository(), Algorithm::Sha256).await?;
        upload.write(content).await?;
        upload.commit(sha256(content)).await?;
    }
    store.put_manifest(manifest_push("a", &[tag], &image(layer))).await.map(drop)
}

async fn import(store: &Store, tag: &str, layer: &str) -> Result<(), StoreError> {
    let named = match try_import(store, tag, layer).await {
        Ok(named) => named,
        Err(TransferError::Store(error)) => return Err(error),
        Err(error) => panic!("{error}"),
    };
    assert!(matches!(named.tags[..], [TagOutcome::Set | TagOutcome::Moved(_)]), "{named:?}");
    Ok(())
}

async fn try_import(store: &Store, tag: &str, layer: &str) -> Result<Named, TransferError> {
    let transfer = Arc::new(store.transfer(store.open_transfer(Purpose::Import)?)?);
    for content in [layer.as_bytes(), b"{}"] {
        let digest = sha256(content);
        if transfer.present(&digest).await?.is_none() {
            let mut upload = transfer.upload(Algorithm::Sha256).await?;
            upload.write(content).await?;
            transfer.admit(upload, Some(digest)).await?;
        }
    }
    let bytes = image_bytes(layer);
    let manifest = Manifest::parse(&bytes, None).unwrap();
    let digest = sha256(&bytes);
    let import = ImageImport {
        repository: repository(),
        manifests: vec![ImportedManifest { digest: digest.clone(), bytes: bytes.into(), manifest }],
        tags: vec![WantedTag { tag: tag.parse().unwrap(), digest, pushed: Some(7) }],
        policy: TagPolicy { rule: Some("import:x".into()), force: true, ..TagPolicy::default() },
        sparse: false,
        dry_run: None,
        origin: Origin::system(),
    };
    transfer.name_images(import).await
}

async fn collect(store: &Store) -> Result<(), StoreError> {
    let policy = CollectionPolicy {
        grace: Duration::ZERO,
        uploads_expire: Duration::ZERO,
        retention: Vec::new(),
        by_operator: true,
        full: false,
    };
    store.collect(&policy, false, &mut |_| ()).await.map(drop)
}

/// Opens a store, runs the script until a step fails or the machine stops, and closes the store. Returns the number of
/// acknowledged steps.
async fn run(root: &Path, role: Role, script: &[Step], crash: Option<&Crash>) -> usize {
    let Ok(store) = Store::open(settings(root), role).await else { return 0 };
    let mut acknowledged = 0;
    for step in script {
        let done = step.run(&store).await;
        if done.is_err() || crash.is_some_and(Crash::has_stopped) {
            break;
        }
        acknowledged += 1;
    }
    // Fails once the machine has stopped.
    let _ = store.close().await;
    acknowledged
}

/// Reads all tags and the content of their images.
async fn read(store: &Store) -> Tags {
    let page = match store.tags(&repository(), None, 100).await {
        Ok(page) => page.items,
        Err(StoreError::NameUnknown(_)) => Vec::new(),
        Err(error) => panic!("{error}"),
    };
    let mut tags = Tags::new();
    for tag in page {
        let entry = store.manifest(&repository(), &Reference::Tag(tag.clone())).unwrap();
        let bytes = store.read_manifest(&entry).await.unwrap();
        let manifest: serde_json::Value = serde_json::from_slice(&bytes).unwrap();
        let digest: Digest = manifest["layers"][0]["digest"].as_str().unwrap().parse().unwrap();
        let length = store.blob(&repository(), &digest).unwrap();
        let mut reader = store.read_blob(&digest, 0, length).await.unwrap();
        let mut layer = Vec::new();
        while let Some(chunk) = std::future::poll_fn(|context| reader.poll_chunk(context)).await {
            layer.extend_from_slice(&chunk.unwrap());
        }
        let layer = String::from_utf8(layer).unwrap();
        assert_eq!(bytes, image_bytes(&layer), "{tag}");
        tags.insert(tag.to_string(), layer);
    }
    tags
}

/// Opens a store on the files that a crash left. Its tags have to be one of `allowed`, a check finds no fault, and pushes
/// and collections work. It is closed before each check, so that the check does not wait for `index.json`.
async fn verify(root: &Path, allowed: &[Tags], what: &str) {
    open(root, what).await.close().await.unwrap();
    let store = open(root, what).await;
    let mut tags = read(&store).await;
    assert!(allowed.contains(&tags), "{what}: {tags:?} instead of one of {allowed:?}");
    check(&store, what).await;
    push(&store, "after", "one").await.unwrap_or_else(|error| panic!("{what}: {error}"));
    for _ in 0..2 {
        // The first one notes files that the index does not know.
        collect(&store).await.unwrap_or_else(|error| panic!("{what}: {error}"));
    }
    store.close().await.unwrap();
    drop(store);
    let store = open(root, what).await;
    tags.insert("after".into(), "one".into());
    assert_eq!(read(&store).await, tags, "{what}: after a collection");
    check(&store, what).await;
    store.close().await.unwrap();
    let blobs = std::fs::read_dir(root.join("blobs/sha256")).unwrap().count();
    let layers: BTreeSet<_> = tags.values().collect();
    assert_eq!(blobs, 2 * layers.len() + 1, "{what}: the collections left a file");
}

/// Opens a store. Waits for the threads of the store before, which may still have the index open.
async fn open(root: &Path, what: &str) -> Store {
    let began = Instant::now();
    loop {
        match Store::open(settings(root), Role::Daemon).await {
            Ok(store) => return store,
            Err(error) if began.elapsed() > Duration::from_secs(20) => panic!("{what}: {error}"),
            Err(error) if error.to_string().contains(IN_USE) => {
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
            Err(error) => panic!("{what}: {error}"),
        }
    }
}

async fn check(store: &Store, what: &str) {
    let mut faults = Vec::new();
    let options = CheckOptions { rate: None, repair: false, leave_layout: false };
    let mut observe = |event| {
        if let CheckEvent::Fault(found) = event {
            faults.push(found.fault);
        }
    };
    store.check(options, &mut observe).await.unwrap();
    assert!(faults.is_empty(), "{what}: {faults:?}");
}

fn settings(root: &Path) -> Settings {
    Settings { inspect: health, ..test_store::settings(root) }
}

/// Inspects the index in this process, as no test here damages its pages. LMDB opens a file once per process, so that an
/// index in use counts as healthy.
fn health(inspection: &Inspection) -> IndexHealth {
    match inspect(inspection) {
        Ok(()) => IndexHealth::Healthy,
        Err(error) if error.to_string().contains(IN_USE) => IndexHealth::Healthy,
        Err(error) if error.is_environment_error() => IndexHealth::Unknown(error.to_string()),
        Err(_) => IndexHealth::Corrupt,
    }
}

fn directory() -> tempfile::TempDir {
    let memory = Path::new("/dev/shm");
    if memory.is_dir() { tempfile::tempdir_in(memory).unwrap() } else { tempfile::tempdir().unwrap() }
}

/// A case: the files before, and what runs over the crashing layer.
struct Case<'a> {
    before: &'a Tree,
    role: Role,
    script: &'a [Step],
    /// The tags before the script.
    tags: Tags,
}

impl Case<'_> {
    /// Returns the tags after a number of acknowledged steps, and those after the next step, which may have happened.
    fn allowed(&self, acknowledged: usize) -> Vec<Tags> {
        let mut tags = self.tags.clone();
        for step in &self.script[..acknowledged] {
            step.apply(&mut tags);
        }
        let mut allowed = vec![tags.clone()];
        if let Some(next) = self.script.get(acknowledged) {
            next.apply(&mut tags);
            allowed.push(tags);
        }
        allowed
    }

    /// Runs over the layer. Returns the operations, and verifies what is left. `None` if the operation does not exist.
    async fn run(&self, at: At) -> Vec<String> {
        let directory = directory();
        write_tree(self.before, directory.path()).unwrap();
        let (crash, observed) = Crash::observe(directory.path(), at);
        let acknowledged = run(directory.path(), self.role, self.script, Some(&crash)).await;
        drop(observed);
        let (allowed, operations) = (self.allowed(acknowledged), crash.operations());
        let what = |state: &str| {
            let last = operations.last().map(String::as_str).unwrap_or_default();
            format!("{at:?} ({last}), {state}, {acknowledged} steps acknowledged")
        };
        match (at, crash.take_left()) {
            (At::Stop(_), Some(left)) => {
                let mut seen: Vec<&Tree> = Vec::new();
                for (state, tree) in [("lost", &left.empty), ("zeros", &left.zeros), ("kept", &left.all)] {
                    if !seen.contains(&tree) {
                        // Whole at any moment, since a rebuild may need it.
                        let layout = tree.get(Path::new("index.json")).and_then(Option::as_deref);
                        let layout = layout.map(serde_json::from_slice::<serde_json::Value>).transpose();
                        assert!(layout.is_ok(), "{}: {layout:?}", what(state));
                        let directory = self::directory();
                        write_tree(tree, directory.path()).unwrap();
                        verify(directory.path(), &allowed, &what(state)).await;
                        seen.push(tree);
                    }
                }
            }
            (At::Stop(_), None) | (At::Never | At::Fail(..), _) => {
                verify(directory.path(), &allowed, &what("restarted")).await;
            }
        }
        operations
    }

    /// Makes each operation in turn the last one, or fail.
    async fn run_at_each(&self, at: impl Fn(usize) -> At, name: &str) {
        let began = Instant::now();
        let operations = self.run(At::Never).await;
        for number in 1..=operations.len() {
            self.run(at(number)).await;
        }
        println!("{name}: {} operations in {:?}", operations.len(), began.elapsed());
        assert!(operations.len() > 10, "{operations:?}");
    }
}

fn changes(before: &Tree) -> Case<'_> {
    Case { before, role: Role::Daemon, script: &SCRIPT, tags: Tags::new() }
}

/// Returns the files of a store after the script, and its tags.
async fn after_script() -> (Tree, Tags) {
    let directory = directory();
    assert_eq!(run(directory.path(), Role::Daemon, &SCRIPT, None).await, SCRIPT.len());
    let mut tags = Tags::new();
    for step in SCRIPT {
        step.apply(&mut tags);
    }
    (read_tree(directory.path()), tags)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn every_stop_of_the_machine_keeps_what_was_acknowledged() {
    changes(&Tree::new()).run_at_each(At::Stop, "stops").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn every_failed_operation_keeps_what_was_acknowledged() {
    for (error, name) in [(libc::EIO, "EIO"), (libc::ENOSPC, "ENOSPC")] {
        changes(&Tree::new()).run_at_each(|number| At::Fail(number, error), name).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn every_stop_of_a_rebuild_keeps_all_tags() {
    let (before, tags) = after_script().await;
    let asked = Case { before: &before, role: Role::Rebuild, script: &[], tags: tags.clone() };
    asked.run_at_each(At::Stop, "stops of a rebuild").await;
    // As after the loss of the index: the daemon rebuilds it.
    let mut before = before.clone();
    before.remove(Path::new("index/data.mdb"));
    let lost = Case { before: &before, role: Role::Daemon, script: &[], tags };
    lost.run_at_each(At::Stop, "stops of a rebuild by the daemon").await;
    for (error, name) in [(libc::EIO, "EIO"), (libc::ENOSPC, "ENOSPC")] {
        lost.run_at_each(|number| At::Fail(number, error), name).await;
    }
}
