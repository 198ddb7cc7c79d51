//! Rebuilds from small data directories: what they restore, and when they set the collection hold.
#![expect(clippy::disallowed_methods, reason = "tests damage the data directory")]

use std::fs;
use std::path::PathBuf;

use super::*;
use crate::store::index::changes::deletes::DeleteBlob;
use crate::store::index::tables::names::Names;
use crate::store::index::tables::rows::LinkExceptionRow;
use crate::store::index::test_index::{TestIndex, TestManifest, digest, image, image_index, repository, tag};
use crate::store::layout;

/// A data directory with an `index.json`, whose index is lost.
struct Lost {
    directory: tempfile::TempDir,
}

impl Lost {
    /// Writes `index.json` and removes the index.
    fn from(opened: TestIndex) -> Self {
        layout::write(&opened.disk, &opened.index).unwrap();
        let directory = opened.close();
        fs::remove_file(directory.path().join("index/data.mdb")).unwrap();
        fs::remove_file(directory.path().join("index/lock.mdb")).unwrap();
        Lost { directory }
    }

    fn layout(&self) -> PathBuf {
        self.directory.path().join("index.json")
    }

    fn change_layout(&self, change: impl FnOnce(String) -> String) {
        let text = fs::read_to_string(self.layout()).unwrap();
        fs::write(self.layout(), change(text)).unwrap();
    }

    /// Rebuilds the index. Returns it, and whether the collection hold is set.
    async fn rebuild(self, source: RebuildSource) -> (TestIndex, bool) {
        let opened = TestIndex::open(self.directory);
        let hold = rebuild(&opened.disk, &opened.index, &opened.writer, (source, |_| ())).await.unwrap();
        assert_eq!(opened.index.collection_is_held().unwrap(), hold);
        assert!(opened.index.is_complete().unwrap());
        (opened, hold)
    }
}

fn names(index: &Index) -> Vec<String> {
    let (tables, mut names) = (index.read().unwrap(), Vec::new());
    let visit = &mut |name: &Name| {
        names.push(format!("{} {} {:?}", name.reference, name.digest, name.timestamps));
        Ok(())
    };
    tables.for_each_name(visit).unwrap();
    names
}

fn kept(opened: &TestIndex, prefix: &str) -> usize {
    TestIndex::names(opened.directory.path(), prefix).len()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn names_links_and_exceptions_are_restored() {
    let opened = TestIndex::new();
    let layer = opened.push_blob(&["a"], "layer").await;
    let deleted = opened.push_blob(&["a"], "deleted").await;
    opened.push(&image(&layer, None, &["1", "2"])).await;
    opened.push(&image(&deleted, None, &[])).await;
    let gone = deleted.clone();
    opened.submit(DeleteBlob { repository: repository("a"), digest: gone, immutable: Arc::default() }).await;
    let before = (names(&opened.index), opened.index.change().unwrap(), opened.index.clock.now());
    let (opened, hold) = Lost::from(opened).rebuild(RebuildSource::Current).await;
    assert!(!hold);
    assert_eq!(names(&opened.index), before.0);
    assert!(opened.index.change().unwrap() >= before.1 && opened.index.clock.now() >= before.2);
    assert!(opened.index.blob(&repository("a"), &layer).unwrap().is_some());
    assert!(opened.index.blob(&repository("a"), &deleted).unwrap().is_none());
    let exception = opened.index.link_exception(&repository("a"), &deleted).unwrap();
    assert_eq!(exception, Some(LinkExceptionRow::Deleted));
    assert!(opened.index.repository_stats_match(&repository("a")).unwrap());
    assert_eq!(kept(&opened, "index.json."), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn more_rows_than_one_batch_are_restored() {
    const COUNT: usize = AT_ONCE + 10;
    let opened = TestIndex::new();
    for number in 0..COUNT {
        opened.write_file(&digest(&number.to_string()), number.to_string().as_bytes());
    }
    let numbers = || (0..COUNT).map(|number| number.to_string());
    let blobs = numbers().map(|number| (digest(&number), number.len() as u64)).collect();
    opened.submit(RecordBlobs(blobs)).await;
    let kind = LinkExceptionRow::Linked;
    let linked =
        |number: String| LinkException { repository: repository("a"), digest: digest(&number), kind };
    opened.submit(RestoreLinkExceptions(numbers().map(linked).collect())).await;
    let tags: Vec<String> = (0..COUNT).map(|number| format!("t{number}")).collect();
    opened.push(&image_index(&[], 0, &tags.iter().map(String::as_str).collect::<Vec<_>>())).await;
    let before = names(&opened.index);
    let (opened, hold) = Lost::from(opened).rebuild(RebuildSource::Current).await;
    assert_eq!((names(&opened.index), hold), (before, false));
    assert_eq!(opened.index.counts().unwrap().blobs, COUNT as u64 + 1);
    assert_eq!(opened.index.link_exceptions_after(None, 2 * COUNT).unwrap().len(), COUNT);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn unreadable_manifests_are_omitted_and_set_the_hold() {
    let opened = TestIndex::new();
    let layer = opened.push_blob(&["a"], "layer").await;
    let (lost, malformed) = (image(&layer, None, &["lost"]), image_index(&[], 1, &["malformed"]));
    let tags: Vec<String> = (0..=MAX_LOGGED).map(|number| format!("t{number}")).collect();
    let many = image_index(&[], 2, &tags.iter().map(String::as_str).collect::<Vec<_>>());
    for manifest in [&lost, &malformed, &many] {
        opened.push(manifest).await;
    }
    fs::remove_file(opened.disk.blob_path(&lost.digest)).unwrap();
    fs::remove_file(opened.disk.blob_path(&many.digest)).unwrap();
    opened.write_file(&malformed.digest, &vec![b' '; malformed.bytes.len()]);
    let (opened, hold) = Lost::from(opened).rebuild(RebuildSource::Current).await;
    assert!(hold, "the layer is an orphan now");
    assert!(names(&opened.index).is_empty());
    assert_eq!(kept(&opened, "index.json.kept-"), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn orphans_set_the_hold_only_if_names_may_be_lost() {
    for (source, has_orphan, expected) in [
        (RebuildSource::Current, true, false),
        (RebuildSource::Unsure, true, true),
        (RebuildSource::Unsure, false, false),
    ] {
        let opened = TestIndex::new();
        opened.push(&image_index(&[], 0, &["1"])).await;
        if has_orphan {
            opened.push_blob(&["a"], "orphan").await;
        }
        let (opened, hold) = Lost::from(opened).rebuild(source).await;
        assert_eq!((hold, names(&opened.index).len()), (expected, 1), "{source:?} {has_orphan}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn hold_is_carried_over() {
    let opened = TestIndex::new();
    opened.submit(HoldCollection(true)).await;
    assert!(Lost::from(opened).rebuild(RebuildSource::Current).await.1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn damaged_index_json_is_used_as_far_as_possible_and_sets_the_hold() {
    let opened = TestIndex::new();
    opened.push(&image_index(&[], 0, &["1"])).await;
    let lost = Lost::from(opened);
    lost.change_layout(|text| text.replace("a:1", "a:2"));
    let (opened, hold) = lost.rebuild(RebuildSource::Current).await;
    assert!(hold);
    assert_eq!(opened.index.tags(&repository("a"), None, 10).unwrap().items, [tag("2")]);
    assert_eq!(kept(&opened, "index.json.kept-"), 1);
    let lost = Lost::from(opened);
    lost.change_layout(|text| text[..text.len() / 2].to_owned());
    let (opened, hold) = lost.rebuild(RebuildSource::Current).await;
    assert!(hold && names(&opened.index).is_empty());
    assert_eq!(kept(&opened, "index.json.broken-"), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn trash_is_restored() {
    let opened = TestIndex::new();
    let layer = opened.push_blob(&["a"], "layer").await;
    let manifest: TestManifest = image(&layer, None, &["1"]);
    opened.push(&manifest).await;
    let trash = opened.disk.path("trash");
    fs::create_dir(&trash).unwrap();
    fs::rename(opened.disk.blob_path(&layer), trash.join(format!("sha256-{}", layer.hex()))).unwrap();
    let (opened, _) = Lost::from(opened).rebuild(RebuildSource::Current).await;
    assert!(opened.has_file(&layer));
    assert!(opened.index.blob(&repository("a"), &layer).unwrap().is_some());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn failed_disk_ends_the_rebuild_without_the_mark() {
    let opened = TestIndex::new();
    opened.push(&image_index(&[], 0, &["1"])).await;
    let lost = Lost::from(opened);
    let opened = TestIndex::open(lost.directory);
    opened.disk.latch_on(StoreError::io("sync", std::io::Error::other("the test")));
    let source = (RebuildSource::Current, (|_| ()) as fn(&str));
    let failed = rebuild(&opened.disk, &opened.index, &opened.writer, source).await;
    assert!(matches!(failed, Err(StoreError::ReadOnly)));
    assert!(!opened.index.is_complete().unwrap());
}
