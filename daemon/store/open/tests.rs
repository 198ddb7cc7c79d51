//! Closing the store after an error of the index.

use std::path::Path;

use super::*;
use crate::oci::Reference;
use crate::store::IndexError;
use crate::store::index::tables::rows::ManifestRow;
use crate::store::index::tables::{ReadTables, Table};
use crate::store::index::test_index::settings;
use crate::store::settings::IndexHealth;
use crate::store::shutdown_marker::CLEAN;
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
fn change_tag(store: &Store, change: RowChange) {
    let index = &store.0.index;
    let (key, value) = {
        let tables = index.read().unwrap();
        let (key, value) = tables.rows(Table::Tags).unwrap().next().unwrap().unwrap();
        (key.to_vec(), change(postcard::from_bytes(value).unwrap()))
    };
    index.set_row(Table::Tags, &key, Some(&value));
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
        change_tag(&test.store, change);
        assert!(matches!(read_tag(&test.store), Err(StoreError::Index(_))));
        test.store.close().await.unwrap();
        assert!(!test.path(CLEAN).exists());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn command_does_not_vouch_for_an_index_with_a_corrupt_row() {
    for change in CORRUPT {
        let directory = closed_directory().await.into_directory();
        let store = open(directory.path(), Role::Command).await;
        assert!(!directory.path().join(CLEAN).exists());
        read_tag(&store).unwrap();
        store.close().await.unwrap();
        drop(store);
        assert!(directory.path().join(CLEAN).exists());
        let store = open(directory.path(), Role::Command).await;
        change_tag(&store, change);
        assert!(matches!(read_tag(&store), Err(StoreError::Index(_))));
        store.close().await.unwrap();
        assert!(!directory.path().join(CLEAN).exists());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn command_does_not_vouch_for_an_index_with_missing_rows() {
    let directory = closed_directory().await.into_directory();
    let store = open(directory.path(), Role::Command).await;
    store.0.index.set_row(Table::Repositories, b"a", None);
    assert!(matches!(store.layout_fault(true).await, Err(StoreError::Index(_))));
    store.close().await.unwrap();
    assert!(!directory.path().join(CLEAN).exists());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn store_has_one_owner_until_it_is_closed() {
    let directory = closed_directory().await.into_directory();
    let store = open(directory.path(), Role::Command).await;
    let process = std::process::id();
    assert_eq!(locks::occupancy(directory.path()), locks::Occupancy::Command(process));
    for role in [Role::Daemon, Role::Command, Role::Rebuild] {
        let second = Store::open(settings(directory.path(), |_| IndexHealth::Healthy), role).await;
        assert!(matches!(second, Err(StoreError::InUse(_))));
    }
    store.close().await.unwrap();
    assert_eq!(locks::occupancy(directory.path()), locks::Occupancy::Free);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn daemon_does_not_vouch_for_an_index_that_failed_after_another_failure() {
    let test = TestStore::open().await;
    test.store.0.disk.latch_on(StoreError::io("sync", std::io::Error::other("the test")));
    test.store.0.disk.latch_on(IndexError::Row("the test".into()).into());
    test.store.close().await.unwrap();
    assert!(!test.path(CLEAN).exists());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn only_an_error_that_may_be_corruption_is_remembered() {
    for (code, is_marked) in [(libc::ENOMEM, true), (libc::EIO, true), (libc::ENOSPC, false)] {
        let test = TestStore::open().await;
        test.store.0.index.note(&IndexError::Io(std::io::Error::from_raw_os_error(code)));
        test.store.close().await.unwrap();
        assert_eq!(test.path(CLEAN).exists(), !is_marked);
    }
}
