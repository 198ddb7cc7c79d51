//! Each rung of the recovery ladder, with inspections that the test decides.
#![expect(clippy::disallowed_methods, reason = "tests damage the index")]

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use super::*;
use crate::store::index::inspect::inspect;
use crate::store::index::list_page_in_use;
use crate::store::index::test_index::{TestIndex, digest, image, image_index, repository, settings};

/// Inspects in this process.
fn inspected(inspection: &Inspection) -> IndexHealth {
    match inspect(inspection) {
        Ok(()) => IndexHealth::Healthy,
        Err(error) if error.is_environment_error() => IndexHealth::Unknown(error.to_string()),
        Err(_) => IndexHealth::Corrupt,
    }
}

fn corrupt(_: &Inspection) -> IndexHealth {
    IndexHealth::Corrupt
}

fn unknown(_: &Inspection) -> IndexHealth {
    IndexHealth::Unknown("no descriptors".into())
}

fn corrupt_newest(inspection: &Inspection) -> IndexHealth {
    if inspection.previous { inspected(inspection) } else { IndexHealth::Corrupt }
}

fn corrupt_newest_and_no_room_for_a_copy(inspection: &Inspection) -> IndexHealth {
    if inspection.previous { IndexHealth::Healthy } else { IndexHealth::Corrupt }
}

/// Leaves a copy that is not an LMDB file.
fn bad_copy(inspection: &Inspection) -> IndexHealth {
    if let Some(copy) = inspection.copy {
        fs::write(copy, vec![7; 64 << 10]).unwrap();
    }
    IndexHealth::Healthy
}

/// A complete index whose last commit sets the tag `1`.
async fn with_image() -> tempfile::TempDir {
    let opened = TestIndex::new();
    opened.mark_complete().await;
    opened.push(&image(&digest("layer"), None, &["1"])).await;
    opened.close()
}

fn disk_of(directory: &tempfile::TempDir) -> Disk {
    Disk::open(directory.path(), |_| ()).unwrap()
}

fn recovered(directory: &tempfile::TempDir, inspect: fn(&Inspection) -> IndexHealth) -> Opened {
    open(&disk_of(directory), &settings(directory.path(), inspect)).unwrap()
}

fn tags(index: &Index) -> usize {
    index.tags(&repository("a"), None, 10).unwrap().items.len()
}

fn kept(directory: &Path) -> usize {
    TestIndex::names(directory, "index.broken-").len()
}

#[tokio::test]
async fn healthy_index_is_used_as_it_is() {
    let directory = with_image().await;
    let file = directory.path().join("index/data.mdb");
    let before = fs::metadata(&file).unwrap().ino();
    let opened = recovered(&directory, inspected);
    assert_eq!((tags(&opened.index), opened.rebuild), (1, None));
    // There is no index.json.
    assert!(opened.stale_layout);
    assert_eq!(kept(directory.path()), 0);
    assert_eq!(fs::metadata(&file).unwrap().ino(), before, "it was copied");
}

#[tokio::test]
async fn healthy_rows_beside_a_wrong_list_of_free_pages_are_copied() {
    let opened = TestIndex::open(with_image().await);
    opened.index.checkpoint().unwrap();
    let directory = opened.close();
    let file = directory.path().join("index/data.mdb");
    let mut bytes = fs::read(&file).unwrap();
    list_page_in_use(&mut bytes);
    fs::write(&file, bytes).unwrap();
    let before = fs::metadata(&file).unwrap().ino();
    let opened = recovered(&directory, inspected);
    assert_eq!((tags(&opened.index), opened.rebuild), (1, None));
    assert_eq!(kept(directory.path()), 0);
    assert_ne!(fs::metadata(&file).unwrap().ino(), before, "it was not copied");
    // The copy is sound.
    drop(opened);
    let before = fs::metadata(&file).unwrap().ino();
    assert_eq!(tags(&recovered(&directory, inspected).index), 1);
    assert_eq!(fs::metadata(&file).unwrap().ino(), before, "it was copied again");
}

#[tokio::test]
async fn wrong_list_of_free_pages_is_not_used_without_room_for_a_copy() {
    let opened = TestIndex::open(with_image().await);
    opened.index.checkpoint().unwrap();
    let directory = opened.close();
    let file = directory.path().join("index/data.mdb");
    let without_room = |previous| {
        inspected(&Inspection {
            directory: &directory.path().join("index"),
            map_size: settings(directory.path(), inspected).index_map_size,
            previous,
            least_change: 0,
            copy: Some(Path::new("/missing/copy.mdb")),
        })
    };
    assert!(matches!(without_room(false), IndexHealth::Healthy), "nothing has to be copied");
    let mut bytes = fs::read(&file).unwrap();
    list_page_in_use(&mut bytes);
    fs::write(&file, bytes).unwrap();
    assert!(matches!(without_room(false), IndexHealth::Unknown(_)));
    assert!(matches!(without_room(true), IndexHealth::Healthy), "the next rung rebuilds the index");
}

#[tokio::test]
async fn index_is_trusted_without_inspection_after_a_clean_shutdown() {
    let directory = with_image().await;
    disk_of(&directory).mark_clean(None);
    assert_eq!(tags(&recovered(&directory, corrupt).index), 1);
}

#[test]
fn new_directory_gets_an_empty_index() {
    let directory = tempfile::tempdir().unwrap();
    assert_eq!(recovered(&directory, corrupt).rebuild, None);
}

#[test]
fn incomplete_index_is_rebuilt_if_there_is_content() {
    let layout = tempfile::tempdir().unwrap();
    fs::write(layout.path().join("index.json"), "{}").unwrap();
    assert_eq!(recovered(&layout, corrupt).rebuild, Some(RebuildSource::Unsure));
    let blob = tempfile::tempdir().unwrap();
    fs::write(disk_of(&blob).blob_path(&digest("blob")), "blob").unwrap();
    assert_eq!(recovered(&blob, corrupt).rebuild, Some(RebuildSource::Unsure));
}

#[tokio::test]
async fn previous_snapshot_replaces_a_corrupt_one() {
    let directory = with_image().await;
    let opened = TestIndex::open(directory);
    opened.index.checkpoint().unwrap();
    let directory = opened.close();
    let opened = recovered(&directory, corrupt_newest);
    // It takes from the log what it lacks.
    assert_eq!((tags(&opened.index), opened.rebuild), (1, None));
    assert!(opened.stale_layout && opened.index.is_complete().unwrap());
    assert_eq!(kept(directory.path()), 1);
}

#[tokio::test]
async fn incomplete_previous_snapshot_is_not_used() {
    let opened = TestIndex::new();
    opened.mark_complete().await;
    let directory = opened.close();
    assert_eq!(recovered(&directory, corrupt_newest).rebuild, Some(RebuildSource::Unsure));
}

#[tokio::test]
async fn index_is_rebuilt_without_a_usable_snapshot() {
    for inspect in [corrupt, corrupt_newest_and_no_room_for_a_copy, bad_copy] {
        let directory = with_image().await;
        let opened = recovered(&directory, inspect);
        assert_eq!((tags(&opened.index), opened.rebuild), (0, Some(RebuildSource::Unsure)));
        assert!(opened.stale_layout && kept(directory.path()) >= 1);
    }
}

#[tokio::test]
async fn failed_inspection_leaves_the_index_alone() {
    let directory = with_image().await;
    let data = directory.path().join("index/data.mdb");
    let before = fs::read(&data).unwrap();
    let refused = open(&disk_of(&directory), &settings(directory.path(), unknown));
    assert!(matches!(refused, Err(StoreError::Io { .. })));
    assert!(fs::read(&data).unwrap() == before);
    assert_eq!(kept(directory.path()), 0);
}

#[tokio::test]
async fn older_format_is_rebuilt_and_newer_format_is_refused() {
    for (version, clean) in [(3, true), (3, false), (9, false)] {
        let opened = TestIndex::new();
        opened.set_version(version);
        let directory = opened.close();
        let disk = disk_of(&directory);
        if clean {
            disk.mark_clean(None);
        }
        match open(&disk, &settings(directory.path(), inspected)) {
            Ok(opened) => {
                let source = if clean { RebuildSource::Current } else { RebuildSource::Unsure };
                assert_eq!((version, opened.rebuild), (3, Some(source)));
            }
            Err(error) => assert!(matches!(error, StoreError::Format { found: 9, .. }), "{error}"),
        }
        assert_eq!(kept(directory.path()), usize::from(version == 3));
    }
}

/// Writes `index.json` from the index of a directory.
fn write_layout(directory: &tempfile::TempDir) {
    let disk = disk_of(directory);
    let index = Index::open(&disk, settings(directory.path(), inspected).index_map_size).unwrap();
    layout::write(&disk, &index).unwrap();
}

/// An operator restored the folder of the index alone, with its shutdown marker, from a backup.
#[tokio::test]
async fn clean_index_that_is_older_than_index_json_is_not_used() {
    let directory = with_image().await;
    let files = ["data.mdb", "wal.0", "wal.1"].map(|name| directory.path().join("index").join(name));
    let old = files.clone().map(|file| fs::read(file).ok());
    let opened = TestIndex::open(directory);
    opened.push(&image_index(&[], 7, &["new"])).await;
    let directory = opened.close();
    write_layout(&directory);
    for (file, old) in files.iter().zip(old) {
        match old {
            Some(old) => fs::write(file, old).unwrap(),
            None => drop(fs::remove_file(file)),
        }
    }
    let disk = disk_of(&directory);
    disk.mark_clean(None);
    let opened = open(&disk, &settings(directory.path(), inspected)).unwrap();
    assert_eq!((tags(&opened.index), opened.rebuild), (0, Some(RebuildSource::Unsure)));
    assert_eq!(kept(directory.path()), 1);
    let path = directory.path().join("index.json");
    let layout = fs::read_to_string(&path).unwrap();
    assert!(layout.contains("a:new"), "it has not been overwritten");
    // With a flipped digit in the number of the file the index stays.
    let directory = with_image().await;
    write_layout(&directory);
    let path = directory.path().join("index.json");
    let layout = fs::read_to_string(&path).unwrap();
    fs::write(&path, layout.replace("io.holdfast.change\":\"", "io.holdfast.change\":\"9")).unwrap();
    let disk = disk_of(&directory);
    disk.mark_clean(None);
    let opened = open(&disk, &settings(directory.path(), inspected)).unwrap();
    assert!(opened.rebuild.is_none() && opened.stale_layout && tags(&opened.index) > 0);
}

#[tokio::test]
async fn requested_rebuild_knows_its_source() {
    let restarted = |directory: &tempfile::TempDir, inspect| {
        open_for_rebuild(&disk_of(directory), &settings(directory.path(), inspect))
    };
    let empty = tempfile::tempdir().unwrap();
    assert_eq!(restarted(&empty, corrupt).unwrap().rebuild, Some(RebuildSource::Unsure));
    // index.json lacks the last tag.
    let directory = with_image().await;
    assert!(matches!(restarted(&directory, inspected), Err(StoreError::LayoutStale)));
    assert_eq!(kept(directory.path()), 0);
    write_layout(&directory);
    let opened = restarted(&directory, inspected).unwrap();
    assert_eq!((tags(&opened.index), opened.rebuild), (0, Some(RebuildSource::Current)));
    assert_eq!(kept(directory.path()), 1);
    drop(opened);
    let corrupted = with_image().await;
    assert_eq!(restarted(&corrupted, corrupt).unwrap().rebuild, Some(RebuildSource::Unsure));
}

#[tokio::test]
async fn requested_rebuild_writes_a_damaged_index_json_from_a_healthy_index_first() {
    for damaged in [|text: &str| "garbage".to_owned() + text, |text: &str| text.replace("a:1", "a:2")] {
        let directory = with_image().await;
        write_layout(&directory);
        let path = directory.path().join("index.json");
        let text = fs::read_to_string(&path).unwrap();
        fs::write(&path, damaged(&text)).unwrap();
        let opened = open_for_rebuild(&disk_of(&directory), &settings(directory.path(), inspected)).unwrap();
        assert_eq!(opened.rebuild, Some(RebuildSource::Current));
        assert!(fs::read_to_string(&path).unwrap().contains("a:1"));
    }
}

#[test]
fn only_errors_about_the_content_mean_a_corrupt_index() {
    use crate::store::IndexError;
    for error in [IndexError::Corrupt("a page".into()), IndexError::Row("a row".into())] {
        assert!(is_corrupt_index(&StoreError::Index(error)));
    }
    let unreachable = IndexError::Io(std::io::ErrorKind::PermissionDenied.into());
    for error in [StoreError::Index(unreachable), StoreError::Full, StoreError::PagesHeld] {
        assert!(!is_corrupt_index(&error), "{error}");
    }
}
