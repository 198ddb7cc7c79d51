//! Indexes of earlier releases, which lack the tables that are derived from tags.
#![expect(clippy::disallowed_methods, reason = "the tests copy the files of an index")]

use std::collections::BTreeSet;
use std::fs;

use super::*;
use crate::store::index::changes::deletes::{DeleteManifest, DeleteTag, ManifestDelete};
use crate::store::index::changes::restore::{RestoreNames, RestoredName};
use crate::store::index::changes::{Change, Origin};
use crate::store::index::feed::Feed;
use crate::store::index::lmdb::inspect::{Inspection, inspect};
use crate::store::index::lmdb::table;
use crate::store::index::metadata_store::{self, MetadataStore};
use crate::store::index::tables::consistency;
use crate::store::index::tables::tag_index::TagIndex;
use crate::store::index::test_index::{TestManifest, image_index, repository, tag};
use crate::store::listing::{ListQuery, TagOrder};
use crate::store::work::Cancel;

const MAP_SIZE: usize = 4 << 20;
/// The tags, which two steps take over.
const TAGS: usize = 400;

fn open(directory: &Path) -> Index {
    Index::open(&Disk::open(directory, |_| ()).unwrap(), MAP_SIZE).unwrap()
}

fn apply(index: &Index, change: impl Into<Change>) {
    let (change, origin) = (change.into(), Origin::system());
    let mut transaction = metadata_store::Transaction {
        changes: vec![(&change, &origin)],
        admitted: BTreeSet::default(),
        grows: false,
        wall_time: 1000,
        feed: Feed::default().begin(1000),
    };
    let applied = index.commit(&mut transaction).unwrap();
    applied.results.into_iter().for_each(|result| drop(result.unwrap()));
}

fn push(index: &Index, manifest: &TestManifest) {
    apply(index, RestoreNames(vec![RestoredName::Manifest(Box::new(manifest.new.clone()))]));
}

/// An image of two tags.
fn image_of_two() -> TestManifest {
    image_index(&[], 7, &["a", "z"])
}

/// Returns an index as a release wrote it that had this version: some tables and rows are not there.
fn earlier(version: u32) -> tempfile::TempDir {
    let new = tempfile::tempdir().unwrap();
    let index = open(new.path());
    push(&index, &image_of_two());
    let names: Vec<String> = (0..TAGS - 3).map(|number| format!("t{number}")).collect();
    push(&index, &image_index(&[], 8, &names.iter().map(String::as_str).collect::<Vec<_>>()));
    push(&index, &image_index(&[], 9, &[&format!("{}.sig", image_of_two().digest.fallback_tag())]));
    index.checkpoint().unwrap();
    let old = tempfile::tempdir().unwrap();
    fs::create_dir_all(old.path().join("index")).unwrap();
    let env = environment::open(&old.path().join("index"), MAP_SIZE, false).unwrap();
    let mut txn = env.write_txn().unwrap();
    let snapshot = index.read().unwrap();
    for table in Table::ALL {
        if matches!(table, Table::TagsByDigest | Table::TagsByTime) {
            continue;
        }
        let target = table::create(&env, &mut txn, table).unwrap();
        for row in snapshot.rows(table).unwrap() {
            let (key, value) = row.unwrap();
            let is_log = (table, key) == (Table::Meta, meta::LOG);
            if !is_log || version > meta::WITHOUT_LOG {
                table::put(target, &mut txn, table, (key, value)).unwrap();
            }
        }
        if table == Table::Meta {
            let version = postcard::to_allocvec(&version).unwrap();
            table::put(target, &mut txn, table, (meta::FORMAT, &version)).unwrap();
        }
    }
    txn.commit().unwrap();
    if version > meta::WITHOUT_LOG {
        fs::copy(new.path().join("index/wal.0"), old.path().join("index/wal.0")).unwrap();
    }
    old
}

/// Copies the files of an index as a killed process leaves them.
fn killed(directory: &Path) -> tempfile::TempDir {
    let copy = tempfile::tempdir().unwrap();
    fs::create_dir_all(copy.path().join("index")).unwrap();
    for name in ["data.mdb", "wal.0", "wal.1"].map(|name| Path::new("index").join(name)) {
        if directory.join(&name).exists() {
            fs::copy(directory.join(&name), copy.path().join(&name)).unwrap();
        }
    }
    copy
}

fn version(index: &Index) -> u32 {
    index.read().unwrap().row(Table::Meta, meta::FORMAT).unwrap().unwrap()
}

fn is_healthy(directory: &Path) {
    let directory = &directory.join("index");
    let inspection =
        Inspection { directory, map_size: MAP_SIZE, previous: false, least_change: 0, copy: None };
    inspect(&inspection).unwrap();
}

/// Checks the answers of an index that has so many tags, of which one is hidden.
fn check(index: &Index, tags: usize) {
    let name = repository("a");
    let two = index.tags_of(&name, &image_of_two().digest, 10, &Cancel::default()).unwrap();
    assert_eq!(two, (vec![tag("a"), tag("z")], 2));
    let query = ListQuery { order: TagOrder::Pushed, descending: true, limit: 5, ..ListQuery::default() };
    let page = index.tags_overview(&name, &query, &Cancel::default()).unwrap();
    assert_eq!((page.total, page.items.len()), (tags - 1, 5));
    consistency::check(&index.read().unwrap()).unwrap();
}

#[test]
fn take_over_of_an_earlier_index_continues_after_a_kill() {
    for earlier_version in [meta::WITHOUT_LOG, meta::WITHOUT_TAG_INDEX] {
        let old = earlier(earlier_version);
        is_healthy(old.path());
        let index = open(old.path());
        assert_eq!(version(&index), VERSION);
        check(&index, TAGS);
        assert!(index.work_deferred().unwrap());
        let is_whole = |index: &Index| index.read().unwrap().has_all_tags_indexed().unwrap();
        assert!(!is_whole(&index));
        check(&index, TAGS);
        // One that the first step has reached, and one that it has not.
        push(&index, &image_index(&[], 10, &["b", "zz"]));
        for directory in [killed(old.path()), {
            drop(index);
            old
        }] {
            is_healthy(directory.path());
            let index = open(directory.path());
            assert!(!is_whole(&index));
            check(&index, TAGS + 2);
            for gone in ["b", "zz"] {
                let immutable = Arc::default();
                apply(&index, DeleteTag { repository: repository("a"), tag: tag(gone), immutable });
            }
            // The last one finds no more.
            assert!(index.work_deferred().unwrap());
            check(&index, TAGS);
            assert!(!index.work_deferred().unwrap() && is_whole(&index));
            check(&index, TAGS);
            index.checkpoint().unwrap();
            drop(index);
            is_healthy(directory.path());
            check(&open(directory.path()), TAGS);
        }
    }
}

#[test]
fn earlier_index_without_room_works_and_is_taken_over_later() {
    for earlier_version in [meta::WITHOUT_LOG, meta::WITHOUT_TAG_INDEX] {
        let old = earlier(earlier_version);
        let disk = Disk::open(old.path(), |_| ()).unwrap();
        {
            let env = environment::open(&disk.index_directory(), MAP_SIZE, false).unwrap();
            let preallocation = Preallocation::new(&env).unwrap();
            // As `Index::open` does on a full disk.
            let found = Index::find(&env).unwrap();
            let index = Index::with_log(&disk, env, (preallocation, MAP_SIZE), found, 0).unwrap();
            check(&index, TAGS);
            push(&index, &image_index(&[], 10, &["b", "t1"]));
            check(&index, TAGS + 1);
            let delete = ManifestDelete {
                repository: repository("a"),
                digest: image_index(&[], 10, &[]).digest.clone(),
                subject: None,
                immutable: Arc::default(),
            };
            apply(&index, DeleteManifest(Arc::new(delete)));
            assert!(!index.work_deferred().unwrap());
            index.checkpoint().unwrap();
            index.release_freed_space().unwrap();
            check(&index, TAGS - 1);
            assert_eq!(version(&index), meta::WITHOUT_TAG_INDEX);
        }
        is_healthy(old.path());
        let index = open(old.path());
        assert_eq!(version(&index), VERSION);
        while index.work_deferred().unwrap() {}
        check(&index, TAGS - 1);
        assert!(index.read().unwrap().has_all_tags_indexed().unwrap());
    }
}
