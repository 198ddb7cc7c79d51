//! Closing the store after an error of the index.

use std::path::Path;

use super::*;
use crate::oci::Reference;
use crate::store::index::rows::ManifestRow;
use crate::store::index::test_index::settings;
use crate::store::index::writer::Batch;
use crate::store::settings::IndexHealth;
use crate::store::shutdown_marker::{CLEAN, SUSPECT};
use crate::store::test_store::{TestStore, name};

/// Returns the value of a row with another content.
type RowChange = fn(ManifestRow) -> Vec<u8>;

/// Values that have a valid checksum and cannot be read.
const CORRUPT: [RowChange; 3] = [
    |_| Vec::new(),
    |row| encode(&ManifestRow { digest: vec![0xff], ..row }),
    |row| encode(&ManifestRow { media_type: String::new(), ..row }),
];

fn encode(row: &ManifestRow) -> Vec<u8> {
    postcard::to_allocvec(row).unwrap()
}

/// Replaces the value of the only tag's row; its checksum is valid.
async fn change_tag(store: &Store, change: RowChange) {
    let change = move |batch: &mut Batch| {
        let tags = batch.index.tables.tags;
        let (key, value) = tags.rows(&batch.txn)?.next().unwrap()?;
        let (key, value) = (key.to_vec(), change(postcard::from_bytes(value).unwrap()));
        Ok(tags.put(&mut batch.txn, &key, &value)?)
    };
    store.writer().unwrap().submit(change).await.unwrap();
}

fn read_tag(store: &Store) -> Result<(), StoreError> {
    store.manifest(&name("a"), &Reference::Tag("1".parse().unwrap())).map(drop)
}

/// Returns a data directory with one tag, which a daemon has closed cleanly.
async fn closed_directory() -> TestStore {
    let test = TestStore::open().await;
    test.push_image("a", &["1"], b"layer", None).await;
    test.store.close().await.unwrap();
    assert!(test.path(CLEAN).exists());
    test
}

async fn open(path: &Path, role: Role) -> Store {
    Store::open(settings(path, |_| IndexHealth::Healthy), role).await.unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn daemon_does_not_vouch_for_an_index_with_a_corrupt_row() {
    for change in CORRUPT {
        let test = TestStore::open().await;
        test.push_image("a", &["1"], b"layer", None).await;
        change_tag(&test.store, change).await;
        assert!(matches!(read_tag(&test.store), Err(StoreError::Index(_))));
        test.store.close().await.unwrap();
        assert!(!test.path(CLEAN).exists());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn command_marks_an_index_with_a_corrupt_row_as_suspect() {
    for change in CORRUPT {
        let directory = closed_directory().await.into_directory();
        let store = open(directory.path(), Role::Command).await;
        read_tag(&store).unwrap();
        store.close().await.unwrap();
        drop(store);
        assert!(directory.path().join(CLEAN).exists() && !directory.path().join(SUSPECT).exists());
        let store = open(directory.path(), Role::Command).await;
        change_tag(&store, change).await;
        assert!(matches!(read_tag(&store), Err(StoreError::Index(_))));
        store.close().await.unwrap();
        assert!(directory.path().join(SUSPECT).exists());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn command_marks_an_index_with_missing_rows_as_suspect() {
    let directory = closed_directory().await.into_directory();
    let store = open(directory.path(), Role::Command).await;
    let remove = |batch: &mut Batch| Ok(batch.index.tables.repositories.delete(&mut batch.txn, b"a")?);
    assert!(store.writer().unwrap().submit(remove).await.unwrap());
    assert!(matches!(store.layout_fault(true).await, Err(StoreError::Index(_))));
    store.close().await.unwrap();
    assert!(directory.path().join(SUSPECT).exists());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn daemon_does_not_vouch_for_an_index_that_failed_after_another_failure() {
    let test = TestStore::open().await;
    test.store.0.disk.latch_on(StoreError::io("sync", std::io::Error::other("the test")));
    test.store.0.disk.latch_on(heed::Error::Decoding("the test".into()).into());
    test.store.close().await.unwrap();
    assert!(!test.path(CLEAN).exists());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn only_an_error_that_may_be_corruption_is_remembered() {
    for (code, is_marked) in [(libc::ENOMEM, true), (libc::EIO, true), (libc::ENOSPC, false)] {
        let test = TestStore::open().await;
        test.store.0.index.tables.note(&heed::Error::Io(std::io::Error::from_raw_os_error(code)));
        test.store.close().await.unwrap();
        assert_eq!(test.path(CLEAN).exists(), !is_marked);
    }
}
