//! Comparisons of `index.json` with the index.
#![expect(clippy::disallowed_methods, reason = "tests damage index.json")]

use std::fs;

use super::*;
use crate::store::index::changes::deletes::DeleteBlob;
use crate::store::index::inspect::Inspection;
use crate::store::index::test_index::{TestIndex, image_index, repository, settings, tag};
use crate::store::{IndexHealth, Role, Store};

fn healthy(_: &Inspection) -> IndexHealth {
    IndexHealth::Healthy
}

fn corrupt(_: &Inspection) -> IndexHealth {
    IndexHealth::Corrupt
}

/// An index with two tags, a link exception, and an `index.json`.
async fn with_names() -> TestIndex {
    let opened = TestIndex::new();
    opened.mark_complete().await;
    let layer = opened.push_blob(&["a"], "layer").await;
    opened.push(&image_index(std::slice::from_ref(&layer), 0, &["1", "2"])).await;
    let delete = DeleteBlob { repository: repository("a"), digest: layer, immutable: Arc::default() };
    opened.submit(delete).await;
    layout::write(&opened.disk, &opened.index).unwrap();
    opened
}

fn change(opened: &TestIndex, change: impl FnOnce(String) -> String) {
    let path = opened.disk.path("index.json");
    let text = fs::read_to_string(&path).unwrap();
    fs::write(path, change(text)).unwrap();
}

/// Corrects the checksum of a file, as a faulty writer would.
fn with_checksum(text: &str) -> String {
    let key = ",\"io.holdfast.checksum\":\"";
    let at = text.rfind(key).unwrap();
    format!("{}{key}{:08x}\"}}}}\n", &text[..at], crc32fast::hash(&text.as_bytes()[..at]))
}

fn outcome(opened: &TestIndex, index_is_healthy: bool) -> Outcome {
    compare(&opened.disk, &opened.index, index_is_healthy).unwrap()
}

fn fault(opened: &TestIndex) -> String {
    match outcome(opened, true) {
        Outcome::Damaged(why) => why,
        Outcome::Current => "current".into(),
        Outcome::Behind(change) => format!("behind {change}"),
    }
}

#[tokio::test]
async fn intact_file_is_current_or_behind() {
    let opened = with_names().await;
    assert_eq!(fault(&opened), "current");
    opened.push(&image_index(&[], 1, &["3"])).await;
    assert_eq!(fault(&opened), format!("behind {}", opened.index.change().unwrap()));
    assert!(matches!(outcome(&opened, false), Outcome::Current), "only the checksum counts");
    fs::remove_file(opened.disk.path("index.json")).unwrap();
    assert_eq!(fault(&opened), format!("behind {}", opened.index.change().unwrap()));
}

#[tokio::test]
async fn changed_bytes_do_not_match_the_checksum() {
    let opened = with_names().await;
    change(&opened, |text| text.replace("a:1", "a:7"));
    assert_eq!(fault(&opened), "its checksum does not match");
    assert!(matches!(outcome(&opened, false), Outcome::Damaged(_)));
    change(&opened, |text| text[..text.len() / 2].to_owned());
    assert!(fault(&opened).starts_with("cannot read index.json"));
}

#[tokio::test]
async fn entries_that_differ_from_the_index_are_a_fault() {
    let other_tag = |text: String| with_checksum(&text.replace("a:1", "a:7"));
    let other_kind = |text: String| with_checksum(&text.replace("\"deleted\"", "\"linked\""));
    let lost_line = |text: String| {
        let lines = text.split_inclusive('\n').filter(|line| !line.contains("a:1"));
        with_checksum(&lines.collect::<String>())
    };
    let newer = |text: String| with_checksum(&text.replace("change\":\"", "change\":\"9"));
    let held = |text: String| {
        with_checksum(
            &text.replace("\"io.holdfast.now\"", "\"io.holdfast.hold\":\"true\",\"io.holdfast.now\""),
        )
    };
    let damages: [(&dyn Fn(String) -> String, &str); 5] = [
        (&other_tag, "its entries differ from those of the index"),
        (&other_kind, "its entries differ from those of the index"),
        (&held, "its entries differ from those of the index"),
        (&lost_line, "it has 1 names and 1 link exceptions, the index has 2 and 1"),
        (&newer, "but the index is at"),
    ];
    for (damage, expected) in damages {
        let opened = with_names().await;
        change(&opened, damage);
        assert!(fault(&opened).contains(expected), "{} {expected}", fault(&opened));
    }
}

#[tokio::test]
async fn timestamps_count_for_tags_only() {
    let opened = with_names().await;
    opened.push(&image_index(&[], 1, &[])).await;
    layout::write(&opened.disk, &opened.index).unwrap();
    let pushed = |tagged: bool| {
        move |text: String| {
            let lines = text.split_inclusive('\n').map(|line| {
                let is_name = line.contains("io.holdfast.pushed") && line.contains("ref.name") == tagged;
                if is_name { line.replace("pushed\":\"", "pushed\":\"9") } else { line.to_owned() }
            });
            with_checksum(&lines.collect::<String>())
        }
    };
    change(&opened, pushed(false));
    assert_eq!(fault(&opened), "current");
    change(&opened, pushed(true));
    assert_eq!(fault(&opened), "its entries differ from those of the index");
}

/// Opens the store of a directory as a daemon does.
async fn store(directory: &tempfile::TempDir, inspect: fn(&Inspection) -> IndexHealth) -> Store {
    Store::open(settings(directory.path(), inspect), Role::Daemon).await.unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn daemon_rewrites_a_damaged_file_once_a_day() {
    let directory = with_names().await.close();
    let store = store(&directory, healthy).await;
    let path = directory.path().join("index.json");
    let damage = || {
        let text = fs::read_to_string(&path).unwrap();
        fs::write(&path, text.replace("a:1", "a:7")).unwrap();
    };
    let is_damaged = || !fs::read_to_string(&path).unwrap().contains("a:1");
    damage();
    store.keep_layout_healthy().await.unwrap();
    assert!(!is_damaged());
    damage();
    store.keep_layout_healthy().await.unwrap();
    assert!(is_damaged(), "it was checked a moment ago");
    assert_eq!(store.layout_fault(true).await.unwrap().unwrap(), "its checksum does not match");
    assert!(store.rewrite_layout().await.unwrap());
    assert_eq!(store.layout_fault(true).await.unwrap(), None);
    store.close().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn damaged_file_is_kept_while_the_index_is_corrupt() {
    let directory = with_names().await.close();
    // The index was closed cleanly, so that only the collection inspects it.
    Disk::open(directory.path(), |_| ()).unwrap().mark_clean(None);
    let store = store(&directory, corrupt).await;
    let path = directory.path().join("index.json");
    let damaged = fs::read_to_string(&path).unwrap().replace("a:1", "a:7");
    fs::write(&path, &damaged).unwrap();
    assert!(matches!(store.keep_layout_healthy().await, Err(StoreError::NeedsRecovery)));
    // The corrupt index has made the store read-only.
    assert!(!store.rewrite_layout().await.unwrap());
    assert_eq!(store.layout_fault(false).await.unwrap().unwrap(), "its checksum does not match");
    store.close().await.unwrap();
    assert_eq!(fs::read_to_string(&path).unwrap(), damaged);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn command_without_a_daemon_takes_a_file_that_is_behind() {
    let opened = with_names().await;
    opened.push(&image_index(&[], 1, &["3"])).await;
    let directory = opened.close();
    Disk::open(directory.path(), |_| ()).unwrap().mark_clean(None);
    let store = Store::open(settings(directory.path(), corrupt), Role::Command).await.unwrap();
    assert_eq!(store.layout_fault(true).await.unwrap(), None);
    // A check belongs to the daemon.
    store.keep_layout_healthy().await.unwrap();
    assert_eq!(store.0.index.tags(&repository("a"), None, 10).unwrap().items.last(), Some(&tag("3")));
    store.close().await.unwrap();
}
